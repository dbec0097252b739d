//! Rows that a call has finished go on at once: a filter, a repartitioning, a join or an asynchronous function above a call
//! does not wait for a whole batch. In: a physical plan. Out: the same plan, with small batches in those places and nowhere else.

use std::fmt;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::async_func::AsyncFuncExec;
use datafusion::physical_plan::execution_plan::{
    CardinalityEffect, ChildrenPropertiesMode, ReplaceChildrenOptions, replace_children_if_necessary,
};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

use crate::model_call::exec::CallExec;

/// DataFusion's operators hand on a batch that has more rows than half of this; so with 1 each as it comes.
const AS_IT_COMES: usize = 1;

/// A join works in steps of so many rows, so 1 would be slow for rows that are there already.
const JOINED_ROWS: usize = 16;

/// Above calls (pumps flush by rows and milliseconds themselves) batches are handed on as they come. Measured: with
/// FilterExec's usual 8192 rows the first row over a slow call came after 4.4 s, with 64 after 0.3 s.
#[derive(Debug)]
pub struct HandRowsOn;

impl PhysicalOptimizerRule for HandRowsOn {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(rewrite(plan, config.execution.batch_size.get())?.0)
    }

    fn name(&self) -> &str {
        "hand_rows_on"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The rewritten plan, and whether there is a call in it.
fn rewrite(plan: Arc<dyn ExecutionPlan>, usual_rows: usize) -> Result<(Arc<dyn ExecutionPlan>, bool)> {
    let (mut children, mut over_call) = (Vec::new(), Vec::new());
    for child in plan.children() {
        let (child, has_call) = rewrite(Arc::clone(child), usual_rows)?;
        children.push(child);
        over_call.push(has_call);
    }
    let any_call = over_call.contains(&true);
    if !any_call {
        let is_call = plan.is::<CallExec>();
        return Ok((plan, is_call));
    }
    let plan = replace_children_if_necessary(plan, children)?;
    let plan: Arc<dyn ExecutionPlan> = if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        Arc::new(filter.with_batch_size(AS_IT_COMES)?)
    } else if plan.is::<AsyncFuncExec>()
        || plan.downcast_ref::<RepartitionExec>().is_some_and(|repartition| !repartition.preserve_order())
    {
        Arc::new(AtOnceExec::try_new(plan, AS_IT_COMES, usual_rows)?)
    } else if (plan.is::<HashJoinExec>() || plan.is::<NestedLoopJoinExec>()) && over_call.last() == Some(&true) {
        // The left side is read to its end before the first row goes out; the right side streams.
        Arc::new(AtOnceExec::try_new(plan, JOINED_ROWS, usual_rows)?)
    } else {
        plan
    };
    Ok((plan, true))
}

/// A node that gives batches of `rows` rows, while what is below it works with the session's usual batches: the batch
/// size of these nodes is the session's when they are executed.
#[derive(Debug)]
struct AtOnceExec {
    /// Its children are `children`, each in an [`UsualBatchesExec`].
    inner: Arc<dyn ExecutionPlan>,
    children: Vec<Arc<dyn ExecutionPlan>>,
    rows: usize,
    usual_rows: usize,
}

impl AtOnceExec {
    fn try_new(node: Arc<dyn ExecutionPlan>, rows: usize, usual_rows: usize) -> Result<Self> {
        let children: Vec<_> = node.children().into_iter().map(Arc::clone).collect();
        let usual = |input: &Arc<dyn ExecutionPlan>| -> Arc<dyn ExecutionPlan> {
            Arc::new(UsualBatchesExec { input: Arc::clone(input), rows: usual_rows })
        };
        let wrapped = children.iter().map(usual).collect();
        let inner = node.replace_children(wrapped, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))?;
        Ok(Self { inner, children, rows, usual_rows })
    }
}

impl DisplayAs for AtOnceExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        self.inner.fmt_as(t, f)?;
        match t {
            DisplayFormatType::TreeRender => writeln!(f, "batch_size={}", self.rows),
            DisplayFormatType::Default | DisplayFormatType::Verbose => write!(f, ", batch_size={}", self.rows),
        }
    }
}

impl ExecutionPlan for AtOnceExec {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn downcast_delegate(&self) -> Option<&dyn ExecutionPlan> {
        Some(self.inner.as_ref())
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.inner.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.children.iter().collect()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.inner.apply_expressions(f)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let node = Arc::clone(&self.inner).replace_children(children, options)?;
        Ok(Arc::new(AtOnceExec::try_new(node, self.rows, self.usual_rows)?))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.inner.execute(partition, with_batch_size(&context, self.rows))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.inner.metrics()
    }

    fn statistics_from_inputs(
        &self,
        input_stats: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        self.inner.statistics_from_inputs(input_stats, args)
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        self.inner.child_stats_requests(partition)
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        self.inner.cardinality_effect()
    }
}

/// Gives what is below it the session's usual batch size back.
#[derive(Debug)]
struct UsualBatchesExec {
    input: Arc<dyn ExecutionPlan>,
    rows: usize,
}

impl DisplayAs for UsualBatchesExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "UsualBatchesExec: batch_size={}", self.rows)
    }
}

impl ExecutionPlan for UsualBatchesExec {
    fn name(&self) -> &str {
        "UsualBatchesExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
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
            Some(input) if children.is_empty() => Ok(Arc::new(UsualBatchesExec { input, rows: self.rows })),
            _ => internal_err!("{} takes exactly one child", self.name()),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, with_batch_size(&context, self.rows))
    }
}

fn with_batch_size(context: &Arc<TaskContext>, rows: usize) -> Arc<TaskContext> {
    if context.session_config().batch_size() == rows {
        return Arc::clone(context);
    }
    Arc::new(TaskContext::new(
        context.task_id(),
        context.session_id(),
        context.session_config().clone().with_batch_size(rows),
        context.scalar_functions().clone(),
        context.higher_order_functions().clone(),
        context.aggregate_functions().clone(),
        context.window_functions().clone(),
        context.runtime_env(),
    ))
}
