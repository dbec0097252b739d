//! Which rows are held out, by their question: the hashes of all held-out rows of the catalog, 8 bytes each. In: the keys
//! of each split. Out: an answer to "is this a held-out row?".

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::heldout_split::SplitKeys;
use super::row_keys::RowKeys;

/// Changes with what is hashed.
pub(super) const VERSION: &[u8; 8] = b"heldout2";

/// All held-out rows. Each list is sorted.
#[derive(Debug, Default, PartialEq)]
pub struct HeldOutIndex {
    /// Questions that say which row they are.
    questions: Vec<u64>,
    /// Questions that do not.
    generic: Vec<u64>,
    /// Those with their options or answers.
    rows: Vec<u64>,
}

impl HeldOutIndex {
    /// Whether a row is one of the held-out rows.
    pub fn contains(&self, row: &RowKeys) -> bool {
        let Some(question) = row.question() else { return false };
        if self.questions.binary_search(&question).is_ok() {
            return true;
        }
        self.generic.binary_search(&question).is_ok() && self.rows.binary_search(&row.whole(question)).is_ok()
    }

    /// How many of the texts are held-out questions, and how many of the rows (short questions with what may be their
    /// options or answer) are held-out rows.
    pub(super) fn count_shared(&self, texts: &[u64], rows: &[(u64, u64)]) -> usize {
        let is_row = |(question, row): &&(u64, u64)| {
            self.generic.binary_search(question).is_ok() && self.rows.binary_search(row).is_ok()
        };
        texts.iter().filter(|text| self.questions.binary_search(text).is_ok()).count()
            + rows.iter().filter(is_row).count()
    }

    /// Distinct held-out questions.
    pub fn len(&self) -> usize {
        self.questions.len() + self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file: version, three lengths, three lists, a hash of all before it; integers little-endian.
    pub(super) fn write(&self, file: &Path) -> std::io::Result<()> {
        let mut bytes = VERSION.to_vec();
        let lists = [&self.questions, &self.generic, &self.rows];
        lists.iter().for_each(|list| bytes.extend((list.len() as u64).to_le_bytes()));
        lists.iter().for_each(|list| list.iter().for_each(|hash| bytes.extend(hash.to_le_bytes())));
        let check = blake3::hash(&bytes);
        let partial: PathBuf = file.with_extension(format!("{}.partial", std::process::id()));
        let mut out = std::fs::File::create(&partial)?;
        out.write_all(&bytes).and_then(|()| out.write_all(check.as_bytes()))?;
        std::fs::rename(&partial, file)
    }

    /// `None` where there is no file, or one that cannot be used: it is made anew.
    pub(super) fn read(file: &Path) -> Option<Self> {
        let mut bytes = Vec::new();
        std::fs::File::open(file).ok()?.read_to_end(&mut bytes).ok()?;
        let (bytes, check) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
        if blake3::hash(bytes).as_bytes() != check || !bytes.starts_with(VERSION) {
            return None;
        }
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).ok();
        let mut numbers = bytes[VERSION.len()..].chunks_exact(8).filter_map(number);
        let lengths = [numbers.next()?, numbers.next()?, numbers.next()?];
        let mut lists = lengths.map(|length| numbers.by_ref().take(length as usize).collect::<Vec<u64>>());
        let [questions, generic, rows] = lists.each_mut().map(std::mem::take);
        Some(HeldOutIndex { questions, generic, rows })
    }
}

/// Puts the keys of all splits together.
#[derive(Default)]
pub(super) struct IndexBuilder {
    rows: Vec<(u64, u64)>,
    generic: Vec<u64>,
    texts: Vec<u64>,
}

impl IndexBuilder {
    pub(super) fn add(&mut self, split: &SplitKeys) {
        self.rows.extend(&split.rows);
        self.generic.extend(&split.generic);
        self.texts.extend(&split.texts);
    }

    pub(super) fn finish(mut self) -> HeldOutIndex {
        let sorted = |mut list: Vec<u64>| {
            list.sort_unstable();
            list.dedup();
            list.shrink_to_fit();
            list
        };
        let generic = sorted(std::mem::take(&mut self.generic));
        let is_generic = |question: &u64| generic.binary_search(question).is_ok();
        let questions = self.rows.iter().map(|row| row.0).chain(self.texts).filter(|key| !is_generic(key)).collect();
        let rows = self.rows.iter().filter(|row| is_generic(&row.0)).map(|row| row.1).collect();
        HeldOutIndex { questions: sorted(questions), rows: sorted(rows), generic }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, ListBuilder, StringArray, StringBuilder};
    use proptest::prelude::*;

