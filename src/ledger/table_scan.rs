//! Plans over a ledger's files. In: what lies in the folder, the stored columns and the filters that are wanted. Out:
//! a scan of segments in parallel and of logs; of `calls`, each call once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::common::stats::Precision;
use datafusion::common::{DFSchema, Statistics, plan_datafusion_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::{CachedParquetFileReaderFactory, ParquetRowSelection};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::union::UnionExec;
use object_store::ObjectMeta;
use object_store::path::Path as ObjectPath;

use super::columns::Table;
use super::distinct::Distinct;
use super::distinct_calls::DistinctCallsExec;
use super::hold::Hold;
use super::log::{HEADER_LEN, LogFile};
use super::log_scan::{LogScanExec, LogSnapshot};
use super::object_scan::ObjectsSnapshot;
use super::objects::Objects;
use super::unsent::Unsent;
use super::{LedgerError, folder};
use crate::stores::Prefix;

/// Columns of `calls` that are the same in every record of one call: a filter on them cannot change which of
/// several records is shown.
const IDENTITY: [&str; 8] = ["call_id", "provider", "model", "revision", "variant", "sample", "messages", "parameters"];

/// A file with rows of a table, as it was when listed.
#[derive(Debug)]
pub(super) enum TableFile {
    /// With what is known of its repeated calls.
    Segment(Box<PartitionedFile>, Option<Distinct>),
    Log(LogSnapshot),
}

/// A ledger on an object store, and behind it the logs that this machine has not sent yet.
pub(super) async fn objects(prefix: Prefix, unsent: PathBuf) -> Result<Vec<TableFile>> {
    // First: what is sent in between is there twice rather than not at all, and once below.
    let unsent = Unsent::new(unsent).logs()?;
    let objects = Arc::new(Objects::new(prefix));
    let listing = objects.list().await?;
    let snapshot = ObjectsSnapshot { objects, listing: listing.clone() };
    let mut files = vec![TableFile::Log(LogSnapshot::Objects(Box::new(snapshot)))];
    for (name, log) in unsent {
        if !listing.generation.has_merged(&name) && !listing.logs.iter().any(|log| log.name == name) {
            let len = log.end(HEADER_LEN)?;
            files.push(TableFile::Log(LogSnapshot::File { log, len }));
        }
    }
    Ok(files)
}

/// All files of a table, oldest first. Those of segments stay where they are as long as the hold, which goes along
/// with each.
pub(super) fn files(folder: &Path, table: Table, hold: Option<Hold>) -> Result<Vec<TableFile>> {
    let folder = std::path::absolute(folder)?;
    let hold = hold.map_or_else(|| Hold::shared(&folder), Ok)?;
    let listing = folder::list(&folder)?;
    let mut files = Vec::new();
    for unique in listing.uniques() {
        if !listing.segments.contains(unique) {
            match LogFile::open(folder::log_path(&folder, unique)) {
                Ok(log) => {
                    let len = log.end(HEADER_LEN)?;
                    files.push(TableFile::Log(LogSnapshot::File { log: Arc::new(log), len }));
                    continue;
                }
                Err(e) if e.is_not_found() => {} // sealed since
                Err(e) => return Err(e.into()),
            }
        }
        let path = folder::segment_path(&folder, unique).join(table.file_name());
        let metadata = match std::fs::metadata(&path) {
            Ok(metadata) => metadata,
            // A log without records, deleted since. (A listed segment has all its files.)
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !listing.segments.contains(unique) => continue,
            Err(e) => return Err(LedgerError::io("read", &path)(e).into()),
        };
        let meta = ObjectMeta {
            location: ObjectPath::from_absolute_path(&path)?,
            last_modified: metadata.modified()?.into(),
            size: metadata.len(),
            e_tag: None,
            version: None,
        };
        let mut file = PartitionedFile::new_from_meta(meta).with_extension(hold.clone());
        let distinct = if table == Table::Calls { Distinct::read(&folder, unique) } else { None };
        if let Some(shown) = distinct.as_ref().and_then(Distinct::shown) {
            file = file.with_extension(ParquetRowSelection::new(shown));
        }
        files.push(TableFile::Segment(Box::new(file), distinct));
    }
    Ok(files)
}

/// What is wanted of a table: stored columns, of rows that pass filters (others may come along).
pub(super) struct TableScan<'a> {
    table: Table,
    columns: &'a [usize],
    /// The filters that every record of one call passes or none.
    identity_predicate: Option<Arc<dyn PhysicalExpr>>,
    state: &'a dyn Session,
}

