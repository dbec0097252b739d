//! `ObjectSegmentsExec`: the rows of a ledger's segments on an object store, out of a Parquet scan of some of their
//! columns. In: the segments that a listing names, a scan of them. Out: each row once, also where segments are merged
//! and gone while they are read: then the segments of today are read, and what has been given is left out.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Statistics, exec_datafusion_err, exec_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::StreamExt;
use tokio::sync::mpsc::Sender;

use super::columns::Table;
use super::generation::Generation;
use super::object_scan::ObjectsSnapshot;
use super::object_segment::rows_by_log;
use super::objects::RELISTS;
use super::segments_scan::SegmentsScan;

/// Batches that may wait to be taken.
const QUEUE: usize = 2;

/// Its input's last column is `log`, which does not come out. Each segment is read as a whole by one partition.
#[derive(Debug)]
pub(super) struct ObjectSegmentsExec {
    input: Arc<dyn ExecutionPlan>,
    segments: Arc<Segments>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    pass: Mutex<Arc<Pass>>,
}

/// What was planned, and how it is planned again.
#[derive(Debug)]
struct Segments {
    snapshot: Arc<ObjectsSnapshot>,
    scan: SegmentsScan,
    rows: Rows,
}

/// Which rows come out.
#[derive(Debug)]
pub(super) enum Rows {
    /// Each once; those that pass a predicate over the columns that come out. The scan leaves out what it can, and how
    /// much that is depends on how rows stand in files.
    Once(Option<Arc<dyn PhysicalExpr>>),
    /// All that the scan gives, and maybe some again.
    AtLeastOnce,
}

/// One execution of all partitions.
#[derive(Debug, Default)]
struct Pass {
    /// How many rows of each log have been given. They stand in their order wherever they are.
    given: Mutex<HashMap<String, u64>>,
    started: Mutex<HashSet<usize>>,
    ended: AtomicUsize,
    /// Whether a segment was gone.
    is_gone: AtomicBool,
}

impl ObjectSegmentsExec {
    /// The segments of a snapshot, in up to so many partitions.
    pub(super) fn try_new(
        snapshot: Arc<ObjectsSnapshot>,
        scan: SegmentsScan,
        rows: Rows,
        partitions: usize,
    ) -> Result<ObjectSegmentsExec> {
        let input = scan.plan(&snapshot.listing.generation, partitions)?;
        let properties = PlanProperties::new(
            EquivalenceProperties::new(scan.schema()),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(ObjectSegmentsExec {
            input,
            segments: Arc::new(Segments { snapshot, scan, rows }),
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
            pass: Mutex::default(),
        })
    }

    /// The pass that a partition belongs to: one that is executed again begins another.
    fn pass_of(&self, partition: usize) -> Arc<Pass> {
        let mut pass = locked(&self.pass);
        if !locked(&pass.started).insert(partition) {
            *pass = Arc::default();
            locked(&pass.started).insert(partition);
        }
        Arc::clone(&*pass)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl DisplayAs for ObjectSegmentsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let segments = self.segments.snapshot.listing.generation.segments.len();
        write!(f, "ObjectSegmentsExec: table={}, segments={segments}", self.segments.scan.table.name())
    }
}

impl ExecutionPlan for ObjectSegmentsExec {
    fn name(&self) -> &str {
        "ObjectSegmentsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    /// What has been given of a log is counted in the order of its rows, so a segment stays with its partition.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        inputs: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let [input] = <[_; 1]>::try_from(inputs)
            .map_err(|inputs| exec_datafusion_err!("ObjectSegmentsExec has one input, not {}", inputs.len()))?;
        let partitions = self.properties.output_partitioning().partition_count();
        if input.output_partitioning().partition_count() != partitions {
            return exec_err!("the scan of the ledger's segments in {partitions} partitions was divided anew");
        }
        Ok(Arc::new(ObjectSegmentsExec {
            input,
            segments: Arc::clone(&self.segments),
            properties: Arc::clone(&self.properties),
            metrics: ExecutionPlanMetricsSet::new(),
            pass: Mutex::default(),
        }))
    }

