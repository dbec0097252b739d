//! Conditions on what reaches model calls. In: a plan and a condition for each scan. Out: the plan with a filter over each
//! scan whose rows are among a call's, or choose them. What only takes rows away from a call's stays whole: less of it
//! would bring back rows that were taken away.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNodeRecursion};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    DmlStatement, Expr, Filter, LogicalPlan, Projection, TableScan, TableScanBuilder, WriteOp,
};

use super::role::{Place, Role, places_below};
use crate::model_call::{CallNode, CallSpec};

/// What the rows of a scan must meet; `None` for all rows. The call that they reach is given for messages; there is none
/// where they fill a table.
pub(super) type Condition<'a> = &'a dyn Fn(&TableScan, Option<&CallSpec>) -> Result<Option<Expr>>;

/// Filters the scans whose rows reach calls.
pub(super) fn filter_below_calls(plan: LogicalPlan, condition: Condition) -> Result<LogicalPlan> {
    filter(plan, Role::Unseen, false, condition)
}

/// The same, and the scans whose rows reach a table by INSERT.
pub(super) fn filter_below_calls_and_inserts(plan: LogicalPlan, condition: Condition) -> Result<LogicalPlan> {
    filter(plan, Role::Unseen, true, condition)
}

/// Filters the scans whose rows reach the plan's output, or a call.
pub(super) fn filter_shown(plan: LogicalPlan, condition: Condition) -> Result<LogicalPlan> {
    filter(plan, Role::Shown, false, condition)
}

/// A place that a walk will come to, and the call that it stands below.
struct Next {
    place: Place,
    call: Option<Arc<CallSpec>>,
}

fn filter(plan: LogicalPlan, role: Role, inserts: bool, condition: Condition) -> Result<LogicalPlan> {
    // In the order of the walk, the next one last.
    let mut next = vec![Next { place: Place::of(role), call: None }];
    plan.transform_down_with_subqueries(|node| {
        let Next { place, call } = next.pop().unwrap_or(Next { place: Place::of(Role::Unclear), call: None });
        if matches!(place.role, Role::Shown | Role::Unclear) {
            // A plan that is analyzed again, as that of CREATE TABLE AS is, has its filters.
            if let LogicalPlan::Filter(filter) = &node
                && let LogicalPlan::TableScan(scan) = filter.input.as_ref()
                && let Some(needed) = condition(scan, call.as_deref())?
                && asks_for(&filter.predicate, &needed)
            {
                // Its subqueries come before the scan, and may have calls of their own.
                let mut below = places_below(&node, place)?;
                if let Some(of_scan) = below.last_mut() {
                    *of_scan = Place::of(Role::Unseen);
                }
                next.extend(below.into_iter().rev().map(|place| Next { place, call: call.clone() }));
                return Ok(Transformed::no(node));
            }
            if let LogicalPlan::TableScan(scan) = &node
                && let Some(needed) = condition(scan, call.as_deref())?
            {
                return Ok(Transformed::new(filtered(scan.clone(), needed)?, true, TreeNodeRecursion::Jump));
            }
        }
        let (mut below, mut below_call) = (places_below(&node, place)?, call);
        if let Some(spec) = called(&node) {
            // What reaches a call that another plan only compares with is asked all the same.
            let of_input = match place.role {
                Role::Shown | Role::Unseen => Role::Shown,
                Role::TakesAway | Role::Unclear => Role::Unclear,
            };
            below.iter_mut().for_each(|place| *place = Place::of(of_input));
            if below_call.is_none() || place.role == Role::Unseen {
                below_call = Some(Arc::clone(spec));
            }
        } else if inserts && is_insert(&node) {
            below.iter_mut().for_each(|place| *place = Place::of(Role::Shown));
        }
        next.extend(below.into_iter().rev().map(|place| Next { place, call: below_call.clone() }));
        Ok(Transformed::no(node))
    })
    .data()
}

fn called(plan: &LogicalPlan) -> Option<&Arc<CallSpec>> {
    match plan {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<CallNode>().map(CallNode::spec),
        _ => None,
    }
}

fn is_insert(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Dml(DmlStatement { op: WriteOp::Insert(_), .. }))
}

/// Whether a predicate has all parts of a condition.
fn asks_for(predicate: &Expr, needed: &Expr) -> bool {
    let parts = split_conjunction(predicate);
    split_conjunction(needed).into_iter().all(|part| parts.contains(&part))
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
