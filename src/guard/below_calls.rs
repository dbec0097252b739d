//! Conditions on what lies below model calls. In: a plan and a condition for each scan. Out: the plan with a filter over
//! each scan below a call, one however many calls stand above it.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNodeRecursion};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Expr, Extension, Filter, LogicalPlan, Projection, TableScan, TableScanBuilder, UserDefinedLogicalNodeCore,
};

use crate::curate::DecontaminateNode;
use crate::model_call::CallNode;

/// What the rows of a scan below a call must meet; `None` for all rows. The call is given for messages.
pub(super) type Condition<'a> = &'a dyn Fn(&TableScan, &CallNode) -> Result<Option<Expr>>;

/// Filters the scans below calls.
pub(super) fn filter_below_calls(plan: LogicalPlan, condition: Condition) -> Result<LogicalPlan> {
    // From the top, and all that lies below a call at once: what lies below two calls is filtered below the first.
    plan.transform_down_with_subqueries(|node| {
        let call = match &node {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<CallNode>(),
            _ => None,
        };
        let Some(call) = call else { return Ok(Transformed::no(node)) };
        let below = call.input().clone().transform_down_with_subqueries(|plan| filter_scan(plan, call, condition))?;
        if !below.transformed {
            return Ok(Transformed::new(node, false, TreeNodeRecursion::Jump));
        }
        let call = call.with_exprs_and_inputs(Vec::new(), vec![below.data])?;
        Ok(Transformed::new(LogicalPlan::Extension(Extension { node: Arc::new(call) }), true, TreeNodeRecursion::Jump))
    })
    .data()
}

fn filter_scan(plan: LogicalPlan, call: &CallNode, condition: Condition) -> Result<Transformed<LogicalPlan>> {
    // A plan that is analyzed again, as that of CREATE TABLE AS is, has its filters.
    if let LogicalPlan::Filter(filter) = &plan
        && let LogicalPlan::TableScan(scan) = filter.input.as_ref()
        && let Some(needed) = condition(scan, call)?
        && split_conjunction(&filter.predicate).contains(&&needed)
    {
        return Ok(Transformed::new(plan, false, TreeNodeRecursion::Jump));
    }
    // Nothing of a reference set reaches a call.
    if let LogicalPlan::Extension(extension) = &plan
        && let Some(node) = extension.node.as_any().downcast_ref::<DecontaminateNode>()
    {
        let items = node.items().clone().transform_down_with_subqueries(|plan| filter_scan(plan, call, condition))?;
        if !items.transformed {
            return Ok(Transformed::new(plan, false, TreeNodeRecursion::Jump));
        }
        let node = Arc::new(node.with_items(items.data)?);
        let plan = LogicalPlan::Extension(Extension { node });
        return Ok(Transformed::new(plan, true, TreeNodeRecursion::Jump));
    }
    let LogicalPlan::TableScan(scan) = &plan else { return Ok(Transformed::no(plan)) };
    match condition(scan, call)? {
        Some(condition) => Ok(Transformed::new(filtered(scan.clone(), condition)?, true, TreeNodeRecursion::Jump)),
        None => Ok(Transformed::no(plan)),
    }
}

/// A filter over a scan. Where the scan has been narrowed already (as a prepared plan's has), it is widened for the
/// filter and narrowed above it.
fn filtered(scan: TableScan, condition: Expr) -> Result<LogicalPlan> {
    if condition.column_refs().iter().all(|column| scan.projected_schema.has_column(column)) {
        return Ok(LogicalPlan::Filter(Filter::try_new(condition, Arc::new(LogicalPlan::TableScan(scan)))?));
    }
    let shown: Vec<Expr> = scan.projected_schema.columns().into_iter().map(Expr::Column).collect();
    let wide = TableScanBuilder::from(scan).with_projection(None).build()?;
    let filter = Filter::try_new(condition, Arc::new(LogicalPlan::TableScan(wide)))?;
    Ok(LogicalPlan::Projection(Projection::try_new(shown, Arc::new(LogicalPlan::Filter(filter)))?))
}
