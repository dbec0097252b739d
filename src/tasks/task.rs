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
        /// The config names a training split that nothing scores on.
        Accepted => "accepted",
        /// It names none, but its few-shot examples come from a split called train.
        AcceptedFewshotTrain => "accepted_fewshot_train",
        Rejected => "rejected",
    }
}

vocabulary! {
    /// Why a task is rejected, or gives no seeds although it is accepted.
    Reason {
        /// Rejected: the config names no training split, nor few-shot examples from a split called train.
        NoTrainingSplit => "no_training_split",
        /// Rejected: the training split is scored, by this task, another loaded one or a task of the harness.
        TrainIsScored => "train_is_scored",
        /// Rejected: what the config trains on has the name of a held-out split, or its file has.
        NotATrainSplit => "not_a_train_split",
        /// Rejected: rows are images or sound.
        NotText => "not_text",
        /// Rejected: it scores likelihoods of whole texts; there is no question and answer.
        UnsupportedOutputType => "unsupported_output_type",
        /// Rejected: the task is a Python class.
        PythonClass => "python_class",
        /// Rejected: the config cannot be read, or lacks what a question and its answer need.
        BrokenConfig => "broken_config",
        /// Rejected: another config defines a task of this name.
        DuplicateName => "duplicate_name",
        /// Accepted: rows become prompts through Python code, and no SQL takes its place.
        PythonFunction => "python_function",
        /// Accepted: nothing says where the dataset's files are.
        NoData => "no_data",
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
    /// Whether rows become prompts through Python code, so that SQL must take its place.
    pub needs_sql_override: bool,
    pub licence: Licence,
    /// Where the licence was read.
    pub licence_evidence: Option<String>,
    /// The page or file that says it.
    pub licence_source: Option<String>,
    /// The config's file.
    pub file: PathBuf,
    /// Training files: absolute names, URLs or patterns; empty when none is known.
    pub train_files: Vec<String>,
    /// Held-out files by the split they hold: validation, test and a training split that is scored.
    pub heldout_files: BTreeMap<Split, Vec<String>>,
    pub(crate) config: Option<HarnessConfig>,
    /// Whether rows can be made questions and answers, whatever split they are from.
    pub(crate) normalizable: bool,
}

impl Task {
    /// Whether the training rows may seed calls, wherever they are.
    pub fn is_accepted(&self) -> bool {
        self.status != Status::Rejected
    }

    /// Whether there are training files that may seed calls and can be normalized.
    pub fn has_seeds(&self) -> bool {
        self.is_accepted() && self.normalizable && !self.train_files.is_empty()
    }

    /// Whether there are held-out files, whether or not their rows can be normalized.
    pub fn has_heldout(&self) -> bool {
        self.config.is_some() && !self.heldout_files.is_empty()
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
        Lineage { tasks: vec![self.name.clone()], licence, ..Lineage::of(split, Origin::Catalog) }
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
