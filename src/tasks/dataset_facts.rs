//! What is said of a task's dataset beside its rows: licence, format and capability. The user's word stands over the
//! config's own metadata, and that over what is known here.

use std::collections::BTreeMap;

use super::dataset_files::dataset_config;
use super::dataset_table::{DatasetEntry, dataset_entry};
use super::harness_config::{Field, HarnessConfig};
use super::known_datasets::{KnownDataset, known_dataset};
use super::{Capability, Format};
use crate::config::DatasetConfig;
use crate::lineage::Licence;

/// A licence and where it was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LicenceFound {
    pub licence: Licence,
    pub evidence: Option<String>,
    /// The page or file that says it.
    pub source: Option<String>,
}

/// The user's word, else the config's own metadata, else the tables of known datasets.
pub(crate) fn licence(harness: &HarnessConfig, datasets: &BTreeMap<String, DatasetConfig>) -> LicenceFound {
    let found = |licence: &str, evidence: String, source: Option<String>| LicenceFound {
        licence: Licence::new(licence),
        evidence: Some(evidence),
        source,
    };
    if let Some(license) = dataset_config(harness, datasets).and_then(|d| d.license.as_deref()) {
        return found(license, crate::config::CONFIG_FILE.to_owned(), None);
    }
    if let Some(license) = &harness.metadata.license {
        let file = harness.file.file_name().unwrap_or_default().to_string_lossy();
        let evidence = harness.metadata.license_evidence.clone();
        return found(license, evidence.unwrap_or_else(|| format!("metadata of {file}")), None);
    }
    if let Some(known) = known(harness) {
        return found(known.license, known.license_evidence.to_owned(), None);
    }
    match entry(harness) {
        Some(entry) => found(entry.license, entry.license_evidence.to_owned(), Some(entry.license_source.to_owned())),
        None => LicenceFound { licence: Licence::unknown(), evidence: None, source: None },
    }
}

/// The language of the rows, BCP 47.
pub(crate) fn language(harness: &HarnessConfig) -> Option<String> {
    let own = harness.metadata.language.clone();
    own.or_else(|| known(harness).map(|known| known.language.to_owned()))
        .or_else(|| entry(harness).and_then(|entry| entry.language).map(str::to_owned))
}

fn known(harness: &HarnessConfig) -> Option<&'static KnownDataset> {
    known_dataset(harness.dataset_path.as_deref()?, harness.dataset_name.as_deref())
}

fn entry(harness: &HarnessConfig) -> Option<&'static DatasetEntry> {
    dataset_entry(harness.dataset_path.as_deref()?)
}

/// The form of question and answer.
///
/// # Errors
/// A sentence where the config's metadata names none.
pub(crate) fn format_of(harness: &HarnessConfig) -> Result<Format, String> {
    if let Some(name) = &harness.metadata.format {
        return Format::from_name(name)
            .ok_or_else(|| format!("'metadata.format: {name}' is none of {}", Format::NAMES.join(", ")));
    }
    if let Some(known) = known(harness) {
        return Ok(known.format);
    }
    if let Some(format) = entry(harness).and_then(|entry| entry.format).filter(|format| fits(harness, *format)) {
        return Ok(format);
    }
    let names = |field: &Option<Field>, words: &[&str]| match field {
        Some(Field::Text(template)) => words.iter().all(|word| template.contains(word)),
        _ => false,
    };
    if names(&harness.doc_to_text, &["premise", "hypothesis"]) {
        return Ok(Format::Nli);
    }
    if harness.output_type == "multiple_choice" {
        let labels = match &harness.doc_to_choice {
            Some(Field::List(labels)) => labels.iter().map(|l| l.trim().to_ascii_lowercase()).collect(),
            _ => Vec::new(),
        };
        let all = |set: &[&str]| !labels.is_empty() && labels.iter().all(|label| set.contains(&label.as_str()));
        return Ok(match () {
            () if all(&["yes", "no", "true", "false", "maybe"]) => Format::YesNo,
            () if all(&["entailment", "neutral", "contradiction", "not_entailment"]) => Format::Nli,
            () => Format::MultipleChoice,
        });
    }
    Ok(match () {
        () if names(&harness.doc_to_target, &["####"]) => Format::Numeric,
        () if names(&harness.doc_to_target, &["code"]) || names(&harness.doc_to_target, &["canonical_solution"]) => {
            Format::Code
        }
        () => Format::ShortAnswer,
    })
}

/// Whether a dataset's usual format is that of this task of it: a list of options is shown or it is not.
fn fits(harness: &HarnessConfig, format: Format) -> bool {
    let choice = harness.output_type == "multiple_choice";
    match format {
        Format::MultipleChoice | Format::Cloze => choice,
        Format::Numeric | Format::ShortAnswer | Format::FreeForm | Format::Code => !choice,
        Format::YesNo | Format::Nli => true,
    }
}

/// What a question asks for.
///
/// # Errors
/// A sentence where the config's metadata names none.
pub(crate) fn capability_of(harness: &HarnessConfig) -> Result<Capability, String> {
    if let Some(name) = &harness.metadata.capability {
        return Capability::from_name(name)
            .ok_or_else(|| format!("'metadata.capability: {name}' is none of {}", Capability::NAMES.join(", ")));
    }
    if let Some(known) = known(harness) {
        return Ok(known.capability);
    }
    if let Some(capability) = entry(harness).and_then(|entry| entry.capability) {
        return Ok(capability);
    }
    Ok(match format_of(harness) {
        Ok(Format::Numeric | Format::Code | Format::Nli) => Capability::Reasoning,
        _ => Capability::Knowledge,
    })
}
