//! One kind of a run's rows as Parquet files `train-00000.parquet`, `train-00001.parquet`, … in a folder.
//! A file ends at a number of rows or an age; each is durable before the next begins.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{DataFusionError, Result};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use sha2::{Digest, Sha256};

use super::manifest::{FileKind, PublishedFile};
use super::run::hex;
use super::schema::SPLIT;
use super::target::{Target, TargetFile};

/// When a file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLimits {
    pub rows: usize,
    pub age: Duration,
}

impl Default for FileLimits {
    fn default() -> Self {
        FileLimits { rows: 100_000, age: Duration::from_secs(600) }
    }
}

/// Writes the files of one kind.
pub(crate) struct ParquetFiles {
    kind: FileKind,
    /// The run being written; files lie in the kind's folder under it.
    target: Arc<Target>,
    schema: SchemaRef,
    properties: WriterProperties,
    limits: FileLimits,
    open: Option<OpenFile>,
    done: Vec<PublishedFile>,
}

struct OpenFile {
    name: String,
    writer: ArrowWriter<HashedFile>,
    rows: usize,
    opened: Instant,
}

impl ParquetFiles {
    pub(crate) fn new(
        kind: FileKind,
        target: &Arc<Target>,
        schema: SchemaRef,
        run_id: &str,
        limits: FileLimits,
    ) -> Self {
        let key = |key: &str, value: &str| KeyValue::new(key.to_owned(), value.to_owned());
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_created_by(concat!("seedmill ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_key_value_metadata(Some(vec![key("seedmill.split", SPLIT), key("seedmill.run_id", run_id)]))
            .build();
        ParquetFiles { kind, target: Arc::clone(target), schema, properties, limits, open: None, done: Vec::new() }
    }

    /// Appends rows, over as many files as they need.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut offset = 0;
        while offset < batch.num_rows() {
            if self.open.as_ref().is_some_and(|f| f.rows >= self.limits.rows || f.opened.elapsed() >= self.limits.age) {
                self.close()?;
            }
            let file = match &mut self.open {
                Some(file) => file,
                None => {
                    self.open.insert(open(&self.schema, &self.target, self.kind, self.done.len(), &self.properties)?)
                }
            };
            let rows = (batch.num_rows() - offset).min(self.limits.rows - file.rows);
            file.writer.write(&batch.slice(offset, rows))?;
            file.rows += rows;
            offset += rows;
        }
        Ok(())
    }

    /// Ends the last file. There is always one, so that a reader of an empty run finds the schema.
    pub(crate) fn finish(mut self) -> Result<Vec<PublishedFile>> {
        if self.open.is_none() && self.done.is_empty() {
            self.open = Some(open(&self.schema, &self.target, self.kind, 0, &self.properties)?);
        }
        self.close()?;
        Ok(self.done)
    }

    fn close(&mut self) -> Result<()> {
        let Some(OpenFile { name, writer, rows, .. }) = self.open.take() else { return Ok(()) };
        let HashedFile { file, sha256, bytes } = writer.into_inner()?;
        file.finish(&name)?;
        let sha256 = hex(&sha256.finalize());
        self.done.push(PublishedFile { path: name, kind: self.kind, rows: rows as u64, bytes, sha256 });
        Ok(())
    }
}

fn open(
    schema: &SchemaRef,
    target: &Target,
    kind: FileKind,
    number: usize,
    properties: &WriterProperties,
) -> Result<OpenFile> {
    let name = format!("{}/{SPLIT}-{number:05}.parquet", kind.folder());
    let file = HashedFile { file: target.file(&name)?, sha256: Sha256::new(), bytes: 0 };
    let writer = ArrowWriter::try_new(file, SchemaRef::clone(schema), Some(properties.clone()))
        .map_err(DataFusionError::from)?;
    Ok(OpenFile { name, writer, rows: 0, opened: Instant::now() })
}

/// A file that is hashed and counted as it is written.
struct HashedFile {
    file: TargetFile,
    sha256: Sha256,
    bytes: u64,
}

impl Write for HashedFile {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.sha256.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
