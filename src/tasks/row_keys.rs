//! What a row is known by: its question with the passage that it is about, without regard to case, space and punctuation.
//! In: columns of texts. Out: hashes of 8 bytes.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::{DataFusionError, Result, exec_err};

/// The texts by which rows are known, as columns of one batch.
pub struct Questions {
    question: ArrayRef,
    passage: Option<ArrayRef>,
    options: Option<ArrayRef>,
    answer: Option<ArrayRef>,
}

impl Questions {
    /// From columns of texts of any of Arrow's types; `options` is a list of texts.
    pub fn new(
        question: &ArrayRef,
        passage: Option<&ArrayRef>,
        options: Option<&ArrayRef>,
        answer: Option<&ArrayRef>,
    ) -> Result<Self> {
        let text = |column: &ArrayRef| Ok::<_, DataFusionError>(cast(column, &DataType::Utf8View)?);
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8View, true)));
        Ok(Questions {
            question: text(question)?,
            passage: passage.map(text).transpose()?,
            options: options.map(|column| Ok::<_, DataFusionError>(cast(column, &list)?)).transpose()?,
            answer: answer.map(text).transpose()?,
        })
    }

    /// From the columns of normalized rows.
    pub(super) fn of(batch: &RecordBatch) -> Result<Self> {
        let Some(question) = batch.column_by_name("question") else {
            return exec_err!("normalized rows have no column 'question'");
        };
        let column = |name: &str| batch.column_by_name(name);
        Questions::new(question, column("passage"), column("options"), column("answer_text"))
    }

    /// What a row is known by.
    pub fn keys(&self, row: usize) -> RowKeys<'_> {
        RowKeys { questions: self, row }
    }

    fn text(column: Option<&ArrayRef>, row: usize) -> Option<&str> {
        column.filter(|column| column.is_valid(row)).map(|column| column.as_string_view().value(row))
    }
}

/// The hashes of one row, made as they are needed.
pub struct RowKeys<'a> {
    questions: &'a Questions,
    row: usize,
}

impl RowKeys<'_> {
    /// The question with the passage that it is about; `None` without a question.
    pub(super) fn question(&self) -> Option<u64> {
        let question = Questions::text(Some(&self.questions.question), self.row)?;
        let passage = Questions::text(self.questions.passage.as_ref(), self.row).unwrap_or_default();
        let (passage, question) = (folded(passage), folded(question));
        (!question.is_empty()).then(|| question_key(&passage, &question))
    }

    /// The question with its options in any order, or with its answer where there are none.
    pub(super) fn whole(&self, question: u64) -> u64 {
        let options = self.questions.options.as_ref().filter(|options| options.is_valid(self.row));
        let parts: Vec<String> = match options {
            Some(options) => {
                let options = options.as_list::<i32>().value(self.row);
                options.as_string_view().iter().flatten().map(folded).collect()
            }
            None => Vec::new(),
        };
        if parts.is_empty() {
            let answer = Questions::text(self.questions.answer.as_ref(), self.row).unwrap_or_default();
            return whole_key(question, vec![folded(answer)]);
        }
        whole_key(question, parts)
    }
}

/// The key of a question with its options in any order, or with its answer alone, folded.
pub(super) fn whole_key(question: u64, mut parts: Vec<String>) -> u64 {
    parts.sort_unstable();
    hash(std::iter::once(&question.to_le_bytes()[..]).chain(parts.iter().map(String::as_bytes)))
}

/// The key of a question and the passage that it is about, both folded.
pub(super) fn question_key(passage: &str, question: &str) -> u64 {
    hash([passage.as_bytes(), question.as_bytes()])
}

/// A text without case and punctuation, and without the spaces that no digits stand around ('well-known' is 'well
/// known'; '1 2' is not '12'). Words stay, articles too.
pub(super) fn folded(text: impl AsRef<str>) -> String {
    let text = text.as_ref().trim();
    let plain = seedmill_udfs::without_punctuation(text);
    let mut folded = String::with_capacity(plain.len());
    let mut words = plain.split_whitespace().peekable();
    while let Some(word) = words.next() {
        folded.push_str(word);
        let digit = |char: Option<char>| char.is_some_and(char::is_numeric);
        if digit(word.chars().next_back()) && words.peek().is_some_and(|next| digit(next.chars().next())) {
            folded.push(' ');
        }
    }
    // Signs alone, such as a row of marks, are known as they are.
    if folded.is_empty() { text.to_owned() } else { folded }
}

fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}
