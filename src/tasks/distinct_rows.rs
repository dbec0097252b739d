//! Takes the rows away that another task of the same files has already. In: files of normalized rows. Out: a file beside
//! them, found again by its name.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::common::{DataFusionError, Result};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

/// `file` without the rows whose place and question are in one of `before`. Rows without a question stay: they say
/// what cannot be read.
pub(crate) async fn without_rows_of(file: PathBuf, before: Vec<PathBuf>) -> Result<PathBuf> {
    let mut hasher = blake3::Hasher::new();
    for other in &before {
        hasher.update(other.file_name().unwrap_or_default().as_encoded_bytes());
        hasher.update(b"\0");
    }
    // The names hold the keys over what the files were made of.
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let distinct = file.with_file_name(format!("{name}.without-{}.parquet", &hasher.finalize().to_hex()[..16]));
    if tokio::fs::try_exists(&distinct).await? {
        return Ok(distinct);
    }
    let out = distinct.clone();
    let made = tokio::task::spawn_blocking(move || write(&file, &before, &out)).await;
    made.map_err(|e| DataFusionError::External(Box::new(e)))??;
    Ok(distinct)
}

/// Two processes may make the same file at once: each writes its own and renames it into place.
fn write(file: &Path, before: &[PathBuf], out: &Path) -> Result<()> {
    let mut taken = HashSet::new();
    for other in before {
        for batch in read(other)?.0 {
            taken.extend(keys(&batch?).into_iter().flatten());
        }
    }
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let write = WRITES.fetch_add(1, Ordering::Relaxed);
    let partial = out.with_extension(format!("{}-{write}.partial", std::process::id()));
    let (rows, marks) = read(file)?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(Default::default()))
        .set_key_value_metadata(marks)
        .build();
    let mut writer = ArrowWriter::try_new(std::fs::File::create(&partial)?, rows.schema_ref(), Some(properties))?;
    for batch in rows {
        let batch = batch?;
        let stays: BooleanArray =
            keys(&batch).into_iter().map(|key| Some(key.is_none_or(|key| !taken.contains(&key)))).collect();
        writer.write(&filter_record_batch(&batch, &stays)?)?;
    }
    writer.close()?;
    Ok(std::fs::rename(&partial, out)?)
}

/// A file's rows, and the footer's own keys (the split).
fn read(file: &Path) -> Result<(Rows, Option<Vec<parquet::file::metadata::KeyValue>>)> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(file)?)?;
    let marks = builder
        .metadata()
        .file_metadata()
        .key_value_metadata()
        .map(|marks| marks.iter().filter(|mark| mark.key != "ARROW:schema").cloned().collect::<Vec<_>>());
    let schema = Arc::clone(builder.schema());
    Ok((Rows { rows: builder.build()?, schema }, marks))
}

struct Rows {
    rows: ParquetRecordBatchReader,
    schema: datafusion::arrow::datatypes::SchemaRef,
}

impl Rows {
    fn schema_ref(&self) -> datafusion::arrow::datatypes::SchemaRef {
        Arc::clone(&self.schema)
    }
}

impl Iterator for Rows {
    type Item = std::result::Result<RecordBatch, datafusion::arrow::error::ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next()
    }
}

/// Of each row its place and a hash of its question; `None` without a question.
fn keys(batch: &RecordBatch) -> Vec<Option<(i64, [u8; 32])>> {
    let (Some(places), Some(questions)) = (
        batch.column_by_name("source_row").and_then(|column| column.as_primitive_opt::<Int64Type>()),
        batch.column_by_name("question").and_then(|column| column.as_string_opt::<i32>()),
    ) else {
        return vec![None; batch.num_rows()];
    };
    (0..batch.num_rows())
        .map(|row| {
            let known = questions.is_valid(row) && places.is_valid(row);
            known.then(|| (places.value(row), *blake3::hash(questions.value(row).as_bytes()).as_bytes()))
        })
        .collect()
}
