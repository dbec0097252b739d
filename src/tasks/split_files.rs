//! Which files of a dataset's folder hold a split. Names decide: a shard number may follow the split's name, a config's
//! or dataset's name may stand before it, and nothing else may be there (`train.old.jsonl` is not `train`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::data_roots::{Listing, Wanted};

/// Formats in the order in which they are preferred where a folder has the same rows in several.
const FORMATS: [&str; 6] = ["parquet", "jsonl", "ndjson", "json", "csv", "tsv"];

/// The split's files in the dataset's folder, sorted and all of one format.
pub(crate) fn split_files(dataset: &Path, wanted: Wanted<'_>, list: &dyn Fn(&Path) -> Arc<Listing>) -> Vec<String> {
    split_names(wanted.split)
        .iter()
        .find_map(|split| places(dataset, wanted).into_iter().find_map(|place| place.files(split, list)))
        .unwrap_or_default()
}

/// A folder to look into and what may stand before the split's name there; `None` is nothing.
struct Place {
    folder: PathBuf,
    prefixes: Vec<Option<String>>,
}

fn places(dataset: &Path, wanted: Wanted<'_>) -> Vec<Place> {
    let last = wanted.dataset_path.rsplit('/').next().unwrap_or_default().to_owned();
    let place = |folder: PathBuf, prefixes: &[Option<&str>]| Place {
        folder,
        prefixes: prefixes.iter().map(|prefix| prefix.map(str::to_owned)).collect(),
    };
    let mut places = Vec::new();
    let data = dataset.join("data");
    if let Some(config) = wanted.config.filter(|config| !config.split(['/', '\\']).any(|part| part == "..")) {
        let either = [None, Some(config), Some(last.as_str())];
        places.push(place(dataset.join(config), &either));
        places.push(place(data.join(config), &either));
        let both = ['.', '-', '_'].map(|sep| format!("{last}{sep}{config}"));
        let named: Vec<Option<&str>> =
            std::iter::once(config).chain(both.iter().map(String::as_str)).map(Some).collect();
        places.push(place(dataset.to_path_buf(), &named));
        places.push(place(data.clone(), &named));
    }
    if wanted.config.is_none() || wanted.unnamed_config {
        let unnamed = [None, Some(last.as_str())];
        places.push(place(dataset.to_path_buf(), &unnamed));
        places.push(place(data, &unnamed));
        places.push(place(dataset.join("default"), &unnamed));
    }
    places
}

impl Place {
    fn files(&self, split: &str, list: &dyn Fn(&Path) -> Arc<Listing>) -> Option<Vec<String>> {
        let here = list(&self.folder);
        let named = |name: &&String| {
            format_of(name).is_some_and(|(stem, _)| self.prefixes.iter().any(|p| holds(stem, p.as_deref(), split)))
        };
        let found = one_format(here.files.iter().filter(named));
        if !found.is_empty() {
            return Some(found.iter().map(|name| self.folder.join(name).to_string_lossy().into_owned()).collect());
        }
        // The Parquet conversion of the Hub: `<config>/<split>/0000.parquet`.
        let folder = here.folders.iter().find(|name| name.eq_ignore_ascii_case(split))?;
        let folder = self.folder.join(folder);
        let there = list(&folder);
        let found = one_format(there.files.iter().filter(|name| format_of(name).is_some()));
        let found: Vec<_> = found.iter().map(|name| folder.join(name).to_string_lossy().into_owned()).collect();
        (!found.is_empty()).then_some(found)
    }
}

/// Of files in several formats those in the preferred one.
fn one_format<'a>(files: impl Iterator<Item = &'a String>) -> Vec<&'a str> {
    let files: Vec<&str> = files.map(String::as_str).collect();
    let rank = |name: &str| format_of(name).map(|(_, rank)| rank);
    let Some(best) = files.iter().filter_map(|name| rank(name)).min() else { return Vec::new() };
    files.into_iter().filter(|name| rank(name) == Some(best)).collect()
}

/// A data file's name without its extension, and the place of its format among [`FORMATS`].
fn format_of(name: &str) -> Option<(&str, usize)> {
    let plain = name.strip_suffix(".gz").unwrap_or(name);
    let (stem, extension) = plain.rsplit_once('.')?;
    let rank = FORMATS.iter().position(|known| extension.eq_ignore_ascii_case(known))?;
    (!stem.is_empty() && !stem.starts_with('.')).then_some((stem, rank))
}

/// Whether a stem is `[prefix + separator] split [shard]`, without case.
fn holds(stem: &str, prefix: Option<&str>, split: &str) -> bool {
    let strip = |text: &str, start: &str| -> Option<String> {
        let head = text.get(..start.len())?;
        head.eq_ignore_ascii_case(start).then(|| text[start.len()..].to_owned())
    };
    let rest = match prefix {
        None => Some(stem.to_owned()),
        Some(prefix) => strip(stem, prefix).and_then(|rest| rest.strip_prefix(['.', '-', '_']).map(str::to_owned)),
    };
    rest.and_then(|rest| strip(&rest, split)).is_some_and(|rest| is_shard(&rest))
}

