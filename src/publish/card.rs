//! The dataset card of a run, `README.md`, in the form of the Hugging Face Hub: YAML front matter, then tables.
//! It names no path of the machine that it was made on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

use super::manifest::{Attribution, Manifest, Rows};
use super::tally::UNKNOWN;
use crate::lineage::Licence;

/// Licence identifiers of the Hub (<https://huggingface.co/docs/hub/repositories-licenses>) that datasets come with.
const HUB_LICENCES: [&str; 38] = [
    "afl-3.0",
    "agpl-3.0",
    "apache-2.0",
    "bsd",
    "bsd-2-clause",
    "bsd-3-clause",
    "cc",
    "cc-by-2.0",
    "cc-by-2.5",
    "cc-by-3.0",
    "cc-by-4.0",
    "cc-by-nc-2.0",
    "cc-by-nc-3.0",
    "cc-by-nc-4.0",
    "cc-by-nc-nd-3.0",
    "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-2.0",
    "cc-by-nc-sa-3.0",
    "cc-by-nc-sa-4.0",
    "cc-by-nd-4.0",
    "cc-by-sa-3.0",
    "cc-by-sa-4.0",
    "cc0-1.0",
    "cdla-permissive-1.0",
    "cdla-permissive-2.0",
    "cdla-sharing-1.0",
    "gfdl",
    "gpl-2.0",
    "gpl-3.0",
    "isc",
    "lgpl-3.0",
    "mit",
    "mpl-2.0",
    "odbl",
    "odc-by",
    "openrail",
    "pddl",
    "unlicense",
];

/// The card's text.
pub(crate) fn card(manifest: &Manifest) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_card(&mut out, manifest);
    out
}

fn write_card(out: &mut String, manifest: &Manifest) -> fmt::Result {
    front_matter(out, manifest)?;
    let Rows { curated, rejected } = manifest.rows;
    writeln!(out, "# Run {}\n", manifest.run_id)?;
    writeln!(
        out,
        "{curated} question-answer items made with seedmill {} from the training \
         splits of public task datasets, and {rejected} rejected ones with the reasons. Finished {}. The licence \
         target of the run is {}.\n",
        manifest.seedmill, manifest.finished, manifest.target
    )?;
    if manifest.models.iter().any(|model| model.is_embedded()) {
        writeln!(
            out,
            "> **Made with a small demonstration model.** Its statements may be false, also those that passed every \
             check. Do not train on them as facts.\n"
        )?;
    }
    if curated == 0 {
        writeln!(out, "No item passed: `data/` holds a file without rows.\n")?;
    }
    writeln!(out, "- `data/*.parquet`: the items kept")?;
    writeln!(out, "- `rejected/*.parquet`: the items rejected; the column `reasons` says why")?;
    writeln!(out, "- `manifest.json`: counts, models, and the SHA-256 of every file")?;

    writeln!(out, "\n## Sources and licences\n")?;
    writeln!(out, "An item stands under the licence of the seeds that it was made from; attribute their authors.\n")?;
    table(
        out,
        ["task", "dataset", "license", "evidence", "kept", "rejected"],
        manifest.sources.iter().map(|source| {
            let Rows { curated, rejected } = source.rows;
            let Attribution { dataset, license_evidence } = source.attribution.clone();
            [
                source.task.clone(),
                dataset.unwrap_or_default(),
                source.license.clone(),
                license_evidence.unwrap_or_default(),
                curated.to_string(),
                rejected.to_string(),
            ]
        }),
    )?;
    if !manifest.reasons.is_empty() {
        writeln!(out, "\n## Why items were rejected\n\nAn item with several reasons counts under each.\n")?;
        let rows = by_count(&manifest.reasons).into_iter().map(|(reason, n)| [reason.to_owned(), n.to_string()]);
        table(out, ["reason", "items"], rows)?;
    }
    if !manifest.models.is_empty() {
        writeln!(out, "\n## Models\n\nCalled by the run; the columns `models` and `calls` name each item's own.\n")?;
        let rows = manifest.models.iter().map(|model| {
            [
                model.name.clone(),
                last_component(&model.model).to_owned(),
                model.revision.clone(),
                model.provider.clone(),
            ]
        });
        table(out, ["name", "model", "revision", "provider"], rows)?;
    }
    if !manifest.notes.is_empty() {
        writeln!(out, "\n## Notes\n")?;
        manifest.notes.iter().try_for_each(|note| writeln!(out, "- {}", one_line(note)))?;
    }
    writeln!(
        out,
        "\n## How it was made\n\nSeeds from training splits → generation by the models → checks → independent solving \
         and a vote → enrichment → verdicts. Every item names its seeds (`seed_ids`), the calls it took (`calls`) and \
         the pipeline's text (`config_sha256` `{}`).",
        manifest.config_sha256
    )
}

