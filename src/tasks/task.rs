//! A task of the catalog: what its config says, what we derive from it, and whether its training rows may seed calls.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::harness_config::HarnessConfig;
use crate::lineage::{Licence, Lineage, Origin, Split};

macro_rules! vocabulary {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident => $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// The word as columns and configs have it.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }

            /// The value of a word of the vocabulary.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some($name::$variant),)+ _ => None }
            }

            /// The vocabulary, for messages.
            pub const NAMES: &'static [&'static str] = &[$($text),+];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

vocabulary! {
    /// What a question asks for.
    Capability {
        Knowledge => "knowledge",
        Reasoning => "reasoning",
    }
}

vocabulary! {
    /// The form of question and answer.
    Format {
        MultipleChoice => "multiple_choice",
        ShortAnswer => "short_answer",
        Numeric => "numeric",
        YesNo => "yes_no",
        /// Premise (passage), hypothesis (question) and an entailment label.
        Nli => "nli",
        /// The question holds a gap `____`.
        Cloze => "cloze",
        Code => "code",
        FreeForm => "free_form",
    }
}

vocabulary! {
    /// Whether a task's training rows may seed calls.
    Status {
        Accepted => "accepted",
        Rejected => "rejected",
    }
}

vocabulary! {
    /// Why a task is rejected, or accepted without data.
    Reason {
        /// The config names no training split (nor few-shot examples from a split called train).
        NoTrainingSplit => "no_training_split",
        /// The training split is scored, by this task, another loaded one or a task of the harness.
        TrainIsScored => "train_is_scored",
        /// What the config trains on is named like a held-out split.
        NotATrainSplit => "not_a_train_split",
        /// Rows become prompts only through Python code.
        PythonFunction => "python_function",
        /// The config cannot be read, or lacks what a question and its answer need.
        BrokenConfig => "broken_config",
        /// Nothing says where the dataset's files are. The task is accepted all the same.
        NoData => "no_data",
        /// Scores likelihoods of whole texts: there is no question and answer.
        UnsupportedOutputType => "unsupported_output_type",
    }
}

/// One task of the catalog, a row of the table `tasks`.
#[derive(Debug, Clone)]
pub struct Task {
    pub name: String,
    /// The top folder under the configured folder; the task's own name for a file that lies there itself.
    pub family: String,
    /// The groups it is in, also through other groups, sorted.
    pub groups: Vec<String>,
    pub tags: Vec<String>,
    pub dataset_path: Option<String>,
    pub dataset_name: Option<String>,
    /// The split that seeds are taken from.
    pub train_split: Option<String>,
    pub validation_split: Option<String>,
    pub test_split: Option<String>,
    pub fewshot_split: Option<String>,
    pub output_type: Option<String>,
    pub format: Option<Format>,
    pub capability: Option<Capability>,
    /// BCP 47, where the config or the table of known datasets says it.
    pub language: Option<String>,
    pub status: Status,
    pub reason: Option<Reason>,
    /// The reason in a sentence.
    pub message: Option<String>,
    pub licence: Licence,
    /// Where the licence was read.
    pub licence_evidence: Option<String>,
    /// The config's file.
    pub file: PathBuf,
    /// Training files, absolute names or URLs; empty when none is known.
    pub train_files: Vec<String>,
    /// Held-out files by the split they hold: validation, test and a training split that is scored.
    pub heldout_files: BTreeMap<Split, Vec<String>>,
    pub(crate) config: Option<HarnessConfig>,
    /// Whether rows can be made questions and answers, whatever split they are from.
    pub(crate) normalizable: bool,
}

impl Task {
    /// Whether there are training files that may seed calls.
    pub fn has_seeds(&self) -> bool {
        self.status == Status::Accepted && !self.train_files.is_empty()
    }

    /// Whether there are held-out files whose rows can be normalized.
    pub fn has_heldout(&self) -> bool {
        self.normalizable && !self.heldout_files.is_empty()
    }

    /// The files of a split, empty for one that the task does not use.
    pub(crate) fn files(&self, split: Split) -> &[String] {
        match split {
            Split::Train => &self.train_files,
            held_out => self.heldout_files.get(&held_out).map_or(&[], Vec::as_slice),
        }
    }

    /// What a table of this task's rows is marked with.
    pub(crate) fn lineage(&self, split: Split) -> Lineage {
        let licence = Some(self.licence.clone());
        Lineage { split, origin: Origin::Catalog, task: Some(self.name.clone()), licence }
    }

    /// The dataset for people: `path` or `path:name`.
    pub(crate) fn dataset(&self) -> String {
        match (&self.dataset_path, &self.dataset_name) {
            (Some(path), Some(name)) => format!("{path}:{name}"),
            (Some(path), None) => path.clone(),
            (None, _) => String::new(),
        }
    }
}
