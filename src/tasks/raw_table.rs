//! The table `raw.<task>`: a split's files as they are, in file order, and the ordinal of each row. CSV and Parquet stream
//! from DataFusion's own readers, JSON from [`JsonSplit`], which keeps the rows around a broken one. There is one reading
//! order, because a row's place is part of a seed's identity.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::datasource::TableType;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::{StreamExt, TryStreamExt, stream};

use super::json_split::{JsonFile, JsonSplit, Unread};
use super::one_schema::one_schema;
use crate::stores::listing_url;

/// The column that [`RawTable`] adds: BIGINT, from 0, over a split's files in the order they are listed.
pub(crate) const SOURCE_ROW: &str = "source_row";

/// A split's files as one table: their columns and [`SOURCE_ROW`].
#[derive(Debug)]
pub(crate) struct RawTable {
    files: Files,
    /// The first file, for messages.
    first: String,
    schema: SchemaRef,
}

#[derive(Debug)]
enum Files {
    Json(Arc<JsonSplit>),
    /// CSV and Parquet, read by DataFusion.
    Listed(Arc<dyn TableProvider>),
}

impl RawTable {
    /// Opens `files` (all of one format, by extension: jsonl, ndjson, json, csv, tsv, parquet, and .gz of the text
    /// formats). The columns of text files are taken from all of their rows, because a field first seen late would else
    /// be dropped; files whose columns differ become one table that holds all of them.
    ///
    /// # Errors
    /// A file whose format is unknown or whose columns cannot be read, with its name.
    pub(crate) async fn open(files: &[String], session: &dyn Session) -> Result<RawTable> {
        let Some(first) = files.first() else { return plan_err!("there are no files to read") };
        let (files, columns) = match format_of(first)? {
            Format::Json => {
                let split = JsonSplit::open(json_files(files, session).await?).await?;
                let columns = split.schema();
                (Files::Json(Arc::new(split)), columns)
            }
            Format::Listed(format) => {
                let listed = listed(files, format, session).await?;
                let columns = listed.schema().as_ref().clone();
                (Files::Listed(listed), columns)
            }
        };
        if columns.column_with_name(SOURCE_ROW).is_some() {
            return plan_err!("'{first}' has a column '{SOURCE_ROW}', the name of a row's ordinal here: rename it");
        }
        let mut fields = columns.fields().to_vec();
        fields.push(Arc::new(Field::new(SOURCE_ROW, DataType::Int64, false)));
        Ok(RawTable { files, first: first.clone(), schema: Arc::new(Schema::new(fields)) })
    }

    /// The rows that cannot be read, in order. Of CSV and Parquet there are none: one broken row makes the file
    /// unreadable.
    pub(crate) fn unread(&self) -> &[Unread] {
        match &self.files {
            Files::Json(split) => &split.unread,
            Files::Listed(_) => &[],
        }
    }

    /// By file, how many rows that cannot be read are not in [`Self::unread`].
    pub(crate) fn unlisted(&self) -> &[(String, u64)] {
        match &self.files {
            Files::Json(split) => &split.unlisted,
            Files::Listed(_) => &[],
        }
    }
}

enum Format {
    Json,
    Listed(Arc<dyn FileFormat>),
}

