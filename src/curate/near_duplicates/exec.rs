//! The decision, row by row in their order. In: rows with their n-grams, sorted, on one partition. Out: the rows without
//! the hidden columns, and what was found.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_datafusion_err, internal_err};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{
    EquivalenceProperties, LexOrdering, OrderingRequirements, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_plan::execution_plan::{
    CardinalityEffect, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, RecordOutput,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildStats, DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties,
    InputDistributionRequirements, Partitioning, PlanProperties, StatisticsArgs,
};
use futures::StreamExt;

use super::frequencies::Frequencies;
use super::node::{By, KEY, PREFER, Spec};
use super::scan::Scan;
use super::shingle_exec::WHOLE;

#[derive(Debug)]
pub struct NearDuplicatesExec {
    spec: Spec,
    input: Arc<dyn ExecutionPlan>,
    frequencies: Arc<Frequencies>,
    order: LexOrdering,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl NearDuplicatesExec {
    /// `schema` is the node's: the columns that pass through, then the added one.
    pub fn try_new(
        spec: Spec,
        input: Arc<dyn ExecutionPlan>,
        frequencies: Arc<Frequencies>,
        schema: SchemaRef,
    ) -> Result<Self> {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            input.boundedness(),
        ));
        let order = order(&input, spec.by)?;
        Ok(Self { spec, input, frequencies, order, schema, properties, metrics: ExecutionPlanMetricsSet::new() })
    }
}

/// Best first, then by key; equal keys by their texts.
fn order(input: &Arc<dyn ExecutionPlan>, by_what: By) -> Result<LexOrdering> {
    let schema = input.schema();
    let by = |name: &str, descending: bool| -> Result<PhysicalSortExpr> {
        let column = Arc::new(Column::new_with_schema(name, &schema)?);
        Ok(PhysicalSortExpr::new(column, SortOptions { descending, nulls_first: false }))
    };
    let mut order = vec![by(PREFER, true)?, by(KEY, false)?];
    if matches!(by_what, By::Ngrams { .. }) {
        order.push(by(WHOLE, false)?);
    }
    LexOrdering::new(order).ok_or_else(|| internal_datafusion_err!("near_duplicates has no order"))
}

impl DisplayAs for NearDuplicatesExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "NearDuplicatesExec: {}", self.spec)
    }
}

impl ExecutionPlan for NearDuplicatesExec {
    fn name(&self) -> &str {
        "NearDuplicatesExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::SinglePartition])
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![Some(OrderingRequirements::from(self.order.clone()))]
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
            Some(input) if children.is_empty() => Ok(Arc::new(Self::try_new(
                self.spec.clone(),
                input,
                Arc::clone(&self.frequencies),
                Arc::clone(&self.schema),
            )?)),
            _ => internal_err!("NearDuplicatesExec takes exactly one child"),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("NearDuplicatesExec has one partition, not {}", partition + 1);
        }
        let reservation = MemoryConsumer::new("near_duplicates").register(context.memory_pool());
        let duplicates = MetricBuilder::new(&self.metrics).counter("duplicates", partition);
        let (frequencies, schema) = (Arc::clone(&self.frequencies), Arc::clone(&self.schema));
        let mut scan = Scan::try_new(&self.spec, &self.input.schema(), schema, frequencies, reservation, duplicates)?;
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let output = self.input.execute(partition, context)?.map(move |batch| {
            let _timer = metrics.elapsed_compute().timer();
            let batch = scan.decide(&batch?)?;
            Ok(batch.record_output(&metrics))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), output)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        if let Some(input) = inputs.first() {
            statistics.num_rows = input.num_rows;
        }
        Ok(Arc::new(statistics))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}
