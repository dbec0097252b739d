//! The questions that may stand in raw rows whose prompts cannot be rendered here. In: batches of a split's rows as they
//! are. Out: the keys under which an equal question is found: each text that is long enough or whose column is named like
//! a question, and such a question with each text whose column is named like a passage. A short one that many rows share
//! is known by the row's lists (its options) or other texts (its answer). Texts lie in columns, structs and lists.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;

use super::heldout_split::GENERIC;
use super::meaning_sql::{ASKING, PASSAGE, QUESTION};
use super::raw_table::SOURCE_ROW;
use super::row_keys::{folded, question_key, whole_key};

/// A text in so many rows of one split is no question of its own where it is short …
const SHARED: usize = GENERIC;
/// … and has less than so many words.
const LONG: usize = 10;
/// Words of a text that may be a question, whatever its column's name; scripts without spaces have fewer.
const WORDS: usize = 5;

/// The keys of a split's raw rows.
#[derive(Debug, Default)]
pub(super) struct RawKeys {
    /// With whether the text is long.
    keys: Vec<(u64, bool)>,
    /// Short questions with what may be their options or answer.
    wholes: Vec<(u64, u64)>,
    rows: usize,
}

/// What raw rows are known by.
#[derive(Debug, Default)]
pub(super) struct RawFound {
    /// Texts that may be questions, sorted.
    pub texts: Vec<u64>,
    /// Questions that many rows share, sorted.
    pub generic: Vec<u64>,
    /// Short questions, each with its whole row as far as it can be guessed.
    pub rows: Vec<(u64, u64)>,
}

impl RawKeys {
    /// Adds the rows of a batch that `wanted` names by their place in it, and says of each whether it has a key.
    pub(super) fn add(&mut self, batch: &RecordBatch, wanted: &dyn Fn(usize) -> bool) -> Result<Vec<bool>> {
        let texts = texts_of(batch)?;
        let mut found = vec![false; batch.num_rows()];
        for row in (0..batch.num_rows()).filter(|row| wanted(*row)) {
            let before = self.keys.len();
            self.add_row(&texts, row);
            found[row] = self.keys.len() > before;
            self.rows += 1;
        }
        Ok(found)
    }

    fn add_row(&mut self, texts: &[Texts], row: usize) {
        let (mut asking, mut about, mut short) = (Vec::new(), Vec::new(), Vec::new());
        for texts in texts {
            for text in texts.of(row) {
                let (plain, words) = (folded(text), text.split_whitespace().count());
                // A sign of a script without spaces says as much as a third of a word.
                let weight = words.max(plain.chars().filter(|c| !c.is_ascii() && c.is_alphanumeric()).count() / 3);
                let asks = texts.role == Role::Asks || texts.role == Role::MayAsk && weight >= 2;
                if plain.is_empty() {
                    continue;
                }
                if asks || weight >= WORDS {
                    let key = question_key("", &plain);
                    self.keys.push((key, weight >= LONG));
                    short.extend((asks && weight < LONG).then_some(key));
                }
                match texts.role {
                    Role::Asks | Role::MayAsk => asking.push(plain),
                    Role::About => about.push(plain),
                    Role::Other | Role::Item => {}
                }
            }
        }
        for passage in &about {
            self.keys.extend(asking.iter().map(|question| (question_key(passage, question), true)));
        }
        for (question, texts) in short.iter().flat_map(|key| texts.iter().map(move |texts| (*key, texts))) {
            let parts: Vec<String> = texts.of(row).map(folded).collect();
            if !matches!(texts.role, Role::Asks | Role::MayAsk) && !parts.is_empty() {
                self.wholes.push((question, whole_key(question, parts)));
            }
        }
    }

    /// The keys without those of texts that many rows share, such as instructions.
    pub(super) fn finish(mut self) -> RawFound {
        self.keys.sort_unstable();
        self.wholes.sort_unstable();
        self.wholes.dedup();
        let mut found = RawFound { rows: self.wholes, ..RawFound::default() };
        for keys in self.keys.chunk_by(|a, b| a.0 == b.0) {
            let (key, long) = keys[0];
            match keys.len() {
                alone if alone < SHARED => found.texts.push(key),
                shared if long && shared <= self.rows / 4 => found.texts.push(key),
                _ => found.generic.push(key),
            }
        }
        // A question without anything to tell its rows apart is none.
        let rows = &found.rows;
        found.generic.retain(|key| rows.binary_search_by_key(key, |row| row.0).is_ok());
        found
    }
}

/// A text of a raw row that may be a question.
#[derive(Debug, PartialEq)]
pub(super) struct Asked {
    /// The row's place in its batch.
    pub row: usize,
    /// What the row's columns are about, where the text's column is named like a question.
    pub passage: Option<String>,
    pub question: String,
}

