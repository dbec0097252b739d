//! A preview of a plan: only some of the rows that reach its first calls. In and out: a logical plan.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{
    Expr, Extension, LogicalPlan, LogicalPlanBuilder, SortExpr, UserDefinedLogicalNodeCore,
};

use super::node::{CallNode, call_nodes};

/// The column that tells seeds apart.
const SEED_ID: &str = "seed_id";

/// The same plan, whose first calls (those with no call below) each see at most `rows` rows: the first by `seed_id` where
/// the input has it, so that a preview is the same on each run, and else by its first column.
/// Without a number the plan stays as it is.
pub fn limit_first_calls(plan: LogicalPlan, rows: Option<usize>) -> Result<LogicalPlan> {
    let Some(rows) = rows else { return Ok(plan) };
    let limited = plan.transform_down_with_subqueries(|plan| {
        let LogicalPlan::Extension(extension) = &plan else { return Ok(Transformed::no(plan)) };
        let Some(call) = extension.node.as_any().downcast_ref::<CallNode>() else { return Ok(Transformed::no(plan)) };
        if !call_nodes(call.input())?.is_empty() {
            return Ok(Transformed::no(plan));
        }
        let input = call.input();
        let by_id = input.schema().columns().into_iter().find(|column| column.name == SEED_ID);
        let order = by_id.or_else(|| input.schema().columns().into_iter().next());
        let sort = |column: Column| SortExpr::new(Expr::Column(column), true, true);
        let mut limited = LogicalPlanBuilder::from(input.clone());
        if let Some(column) = order {
            limited = limited.sort([sort(column)])?;
        }
        let input = limited.limit(0, Some(rows))?.build()?;
        let node = Arc::new(call.with_exprs_and_inputs(Vec::new(), vec![input])?);
        // What is below has no calls: there is nothing more to limit.
        Ok(Transformed::new(LogicalPlan::Extension(Extension { node }), true, TreeNodeRecursion::Jump))
    })?;
    Ok(limited.data)
}
