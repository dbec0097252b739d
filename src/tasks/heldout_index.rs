//! Which rows are held out, by their question: the hashes of all held-out rows of the catalog. In: the normalized
//! held-out rows of every task. Out: an answer to "is this a held-out row?", 8 bytes a row, kept beside the normalized
//! rows under a key over their content.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanBufferBuilder, RecordBatch};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Int64Type};
use datafusion::catalog::Session;
use datafusion::common::{DataFusionError, Result, exec_err};
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::TryStreamExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use tokio::sync::OnceCell;

use super::normalized_cache::normalized_file;
use super::seeds::heldout_parts;
use super::task_planner::TaskPlanner;
use super::{Catalog, Task};
use crate::lineage::Split;

/// A question that so many rows of one split share, each with other options or another answer, says nothing alone
/// ("Which of these is true?"): its rows are known by their options, or by their answer where they have none.
const GENERIC: usize = 4;

/// Changes with what is hashed.
const VERSION: &[u8; 8] = b"heldout1";

/// The held-out rows of a catalog.
#[derive(Debug)]
pub struct HeldOutRows {
    catalog: Arc<Catalog>,
    planner: TaskPlanner,
    index: OnceCell<Arc<HeldOutIndex>>,
    copies: Mutex<HashMap<String, Arc<BooleanBuffer>>>,
}

impl HeldOutRows {
    pub fn new(catalog: Arc<Catalog>, runtime: Arc<RuntimeEnv>) -> Self {
        let planner = TaskPlanner::new(runtime);
        HeldOutRows { catalog, planner, index: OnceCell::new(), copies: Mutex::default() }
    }

    /// Whether there are any: where there are none no row needs a look.
    pub fn any(&self) -> bool {
        self.catalog.tasks().iter().any(Task::has_heldout)
    }

    /// The index, if [`Self::load`] has made it.
    pub fn index(&self) -> Option<&Arc<HeldOutIndex>> {
        self.index.get()
    }

    /// The index; made or read from the cache once in a session.
    ///
    /// # Errors
    /// Held-out rows that cannot be read: without them nothing can be said to be no copy.
    pub async fn load(&self, session: &dyn Session) -> Result<Arc<HeldOutIndex>> {
        self.index.get_or_try_init(|| self.read_or_make(session)).await.cloned()
    }

    /// Which training rows of a task are copies of held-out rows, by their ordinal, if [`Self::load_task`] has looked.
    pub fn copies(&self, task: &str) -> Option<Arc<BooleanBuffer>> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner).get(task).cloned()
    }

    /// Looks at all training rows of a task: one bit is kept for each.
    pub async fn load_task(&self, name: &str, session: &dyn Session) -> Result<()> {
        if self.copies(name).is_some() {
            return Ok(());
        }
        let index = self.load(session).await?;
        let Some(task) = self.catalog.task(name).filter(|task| task.has_seeds()) else { return Ok(()) };
        let file = normalized_file(self.catalog.cache(), task, Split::Train, &self.planner, session).await?;
        let mut bits = BooleanBufferBuilder::new(0);
        let mut batches = questions_of(&file).await?;
        while let Some(batch) = batches.try_next().await? {
            let rows = Questions::of(&batch)?;
            let ordinals = batch.column_by_name("source_row").map(|column| column.as_primitive::<Int64Type>());
            for row in 0..batch.num_rows() {
                let at = ordinals.filter(|o| o.is_valid(row)).map_or(bits.len(), |o| o.value(row).max(0) as usize);
                if at >= bits.len() {
                    bits.append_n(at + 1 - bits.len(), false);
                }
                bits.set_bit(at, index.contains(&rows.keys(row)));
            }
        }
        let copies = Arc::new(bits.finish());
        self.copies.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), copies);
        Ok(())
    }

    async fn read_or_make(&self, session: &dyn Session) -> Result<Arc<HeldOutIndex>> {
        let cache = self.catalog.cache();
        let mut files = Vec::new();
        for part in heldout_parts(&self.catalog) {
            if let Some(task) = self.catalog.task(&part.task) {
                files.push(normalized_file(cache, task, part.split, &self.planner, session).await?);
            }
        }
        // The names hold hashes of the content.
        let mut hasher = blake3::Hasher::new();
        hasher.update(VERSION);
        for file in &files {
            hasher.update(file.file_name().unwrap_or_default().as_encoded_bytes());
            hasher.update(b"\n");
        }
        let kept = cache.join(format!("heldout-{}.index", &hasher.finalize().to_hex()[..16]));
        if let Some(index) = HeldOutIndex::read(&kept) {
            return Ok(Arc::new(index));
        }
        let mut builder = IndexBuilder::default();
        for file in &files {
            let mut batches = questions_of(file).await?;
            while let Some(batch) = batches.try_next().await? {
                let rows = Questions::of(&batch)?;
                (0..batch.num_rows()).for_each(|row| builder.add(&rows.keys(row)));
            }
            builder.end_of_split();
        }
        let index = builder.finish();
        if !files.is_empty() {
            index.write(&kept).map_err(|e| {
                DataFusionError::from(e).context(format!("the index of held-out rows, '{}'", kept.display()))
            })?;
        }
        Ok(Arc::new(index))
    }
}

