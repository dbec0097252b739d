//! What the inputs of several first calls have in common, run once: DataFusion inlines a view wherever it is named, so that
//! eight calls over one choice of seeds would choose them eight times, and again for each count before the first call.
//! In: a plan. Out: the same plan with scans of what was run in the place of what is common.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::Result;
use datafusion::common::config::SpillCompression;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::dataframe::DataFrame;
use datafusion::datasource::provider_as_source;
use datafusion::execution::{SendableRecordBatchStream, SpillFile, TaskContext};
use datafusion::logical_expr::{Extension, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::EmptyRecordBatchStream;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, SpillMetrics};
use datafusion::physical_plan::spill::SpillManager;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::SessionContext;
use futures::{TryStreamExt, stream};

use super::node::{CallNode, as_call, call_nodes};
use super::plan_key::PlanKey;

/// Runs what stands below several first calls (those with no call below), or several times below one: views and
/// subqueries with a join, a window, an aggregate or a sort in them. Their rows are in temporary files of the session,
/// which last as long as the plan that is given back. Where there is no such thing, nothing is run, and the plan stays as
/// it is.
///
/// The guards are rules of the analyzer, and they are through before anything is taken apart: what is run here has their
/// filters in it.
pub async fn share_inputs(ctx: &SessionContext, plan: LogicalPlan) -> Result<LogicalPlan> {
    let state = ctx.state();
    let analyzed = state.analyzer().execute_and_check(plan.clone(), state.config_options(), |_, _| {})?;
    let common = common_subplans(&analyzed)?;
    if common.is_empty() {
        return Ok(plan);
    }
    let mut scans = HashMap::new();
    for subplan in common {
        let LogicalPlan::SubqueryAlias(alias) = subplan.plan() else { continue };
        let table = provider_as_source(run(ctx, subplan.plan()).await?);
        let scan = LogicalPlanBuilder::scan(alias.alias.clone(), table, None)?.build()?;
        scans.insert(subplan, scan);
    }
    with_scans(analyzed, &scans)
}

/// A table of a plan's rows: they are written to a file as they come, and read from there as often as they are wanted.
async fn run(ctx: &SessionContext, plan: &LogicalPlan) -> Result<Arc<dyn TableProvider>> {
    let schema = Arc::clone(plan.schema().inner());
    let metrics = SpillMetrics::new(&ExecutionPlanMetricsSet::new(), 0);
    let files = SpillManager::new(ctx.runtime_env(), metrics, Arc::clone(&schema))
        .with_compression_type(SpillCompression::Lz4Frame);
    let mut file = files.create_in_progress_file("writing what the first calls share")?;
    let mut rows = DataFrame::new(ctx.state(), plan.clone()).execute_stream().await?;
    while let Some(batch) = rows.try_next().await? {
        file.append_batch(&batch)?;
    }
    let rows = Arc::new(WrittenRows { schema: Arc::clone(&schema), files, file: file.finish()? });
    Ok(Arc::new(StreamingTable::try_new(schema, vec![rows])?))
}

/// Rows in a temporary file.
struct WrittenRows {
    schema: SchemaRef,
    files: SpillManager,
    /// `None` where there were no rows.
    file: Option<Arc<dyn SpillFile>>,
}

impl fmt::Debug for WrittenRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WrittenRows")
    }
}

impl PartitionStream for WrittenRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        match self.file.as_ref().map(|file| self.files.read_spill_as_stream(Arc::clone(file), None)) {
            None => Box::pin(EmptyRecordBatchStream::new(schema)),
            Some(Ok(rows)) => rows,
            Some(Err(e)) => Box::pin(RecordBatchStreamAdapter::new(schema, stream::iter([Err(e)]))),
        }
    }
}

/// The outermost aliases that stand several times below first calls and are worth being run once; each once.
fn common_subplans(plan: &LogicalPlan) -> Result<Vec<PlanKey>> {
    let mut inputs = Vec::new();
    for call in call_nodes(plan)? {
        if is_first(&call)? {
            inputs.push(call.input().clone());
        }
    }
    let mut times: HashMap<PlanKey, usize> = HashMap::new();
    for input in &inputs {
        input.apply_with_subqueries(|node| {
            if is_worth_it(node)? {
                *times.entry(PlanKey::of(node)?).or_default() += 1;
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    let mut common = Vec::new();
    for input in &inputs {
        input.apply_with_subqueries(|node| {
            if !matches!(node, LogicalPlan::SubqueryAlias(_)) {
                return Ok(TreeNodeRecursion::Continue);
            }
            let key = PlanKey::of(node)?;
            if times.get(&key).is_none_or(|times| *times < 2) {
                return Ok(TreeNodeRecursion::Continue);
            }
            if !common.contains(&key) {
                common.push(key);
            }
            Ok(TreeNodeRecursion::Jump)
        })?;
    }
    Ok(common)
}

/// An alias over something that costs more than to read it: what only filters and projects a table is read again.
fn is_worth_it(plan: &LogicalPlan) -> Result<bool> {
    Ok(matches!(plan, LogicalPlan::SubqueryAlias(_))
        && plan.all_out_ref_exprs().is_empty()
        && plan.exists(|node| {
            Ok(matches!(
                node,
                LogicalPlan::Window(_)
                    | LogicalPlan::Aggregate(_)
                    | LogicalPlan::Sort(_)
                    | LogicalPlan::Join(_)
                    | LogicalPlan::Distinct(_)
            ))
        })?)
}

fn is_first(call: &CallNode) -> Result<bool> {
    Ok(call_nodes(call.input())?.is_empty())
}

/// Scans in the place of their subplans, below first calls.
fn with_scans(plan: LogicalPlan, scans: &HashMap<PlanKey, LogicalPlan>) -> Result<LogicalPlan> {
    let replaced = plan.transform_down_with_subqueries(|plan| {
        let Some(call) = as_call(&plan) else { return Ok(Transformed::no(plan)) };
        if !is_first(call)? {
            return Ok(Transformed::no(plan));
        }
        let input = call.input().clone().transform_down_with_subqueries(|plan| {
            if !matches!(plan, LogicalPlan::SubqueryAlias(_)) {
                return Ok(Transformed::no(plan));
            }
            Ok(match scans.get(&PlanKey::of(&plan)?) {
                Some(scan) => Transformed::new(scan.clone(), true, TreeNodeRecursion::Jump),
                None => Transformed::no(plan),
            })
        })?;
        let node = Arc::new(call.with_exprs_and_inputs(Vec::new(), vec![input.data])?);
        Ok(Transformed::new(LogicalPlan::Extension(Extension { node }), true, TreeNodeRecursion::Jump))
    })?;
    Ok(replaced.data)
}
