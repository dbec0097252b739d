//! What is known of public datasets, by `dataset_path`: licence with evidence and source, capability, format, language.
//! `datasets.tsv` has every dataset whose training rows the tasks of lm-evaluation-harness 0.4.13 may use. Its columns:
//! dataset_path, SPDX identifier or `unknown`, capability, format, language (BCP 47), evidence, source. Empty cells say
//! nothing. A licence is what a card or a LICENSE file says, read in 2026; where they differ the stricter stands, and
//! where nothing could be read it is unknown.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::{Capability, Format};

const TABLE: &str = include_str!("datasets.tsv");

/// One dataset.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct DatasetEntry {
    pub license: &'static str,
    pub license_evidence: &'static str,
    pub license_source: &'static str,
    pub capability: Option<Capability>,
    pub format: Option<Format>,
    pub language: Option<&'static str>,
}

static DATASETS: LazyLock<HashMap<String, DatasetEntry>> = LazyLock::new(|| {
    let said = |cell: &'static str| (!cell.is_empty()).then_some(cell);
    let mut datasets = HashMap::new();
    for line in TABLE.lines() {
        let mut cells = line.split('\t');
        let mut cell = || cells.next().unwrap_or_default();
        let path = cell().to_ascii_lowercase();
        let (license, capability, format, language) = (cell(), cell(), cell(), cell());
        let entry = DatasetEntry {
            license,
            capability: Capability::from_name(capability),
            format: Format::from_name(format),
            language: said(language),
            license_evidence: cell(),
            license_source: cell(),
        };
        datasets.insert(path, entry);
    }
    datasets
});

/// The entry of a dataset, whatever the case of its path.
pub(crate) fn dataset_entry(dataset_path: &str) -> Option<&'static DatasetEntry> {
    DATASETS.get(&dataset_path.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineage::{Licence, Permission};

    #[test]
    fn every_line_has_a_licence_with_evidence_and_source_and_known_words() {
        assert_eq!(DATASETS.len(), TABLE.lines().count(), "a path stands twice");
        for line in TABLE.lines() {
            let cells: Vec<&str> = line.split('\t').collect();
            assert_eq!(cells.len(), 7, "{line}");
            assert!(!cells[1].is_empty() && !cells[5].is_empty() && cells[6].starts_with("https://"), "{line}");
            assert!(Capability::from_name(cells[2]).is_some(), "{line}");
            assert!(cells[3].is_empty() || Format::from_name(cells[3]).is_some(), "{line}");
            let unknown = Licence::new(cells[1]).permission() == Permission::Unknown;
            assert_eq!(unknown, matches!(cells[1], "unknown" | "C-UDA-1.0"), "{line}");
        }
    }

    #[test]
    fn what_a_licence_permits_follows_from_its_identifier() {
        let permission = |path| Licence::new(dataset_entry(path).unwrap().license).permission();
        assert_eq!(permission("OpenAI/gsm8k"), Permission::Yes);
        assert_eq!(permission("allenai/ai2_arc"), Permission::ShareAlike);
        assert_eq!(permission("allenai/sciq"), Permission::No);
        assert_eq!(permission("masakhane/masakhapos"), Permission::Yes);
        assert_eq!(permission("allenai/openbookqa"), Permission::Unknown);
        assert_eq!(dataset_entry("nobody/nothing"), None);
    }
}