impl RawFound {
    /// The questions of the rows that `wanted` names: the texts of columns named like one, else every text that may be one.
    /// What many rows share is none.
    pub(super) fn asked(&self, batch: &RecordBatch, wanted: &dyn Fn(usize) -> bool) -> Result<Vec<Asked>> {
        let texts = texts_of(batch)?;
        let known = |passage: &str, question: &str| {
            self.texts.binary_search(&question_key(&folded(passage), &folded(question))).is_ok()
        };
        let of = |row: usize, asks: bool| {
            let texts = texts.iter().filter(move |texts| matches!(texts.role, Role::Asks | Role::MayAsk) == asks);
            texts.flat_map(move |texts| texts.of(row).map(move |text| (texts.role, text)))
        };
        let mut asked = Vec::new();
        for row in (0..batch.num_rows()).filter(|row| wanted(*row)) {
            let about: Vec<&str> =
                of(row, false).filter(|(role, _)| *role == Role::About).map(|found| found.1).collect();
            let before = asked.len();
            for (_, text) in of(row, true) {
                if known("", text) || about.iter().any(|passage| known(passage, text)) {
                    let passage = (!about.is_empty()).then(|| about.join("\n"));
                    asked.push(Asked { row, passage, question: text.to_owned() });
                }
            }
            if asked.len() == before {
                let others = of(row, false).filter(|(_, text)| known("", text));
                asked.extend(others.map(|(_, text)| Asked { row, passage: None, question: text.to_owned() }));
            }
        }
        Ok(asked)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Named like a question.
    Asks,
    /// Named like a text that is the question of some tasks.
    MayAsk,
    /// Named like what a question is about.
    About,
    Other,
    /// In a list: an option as often as anything else.
    Item,
}

impl Role {
    fn of_items(name: &str) -> Role {
        if name.to_lowercase().contains("question") { Role::Asks } else { Role::Item }
    }

    fn of(name: &str) -> Role {
        let name = name.to_lowercase();
        let one_of = |names: &[&str]| names.contains(&name.as_str());
        match () {
            () if one_of(&QUESTION[..ASKING])
                || ["question", "query", "problem", "prompt"].iter().any(|n| name.contains(n)) =>
            {
                Role::Asks
            }
            () if one_of(PASSAGE) => Role::About,
            () if one_of(QUESTION) => Role::MayAsk,
            () => Role::Other,
        }
    }
}

/// The texts of one column, or of one field in structs and lists.
struct Texts {
    role: Role,
    /// Utf8View.
    values: ArrayRef,
    /// Row `n` of the batch has the values from `starts[n]` to before `starts[n + 1]`.
    starts: Vec<usize>,
}

impl Texts {
    fn of(&self, row: usize) -> impl Iterator<Item = &str> {
        let values = self.values.as_string_view();
        (self.starts[row]..self.starts[row + 1]).filter(|at| values.is_valid(*at)).map(|at| values.value(at))
    }
}

/// All texts of a batch.
fn texts_of(batch: &RecordBatch) -> Result<Vec<Texts>> {
    let mut texts = Vec::new();
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        if field.name() != SOURCE_ROW {
            let whole = (0..=batch.num_rows()).collect();
            texts_in(field.name(), Role::of(field.name()), column, whole, &mut texts)?;
        }
    }
    Ok(texts)
}