    fn with_new_children(self: Arc<Self>, inputs: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(inputs, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let partitions = self.properties.output_partitioning().partition_count();
        let part = Part { pass: self.pass_of(partition), partitions };
        let mut rows = self.input.execute(partition, Arc::clone(&context))?;
        let segments = Arc::clone(&self.segments);
        let mut stream = RecordBatchReceiverStream::builder(self.schema(), QUEUE);
        let output = Output { batches: stream.tx(), metrics: BaselineMetrics::new(&self.metrics, partition) };
        stream.spawn(async move {
            match segments.give(&part.pass, &mut rows, &output).await {
                Err(e) if is_gone(&e) => part.pass.is_gone.store(true, Ordering::SeqCst),
                // Nobody wants the rest, or there is none.
                done => drop(done?),
            }
            // A segment of today holds rows that several partitions were to give: they are given when all have ended.
            if part.end() && part.pass.is_gone.load(Ordering::SeqCst) {
                segments.give_the_rest(&part.pass, &context, &output).await?;
            }
            Ok(())
        });
        Ok(stream.build())
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        if matches!(self.segments.rows, Rows::Once(None)) && args.partition().is_none() {
            let rows = self.segments.scan.rows(&self.segments.snapshot.listing.generation);
            statistics.num_rows = Precision::Exact(usize::try_from(rows).unwrap_or(usize::MAX));
        }
        Ok(Arc::new(statistics))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// A partition at work.
struct Part {
    pass: Arc<Pass>,
    partitions: usize,
}

impl Part {
    /// Whether all others have ended before. One that nobody wants any more never ends, and nobody wants its rows.
    fn end(&self) -> bool {
        self.pass.ended.fetch_add(1, Ordering::SeqCst) + 1 == self.partitions
    }
}

/// Where a partition's rows go.
struct Output {
    batches: Sender<Result<RecordBatch>>,
    metrics: BaselineMetrics,
}

impl Output {
    /// Whether more is wanted.
    async fn send(&self, batch: RecordBatch) -> bool {
        let batch = batch.record_output(&self.metrics);
        batch.num_rows() == 0 || self.batches.send(Ok(batch)).await.is_ok()
    }
}

impl Segments {
    /// Gives the rows of a scan that have not been given yet; `false` where no more is wanted.
    async fn give(&self, pass: &Pass, rows: &mut SendableRecordBatchStream, output: &Output) -> Result<bool> {
        let mut passed = HashMap::new();
        while let Some(batch) = rows.next().await {
            let batch = self.new_rows(&batch?, &mut passed, &mut locked(&pass.given))?;
            if !output.send(batch).await {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives what is not given yet of all that was planned, out of the segments of today.
    async fn give_the_rest(&self, pass: &Pass, context: &Arc<TaskContext>, output: &Output) -> Result<()> {
        let ObjectsSnapshot { objects, listing: planned } = &*self.snapshot;
        let (mut number, mut tries) = (planned.number, 0);
        loop {
            let listing = objects.list().await?;
            let has_drops = listing.generation.drops != planned.generation.drops;
            if has_drops && self.scan.table == Table::Calls && matches!(self.rows, Rows::Once(_)) {
                return exec_err!(
                    "gc has dropped calls of the ledger in {} meanwhile; try again",
                    objects.prefix.url()
                );
            }
            // Each generation is a step on; the same one again is none.
            tries = if listing.number > number { 0 } else { tries + 1 };
            number = listing.number;
            let mut rows = self.scan.plan(&listing.generation, 1)?.execute(0, Arc::clone(context))?;
            match self.give(pass, &mut rows, output).await {
                Err(e) if is_gone(&e) && tries < RELISTS => {}
                done => return done.map(drop),
            }
        }
    }

    /// The rows of a batch that were planned and have not been given. `passed` counts those of each log in this scan.
    fn new_rows(
        &self,
        batch: &RecordBatch,
        passed: &mut HashMap<String, u64>,
        given: &mut HashMap<String, u64>,
    ) -> Result<RecordBatch> {
        let last = batch.num_columns().saturating_sub(1);
        let logs = batch.column(last).as_string_opt::<i32>();
        let logs = logs.ok_or_else(|| exec_datafusion_err!("a segment of the ledger does not say its logs"))?;
        let rows = batch.project(&(0..last).collect::<Vec<_>>())?;
        let planned = &self.snapshot.listing.generation;
        let wanted = match &self.rows {
            Rows::AtLeastOnce => {
                let was_planned = rows_by_log(logs).map(|(log, rows)| (planned.has_merged(log), rows.len()));
                was_planned.flat_map(|(was, rows)| std::iter::repeat_n(was, rows)).collect::<Vec<bool>>().into()
            }
            Rows::Once(None) => new_rows(logs, |_| true, planned, passed, given),
            Rows::Once(Some(predicate)) => {
                let matches = predicate.evaluate(&rows)?.into_array(rows.num_rows())?;
                let matches = matches.as_boolean_opt();
                let matches = matches.ok_or_else(|| exec_datafusion_err!("a filter on the ledger is no condition"))?;
                let is_match = |row: usize| matches.is_valid(row) && matches.value(row);
                new_rows(logs, is_match, planned, passed, given)
            }
        };
        Ok(filter_record_batch(&rows, &wanted)?)
    }
}

/// Which of the rows that match have not been given, of logs that a generation has merged.
fn new_rows(
    logs: &StringArray,
    is_match: impl Fn(usize) -> bool,
    planned: &Generation,
    passed: &mut HashMap<String, u64>,
    given: &mut HashMap<String, u64>,
) -> BooleanArray {
    let mut new = Vec::with_capacity(logs.len());
    for (log, rows) in rows_by_log(logs) {
        if !planned.has_merged(log) {
            new.resize(rows.end, false);
            continue;
        }
        let at = passed.entry(log.to_owned()).or_default();
        let given = given.entry(log.to_owned()).or_default();
        for row in rows {
            *at += u64::from(is_match(row));
            new.push(*at > *given);
            *given = (*given).max(*at);
        }
    }
    new.into()
}

/// Whether an object is no more.
fn is_gone(error: &DataFusionError) -> bool {
    let mut at: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = at {
        if matches!(error.downcast_ref(), Some(object_store::Error::NotFound { .. })) {
            return true;
        }
        at = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_given_once_wherever_it_stands_if_it_was_planned_and_matches() {
        let mut planned = Generation::default();
        planned.add_merged("log-1-00000001.log");
        planned.add_merged("log-1-00000002.log");
        let (mut passed, mut given) = (HashMap::new(), HashMap::new());
        let logs =
            |numbers: &[u64]| -> StringArray { numbers.iter().map(|n| Some(format!("log-1-{n:08}.log"))).collect() };
        let matches = [true, false, true, true];
        let rows = new_rows(&logs(&[1, 1, 1, 2]), |row| matches[row], &planned, &mut passed, &mut given);
        assert_eq!(rows, BooleanArray::from(vec![true, false, true, true]));
        // The same rows in a segment of today, one that was not reached before, and one that is younger than the plan.
        passed.clear();
        let matches = [true, false, true, true, true, true];
        let rows = new_rows(&logs(&[1, 1, 1, 2, 2, 3]), |row| matches[row], &planned, &mut passed, &mut given);
        assert_eq!(rows, BooleanArray::from(vec![false, false, false, false, true, false]));
    }
}
