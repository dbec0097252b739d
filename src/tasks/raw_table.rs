//! The table `raw.<task>`: a split's files as they are, in file order, and the ordinal of each row. Rows stream from
//! DataFusion's own readers; what is added is one reading order, because a row's place is part of a seed's identity.

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
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::{StreamExt, TryStreamExt, stream};

/// The column that [`RawTable`] adds: BIGINT, from 0, over a split's files in the order they are listed.
pub(crate) const SOURCE_ROW: &str = "source_row";

/// A split's files as one table: their columns and [`SOURCE_ROW`].
#[derive(Debug)]
pub(crate) struct RawTable {
    files: Arc<dyn TableProvider>,
    schema: SchemaRef,
}

impl RawTable {
    /// Opens `files` (all of one format, by extension: jsonl, ndjson, json, csv, tsv, parquet, and .gz of the text
    /// formats). The schema of text files is taken from all of their rows, because a field first seen late would else
    /// be dropped.
    ///
    /// # Errors
    /// A file whose format is unknown or whose schema cannot be read, with its name.
    pub(crate) async fn open(files: &[String], session: &dyn Session) -> Result<RawTable> {
        let Some(first) = files.first() else { return plan_err!("there are no files to read") };
        let urls = files.iter().map(ListingTableUrl::parse).collect::<Result<Vec<_>>>()?;
        let options = ListingOptions::new(format_of(first)?).with_file_extension("");
        let mut schemas = Vec::new();
        for (file, url) in files.iter().zip(&urls) {
            let schema = options.infer_schema(session, url).await;
            let schema = schema.map_err(|e| e.context(format!("the columns of '{file}' cannot be read")))?;
            schemas.push(schema.as_ref().clone());
        }
        let schema = Schema::try_merge(schemas)
            .map_err(|e| DataFusionError::from(e).context(format!("'{first}' and the files beside it differ")))?;
        let config =
            ListingTableConfig::new_with_multi_paths(urls).with_listing_options(options).with_schema(Arc::new(schema));
        let files: Arc<dyn TableProvider> = Arc::new(ListingTable::try_new(config)?);
        let columns = files.schema();
        if columns.column_with_name(SOURCE_ROW).is_some() {
            return plan_err!("'{first}' has a column '{SOURCE_ROW}', the name of a row's ordinal here: rename it");
        }
        let mut fields = columns.fields().to_vec();
        fields.push(Arc::new(Field::new(SOURCE_ROW, DataType::Int64, false)));
        Ok(RawTable { files, schema: Arc::new(Schema::new(fields)) })
    }
}

/// The reader for a file by its extension.
fn format_of(file: &str) -> Result<Arc<dyn FileFormat>> {
    let lower = file.to_ascii_lowercase();
    let (name, compression) = match lower.strip_suffix(".gz") {
        Some(name) => (name, FileCompressionType::GZIP),
        None => (lower.as_str(), FileCompressionType::UNCOMPRESSED),
    };
    let extension = Path::new(name).extension().and_then(|e| e.to_str()).unwrap_or_default();
    let csv = |delimiter| {
        CsvFormat::default()
            .with_has_header(true)
            .with_delimiter(delimiter)
            .with_newlines_in_values(true)
            .with_schema_infer_max_rec(usize::MAX)
            .with_file_compression_type(compression)
    };
    let json = |lines| {
        JsonFormat::default()
            .with_schema_infer_max_rec(usize::MAX)
            .with_newline_delimited(lines)
            .with_file_compression_type(compression)
    };
    Ok(match extension {
        "jsonl" | "ndjson" => Arc::new(json(true)),
        "json" => Arc::new(json(!is_local_array(file))),
        "csv" => Arc::new(csv(b',')),
        "tsv" => Arc::new(csv(b'\t')),
        "parquet" if compression == FileCompressionType::UNCOMPRESSED => Arc::new(ParquetFormat::default()),
        _ => {
            return plan_err!(
                "'{file}' is none of jsonl, ndjson, json, csv, tsv and parquet (nor .gz of a text format)"
            );
        }
    })
}

/// Whether a `.json` file holds one array. One that cannot be looked into is taken to be a row a line.
fn is_local_array(file: &str) -> bool {
    use std::io::Read;
    let mut start = [0u8; 256];
    std::fs::File::open(file)
        .and_then(|mut f| f.read(&mut start))
        .is_ok_and(|n| start[..n].iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'['))
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
        let files = self.files.scan(state, Some(&read), &[], limit).await?;
        let schema = Arc::new(self.schema.project(&wanted)?);
        let ordinal_at = wanted.iter().position(|&column| column == ordinal);
        let rows = NumberedRows { files, schema: Arc::clone(&schema), ordinal_at };
        StreamingTable::try_new(schema, vec![Arc::new(rows)])?.scan(state, None, &[], limit).await
    }
}

/// One stream over all partitions of the files, in their order.
struct NumberedRows {
    files: Arc<dyn ExecutionPlan>,
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
        let numbered = batches.map(move |batch| number(&batch?, &schema, ordinal_at, &mut next_row));
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