fn texts_in(name: &str, role: Role, column: &ArrayRef, starts: Vec<usize>, found: &mut Vec<Texts>) -> Result<()> {
    match column.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            found.push(Texts { role, values: cast(column, &DataType::Utf8View)?, starts });
        }
        DataType::Dictionary(_, value) if matches!(**value, DataType::Utf8 | DataType::LargeUtf8) => {
            found.push(Texts { role, values: cast(column, &DataType::Utf8View)?, starts });
        }
        DataType::Struct(fields) => {
            for (field, column) in fields.iter().zip(column.as_struct().columns()) {
                // `question.stem` asks, whatever a stem is elsewhere.
                let inner = match role {
                    Role::Asks => role,
                    Role::Item => Role::of_items(field.name()),
                    _ => Role::of(field.name()),
                };
                texts_in(field.name(), inner, column, starts.clone(), found)?;
            }
        }
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            let starts = starts.iter().map(|at| list.value_offsets()[*at] as usize).collect();
            texts_in(name, Role::of_items(name), list.values(), starts, found)?;
        }
        DataType::LargeList(_) => {
            let list = column.as_list::<i64>();
            let starts = starts.iter().map(|at| list.value_offsets()[*at] as usize).collect();
            texts_in(name, Role::of_items(name), list.values(), starts, found)?;
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ListBuilder, StringArray, StringBuilder, StructArray};
    use datafusion::arrow::datatypes::{Field, Fields};

    use super::*;

    fn keys(columns: Vec<(&str, ArrayRef)>) -> (RawFound, Vec<bool>) {
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
        let mut keys = RawKeys::default();
        let found = keys.add(&batch, &|_| true).unwrap();
        (keys.finish(), found)
    }

    fn text(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    fn key(passage: &str, question: &str) -> u64 {
        question_key(&folded(passage), &folded(question))
    }

    #[test]
    fn questions_are_found_by_their_columns_names_or_their_length_alone_and_with_passages() {
        let (found, rows) = keys(vec![
            ("Question", text(&[Some("What flies?"), Some("Why?"), None])),
            ("context", text(&[Some("Bees."), Some("It rains."), None])),
            ("frage", text(&[Some("Wie viele Beine hat eine Biene?"), Some("Wie?"), None])),
            ("id", text(&[Some("a-1"), Some("a-2"), Some("a-3")])),
        ]);
        let mut expected = vec![
            key("", "What flies?"),
            key("Bees.", "what flies"),
            key("", "Why?"),
            key("It rains.", "why"),
            key("", "Wie viele Beine hat eine Biene"),
        ];
        expected.sort_unstable();
        assert_eq!(found.texts, expected);
        assert_eq!(rows, [true, true, false]);
    }

    #[test]
    fn texts_lie_in_structs_and_lists_too() {
        let stem = text(&[Some("Which one is red?"), Some("Which one is blue?")]);
        let fields = Fields::from(vec![Field::new("stem", DataType::Utf8, true)]);
        let question: ArrayRef = Arc::new(StructArray::new(fields, vec![stem], None));
        let mut turns = ListBuilder::new(StringBuilder::new());
        turns.append_value([Some("short"), Some("Tell me all about the sea.")]);
        turns.append_null();
        let (found, rows) = keys(vec![("question", question), ("turns", Arc::new(turns.finish()))]);
        for asked in ["which one is red", "which one is blue", "tell me all about the sea"] {
            assert!(found.texts.contains(&key("", asked)), "{asked}");
        }
        assert_eq!((found.texts.len(), rows), (3, vec![true, true]));
    }

    #[test]
    fn what_many_rows_share_is_no_question_but_a_long_one_asked_again_is() {
        let long = "A baker sells 12 loaves on each of 7 days; how many are that in all?";
        let (mut ask, mut other) = (Vec::new(), Vec::new());
        for row in 0..40 {
            ask.push(if row < 6 { long } else { "Which is true?" });
            other.push("Read the text with care and answer with one letter of the list alone.");
        }
        let column = |values: Vec<&str>| text(&values.into_iter().map(Some).collect::<Vec<_>>());
        let (found, _) = keys(vec![("question", column(ask)), ("instruction_for_all", column(other))]);
        assert_eq!(found.texts, [key("", long)]);
        assert_eq!(found.generic, [key("", "which is true")]);
        // It is known by what stands beside it.
        let answer = "read the text with care and answer with one letter of the list alone";
        let whole = whole_key(key("", "Which is true?"), vec![folded(answer)]);
        assert_eq!(found.rows, [(key("", "Which is true?"), whole)]);
    }

    #[test]
    fn a_row_asks_what_its_columns_named_like_a_question_say_and_else_all_that_may_be_one() {
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("question", text(&[Some("What flies?"), None, Some("Why?")]), true),
            (
                "context",
                text(&[Some("Bees and birds live in the wood."), Some("It rains on all the hills."), None]),
                true,
            ),
            ("solution", text(&[Some("What flies is a bee or a bird."), Some("Short."), Some("Who knows.")]), true),
        ])
        .unwrap();
        let mut keys = RawKeys::default();
        keys.add(&batch, &|_| true).unwrap();
        let asked = |row, passage: Option<&str>, question: &str| Asked {
            row,
            passage: passage.map(str::to_owned),
            question: question.to_owned(),
        };
        let found = keys.finish();
        assert_eq!(
            found.asked(&batch, &|_| true).unwrap(),
            [
                asked(0, Some("Bees and birds live in the wood."), "What flies?"),
                asked(1, None, "It rains on all the hills."),
                asked(2, None, "Why?"),
            ]
        );
        assert_eq!(found.asked(&batch, &|row| row == 1).unwrap().len(), 1);
    }

    #[test]
    fn scripts_without_spaces_have_long_texts_too() {
        let (found, _) = keys(vec![("x", text(&[Some("日本で一番高い山は何ですか、答えなさい"), Some("山")]))]);
        assert_eq!(found.texts, [key("", "日本で一番高い山は何ですか 答えなさい")]);
    }
}
