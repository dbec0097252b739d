//! The rows of `heldout` of one split. In: a task's held-out files. Out: Parquet: what can be normalized, in the columns of
//! `seeds`, and beside it what else is asked. That is what the prompt asks where it needs no answer and no Python, and of
//! other rows the texts that may be questions, each a row of its own: such rows have no `prompt_text`, and texts no answer.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, new_null_array,
};
use datafusion::arrow::compute::{cast, filter_record_batch};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::catalog::Session;
use datafusion::common::Result;
use futures::TryStreamExt;
use parquet::arrow::AsyncArrowWriter;

use super::Task;
use super::harness_config::HarnessConfig;
use super::heldout_rows::questions_of;
use super::heldout_split::prompts;
use super::normalized_cache::{CacheFile, content_key, file_name, normalized_file, rows_writer};
use super::raw_file::may_pass;
use super::raw_table::SOURCE_ROW;
use super::raw_texts::RawKeys;
use super::seeds::heldout_schema;
use super::task_planner::TaskPlanner;
use crate::lineage::Split;

/// Sources whose change makes other rows of the same files.
const CODE: [&str; 3] =
    [include_str!("heldout_texts.rs"), include_str!("raw_texts.rs"), include_str!("heldout_split.rs")];

/// The Parquet files of a held-out split, made now where they are not there.
///
/// # Errors
/// A store or disk that fails, and files of which nothing can be read.
pub(super) async fn heldout_files(
    cache: &Path,
    task: &Task,
    split: Split,
    planner: &TaskPlanner,
    session: &dyn Session,
) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if task.normalizable {
        match normalized_file(cache, task, split, planner, session).await {
            Err(e) if !may_pass(&e) => {}
            file => files.push(file?),
        }
    }
    let mut hasher = blake3::Hasher::new();
    CODE.iter().for_each(|code| _ = hasher.update(code.as_bytes()));
    hasher.update(content_key(task, split, session).await?.as_bytes());
    let key = &hasher.finalize().to_hex()[..16];
    let file = CacheFile(cache.join(format!("{}.{split}-{key}.texts.parquet", file_name(&task.name))));
    if !file.exists().await? {
        let partial = file.begin().await?;
        let written = write(&partial, task, split, planner, files.first().map(PathBuf::as_path)).await;
        file.end(&partial, written).await?;
    }
    files.push(file.0);
    Ok(files)
}

/// Writes what is asked beside the normalized rows: with all that the config says, by its prompt alone, by texts alone.
async fn write(file: &Path, task: &Task, split: Split, planner: &TaskPlanner, normalized: Option<&Path>) -> Result<()> {
    for prompt in prompts(task) {
        match write_rows(file, task, split, planner, normalized, Some(&prompt)).await {
            Err(e) if !may_pass(&e) => {}
            written => return written,
        }
    }
    write_rows(file, task, split, planner, normalized, None).await
}

async fn write_rows(
    file: &Path,
    task: &Task,
    split: Split,
    planner: &TaskPlanner,
    normalized: Option<&Path>,
    prompt: Option<&HarnessConfig>,
) -> Result<()> {
    let writer = rows_writer(file, heldout_schema(), split).await?;
    let mut rows = Rows { task, split, writer, asked: HashSet::new() };
    let mut more = true;
    if let Some(normalized) = normalized {
        more = rows.has_more_than(normalized).await?;
    }
    if more {
        if let Some(prompt) = prompt {
            rows.write_prompts(planner, prompt).await?;
        }
        rows.write_texts(planner).await?;
    }
    rows.writer.close().await?;
    Ok(())
}

/// The rows that are written.
struct Rows<'a> {
    task: &'a Task,
    split: Split,
    writer: AsyncArrowWriter<tokio::fs::File>,
    /// The places of rows whose question is known.
    asked: HashSet<i64>,
}

