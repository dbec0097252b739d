//! A preview of a plan: only some of the rows that reach its first calls. In and out: a logical plan.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{
    Expr, Extension, JoinType, LogicalPlan, LogicalPlanBuilder, SortExpr, UserDefinedLogicalNodeCore,
};

use super::node::{CallNode, call_nodes};

/// The column that tells seeds apart.
const SEED_ID: &str = "seed_id";

/// What the seeds of a preview are called in a plan.
const PREVIEWED: &str = "__previewed_seeds";

/// The same plan, whose first calls (those with no call below) see `rows` seeds at most: where all of their inputs have a
/// `seed_id`, the first by it, whichever of the calls they reach, so that a preview is the same on each run. Else each of
/// the calls sees so many rows, the first by its first column. Without a number the plan stays as it is.
pub fn limit_first_calls(plan: LogicalPlan, rows: Option<usize>) -> Result<LogicalPlan> {
    let Some(rows) = rows else { return Ok(plan) };
    let mut seeds = Vec::new();
    for call in call_nodes(&plan)? {
        if call_nodes(call.input())?.is_empty() {
            seeds.push(seed_id(call.input()).map(|id| (id, call.input().clone())));
        }
    }
    let previewed = match seeds.into_iter().collect::<Option<Vec<_>>>() {
        Some(seeds) => first_seeds(seeds, rows)?,
        None => None,
    };
    let limited = plan.transform_down_with_subqueries(|plan| {
        let LogicalPlan::Extension(extension) = &plan else { return Ok(Transformed::no(plan)) };
        let Some(call) = extension.node.as_any().downcast_ref::<CallNode>() else { return Ok(Transformed::no(plan)) };
        if !call_nodes(call.input())?.is_empty() {
            return Ok(Transformed::no(plan));
        }
        let input = limited_input(call.input(), previewed.as_ref(), rows)?;
        let node = Arc::new(call.with_exprs_and_inputs(Vec::new(), vec![input])?);
        // What is below has no calls: there is nothing more to limit.
        Ok(Transformed::new(LogicalPlan::Extension(Extension { node }), true, TreeNodeRecursion::Jump))
    })?;
    Ok(limited.data)
}

fn seed_id(input: &LogicalPlan) -> Option<Column> {
    input.schema().columns().into_iter().find(|column| column.name == SEED_ID)
}

fn first(input: LogicalPlanBuilder, by: Option<Column>, rows: usize) -> Result<LogicalPlanBuilder> {
    let input = match by {
        Some(column) => input.sort([SortExpr::new(Expr::Column(column), true, true)])?,
        None => input,
    };
    input.limit(0, Some(rows))
}

/// The first seeds of all the inputs together; `None` where there is no input.
fn first_seeds(inputs: Vec<(Column, LogicalPlan)>, rows: usize) -> Result<Option<LogicalPlan>> {
    let mut all: Option<LogicalPlanBuilder> = None;
    for (id, input) in inputs {
        let ids = LogicalPlanBuilder::from(input).project([Expr::Column(id).alias(SEED_ID)])?;
        all = Some(match all {
            Some(others) => others.union(ids.build()?)?,
            None => ids,
        });
    }
    let Some(all) = all else { return Ok(None) };
    let seeds = first(all.distinct()?, Some(Column::from_name(SEED_ID)), rows)?;
    seeds.alias(PREVIEWED)?.build().map(Some)
}

fn limited_input(input: &LogicalPlan, previewed: Option<&LogicalPlan>, rows: usize) -> Result<LogicalPlan> {
    let all = LogicalPlanBuilder::from(input.clone());
    match (previewed, seed_id(input)) {
        (Some(previewed), Some(id)) => {
            let keys = (vec![id], vec![Column::new(Some(PREVIEWED), SEED_ID)]);
            all.join(previewed.clone(), JoinType::LeftSemi, keys, None)?.build()
        }
        (_, id) => first(all, id.or_else(|| input.schema().columns().into_iter().next()), rows)?.build(),
    }
}