/// The reader for a file by its extension.
fn format_of(file: &str) -> Result<Format> {
    let (name, gzip) = plain_name(file);
    let compression = if gzip { FileCompressionType::GZIP } else { FileCompressionType::UNCOMPRESSED };
    let csv = |delimiter| {
        CsvFormat::default()
            .with_has_header(true)
            .with_delimiter(delimiter)
            .with_newlines_in_values(true)
            .with_schema_infer_max_rec(usize::MAX)
            .with_file_compression_type(compression)
    };
    Ok(match Path::new(&name).extension().and_then(|e| e.to_str()).unwrap_or_default() {
        "jsonl" | "ndjson" | "json" => Format::Json,
        "csv" => Format::Listed(Arc::new(csv(b','))),
        "tsv" => Format::Listed(Arc::new(csv(b'\t'))),
        "parquet" if !gzip => Format::Listed(Arc::new(ParquetFormat::default())),
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
async fn json_files(files: &[String], session: &dyn Session) -> Result<Vec<JsonFile>> {
    let mut found = Vec::new();
    for file in files {
        let url = listing_url(file)?;
        let store = session.runtime_env().object_store(&url)?;
        let mut listed: Vec<_> = url.list_all_files(session, store.as_ref(), "").await?.try_collect().await?;
        if listed.is_empty() {
            return plan_err!("the file '{file}' is not there");
        }
        listed.sort_by(|a, b| a.location.cmp(&b.location));
        let pattern = listed.len() > 1 || file.contains(['*', '?']);
        for meta in listed {
            let name = if pattern { format!("/{}", meta.location) } else { file.clone() };
            let (plain, gzip) = plain_name(&name);
            let any_form = plain.ends_with(".json");
            found.push(JsonFile { name, store: Arc::clone(&store), location: meta.location, gzip, any_form });
        }
    }
    Ok(found)
}

/// Files that DataFusion reads, under one schema.
async fn listed(
    files: &[String],
    format: Arc<dyn FileFormat>,
    session: &dyn Session,
) -> Result<Arc<dyn TableProvider>> {
    let urls = files.iter().map(|file| listing_url(file)).collect::<Result<Vec<_>>>()?;
    let options = ListingOptions::new(format).with_file_extension("");
    let mut schemas = Vec::new();
    for (file, url) in files.iter().zip(&urls) {
        // DataFusion passes over files without a byte; no CSV or Parquet file is one.
        let store = session.runtime_env().object_store(url)?;
        let found: Vec<_> = url.list_all_files(session, store.as_ref(), "").await?.try_collect().await?;
        if let Some(empty) = found.iter().find(|meta| meta.size == 0) {
            return plan_err!("the columns of '{file}' cannot be read: /{} is empty", empty.location);
        }
        let schema = options.infer_schema(session, url).await;
        let schema = schema.map_err(|e| e.context(format!("the columns of '{file}' cannot be read")))?;
        schemas.push((file.as_str(), schema));
    }
    let schema = one_schema(&schemas)?;
    let config =
        ListingTableConfig::new_with_multi_paths(urls).with_listing_options(options).with_schema(Arc::new(schema));
    Ok(Arc::new(ListingTable::try_new(config)?))
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
        let read: Vec<usize> = wanted.iter().copied().filter(|&column| column != ordinal).collect();
        let schema = Arc::new(self.schema.project(&wanted)?);
        let ordinal_at = wanted.iter().position(|&column| column == ordinal);
        let rows: Arc<dyn PartitionStream> = match &self.files {
            Files::Json(split) => {
                Arc::new(JsonRows { split: Arc::clone(split), read, schema: Arc::clone(&schema), ordinal_at })
            }
            Files::Listed(files) => {
                let files = files.scan(state, Some(&read), &[], limit).await?;
                Arc::new(NumberedRows { files, first: self.first.clone(), schema: Arc::clone(&schema), ordinal_at })
            }
        };
        StreamingTable::try_new(schema, vec![rows])?.scan(state, None, &[], limit).await
    }
}

/// The rows of JSON files, which come with their places.
#[derive(Debug)]
struct JsonRows {
    split: Arc<JsonSplit>,
    read: Vec<usize>,
    schema: SchemaRef,
    ordinal_at: Option<usize>,
}

impl PartitionStream for JsonRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let split = Arc::clone(&self.split);
        let batches = split.batches(self.read.clone(), Arc::clone(&self.schema), self.ordinal_at);
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

/// One stream over all partitions of the files, in their order.
struct NumberedRows {
    files: Arc<dyn ExecutionPlan>,
    first: String,
    schema: SchemaRef,
    ordinal_at: Option<usize>,
}

impl fmt::Debug for NumberedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NumberedRows").field("files", &self.files.name()).finish()
    }
}

impl PartitionStream for NumberedRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (files, schema, ordinal_at) = (Arc::clone(&self.files), Arc::clone(&self.schema), self.ordinal_at);
        let partitions = files.output_partitioning().partition_count();
        let batches = stream::iter(0..partitions)
            .map(move |partition| files.execute(partition, Arc::clone(&context)))
            .try_flatten();
        let mut next_row = 0i64;
        let first = self.first.clone();
        let numbered = batches.map(move |batch| {
            let batch = batch.map_err(|e| e.context(format!("'{first}' or a file beside it cannot be read")))?;
            number(&batch, &schema, ordinal_at, &mut next_row)
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), numbered))
    }
}

fn number(batch: &RecordBatch, schema: &SchemaRef, at: Option<usize>, next_row: &mut i64) -> Result<RecordBatch> {
    let rows = batch.num_rows();
    let first = *next_row;
    *next_row += rows as i64;
    let mut columns = batch.columns().to_vec();
    if let Some(at) = at {
        let ordinals: ArrayRef = Arc::new(Int64Array::from_iter_values(first..*next_row));
        columns.insert(at, ordinals);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(DataFusionError::from)
}
