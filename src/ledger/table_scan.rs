//! Plans over a ledger's files. In: what lies in the folder or the store, the stored columns and the filters that are
//! wanted. Out: a scan of segments in parallel and of logs; of `calls`, each call once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
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
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
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
use super::object_segments_exec::{ObjectSegmentsExec, Rows};
use super::objects::Objects;
use super::segments_scan::SegmentsScan;
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

/// A ledger on an object store, as it was when listed.
#[derive(Debug)]
pub(super) struct TableObjects {
    snapshot: Arc<ObjectsSnapshot>,
    /// Of the store, then those that this machine has not sent yet.
    logs: Vec<LogSnapshot>,
}

pub(super) async fn objects(prefix: Prefix, unsent: PathBuf) -> Result<TableObjects> {
    // First: what is sent in between is there twice rather than not at all, and once below.
    let unsent = Unsent::new(unsent).logs()?;
    let objects = Arc::new(Objects::new(prefix));
    let listing = objects.list().await?;
    let snapshot = Arc::new(ObjectsSnapshot { objects, listing });
    let mut logs = Vec::new();
    if !snapshot.listing.logs.is_empty() {
        logs.push(LogSnapshot::Objects(Arc::clone(&snapshot)));
    }
    for (name, log) in unsent {
        if !snapshot.listing.has(&name) {
            let len = log.end(HEADER_LEN)?;
            logs.push(LogSnapshot::File { log, len });
        }
    }
    Ok(TableObjects { snapshot, logs })
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
    filters: &'a [Expr],
    /// The filters that every record of one call passes or none.
    identity_predicate: Option<Arc<dyn PhysicalExpr>>,
    state: &'a dyn Session,
}

impl<'a> TableScan<'a> {
    pub(super) fn new(
        table: Table,
        columns: &'a [usize],
        filters: &'a [Expr],
        state: &'a dyn Session,
    ) -> Result<TableScan<'a>> {
        let mut scan = TableScan { table, columns, filters, identity_predicate: None, state };
        let of_identity = |filter: &Expr| filter.column_refs().iter().all(|c| IDENTITY.contains(&c.name.as_str()));
        scan.identity_predicate = scan.predicate(of_identity, table.schema())?;
        Ok(scan)
    }

    /// The filters of a kind as a predicate over a schema.
    fn predicate(&self, is_one: impl Fn(&Expr) -> bool, schema: &SchemaRef) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        let schema = DFSchema::try_from(Arc::clone(schema))?;
        let filter = conjunction(self.filters.iter().filter(|filter| is_one(filter)).cloned().collect::<Vec<_>>());
        filter.map(|filter| self.state.create_physical_expr(filter, &schema)).transpose()
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

    /// On a store each call stands in one segment, so ids are compared only where there are logs.
    pub(super) fn plan_objects(&self, objects: TableObjects) -> Result<Arc<dyn ExecutionPlan>> {
        let TableObjects { snapshot, logs } = objects;
        let mut inputs: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
        let has_segments = !snapshot.listing.generation.segments.is_empty();
        if has_segments {
            let shown = Arc::new(self.table.schema().project(self.columns)?);
            let is_shown = |filter: &Expr| filter.column_refs().iter().all(|c| shown.index_of(&c.name).is_ok());
            let rows = Rows::Once(self.predicate(is_shown, &shown)?);
            let predicate = self.predicate(is_shown, self.table.schema())?;
            inputs.push(self.object_segments(&snapshot, self.columns, predicate, rows)?);
        }
        match self.table {
            _ if logs.is_empty() => {}
            Table::Attempts | Table::CallUses => {
                inputs.push(Arc::new(LogScanExec::try_new(self.table, self.columns.to_vec(), logs)?));
            }
            Table::Calls => {
                let (input_columns, output) = self.behind_ids()?;
                let mut compared: Vec<(Arc<dyn ExecutionPlan>, bool)> = Vec::new();
                if has_segments {
                    let ids = &input_columns[..1];
                    let predicate = self.identity_predicate.clone();
                    let ids = self.object_segments(&snapshot, ids, predicate, Rows::AtLeastOnce)?;
                    // In any order: none of them comes out.
                    compared.push((Arc::new(CoalescePartitionsExec::new(ids)), false));
                }
                for log in logs {
                    let scan = LogScanExec::try_new(self.table, input_columns.clone(), vec![log])?;
                    compared.push((Arc::new(scan), true));
                }
                inputs.push(Arc::new(DistinctCallsExec::try_new(compared, &input_columns, output)?));
            }
        }
        match inputs.is_empty() {
            true => self.plan(Vec::new()),
            false => UnionExec::try_new(inputs),
        }
    }

    fn object_segments(
        &self,
        snapshot: &Arc<ObjectsSnapshot>,
        columns: &[usize],
        predicate: Option<Arc<dyn PhysicalExpr>>,
        rows: Rows,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let scan = SegmentsScan::try_new(self.table, columns, predicate, snapshot.objects.prefix.clone())?;
        let partitions = self.state.config().target_partitions();
        Ok(Arc::new(ObjectSegmentsExec::try_new(Arc::clone(snapshot), scan, rows, partitions)?))
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
        let (input_columns, output) = self.behind_ids()?;
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

    /// The wanted columns of `calls` behind the id, and where each of them is then.
    fn behind_ids(&self) -> Result<(Vec<usize>, Vec<usize>)> {
        let id = self.table.schema().index_of("call_id")?;
        let others = self.columns.iter().copied().filter(|&column| column != id);
        let behind: Vec<usize> = std::iter::once(id).chain(others).collect();
        let output = self.columns.iter().map(|column| behind.iter().position(|c| c == column)).collect::<Option<_>>();
        let output =
            output.ok_or_else(|| plan_datafusion_err!("the ledger's table calls was asked for unknown columns"))?;
        Ok((behind, output))
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
