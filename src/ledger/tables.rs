//! The tables `calls`, `attempts` and `call_uses`: what lies in a ledger's folder when a query is planned.
//! Readers take no lock, so they see what running processes have written so far.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, plan_datafusion_err};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::union::UnionExec;
use object_store::ObjectMeta;
use object_store::path::Path as ObjectPath;

use super::columns::Table;
use super::distinct_calls::DistinctCallsExec;
use super::log::LogFile;
use super::log_scan::{LogScanExec, LogSnapshot};
use super::{LedgerError, folder};

/// The tables of the ledger in a local folder, which need not exist yet, under their names. They may be queried
/// while any process writes there.
///
/// - `calls`, one row a call: call_id (64 hex digits), provider, model, revision, variant, sample INT, messages and
///   parameters (JSON), response (the raw body), finish_reason, prompt_tokens and completion_tokens BIGINT, cost_usd
///   DOUBLE, time TIMESTAMP (ms, UTC).
/// - `attempts`, one row a request: call_id, model, time, latency_ms BIGINT, status INT (HTTP; NULL without an
///   answer), error_kind and error (NULL for an answer), billed BOOLEAN, cost_usd DOUBLE.
/// - `call_uses`, one row for each use of a call by a run: run_id, call_id, stage, replayed BOOLEAN, time.
pub fn tables(path: &Path) -> Vec<(&'static str, Arc<dyn TableProvider>)> {
    let table = |table: Table| {
        let provider: Arc<dyn TableProvider> = Arc::new(LedgerTable { folder: path.to_owned(), table });
        (table.name(), provider)
    };
    Table::ALL.into_iter().map(table).collect()
}

#[derive(Debug)]
struct LedgerTable {
    folder: PathBuf,
    table: Table,
}

/// Columns of `calls` that are the same in every record of one call: a filter on them cannot change which of
/// several records is shown.
const IDENTITY: [&str; 8] = ["call_id", "provider", "model", "revision", "variant", "sample", "messages", "parameters"];

#[async_trait]
impl TableProvider for LedgerTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.table.schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Filters skip row groups and pages of segments; the filter itself stays above.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let of_identity = |filter: &Expr| filter.column_refs().iter().all(|c| IDENTITY.contains(&c.name.as_str()));
        Ok(filters
            .iter()
            .map(|filter| match self.table {
                Table::Calls if !of_identity(filter) => TableProviderFilterPushDown::Unsupported,
                _ => TableProviderFilterPushDown::Inexact,
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (folder, table) = (self.folder.clone(), self.table);
        let files = tokio::task::spawn_blocking(move || files(&folder, table))
            .await
            .map_err(|e| DataFusionError::External(Box::new(e)))??;
        let columns = projection.cloned().unwrap_or_else(|| (0..table.schema().fields().len()).collect());
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(Arc::new(table.schema().project(&columns)?))));
        }
        let predicate = conjunction(filters.to_vec())
            .map(|filter| state.create_physical_expr(filter, &DFSchema::try_from(self.schema())?))
            .transpose()?;
        let scan = Scan { table, predicate };
        match table {
            Table::Calls => scan.calls(files, &columns),
            Table::Attempts | Table::CallUses => scan.all(files, &columns, state.config().target_partitions()),
        }
    }
}

/// A file with rows of a table, as it was when listed.
#[derive(Debug)]
enum TableFile {
    Segment(Box<PartitionedFile>),
    Log(LogSnapshot),
}

/// All files of a table, oldest first.
fn files(folder: &Path, table: Table) -> Result<Vec<TableFile>> {
    let folder = std::path::absolute(folder)?;
    let listing = folder::list(&folder)?;
    let mut files = Vec::new();
    for unique in listing.uniques() {
        if !listing.segments.contains(unique) {
            match LogFile::open(folder::log_path(&folder, unique)) {
                Ok(log) => {
                    let len = log.len()?;
                    files.push(TableFile::Log(LogSnapshot { log: Arc::new(log), len }));
                    continue;
                }
                Err(e) if e.is_not_found() => {} // sealed since
                Err(e) => return Err(e.into()),
            }
        }
        let path = folder::segment_path(&folder, unique).join(table.file_name());
        match std::fs::metadata(&path) {
            Ok(metadata) => {
                let meta = ObjectMeta {
                    location: ObjectPath::from_absolute_path(&path)?,
                    last_modified: metadata.modified()?.into(),
                    size: metadata.len(),
                    e_tag: None,
                    version: None,
                };
                files.push(TableFile::Segment(Box::new(PartitionedFile::new_from_meta(meta))));
            }
            // A log without records, deleted since. (A listed segment has all its files.)
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !listing.segments.contains(unique) => {}
            Err(e) => return Err(LedgerError::io("read", &path)(e).into()),
        }
    }
    Ok(files)
}

struct Scan {
    table: Table,
    predicate: Option<Arc<dyn PhysicalExpr>>,
}

impl Scan {
    /// Every row of every file, segments in up to `target_partitions` partitions.
    fn all(
        &self,
        files: Vec<TableFile>,
        columns: &[usize],
        target_partitions: usize,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut logs = Vec::new();
        let mut segments = Vec::new();
        for file in files {
            match file {
                TableFile::Segment(file) => segments.push(*file),
                TableFile::Log(log) => logs.push(log),
            }
        }
        let mut inputs: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
        if !segments.is_empty() {
            inputs.push(self.segments(FileGroup::new(segments).split_files(target_partitions), columns)?);
        }
        if !logs.is_empty() {
            inputs.push(Arc::new(LogScanExec::try_new(self.table, columns.to_vec(), logs)?));
        }
        UnionExec::try_new(inputs)
    }

    /// Each call once, and the oldest record of it.
    fn calls(&self, files: Vec<TableFile>, columns: &[usize]) -> Result<Arc<dyn ExecutionPlan>> {
        let id = self.table.schema().index_of("call_id")?;
        let others = columns.iter().copied().filter(|&column| column != id);
        let input_columns: Vec<usize> = std::iter::once(id).chain(others).collect();
        let output = columns
            .iter()
            .map(|column| input_columns.iter().position(|c| c == column))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| plan_datafusion_err!("the ledger's table calls was asked for unknown columns"))?;

        let mut inputs: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
        let mut run = Vec::new();
        for file in files {
            match file {
                TableFile::Segment(file) => run.push(*file),
                TableFile::Log(log) => {
                    self.end_run(&mut run, &input_columns, &mut inputs)?;
                    inputs.push(Arc::new(LogScanExec::try_new(self.table, input_columns.clone(), vec![log])?));
                }
            }
        }
        self.end_run(&mut run, &input_columns, &mut inputs)?;
        Ok(Arc::new(DistinctCallsExec::try_new(inputs, &input_columns, output)?))
    }

    /// Scans successive segments one after the other.
    fn end_run(
        &self,
        run: &mut Vec<PartitionedFile>,
        columns: &[usize],
        inputs: &mut Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<()> {
        if !run.is_empty() {
            inputs.push(self.segments(vec![FileGroup::new(std::mem::take(run))], columns)?);
        }
        Ok(())
    }

    fn segments(&self, groups: Vec<FileGroup>, columns: &[usize]) -> Result<Arc<dyn ExecutionPlan>> {
        let mut source = ParquetSource::new(Arc::clone(self.table.schema()));
        if let Some(predicate) = &self.predicate {
            source = source.with_predicate(Arc::clone(predicate));
        }
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source))
            .with_file_groups(groups)
            .with_projection_indices(Some(columns.to_vec()))?
            .with_preserve_order(self.table == Table::Calls)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}