/// `-00000-of-00002`, `_1`, `.0003`, `-v1.3`, and the hash that the Hub writes after a shard's number.
fn is_shard(rest: &str) -> bool {
    if rest.is_empty() {
        return true;
    }
    let Some(rest) = rest.strip_prefix(['.', '-', '_']) else { return false };
    let digits = |piece: &str| !piece.is_empty() && piece.bytes().all(|b| b.is_ascii_digit());
    let hash = |piece: &str| piece.len() == 16 && piece.bytes().all(|b| b.is_ascii_hexdigit());
    rest.split(['.', '-', '_'])
        .all(|piece| digits(piece) || piece == "of" || piece.strip_prefix('v').is_some_and(digits) || hash(piece))
}

/// A split's own name, then the other names that the Hub takes for it.
fn split_names(split: &str) -> Vec<&str> {
    const SAME: [&[&str]; 3] = [&["train", "training"], &["validation", "valid", "val", "dev"], &["test", "testing"]];
    let others = SAME.iter().find(|names| names.contains(&split)).copied().unwrap_or_default();
    std::iter::once(split).chain(others.iter().copied().filter(|other| *other != split)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::data_roots::DataRoots;
    use super::*;

    #[test]
    fn a_name_holds_a_split_with_a_shard_number_and_nothing_else() {
        let yes = |stem, prefix, split| assert!(holds(stem, prefix, split), "{stem}");
        yes("train", None, "train");
        yes("train-00000-of-00002", None, "train");
        yes("train-00000-of-00001-1f2e3d4c5b6a7988", None, "train");
        yes("train_1", None, "train");
        yes("Train-v1.3", None, "train");
        yes("abercrombie.train", Some("abercrombie"), "train");
        yes("wnli-train", Some("WNLI"), "train");
        let no = |stem, prefix, split| assert!(!holds(stem, prefix, split), "{stem}");
        no("train.malformed", None, "train");
        no("trainer", None, "train");
        no("train_r1", None, "train");
        no("abercrombie.train", None, "train");
        no("abercrombie.train", Some("proa"), "train");
        no("test", None, "train");
        no("é", None, "train");
    }

    #[test]
    fn a_root_is_searched_by_dataset_config_and_split_in_every_usual_layout() {
        let root = tempfile::tempdir().unwrap();
        for file in [
            "openai/gsm8k/main/train-00000-of-00002.parquet",
            "openai/gsm8k/main/train-00001-of-00002.parquet",
            "openai/gsm8k/main/test-00000-of-00001.parquet",
            "openai/gsm8k/socratic/train-00000-of-00001.parquet",
            "openbookqa/train.jsonl",
            "openbookqa/train.malformed.jsonl",
            "openbookqa/train.csv",
            "openbookqa/dev.jsonl",
            "legalbench/abercrombie.train.jsonl",
            "legalbench/proa.train.jsonl",
            "arc/ARC-Easy/train/0000.parquet",
            "arc/ARC-Easy/train/0001.parquet",
            "mgsm/test.jsonl",
        ] {
            let file = root.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        }
        let stores = crate::stores::Stores::from_env();
        let roots = DataRoots::new(&["/nowhere".to_owned(), root.path().to_string_lossy().into_owned()], &stores);
        let find = |dataset_path, config, split, unnamed_config| {
            let found = roots.find(Wanted { dataset_path, config, split, unnamed_config });
            let below = |file: &String| file.strip_prefix(root.path().to_str().unwrap()).unwrap()[1..].to_owned();
            found.iter().map(below).collect::<Vec<_>>()
        };
        let main = ["openai/gsm8k/main/train-00000-of-00002.parquet", "openai/gsm8k/main/train-00001-of-00002.parquet"];
        assert_eq!(find("openai/gsm8k", Some("main"), "train", true), main);
        assert_eq!(find("OpenAI/GSM8K", Some("main"), "train", false), main);
        assert_eq!(find("openai/gsm8k", Some("other"), "train", true), Vec::<String>::new());
        assert_eq!(find("allenai/openbookqa", Some("main"), "train", true), ["openbookqa/train.jsonl"]);
        assert_eq!(find("allenai/openbookqa", None, "validation", false), ["openbookqa/dev.jsonl"]);
        assert_eq!(find("nguha/legalbench", Some("proa"), "train", false), ["legalbench/proa.train.jsonl"]);
        assert_eq!(find("allenai/arc", Some("ARC-Easy"), "train", false).len(), 2);
        assert_eq!(find("juletxara/mgsm", Some("bn"), "test", false), Vec::<String>::new());
        assert_eq!(find("juletxara/mgsm", Some("bn"), "test", true), ["mgsm/test.jsonl"]);
        assert_eq!(find("../..", None, "train", true), Vec::<String>::new());
        assert!(roots.places("a/b")[0].contains("/nowhere (which is not there)"));
        assert!(roots.file("nguha/legalbench", "proa.train.jsonl").is_some());
        assert_eq!(roots.file("nguha/legalbench", "../openbookqa/train.jsonl"), None);
    }
}
