//! Fields of structs are read below unions and aliases where that can be; where it cannot, the plan stays as it is.

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::LogicalPlan;

use crate::wrapped_rule::Inner;

/// DataFusion's `push_down_leaf_projections`. Of DataFusion 55.2 it fails on a call's column read above a UNION ALL BY
/// NAME: merged into `SELECT generated.answer AS answer`, the plain column `generated.answer` stands beside its alias, and
/// the schema is ambiguous. The rule looks at one node at a time and only moves expressions, so a node on which it fails
/// can be left alone.
pub fn push_down_leaves_or_not(plan: LogicalPlan, inner: Inner) -> Result<Transformed<LogicalPlan>> {
    // It acts on nothing else.
    if !matches!(plan, LogicalPlan::Projection(_)) {
        return Ok(Transformed::no(plan));
    }
    Ok(inner(plan.clone()).unwrap_or_else(|error| {
        tracing::debug!("fields are not read further below: {}", error.strip_backtrace());
        Transformed::no(plan)
    }))
}
