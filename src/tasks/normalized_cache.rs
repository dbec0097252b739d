//! Normalized rows as Parquet, one file a task and split, made when first read and found again by a key over all that
//! goes into them: the files' names, sizes and times, the task as configured, and the code that writes the SQL.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::{DataFusionError, Result, exec_err};
use futures::TryStreamExt;
use parquet::arrow::AsyncArrowWriter;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::Task;
use super::seeds::seeds_schema;
use super::task_planner::TaskPlanner;
use crate::lineage::Split;
use crate::stores::Location;

/// The footer key that says which split a Parquet file's rows come from.
const SPLIT_KEY: &str = "seedmill.split";

/// Sources whose change makes other rows of the same files.
const CODE: [&str; 14] = [
    include_str!("norm_sql.rs"),
    include_str!("meaning_sql.rs"),
    include_str!("rendered_sql.rs"),
    include_str!("source_rows.rs"),
    include_str!("column_sql.rs"),
    include_str!("raw_table.rs"),
    include_str!("json_rows.rs"),
    include_str!("json_shape.rs"),
    include_str!("json_split.rs"),
    include_str!("csv_rows.rs"),
    include_str!("csv_split.rs"),
    include_str!("parquet_split.rs"),
    include_str!("one_schema.rs"),
    env!("CARGO_PKG_VERSION"),
];

/// The Parquet file of a task's split, made now where it is not there. Rows are in file order; columns as in
/// [`seeds_schema`].
pub(crate) async fn normalized_file(
    cache: &Path,
    task: &Task,
    split: Split,
    planner: &TaskPlanner,
    session: &dyn Session,
) -> Result<PathBuf> {
    let key = content_key(task, split, session).await?;
    let file = cache.join(format!("{}.{split}-{key}.parquet", file_name(&task.name)));
    let file = CacheFile(file);
    if !file.exists().await? {
        let partial = file.begin().await?;
        let written = write_rows(&partial, task, split, planner).await;
        let written = written
            .map_err(|e| e.context(format!("the {split} rows of the task '{}' cannot be normalized", task.name)));
        file.end(&partial, written).await?;
    }
    Ok(file.0)
}

/// A file of the cache. Two processes may make the same one at once: each writes its own and renames it into place.
pub(super) struct CacheFile(pub PathBuf);

impl CacheFile {
    pub(super) async fn exists(&self) -> Result<bool> {
        tokio::fs::try_exists(&self.0).await.map_err(|e| io(&self.0, e))
    }

    /// The file to write instead of it.
    pub(super) async fn begin(&self) -> Result<PathBuf> {
        if let Some(cache) = self.0.parent() {
            tokio::fs::create_dir_all(cache).await.map_err(|e| io(cache, e))?;
        }
        static WRITES: AtomicU64 = AtomicU64::new(0);
        let write = WRITES.fetch_add(1, Ordering::Relaxed);
        Ok(self.0.with_extension(format!("{}-{write}.partial", std::process::id())))
    }

    /// Puts what was written in its place.
    pub(super) async fn end(&self, partial: &Path, written: Result<()>) -> Result<()> {
        let renamed = match written {
            Ok(()) => tokio::fs::rename(partial, &self.0).await.map_err(|e| io(&self.0, e)),
            Err(e) => Err(e),
        };
        if renamed.is_err() {
            // What is left of a failed write is of no use; a second failure would only hide the first.
            let _ = tokio::fs::remove_file(partial).await;
        }
        renamed
    }
}

/// A task's name as a part of a file's.
pub(super) fn file_name(task: &str) -> String {
    task.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

/// A key over all that a task's normalized rows are made of.
///
/// # Errors
/// A file that is not there, or a store that fails.
pub(super) async fn content_key(task: &Task, split: Split, session: &dyn Session) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut add = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    CODE.iter().for_each(|code| add(code));
    add(&format!("{task:?}"));
    for file in task.files(split) {
        let location = Location::of(file)?;
        let store = session.runtime_env().object_store(location.url());
        let store = store.map_err(|e| e.context(format!("the task '{}': '{file}'", task.name)))?;
        let found = location.list(store.as_ref()).await?;
        if found.is_empty() {
            return exec_err!("the task '{}': its file '{file}' is not there", task.name);
        }
        for meta in found {
            let time = meta.last_modified.to_rfc3339();
            add(&format!("{file}|{}|{}|{time}|{}", meta.location, meta.size, meta.e_tag.unwrap_or_default()));
        }
    }
    Ok(hasher.finalize().to_hex()[..16].to_owned())
}

async fn write_rows(file: &Path, task: &Task, split: Split, planner: &TaskPlanner) -> Result<()> {
    let normalization = planner.normalization(task, split).await?;
    let rows = normalization.session.execute_logical_plan(normalization.plan).await?;
    let mut rows = rows.execute_stream().await?;
    let schema = seeds_schema();
    let mut writer = rows_writer(file, Arc::clone(&schema), split).await?;
    while let Some(batch) = rows.try_next().await? {
        writer.write(&as_seeds(&batch, &schema)?).await?;
    }
    writer.close().await?;
    Ok(())
}

/// Writes rows of a split, whose file's footer says so.
pub(super) async fn rows_writer(
    file: &Path,
    schema: SchemaRef,
    split: Split,
) -> Result<AsyncArrowWriter<tokio::fs::File>> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(Default::default()))
        .set_key_value_metadata(Some(vec![KeyValue::new(SPLIT_KEY.to_owned(), split.to_string())]))
        .build();
    let out = tokio::fs::File::create(file).await.map_err(|e| io(file, e))?;
    Ok(AsyncArrowWriter::try_new(out, schema, Some(properties))?)
}

/// A batch of the norm SQL in the types of `seeds`.
fn as_seeds(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(column) => Ok(cast(column, field.data_type())?),
            None => exec_err!("the normalization gives no column '{}'", field.name()),
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

fn io(path: &Path, error: std::io::Error) -> DataFusionError {
    DataFusionError::from(error).context(format!("the cache of seeds, '{}'", path.display()))
}