impl<'a> TableScan<'a> {
    pub(super) fn new(
        table: Table,
        columns: &'a [usize],
        filters: &[Expr],
        state: &'a dyn Session,
    ) -> Result<TableScan<'a>> {
        let schema = DFSchema::try_from(Arc::clone(table.schema()))?;
        let of_identity = |filter: &&Expr| filter.column_refs().iter().all(|c| IDENTITY.contains(&c.name.as_str()));
        Ok(TableScan {
            table,
            columns,
            identity_predicate: conjunction(filters.iter().filter(of_identity).cloned().collect::<Vec<_>>())
                .map(|filter| state.create_physical_expr(filter, &schema))
                .transpose()?,
            state,
        })
    }

    pub(super) fn plan(&self, files: Vec<TableFile>) -> Result<Arc<dyn ExecutionPlan>> {
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(Arc::new(self.table.schema().project(self.columns)?))));
        }
        match self.table {
            Table::Calls => self.calls(files),
            Table::Attempts | Table::CallUses => self.every_row(files),
        }
    }

    fn every_row(&self, files: Vec<TableFile>) -> Result<Arc<dyn ExecutionPlan>> {
        let mut logs = Vec::new();
        let mut segments = Vec::new();
        for file in files {
            match file {
                TableFile::Segment(file, _) => segments.push(*file),
                TableFile::Log(log) => logs.push(log),
            }
        }
        let mut inputs: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
        if !segments.is_empty() {
            inputs.push(self.parallel(segments, None)?);
        }
        if !logs.is_empty() {
            inputs.push(Arc::new(LogScanExec::try_new(self.table, self.columns.to_vec(), logs)?));
        }
        UnionExec::try_new(inputs)
    }

    /// Each call once, and the oldest record of it. Segments of which the repeats are known are read in parallel, and
    /// only the columns that are wanted; the ids are compared only of what is left, and of what is older than that.
    fn calls(&self, files: Vec<TableFile>) -> Result<Arc<dyn ExecutionPlan>> {
        let id = self.table.schema().index_of("call_id")?;
        let others = self.columns.iter().copied().filter(|&column| column != id);
        let input_columns: Vec<usize> = std::iter::once(id).chain(others).collect();
        let output = self
            .columns
            .iter()
            .map(|column| input_columns.iter().position(|c| c == column))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| plan_datafusion_err!("the ledger's table calls was asked for unknown columns"))?;

        let (mut known, mut known_rows) = (Vec::new(), 0);
        let mut compared: Vec<(Arc<dyn ExecutionPlan>, bool)> = Vec::new();
        let mut run = Run::default();
        for file in files {
            match file {
                TableFile::Segment(file, Some(distinct)) => {
                    known_rows += distinct.shown_rows();
                    run.push(*file.clone(), false, |run| self.ids_compared(run, &input_columns, &mut compared))?;
                    known.push(*file);
                }
                TableFile::Segment(file, None) => {
                    run.push(*file, true, |run| self.ids_compared(run, &input_columns, &mut compared))?;
                }
                TableFile::Log(log) => {
                    self.ids_compared(std::mem::take(&mut run), &input_columns, &mut compared)?;
                    let scan = LogScanExec::try_new(self.table, input_columns.clone(), vec![log])?;
                    compared.push((Arc::new(scan), true));
                }
            }
        }
        self.ids_compared(run, &input_columns, &mut compared)?;
        // What is younger than all that is left to compare needs no look.
        let last = compared.iter().rposition(|(_, shown)| *shown);
        compared.truncate(last.map_or(0, |last| last + 1));

        let mut inputs: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
        if !known.is_empty() {
            inputs.push(self.parallel(known, Some(known_rows))?);
        }
        if !compared.is_empty() {
            inputs.push(Arc::new(DistinctCallsExec::try_new(compared, &input_columns, output)?));
        }
        UnionExec::try_new(inputs)
    }

    /// Scans successive segments one after the other.
    fn ids_compared(
        &self,
        run: Run,
        columns: &[usize],
        inputs: &mut Vec<(Arc<dyn ExecutionPlan>, bool)>,
    ) -> Result<()> {
        if !run.files.is_empty() {
            let columns = if run.shown { columns } else { &columns[..1] };
            let groups = vec![FileGroup::new(run.files)];
            inputs.push((self.segments(groups, columns, self.identity_predicate.as_ref(), true, None)?, run.shown));
        }
        Ok(())
    }

    /// Segments in up to as many partitions as the session wants; with the number of their rows, if it is known.
    fn parallel(&self, files: Vec<PartitionedFile>, rows: Option<u64>) -> Result<Arc<dyn ExecutionPlan>> {
        let groups = FileGroup::new(files).split_files(self.state.config().target_partitions());
        self.segments(groups, self.columns, None, false, rows)
    }

    fn segments(
        &self,
        groups: Vec<FileGroup>,
        columns: &[usize],
        predicate: Option<&Arc<dyn PhysicalExpr>>,
        in_order: bool,
        rows: Option<u64>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let url = ObjectStoreUrl::local_filesystem();
        let runtime = self.state.runtime_env();
        let reader = CachedParquetFileReaderFactory::new(
            runtime.object_store(&url)?,
            runtime.cache_manager.get_file_metadata_cache(),
        );
        // With filters in the scan, long texts are read only of rows that pass. The optimizer pushes them down to here,
        // but not through DistinctCallsExec: what may go below it is given.
        let mut source = ParquetSource::new(Arc::clone(self.table.schema()))
            .with_parquet_file_reader_factory(Arc::new(reader))
            .with_pushdown_filters(true);
        if let Some(predicate) = predicate {
            source = source.with_predicate(Arc::clone(predicate));
        }
        let mut statistics = Statistics::new_unknown(self.table.schema());
        if let Some(rows) = rows {
            statistics.num_rows = Precision::Exact(usize::try_from(rows).unwrap_or(usize::MAX));
        }
        let config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(groups)
            .with_projection_indices(Some(columns.to_vec()))?
            .with_preserve_order(in_order)
            .with_statistics(statistics)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// Successive segments that are shown alike.
#[derive(Default)]
struct Run {
    files: Vec<PartitionedFile>,
    shown: bool,
}

impl Run {
    /// Adds a segment; where it is shown otherwise than those before, these are done with first.
    fn push(&mut self, file: PartitionedFile, shown: bool, end: impl FnOnce(Run) -> Result<()>) -> Result<()> {
        if self.shown != shown && !self.files.is_empty() {
            end(std::mem::take(self))?;
        }
        self.shown = shown;
        self.files.push(file);
        Ok(())
    }
}