    use super::super::row_keys::Questions;
    use super::*;

    fn questions(rows: &[(&str, &str, &[&str])]) -> Questions {
        let question: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.0)).collect::<StringArray>());
        let answer: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.1)).collect::<StringArray>());
        let mut options = ListBuilder::new(StringBuilder::new());
        for row in rows {
            options.append_value(row.2.iter().map(Some));
        }
        let options: ArrayRef = Arc::new(options.finish());
        Questions::new(&question, None, Some(&options), Some(&answer)).unwrap()
    }

    fn index(rows: &[(&str, &str, &[&str])]) -> HeldOutIndex {
        let questions = questions(rows);
        let mut split = SplitKeys::default();
        (0..rows.len()).for_each(|row| _ = split.add(&questions.keys(row)));
        split.end();
        let mut builder = IndexBuilder::default();
        builder.add(&split);
        builder.finish()
    }

    #[test]
    fn case_space_and_punctuation_make_no_other_row() {
        let index = index(&[("Which animal is well-known?", "x", &[]), ("What is 1 2/3?", "y", &[])]);
        let asked = questions(&[
            ("which   ANIMAL is well known", "z", &[]),
            ("Which animal is wellknown?", "z", &[]),
            ("Which animal is unknown?", "x", &[]),
            ("What is 12/3?", "y", &[]),
        ]);
        let found: Vec<bool> = (0..4).map(|row| index.contains(&asked.keys(row))).collect();
        assert_eq!(found, [true, true, false, false]);
    }

    #[test]
    fn a_question_that_many_rows_share_is_known_by_its_options_in_any_order() {
        let which = "Which of these is true?";
        let index = index(&[
            (which, "a", &["a", "b"]),
            (which, "c", &["c", "d"]),
            (which, "e", &["e", "f"]),
            (which, "g", &["g", "h"]),
            ("Which of these flies?", "bee", &["bee", "cow"]),
        ]);
        let asked = questions(&[
            (which, "a", &["B.", "a"]),
            (which, "a", &["a", "c"]),
            ("Which of these flies", "owl", &["owl"]),
        ]);
        let found: Vec<bool> = (0..3).map(|row| index.contains(&asked.keys(row))).collect();
        assert_eq!(found, [true, false, true]);
        assert_eq!(index.len(), 5);
    }

    #[test]
    fn a_damaged_file_is_no_index() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.index");
        let index = index(&[("One?", "1", &[]), ("Two?", "2", &[])]);
        index.write(&file).unwrap();
        assert_eq!(HeldOutIndex::read(&file).unwrap(), index);
        let bytes = std::fs::read(&file).unwrap();
        for damage in [0, 9, bytes.len() / 2, bytes.len() - 1] {
            let mut damaged = bytes.clone();
            damaged[damage] ^= 1;
            std::fs::write(&file, damaged).unwrap();
            assert_eq!(HeldOutIndex::read(&file), None, "{damage}");
        }
        std::fs::write(&file, &bytes[..20]).unwrap();
        assert_eq!(HeldOutIndex::read(&file), None);
    }

    proptest! {
        #[test]
        fn what_is_added_is_found(texts in prop::collection::vec(r"(\PC|[a-z0-9 .,-]){0,12}", 1..20)) {
            let rows: Vec<(&str, &str, &[&str])> = texts.iter().map(|text| (text.as_str(), "", &[][..])).collect();
            let index = index(&rows);
            let upper: Vec<String> = texts.iter().map(|text| format!("  {text} ")).collect();
            let asked: Vec<(&str, &str, &[&str])> = upper.iter().map(|text| (text.as_str(), "", &[][..])).collect();
            let asked = questions(&asked);
            for (row, text) in texts.iter().enumerate() {
                prop_assert_eq!(index.contains(&asked.keys(row)), !text.trim().is_empty(), "{:?}", text);
            }
        }
    }
}