fn front_matter(out: &mut String, manifest: &Manifest) -> fmt::Result {
    writeln!(out, "---")?;
    writeln!(out, "license: {}", hub_licence(manifest.licenses.iter().filter(|(_, n)| n.curated > 0).map(|(l, _)| l)))?;
    // The Hub takes ISO 639 codes only.
    let is_code =
        |language: &&String| (2..=3).contains(&language.len()) && language.bytes().all(|b| b.is_ascii_lowercase());
    let languages: Vec<&String> = manifest.languages.keys().filter(is_code).collect();
    if !languages.is_empty() {
        writeln!(out, "language:")?;
        // Quoted, for YAML reads a bare `no` as false.
        languages.iter().try_for_each(|language| writeln!(out, "- \"{language}\""))?;
    }
    writeln!(out, "task_categories:\n- question-answering\ntags:\n- synthetic\n- seedmill")?;
    writeln!(out, "size_categories:\n- {}", size(manifest.rows.curated))?;
    writeln!(out, "configs:")?;
    for (name, folder) in [("default", "data"), ("rejected", "rejected")] {
        writeln!(out, "- config_name: {name}\n  data_files:\n  - split: train\n    path: {folder}/*.parquet")?;
    }
    writeln!(out, "---\n")
}

/// The strictest of the items' licences as the Hub spells it: `other` where one is unknown to the Hub or to us, or
/// where several are equally strict.
fn hub_licence<'a>(licences: impl Iterator<Item = &'a String>) -> String {
    let rank = |licence: &str| Licence::new(licence).permission();
    let spelled: BTreeSet<String> =
        licences.map(|licence| licence.trim().to_ascii_lowercase().replace([' ', '_'], "-")).collect();
    let strictest = spelled.iter().map(|licence| rank(licence)).max();
    let mut at_top = spelled.iter().filter(|licence| Some(rank(licence)) == strictest);
    match (at_top.next(), at_top.next()) {
        (Some(licence), None) if HUB_LICENCES.contains(&licence.as_str()) => licence.clone(),
        (None, _) => UNKNOWN.into(),
        _ => "other".into(),
    }
}

/// The Hub's `size_categories`.
fn size(rows: u64) -> &'static str {
    match rows {
        0..1_000 => "n<1K",
        1_000..10_000 => "1K<n<10K",
        10_000..100_000 => "10K<n<100K",
        100_000..1_000_000 => "100K<n<1M",
        1_000_000..10_000_000 => "1M<n<10M",
        10_000_000..100_000_000 => "10M<n<100M",
        _ => "n>100M",
    }
}

/// Names by falling count, then by name.
pub(crate) fn by_count(counts: &BTreeMap<String, u64>) -> Vec<(&str, u64)> {
    let mut sorted: Vec<(&str, u64)> = counts.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    sorted.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    sorted
}

fn table<const N: usize>(out: &mut String, head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> fmt::Result {
    writeln!(out, "| {} |\n|{}", head.join(" | "), "---|".repeat(N))?;
    rows.into_iter().try_for_each(|row| {
        let cells = row.map(|cell| one_line(&cell).replace('|', "\\|"));
        writeln!(out, "| {} |", cells.join(" | "))
    })
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Servers often serve a model under the path of its folder, which is a path of their machine.
fn last_component(model: &str) -> &str {
    if model.starts_with('/') { model.trim_end_matches('/').rsplit('/').next().unwrap_or(model) } else { model }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn licence(licences: &[&str]) -> String {
        let licences: Vec<String> = licences.iter().map(|licence| (*licence).to_owned()).collect();
        hub_licence(licences.iter())
    }

    #[test]
    fn the_cards_licence_is_the_strictest_or_other() {
        assert_eq!(licence(&["MIT"]), "mit");
        assert_eq!(licence(&["MIT", "CC-BY-SA-4.0"]), "cc-by-sa-4.0");
        assert_eq!(licence(&["MIT", "CC-BY-4.0"]), "other");
        assert_eq!(licence(&["MIT", "CC-BY-SA-4.0", "CC-BY-NC-4.0"]), "cc-by-nc-4.0");
        assert_eq!(licence(&["MIT", "unknown"]), "other");
        assert_eq!(licence(&[]), "unknown");
    }

    #[test]
    fn a_table_cell_cannot_break_its_table() {
        let mut out = String::new();
        table(&mut out, ["a"], [["x | y\nz".to_owned()]].into_iter()).unwrap();
        assert_eq!(out, "| a |\n|---|\n| x \\| y z |\n");
        assert_eq!(last_component("/srv/models/Qwen3/"), "Qwen3");
        assert_eq!(last_component("Qwen/Qwen3"), "Qwen/Qwen3");
    }
}