impl Rows<'_> {
    /// Whether there are rows of which the normalized ones give no question; only then are the others remembered.
    async fn has_more_than(&mut self, normalized: &Path) -> Result<bool> {
        let without = normalized_places(normalized, false).await?;
        if without.is_empty() {
            return Ok(false);
        }
        self.asked = normalized_places(normalized, true).await?;
        Ok(!without.is_subset(&self.asked))
    }

    /// What the prompt asks, where it is not the template's own words that ask.
    async fn write_prompts(&mut self, planner: &TaskPlanner, prompt: &HarnessConfig) -> Result<()> {
        let (questions, whole_prompts) = planner.questions(self.task, self.split, prompt).await?;
        if whole_prompts {
            return Ok(());
        }
        let mut asked = HashSet::new();
        let rows = questions.session.execute_logical_plan(questions.plan).await?;
        let mut batches = rows.execute_stream().await?;
        while let Some(batch) = batches.try_next().await? {
            let (Some(places), Some(texts)) = (places(&batch), batch.column_by_name("question")) else { continue };
            let texts = cast(texts, &DataType::Utf8)?;
            let texts = texts.as_string::<i32>();
            let asks = |row: usize| {
                texts.is_valid(row) && !texts.value(row).is_empty() && !self.asked.contains(&places.value(row))
            };
            let asks: BooleanArray = (0..batch.num_rows()).map(|row| Some(asks(row))).collect();
            let batch = filter_record_batch(&batch, &asks)?;
            asked.extend(self::places(&batch).into_iter().flat_map(|places| places.values().iter().copied()));
            self.write(&batch).await?;
        }
        self.asked.extend(asked);
        Ok(())
    }

    /// The texts of the other rows, which are read twice: what many rows share is no question.
    async fn write_texts(&mut self, planner: &TaskPlanner) -> Result<()> {
        let table = planner.files(self.task, self.split).await?;
        let session = planner.session()?;
        let mut keys = RawKeys::default();
        let mut batches = session.read_table(table.clone())?.execute_stream().await?;
        while let Some(batch) = batches.try_next().await? {
            let places = places(&batch).cloned();
            keys.add(&batch, &|row| !self.is_asked(places.as_ref(), row))?;
        }
        let texts = keys.finish();
        let mut batches = session.read_table(table)?.execute_stream().await?;
        while let Some(batch) = batches.try_next().await? {
            let places = places(&batch).cloned();
            let found = texts.asked(&batch, &|row| !self.is_asked(places.as_ref(), row))?;
            let at = found.iter().map(|asked| places.as_ref().map(|places| places.value(asked.row)));
            let at: ArrayRef = Arc::new(at.collect::<Int64Array>());
            let (passages, questions): (Vec<_>, Vec<_>) =
                found.into_iter().map(|asked| (asked.passage, Some(asked.question))).unzip();
            let text = |values: Vec<Option<String>>| -> ArrayRef { Arc::new(StringArray::from(values)) };
            let columns = [(SOURCE_ROW, at), ("passage", text(passages)), ("question", text(questions))];
            self.write(&RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true)))?).await?;
        }
        Ok(())
    }

    fn is_asked(&self, places: Option<&Int64Array>, row: usize) -> bool {
        places.is_some_and(|places| self.asked.contains(&places.value(row)))
    }

    /// Writes rows in the columns of `heldout`, NULL where they have none.
    async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows = batch.num_rows();
        let constant = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; rows])) };
        let schema = heldout_schema();
        let columns = schema.fields().iter().map(|field| match field.name().as_str() {
            "task" => Ok(constant(&self.task.name)),
            "split" => Ok(constant(self.split.as_str())),
            name => match batch.column_by_name(name) {
                Some(column) => Ok(cast(column, field.data_type())?),
                None => Ok(new_null_array(field.data_type(), rows)),
            },
        });
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        Ok(self.writer.write(&RecordBatch::try_new(schema, columns)?).await?)
    }
}

/// The places of raw rows.
fn places(batch: &RecordBatch) -> Option<&Int64Array> {
    batch.column_by_name(SOURCE_ROW).and_then(|column| column.as_primitive_opt::<Int64Type>())
}

/// The places of the raw rows of which normalized rows have a question, or have none.
async fn normalized_places(file: &Path, with_question: bool) -> Result<HashSet<i64>> {
    let mut found = HashSet::new();
    let mut batches = questions_of(file).await?;
    while let Some(batch) = batches.try_next().await? {
        let (Some(places), Some(questions)) = (places(&batch), batch.column_by_name("question")) else { continue };
        let rows = (0..batch.num_rows()).filter(|row| questions.is_valid(*row) == with_question);
        found.extend(rows.map(|row| places.value(row)));
    }
    Ok(found)
}
