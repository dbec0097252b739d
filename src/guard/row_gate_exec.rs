//! The row guard in physical plans. In: a plan with filters that have the guard's conditions among others. Out: the same plan,
//! in which these filters count the rows that the guard alone leaves out. Batches from which it takes nothing are handed on
//! as they are.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{Array, BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::common::cast::as_boolean_array;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::{Literal, NotExpr};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr, conjunction, conjunction_opt, split_conjunction};
use datafusion::physical_expr_common::physical_expr::fmt_sql;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::{CardinalityEffect, ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::limit::LocalLimitExec;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildStats, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, StatisticsArgs,
};
use futures::future::ready;
use futures::{StreamExt, TryStreamExt};

use super::held_out_copy::{LEFT_OUT_ROW, LEFT_OUT_SEED};
use super::left_out::{LeftOut, Place};

/// The last rule: what others make of filters is the same with it and without it.
#[derive(Debug)]
pub struct CountLeftOut(pub Arc<LeftOut>);

impl PhysicalOptimizerRule for CountLeftOut {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let Some(filter) = node.downcast_ref::<FilterExec>() else { return Ok(Transformed::no(node)) };
            let fetch = filter.fetch();
            let Some(gate) = RowGateExec::of(filter, &self.0)? else { return Ok(Transformed::no(node)) };
            let gate: Arc<dyn ExecutionPlan> = match fetch {
                Some(rows) => Arc::new(LocalLimitExec::new(Arc::new(gate), rows)),
                None => Arc::new(gate),
            };
            Ok(Transformed::yes(gate))
        })
        .data()
    }

    fn name(&self) -> &str {
        "count_left_out"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// A filter with a condition of the row guard. That is asked last, of the rows that meet the others.
#[derive(Debug)]
struct RowGateExec {
    /// The filter as it was planned: what plans show and estimates rest on.
    filter: Arc<dyn ExecutionPlan>,
    /// The rows that meet the other conditions.
    rows: Arc<dyn ExecutionPlan>,
    gate: Arc<Gate>,
    metrics: ExecutionPlanMetricsSet,
}

#[derive(Debug)]
struct Gate {
    condition: Arc<dyn PhysicalExpr>,
    /// The question of a row, where one without it is left out.
    question: Option<Arc<dyn PhysicalExpr>>,
    projection: Option<Arc<[usize]>>,
    place: Arc<Place>,
    left_out: Arc<LeftOut>,
}

impl RowGateExec {
    /// `None` where the filter has no condition of the row guard.
    fn of(filter: &FilterExec, left_out: &Arc<LeftOut>) -> Result<Option<Self>> {
        let parts = split_conjunction(filter.predicate()).into_iter().cloned();
        let (own, others): (Vec<_>, Vec<_>) = parts.partition(|part| gate_call(part).is_some());
        let Some(call) = own.first().and_then(gate_call) else { return Ok(None) };
        let first = call.args().first();
        let (task, question) = match call.fun().name() {
            LEFT_OUT_SEED => (None, first.cloned()),
            _ => (first.and_then(text), None),
        };
        let others = conjunction_opt(others);
        let condition = others.as_ref().map_or_else(String::new, |others| fmt_sql(others.as_ref()).to_string());
        let rows: Arc<dyn ExecutionPlan> = match others {
            Some(others) => {
                let builder = FilterExecBuilder::new(others, Arc::clone(filter.input()));
                Arc::new(builder.with_batch_size(filter.batch_size()).build()?)
            }
            None => Arc::clone(filter.input()),
        };
        let metrics = ExecutionPlanMetricsSet::new();
        let gate = Gate {
            condition: conjunction(own),
            question,
            projection: filter.projection().clone(),
            place: Arc::new(Place::new(task, condition, &metrics)),
            left_out: Arc::clone(left_out),
        };
        Ok(Some(RowGateExec { filter: Arc::new(filter.clone()), rows, gate: Arc::new(gate), metrics }))
    }
}

/// The function of a condition that is the row guard's.
fn gate_call(condition: &Arc<dyn PhysicalExpr>) -> Option<&ScalarFunctionExpr> {
    let call = condition.downcast_ref::<NotExpr>()?.arg().downcast_ref::<ScalarFunctionExpr>()?;
    matches!(call.fun().name(), LEFT_OUT_SEED | LEFT_OUT_ROW).then_some(call)
}

fn text(literal: &Arc<dyn PhysicalExpr>) -> Option<String> {
    literal.downcast_ref::<Literal>()?.value().try_as_str().flatten().map(str::to_owned)
}

impl Gate {
    /// The rows of a batch that meet the condition. The others are counted.
    fn keep(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let kept = self.condition.evaluate(batch)?.into_array(rows)?;
        let kept = as_boolean_array(&kept)?;
        let shown = match &self.projection {
            Some(columns) => batch.project(columns)?,
            None => batch.clone(),
        };
        if kept.true_count() == rows {
            return Ok(shown);
        }
        self.count(batch, kept)?;
        Ok(filter_record_batch(&shown, kept)?)
    }

    fn count(&self, batch: &RecordBatch, kept: &BooleanArray) -> Result<()> {
        let rows = batch.num_rows();
        let left_out = rows - kept.true_count();
        let without_question = match &self.question {
            Some(question) => {
                let question = question.evaluate(batch)?.into_array(rows)?;
                (0..rows).filter(|&row| !kept.value(row) && question.is_null(row)).count()
            }
            None => 0,
        };
        self.left_out.add(&self.place, left_out - without_question, without_question);
        Ok(())
    }
}

impl DisplayAs for RowGateExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        self.filter.fmt_as(t, f)
    }
}

impl ExecutionPlan for RowGateExec {
    fn name(&self) -> &str {
        self.filter.name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.filter.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.filter.children()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.filter.apply_expressions(f)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let filter = Arc::clone(&self.filter).replace_children(children, options)?;
        let Some(of) = filter.downcast_ref::<FilterExec>() else { return Ok(filter) };
        match RowGateExec::of(of, &self.gate.left_out)? {
            Some(gate) => Ok(Arc::new(gate)),
            None => Ok(filter),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (gate, metrics) = (Arc::clone(&self.gate), BaselineMetrics::new(&self.metrics, partition));
        let kept = self.rows.execute(partition, context)?.map(move |batch| -> Result<RecordBatch> {
            let batch = batch?;
            let _time = metrics.elapsed_compute().timer();
            Ok(gate.keep(&batch)?.record_output(&metrics))
        });
        let kept = kept.try_filter(|batch: &RecordBatch| ready(batch.num_rows() > 0));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), kept)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(
        &self,
        input_stats: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        self.filter.statistics_from_inputs(input_stats, args)
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        self.filter.child_stats_requests(partition)
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        self.filter.cardinality_effect()
    }
}
