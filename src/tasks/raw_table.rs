//! The table `raw.<task>`: a split's files as they are, in file order, and the ordinal of each row. What cannot be read of a
//! file is left out, with the place named, and the rows around it stay. There is one reading order, because a row's place
//! is part of a seed's identity.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, plan_err};
use datafusion::datasource::TableType;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::StreamExt;

use super::csv_split::CsvSplit;
use super::json_split::JsonSplit;
use super::parquet_split::ParquetSplit;
use super::raw_file::{RawFile, Unread};
use crate::stores::Location;

/// The column that [`RawTable`] adds: BIGINT, from 0, over a split's files in the order they are listed.
pub(crate) const SOURCE_ROW: &str = "source_row";

/// A split's files as one table: their columns and [`SOURCE_ROW`].
#[derive(Debug)]
pub(crate) struct RawTable {
    files: Files,
    schema: SchemaRef,
}

#[derive(Debug, Clone)]
enum Files {
    Json(Arc<JsonSplit>),
    Csv(Arc<CsvSplit>),
    Parquet(Arc<ParquetSplit>),
}

impl RawTable {
    /// Opens `files` (all of one format, by extension: jsonl, ndjson, json, csv, tsv, parquet, and .gz of the text
    /// formats). The columns of text files are taken from all of their rows, because a field first seen late would else
    /// be dropped; files whose columns differ become one table that holds all of them.
    ///
    /// # Errors
    /// A format that is unknown, or files none of which can be read, with their names.
    pub(crate) async fn open(files: &[String], session: &dyn Session) -> Result<RawTable> {
        let Some(first) = files.first() else { return plan_err!("there are no files to read") };
        let format = format_of(first)?;
        let found = raw_files(files, session).await?;
        let (files, columns) = match format {
            Format::Json => {
                let any_form = |file: RawFile| {
                    let any_form = plain_name(&file.name).0.ends_with(".json");
                    (file, any_form)
                };
                let split = JsonSplit::open(found.into_iter().map(any_form).collect()).await?;
                let columns = split.schema();
                (Files::Json(Arc::new(split)), columns)
            }
            Format::Csv(delimiter) => {
                let split = CsvSplit::open(found, delimiter).await?;
                let columns = split.schema.as_ref().clone();
                (Files::Csv(Arc::new(split)), columns)
            }
            Format::Parquet => {
                let split = ParquetSplit::open(found).await?;
                let columns = split.schema.as_ref().clone();
                (Files::Parquet(Arc::new(split)), columns)
            }
        };
        if columns.column_with_name(SOURCE_ROW).is_some() {
            return plan_err!("'{first}' has a column '{SOURCE_ROW}', the name of a row's ordinal here: rename it");
        }
        let mut fields = columns.fields().to_vec();
        fields.push(Arc::new(Field::new(SOURCE_ROW, DataType::Int64, false)));
        Ok(RawTable { files, schema: Arc::new(Schema::new(fields)) })
    }

    /// What cannot be read, in order. Of Parquet what has been met until now: see [`Self::read_all`].
    pub(crate) fn unread(&self) -> Vec<Unread> {
        match &self.files {
            Files::Json(split) => split.unread.clone(),
            Files::Csv(split) => split.unread.clone(),
            Files::Parquet(split) => split.unread(),
        }
    }

    /// By file, how many rows that cannot be read are not in [`Self::unread`].
    pub(crate) fn unlisted(&self) -> &[(String, u64)] {
        match &self.files {
            Files::Json(split) => &split.unlisted,
            Files::Csv(split) => &split.unlisted,
            Files::Parquet(_) => &[],
        }
    }

    /// Reads what was not read yet, so that [`Self::unread`] is whole.
    pub(crate) async fn read_all(&self) -> Result<()> {
        match &self.files {
            Files::Json(_) | Files::Csv(_) => Ok(()),
            Files::Parquet(split) => split.read_all().await,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Json,
    /// With the sign between fields.
    Csv(u8),
    Parquet,
}

/// The reader for a file by its extension.
fn format_of(file: &str) -> Result<Format> {
    let (name, gzip) = plain_name(file);
    Ok(match Path::new(&name).extension().and_then(|e| e.to_str()).unwrap_or_default() {
        "jsonl" | "ndjson" | "json" => Format::Json,
        "csv" => Format::Csv(b','),
        "tsv" => Format::Csv(b'\t'),
        "parquet" if !gzip => Format::Parquet,
        _ => {
            return plan_err!(
                "'{file}' is none of jsonl, ndjson, json, csv, tsv and parquet (nor .gz of a text format)"
            );
        }
    })
}

/// A file's name in lower case without `.gz`, and whether it had that.
fn plain_name(file: &str) -> (String, bool) {
    let lower = file.to_ascii_lowercase();
    match lower.strip_suffix(".gz") {
        Some(name) => (name.to_owned(), true),
        None => (lower, false),
    }
}

/// The files that the names and patterns mean, in order.
async fn raw_files(files: &[String], session: &dyn Session) -> Result<Vec<RawFile>> {
    let mut found = Vec::new();
    for file in files {
        let location = Location::of(file)?;
        let store = session.runtime_env().object_store(location.url())?;
        let listed = location.list(store.as_ref()).await?;
        if listed.is_empty() {
            return match location.is_pattern() {
                true => plan_err!("no file matches the pattern '{file}'"),
                false => plan_err!("the file '{file}' is not there"),
            };
        }
        let many = listed.len() > 1 || location.is_many();
        for meta in listed {
            let name = if many { format!("/{}", meta.location) } else { file.clone() };
            let (_, gzip) = plain_name(&name);
            let store = Arc::clone(&store);
            found.push(RawFile { name, store, location: meta.location, size: meta.size, gzip });
        }
    }
    Ok(found)
}

#[async_trait]
impl TableProvider for RawTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Filters stay above: below, they would change the ordinals.
    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let ordinal = self.schema.fields().len() - 1;
        let wanted: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..=ordinal).collect());
        let read = wanted.iter().copied().filter(|&column| column != ordinal).collect();
        let schema = Arc::new(self.schema.project(&wanted)?);
        let ordinal_at = wanted.iter().position(|&column| column == ordinal);
        let rows = Rows { files: self.files.clone(), read, schema: Arc::clone(&schema), ordinal_at };
        StreamingTable::try_new(schema, vec![Arc::new(rows)])?.scan(state, None, &[], limit).await
    }
}

/// The rows of the files, which come with their places.
#[derive(Debug)]
struct Rows {
    files: Files,
    read: Arc<[usize]>,
    schema: SchemaRef,
    ordinal_at: Option<usize>,
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (schema, at) = (Arc::clone(&self.schema), self.ordinal_at);
        let placed = match &self.files {
            Files::Json(split) => Arc::clone(split).batches(Arc::clone(&self.read)),
            Files::Csv(split) => Arc::clone(split).batches(Arc::clone(&self.read)),
            Files::Parquet(split) => Arc::clone(split).batches(Arc::clone(&self.read)),
        };
        let batches = placed.map(move |batch| batch?.with_places(&schema, at));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}
