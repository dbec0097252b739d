//! The split of a dataset that rows come from.

use std::fmt;

/// A split of a dataset. Only [`Split::Train`] may seed a model call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Split {
    Train,
    Validation,
    Test,
}

/// The key that says which split rows come from: an option of CREATE EXTERNAL TABLE, and a key of Parquet's footer.
pub const SPLIT_KEY: &str = "seedmill.split";

impl Split {
    /// The split a file belongs to by its own stem (`test`, `gsm8k.test`, `valid-00000-of-00001`, `test2`, `held_out`,
    /// …), or `None` when the stem says nothing. Where it names two, one of them held out, it is held out. Folders are
    /// never read, and `dev` alone is no mark: both name too many things that are not splits.
    pub fn from_file_stem(stem: &str) -> Option<Split> {
        let stem = stem.to_ascii_lowercase().replace("held-out", "heldout").replace("held_out", "heldout");
        let words = stem.split(|c: char| !c.is_ascii_alphanumeric());
        let splits = words.filter_map(|word| match word.trim_end_matches(|c: char| c.is_ascii_digit()) {
            "train" | "training" => Some(Split::Train),
            "valid" | "validation" | "val" => Some(Split::Validation),
            "test" | "heldout" => Some(Split::Test),
            _ => None,
        });
        splits.max()
    }

    /// A split by the name that a dataset or a user gives it (`train`, `validation`, `dev`, `test`, …).
    pub fn from_name(name: &str) -> Option<Split> {
        match name.to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Split::Train),
            "valid" | "validation" | "val" | "dev" => Some(Split::Validation),
            "test" | "heldout" | "held_out" | "held-out" => Some(Split::Test),
            _ => None,
        }
    }

    /// Whether rows of this split may never reach a model call.
    pub fn is_held_out(self) -> bool {
        self != Split::Train
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Validation => "validation",
            Split::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_stem_names_its_split_by_whole_words() {
        assert_eq!(Split::from_file_stem("test-00000-of-00001"), Some(Split::Test));
        assert_eq!(Split::from_file_stem("gsm8k.validation"), Some(Split::Validation));
        assert_eq!(Split::from_file_stem("abercrombie.train"), Some(Split::Train));
        assert_eq!(Split::from_file_stem("contest"), None);
        assert_eq!(Split::from_file_stem("latest_rows"), None);
        assert_eq!(Split::from_file_stem("dev"), None);
        assert_eq!(Split::from_file_stem("Test2-of-3"), Some(Split::Test));
        assert_eq!(Split::from_file_stem("my_held_out_rows"), Some(Split::Test));
        assert_eq!(Split::from_file_stem("train_and_valid"), Some(Split::Validation));
    }
}
