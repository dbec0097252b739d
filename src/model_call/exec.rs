//! The physical node of a model call: one pump a partition, over a bounded channel.

use std::fmt;
use std::sync::{Arc, OnceLock};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{
    ChildStats, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
    StatisticsArgs,
};

use super::assemble::Assembler;
use super::call_metrics;
use super::estimate::output_rows;
use super::progress::StageProgress;
use super::pump::{Pump, PumpMetrics};
use super::row::CallTemplate;
use super::row_caller::RowCaller;
use super::runtime::CallRuntime;
use super::settings::Settings;
use super::spec::{CallKind, CallSpec};
use crate::endpoint::Model;

/// Batches that wait between a pump and what stands above it.
const CHANNEL_BATCHES: usize = 2;

/// Makes the calls of a [`super::CallNode`]. Each partition of the input is one partition of the output.
#[derive(Debug)]
pub struct CallExec {
    spec: Arc<CallSpec>,
    model: Arc<Model>,
    runtime: Arc<CallRuntime>,
    input: Arc<dyn ExecutionPlan>,
    /// The number of call stages below this one.
    depth: usize,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    /// Made at the first execution: a plan that is only shown counts nothing.
    stage: OnceLock<Arc<StageProgress>>,
    /// What it would cost, where the plan is explained.
    estimate: Option<String>,
    /// The rows of the input, where somebody has counted them.
    counted_rows: Option<usize>,
}

impl CallExec {
    pub fn new(
        spec: Arc<CallSpec>,
        model: Arc<Model>,
        runtime: Arc<CallRuntime>,
        input: Arc<dyn ExecutionPlan>,
        schema: SchemaRef,
    ) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Incremental,
            input.boundedness(),
        ));
        let depth = stages(&input);
        Self {
            spec,
            model,
            runtime,
            input,
            depth,
            schema,
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
            stage: OnceLock::new(),
            estimate: None,
            counted_rows: None,
        }
    }

    pub(super) fn spec(&self) -> &Arc<CallSpec> {
        &self.spec
    }

    pub(super) fn model(&self) -> &Arc<Model> {
        &self.model
    }

    pub(super) fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }

    /// The same node, which shows this text with itself.
    pub(super) fn with_estimate(&self, estimate: String) -> Self {
        Self { estimate: Some(estimate), ..self.over(Arc::clone(&self.input)) }
    }

    /// The same node, which knows how many rows its input has.
    pub(super) fn with_counted_rows(&self, rows: usize) -> Self {
        Self { counted_rows: Some(rows), ..self.over(Arc::clone(&self.input)) }
    }

    /// How many rows the input has, where its statistics say so many. Scans do not count their own limits.
    pub(super) fn input_rows(&self, mut said: Precision<usize>) -> Precision<usize> {
        let mut below = &self.input;
        loop {
            if let Some(fetch) = below.fetch() {
                said = Precision::Inexact(said.get_value().map_or(fetch, |rows| fetch.min(*rows)));
            }
            match below.children().as_slice() {
                [input] if below.is::<ProjectionExec>() => below = *input,
                _ => return self.counted_rows.map_or(said, Precision::Exact),
            }
        }
    }

    fn over(&self, input: Arc<dyn ExecutionPlan>) -> Self {
        let (spec, model, runtime) = (Arc::clone(&self.spec), Arc::clone(&self.model), Arc::clone(&self.runtime));
        Self {
            estimate: self.estimate.clone(),
            counted_rows: self.counted_rows,
            ..CallExec::new(spec, model, runtime, input, Arc::clone(&self.schema))
        }
    }

    fn pump_metrics(&self, partition: usize) -> PumpMetrics {
        let count = |name: &'static str| MetricBuilder::new(&self.metrics).counter(name, partition);
        PumpMetrics {
            baseline: BaselineMetrics::new(&self.metrics, partition),
            asked: count("calls_asked"),
            replayed: count("calls_replayed"),
            failed: count("calls_failed"),
            unparsed: count("answers_unparsed"),
            dropped: count("rows_dropped"),
            repairs: count("calls_to_repair"),
            items_short: count("items_short"),
        }
    }
}

/// The most call stages one above the other in a plan.
fn stages(plan: &Arc<dyn ExecutionPlan>) -> usize {
    match plan.downcast_ref::<CallExec>() {
        Some(call) => call.depth + 1,
        None => plan.children().into_iter().map(stages).max().unwrap_or(0),
    }
}

impl DisplayAs for CallExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {}", self.name(), self.spec)?;
        self.estimate.as_ref().map_or(Ok(()), |estimate| write!(f, " [{estimate}]"))
    }
}

impl ExecutionPlan for CallExec {
    fn name(&self) -> &str {
        match self.spec.kind {
            CallKind::Generate => "GenerateExec",
            CallKind::Enrich => "EnrichExec",
            CallKind::Embed => "EmbedExec",
        }
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    /// The limiter, not the number of partitions, says how many calls are in flight.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.pop() {
            Some(input) if children.is_empty() => Ok(Arc::new(self.over(input))),
            _ => internal_err!("{} takes exactly one child", self.name()),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        use datafusion::physical_plan::execution_plan::ChildrenPropertiesMode;
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if let Some(settings) = context.session_config().options().extensions.get::<Settings>() {
            self.runtime.spending.limit(settings.budget());
        }
        let input = self.input.execute(partition, context)?;
        let identity = self.model.endpoint.identity();
        let stage = self.stage.get_or_init(|| {
            let stage = self.runtime.progress.stage(&self.spec.call_as);
            stage.opened(self.properties.partitioning.partition_count());
            stage
        });
        let pump = Pump {
            caller: RowCaller {
                spec: Arc::clone(&self.spec),
                model: Arc::clone(&self.model),
                runtime: Arc::clone(&self.runtime),
                template: Arc::new(CallTemplate::new(&self.spec, identity, Arc::clone(stage), self.depth)),
                stop: self.runtime.interrupt.child_token(),
            },
            assembler: Assembler::new(Arc::clone(&self.spec), Arc::clone(&self.schema), Arc::clone(&identity.model)),
            metrics: self.pump_metrics(partition),
            partition: stage.partition(),
        };
        let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&self.schema), CHANNEL_BATCHES);
        let output = builder.tx();
        builder.spawn(pump.run(input, output));
        Ok(builder.build())
    }

    fn metrics(&self) -> Option<MetricsSet> {
        let mut metrics = self.metrics.clone_inner();
        if let Some(stage) = self.stage.get() {
            call_metrics::push(&mut metrics, &stage.snapshot());
        }
        Some(metrics)
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    /// How many rows: estimates of the calls above, and joins that choose their sides, rest on it.
    fn statistics_from_inputs(
        &self,
        input_stats: &[Arc<Statistics>],
        _args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let rows = input_stats.first().map_or(Precision::Absent, |input| input.num_rows);
        let num_rows = output_rows(&self.spec, self.input_rows(rows));
        Ok(Arc::new(Statistics { num_rows, ..Statistics::new_unknown(&self.schema) }))
    }
}