type Batches = futures::stream::BoxStream<'static, Result<RecordBatch>>;

/// The columns of a normalized file that say which row a row is.
async fn questions_of(file: &Path) -> Result<Batches> {
    use futures::StreamExt;
    let at = |e: DataFusionError| e.context(format!("the normalized rows in '{}'", file.display()));
    let open = tokio::fs::File::open(file).await.map_err(|e| at(e.into()))?;
    let builder = ParquetRecordBatchStreamBuilder::new(open).await.map_err(|e| at(e.into()))?;
    let columns = ["passage", "question", "options", "answer_text", "source_row"];
    let schema = builder.schema();
    let roots = columns.iter().filter_map(|column| schema.index_of(column).ok()).collect::<Vec<_>>();
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let batches = builder.with_projection(mask).build().map_err(|e| at(e.into()))?;
    Ok(batches.map_err(DataFusionError::from).boxed())
}

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

    fn of(batch: &RecordBatch) -> Result<Self> {
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
    fn question(&self) -> Option<u64> {
        let question = Questions::text(Some(&self.questions.question), self.row)?;
        let passage = Questions::text(self.questions.passage.as_ref(), self.row).unwrap_or_default();
        Some(hash([folded(passage).as_bytes(), folded(question).as_bytes()]))
    }

    /// The question with its options in any order, or with its answer where there are none.
    fn whole(&self, question: u64) -> u64 {
        let options = self.questions.options.as_ref().filter(|options| options.is_valid(self.row));
        let mut parts: Vec<String> = match options {
            Some(options) => {
                let options = options.as_list::<i32>().value(self.row);
                options.as_string_view().iter().flatten().map(folded).collect()
            }
            None => Vec::new(),
        };
        if parts.is_empty() {
            parts.push(folded(Questions::text(self.questions.answer.as_ref(), self.row).unwrap_or_default()));
        }
        parts.sort_unstable();
        hash(std::iter::once(&question.to_le_bytes()[..]).chain(parts.iter().map(String::as_bytes)))
    }
}

/// A text without case and punctuation, and without the spaces that no digits stand around ('well-known' is 'well
/// known'; '1 2' is not '12'). Words stay, articles too.
fn folded(text: impl AsRef<str>) -> String {
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

    /// Distinct held-out questions.
    pub fn len(&self) -> usize {
        self.questions.len() + self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file: version, three lengths, three lists, a hash of all before it; integers little-endian.
    fn write(&self, file: &Path) -> std::io::Result<()> {
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
    fn read(file: &Path) -> Option<Self> {
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

#[derive(Default)]
struct IndexBuilder {
    /// (question, whole row) of every row.
    rows: Vec<(u64, u64)>,
    generic: Vec<u64>,
    /// Where the split that is being added begins.
    start: usize,
}

impl IndexBuilder {
    fn add(&mut self, row: &RowKeys) {
        if let Some(question) = row.question() {
            self.rows.push((question, row.whole(question)));
        }
    }

    fn end_of_split(&mut self) {
        let split = &mut self.rows[self.start..];
        split.sort_unstable();
        for rows in split.chunk_by(|a, b| a.0 == b.0) {
            if rows.chunk_by(|a, b| a == b).count() >= GENERIC {
                self.generic.push(rows[0].0);
            }
        }
        self.start = self.rows.len();
    }

    fn finish(mut self) -> HeldOutIndex {
        let sorted = |mut list: Vec<u64>| {
            list.sort_unstable();
            list.dedup();
            list.shrink_to_fit();
            list
        };
        let generic = sorted(std::mem::take(&mut self.generic));
        let is_generic = |question: &u64| generic.binary_search(question).is_ok();
        let questions = self.rows.iter().map(|row| row.0).filter(|question| !is_generic(question)).collect();
        let rows = self.rows.iter().filter(|row| is_generic(&row.0)).map(|row| row.1).collect();
        HeldOutIndex { questions: sorted(questions), rows: sorted(rows), generic }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ListBuilder, StringArray, StringBuilder};
    use proptest::prelude::*;

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
        let mut builder = IndexBuilder::default();
        (0..rows.len()).for_each(|row| builder.add(&questions.keys(row)));
        builder.end_of_split();
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
                prop_assert!(index.contains(&asked.keys(row)), "{:?}", text);
            }
        }
    }
}
