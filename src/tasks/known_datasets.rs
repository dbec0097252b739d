//! What we know of public datasets beyond their harness configs: licence with evidence, capability, format and, where
//! answers are labels that no config lists, the labels. A config's own metadata wins over this table.

use super::{Capability, Format};

pub(crate) struct KnownDataset {
    path: &'static str,
    /// Configs (`dataset_name`) the entry is for, by prefix; empty for all.
    names: &'static [&'static str],
    pub license: &'static str,
    pub license_evidence: &'static str,
    pub capability: Capability,
    pub format: Format,
    pub language: &'static str,
    /// The closed set of answers; empty where answers are free.
    pub labels: &'static [&'static str],
}

const LEGALBENCH_EVIDENCE: &str = "README of each task in github.com/HazyResearch/legalbench";

/// The first entry that fits is taken.
const KNOWN: &[KnownDataset] = &[
    KnownDataset {
        path: "openai/gsm8k",
        names: &[],
        license: "MIT",
        license_evidence: "LICENSE in github.com/openai/grade-school-math",
        capability: Capability::Reasoning,
        format: Format::Numeric,
        language: "en",
        labels: &[],
    },
    KnownDataset {
        path: "allenai/openbookqa",
        names: &[],
        license: "unknown",
        license_evidence: "the dataset's card on the Hub says 'unknown'; Apache-2.0 in its repository is for code",
        capability: Capability::Knowledge,
        format: Format::MultipleChoice,
        language: "en",
        labels: &[],
    },
    KnownDataset {
        path: "nguha/legalbench",
        names: &["abercrombie"],
        license: "CC-BY-4.0",
        license_evidence: LEGALBENCH_EVIDENCE,
        capability: Capability::Reasoning,
        format: Format::MultipleChoice,
        language: "en",
        labels: &["generic", "descriptive", "suggestive", "arbitrary", "fanciful"],
    },
    KnownDataset {
        path: "nguha/legalbench",
        names: &["function_of_decision_section"],
        license: "CC-BY-4.0",
        license_evidence: LEGALBENCH_EVIDENCE,
        capability: Capability::Reasoning,
        format: Format::MultipleChoice,
        language: "en",
        labels: &["Facts", "Procedural History", "Issue", "Rule", "Analysis", "Conclusion", "Decree"],
    },
    KnownDataset {
        path: "nguha/legalbench",
        names: &["contract_nli_", "corporate_lobbying", "international_citizenship_questions", "proa"],
        license: "CC-BY-4.0",
        license_evidence: LEGALBENCH_EVIDENCE,
        capability: Capability::Reasoning,
        format: Format::YesNo,
        language: "en",
        labels: &[],
    },
];

/// What is known of a dataset and config.
pub(crate) fn known_dataset(path: &str, name: Option<&str>) -> Option<&'static KnownDataset> {
    KNOWN.iter().find(|known| {
        known.path.eq_ignore_ascii_case(path)
            && (known.names.is_empty() || name.is_some_and(|n| known.names.iter().any(|prefix| n.starts_with(prefix))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dataset_is_known_by_path_and_config() {
        let known = |name| known_dataset("nguha/legalbench", Some(name)).map(|k| k.format);
        assert_eq!(known("proa"), Some(Format::YesNo));
        assert_eq!(known("contract_nli_permissible_copy"), Some(Format::YesNo));
        assert_eq!(known("abercrombie"), Some(Format::MultipleChoice));
        assert_eq!(known("hearsay"), None);
        assert_eq!(known_dataset("openai/gsm8k", None).map(|k| k.license), Some("MIT"));
    }
}
