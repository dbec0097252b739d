//! What is said of a task's dataset beside its rows: licence, format and capability. The user's word stands over the
//! config's own metadata, and that over what is known here.

use std::collections::BTreeMap;

use super::dataset_files::dataset_config;
use super::harness_config::{Field, HarnessConfig};
use super::known_datasets::KnownDataset;
use super::{Capability, Format};
use crate::config::DatasetConfig;
use crate::lineage::Licence;

/// The user's word, else the config's own metadata, else the table of known datasets; with where it was read.
pub(crate) fn licence(
    harness: &HarnessConfig,
    known: Option<&KnownDataset>,
    datasets: &BTreeMap<String, DatasetConfig>,
) -> (Licence, Option<String>) {
    if let Some(license) = dataset_config(harness, datasets).and_then(|d| d.license.as_deref()) {
        return (Licence::new(license), Some(crate::config::CONFIG_FILE.to_owned()));
    }
    if let Some(license) = &harness.metadata.license {
        let file = harness.file.file_name().unwrap_or_default().to_string_lossy();
        let evidence = harness.metadata.license_evidence.clone();
        return (Licence::new(license), Some(evidence.unwrap_or_else(|| format!("metadata of {file}"))));
    }
    match known {
        Some(known) => (Licence::new(known.license), Some(known.license_evidence.to_owned())),
        None => (Licence::unknown(), None),
    }
}

pub(crate) fn format_of(harness: &HarnessConfig, known: Option<&KnownDataset>) -> Result<Format, String> {
    if let Some(name) = &harness.metadata.format {
        return Format::from_name(name)
            .ok_or_else(|| format!("'metadata.format: {name}' is none of {}", Format::NAMES.join(", ")));
    }
    if let Some(known) = known {
        return Ok(known.format);
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

pub(crate) fn capability_of(harness: &HarnessConfig, known: Option<&KnownDataset>) -> Result<Capability, String> {
    if let Some(name) = &harness.metadata.capability {
        return Capability::from_name(name)
            .ok_or_else(|| format!("'metadata.capability: {name}' is none of {}", Capability::NAMES.join(", ")));
    }
    if let Some(known) = known {
        return Ok(known.capability);
    }
    Ok(match format_of(harness, None) {
        Ok(Format::Numeric | Format::Code | Format::Nli) => Capability::Reasoning,
        _ => Capability::Knowledge,
    })
}
