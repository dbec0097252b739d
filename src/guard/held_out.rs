//! The held-out guard: no row of a held-out split may reach a model call.
//! In: an analyzed plan. Out: the same plan, or a plan error that names table, split and call.

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::AnalyzerRule;

use super::reach::held_out_scan;
use crate::model_call::CallNode;

/// What is said to an argument such as `when => x NOT IN (…)`: what it leaves out is still a row of the call's, without an
/// answer, for a next call to pick, and DataFusion plans such tests nowhere but in WHERE.
const IN_WHERE: &str =
    "; a condition that takes rows away stands in WHERE of the call's input and not in its arguments";

/// Refuses plans in which a held-out scan reaches a call: through views, CTEs, joins, unions, subqueries, and
/// subqueries inside the call's own expressions. The right side of NOT IN, NOT EXISTS and anti-joins is free: it
/// takes rows away and adds nothing. See [`super::reach`].
#[derive(Debug)]
pub struct HeldOutGuard;

impl AnalyzerRule for HeldOutGuard {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::Extension(extension) = node
                && let Some(call) = extension.node.as_any().downcast_ref::<CallNode>()
                && let Some(found) = held_out_scan(call.input())?
            {
                return plan_err!(
                    "the table {} and would reach a call of {} (model {}); held-out rows may only stand on the right of \
                     NOT IN, NOT EXISTS and anti-joins, and in decontaminate(…, against => (…)){}",
                    found.says_by_whom(),
                    call.spec().kind.as_str(),
                    call.spec().model,
                    if in_arguments_alone(call.input())? { IN_WHERE } else { "" }
                );
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(plan)
    }

    fn name(&self) -> &str {
        "held_out_guard"
    }
}

/// Whether held-out rows are read by a call's arguments, which the projection right below it computes, and not by its rows.
fn in_arguments_alone(input: &LogicalPlan) -> Result<bool> {
    match input {
        LogicalPlan::Projection(projection) => Ok(held_out_scan(&projection.input)?.is_none()),
        _ => Ok(false),
    }
}
