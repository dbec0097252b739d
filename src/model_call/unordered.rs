//! What needs an order and has none below a call is a warning: on each run it may give other rows or values, and so
//! other prompts and another bill. In: an analyzed plan. Out: the same plan, and sentences in [`Warnings`].

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;

use super::node::{CallNode, as_call};
use super::warnings::Warnings;

/// Functions whose result depends on the order of their rows.
const ORDERED: [&str; 9] =
    ["array_agg", "string_agg", "first_value", "last_value", "nth_value", "row_number", "lag", "lead", "ntile"];

/// Whether an order is total cannot be proven, so only what has no order at all is named.
#[derive(Debug)]
pub struct WarnUnorderedInput(pub Arc<Warnings>);

impl AnalyzerRule for WarnUnorderedInput {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.apply_with_subqueries(|node| {
            if let Some(call) = as_call(node) {
                self.check_input(call)?;
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(plan)
    }

    fn name(&self) -> &str {
        "warn_unordered_input"
    }
}

impl WarnUnorderedInput {
    fn check_input(&self, call: &CallNode) -> Result<()> {
        let say = |what: &str, differs: &str, remedy: &str| {
            let spec = call.spec();
            self.0.say(format!(
                "{what} stands below a call of {} (model {}, {}): {differs} may differ on each run, which makes other \
                 calls, and another bill; {remedy}",
                spec.kind.as_str(),
                spec.model,
                spec.call_as
            ));
        };
        call.input().apply_with_subqueries(|node| {
            match node {
                // It has warnings of its own.
                _ if as_call(node).is_some() => return Ok(TreeNodeRecursion::Jump),
                LogicalPlan::Limit(limit) if !has_order(&limit.input) => {
                    say("LIMIT without ORDER BY", "which rows it takes", "write ORDER BY a key before LIMIT");
                }
                LogicalPlan::Distinct(Distinct::On(distinct))
                    if distinct.sort_expr.as_ref().is_none_or(Vec::is_empty) =>
                {
                    say("DISTINCT ON without ORDER BY", "which row it takes", "write ORDER BY a key after it");
                }
                _ => {}
            }
            node.apply_expressions(|expr| {
                expr.apply(|expr| {
                    match expr {
                        Expr::AggregateFunction(function)
                            if function.params.order_by.is_empty() && ORDERED.contains(&function.func.name()) =>
                        {
                            let name = function.func.name();
                            let differs = if name.ends_with("_agg") { "the order of its values" } else { "its value" };
                            let remedy = format!("write {name}(… ORDER BY a key)");
                            say(&format!("{name}() without ORDER BY"), differs, &remedy);
                        }
                        Expr::WindowFunction(function)
                            if function.params.order_by.is_empty() && ORDERED.contains(&function.fun.name()) =>
                        {
                            let name = function.fun.name();
                            let remedy = "write OVER (… ORDER BY a key)";
                            say(&format!("{name}() OVER without ORDER BY"), "its value", remedy);
                        }
                        _ => {}
                    }
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })?;
        Ok(())
    }
}

/// Whether the rows come in some order, or are one, or stand in the query itself.
fn has_order(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(_) | LogicalPlan::Values(_) | LogicalPlan::EmptyRelation(_) => true,
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::Projection(projection) => has_order(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => has_order(&alias.input),
        LogicalPlan::Filter(filter) => has_order(&filter.input),
        LogicalPlan::Limit(limit) => has_order(&limit.input),
        _ => false,
    }
}
