//! `DistinctCallsExec`: the rows of its inputs, input after input, each call once, and no call that an input which is
//! only looked at has. Two processes at once may both have paid for one call; the oldest file's answer is shown, as
//! `find` gives it.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::{Stream, StreamExt, TryStreamExt, stream};

use super::CallId;
use super::columns::Table;
use super::index::{self, Key};

/// Its inputs' first column is `call_id`; its output's columns are chosen among theirs.
#[derive(Debug)]
pub(super) struct DistinctCallsExec {
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    /// For each input whether its rows come out; an input that is only looked at has ids alone.
    shown: Vec<bool>,
    output: Vec<usize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl DistinctCallsExec {
    /// Inputs, oldest first, each with whether its rows come out. `input_columns` (indices into the schema of `calls`)
    /// are the columns of each that is shown, `output` picks among these by position.
    pub(super) fn try_new(
        inputs: Vec<(Arc<dyn ExecutionPlan>, bool)>,
        input_columns: &[usize],
        output: Vec<usize>,
    ) -> Result<DistinctCallsExec> {
        let schema = Arc::new(Table::Calls.schema().project(input_columns)?.project(&output)?);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let (inputs, shown) = inputs.into_iter().unzip();
        Ok(DistinctCallsExec {
            inputs,
            shown,
            output,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }
}

impl DisplayAs for DistinctCallsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = self.shown.iter().filter(|shown| !**shown).count();
        write!(f, "DistinctCallsExec: inputs={}, of which only ids={seen}", self.inputs.len())
    }
}

impl ExecutionPlan for DistinctCallsExec {
    fn name(&self) -> &str {
        "DistinctCallsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }

    /// The order of files and rows decides which answer is shown, so inputs are not to be split.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; self.inputs.len()]
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
        Ok(Arc::new(DistinctCallsExec {
            inputs,
            shown: self.shown.clone(),
            output: self.output.clone(),
            properties: Arc::clone(&self.properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }))
    }

    fn with_new_children(self: Arc<Self>, inputs: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(inputs, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut seen = Seen {
            keys: HashSet::new(),
            memory: MemoryConsumer::new("DistinctCallsExec").register(context.memory_pool()),
        };
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let output = self.output.clone();
        let inputs = self.inputs.iter().cloned().zip(self.shown.iter().copied()).collect();
        let rows = in_order(inputs, context).try_filter_map(move |(batch, shown)| {
            let mut new_rows = || -> Result<_> {
                let new = seen.keep_new(&batch)?;
                if !shown || new.num_rows() == 0 {
                    return Ok(None);
                }
                Ok(Some(new.project(&output)?.record_output(&metrics)))
            };
            std::future::ready(new_rows())
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// All partitions of all inputs, one after the other; each begins when the one before has ended.
fn in_order(
    inputs: Vec<(Arc<dyn ExecutionPlan>, bool)>,
    context: Arc<TaskContext>,
) -> impl Stream<Item = Result<(RecordBatch, bool)>> + Send {
    stream::iter(inputs)
        .flat_map(|(input, shown)| {
            let partitions = input.output_partitioning().partition_count();
            stream::iter((0..partitions).map(move |partition| (Arc::clone(&input), partition, shown)))
        })
        .map(move |(input, partition, shown)| -> Result<_> {
            let rows = input.execute(partition, Arc::clone(&context))?;
            Ok(rows.map_ok(move |batch| (batch, shown)))
        })
        .try_flatten()
}

/// The calls that came so far, counted in the query's memory pool.
struct Seen {
    keys: HashSet<Key>,
    memory: MemoryReservation,
}

impl Seen {
    fn keep_new(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let ids = batch.column(0).as_string_view_opt().ok_or_else(|| {
            DataFusionError::Execution(format!(
                "call_id came as {} where Utf8View was due",
                batch.column(0).data_type()
            ))
        })?;
        let mut new = Vec::with_capacity(ids.len());
        for id in ids {
            let id = id.and_then(CallId::from_hex).ok_or_else(|| {
                DataFusionError::Execution(format!("the ledger's table calls has a call_id {id:?}, not 64 hex digits"))
            })?;
            new.push(self.keys.insert(index::key(&id)));
        }
        // One byte of control a slot, and a slot in eight or more is free.
        self.memory.try_resize(self.keys.capacity() / 7 * 8 * (size_of::<Key>() + 1))?;
        if new.iter().all(|new| *new) {
            return Ok(batch.clone());
        }
        Ok(filter_record_batch(batch, &BooleanArray::from(new))?)
    }
}
