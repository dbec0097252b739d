//! The held-out guard: no row of a held-out split may reach a model call.
//! In: an analyzed plan. Out: the same plan, or a plan error that names table, split and call.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::expr::Exists;
use datafusion::logical_expr::{Expr, JoinType, LogicalPlan, TableScan};
use datafusion::optimizer::AnalyzerRule;

use crate::curate::DecontaminateNode;
use crate::lineage::{Lineage, Origin, lineage_of};
use crate::model_call::CallNode;

/// Refuses plans in which a held-out scan reaches a call: through views, CTEs, joins, unions, subqueries, and
/// subqueries inside the call's own expressions. The right side of NOT IN, NOT EXISTS and anti-joins is free: it
/// takes rows away and adds nothing.
#[derive(Debug)]
pub struct HeldOutGuard;

impl AnalyzerRule for HeldOutGuard {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::Extension(extension) = node
                && let Some(call) = extension.node.as_any().downcast_ref::<CallNode>()
                && let Some((table, lineage)) = held_out_scan(call.input())?
            {
                return plan_err!(
                    "the table {table} holds held-out rows (split {}, says {}) and would reach a call of {} (model {}); \
                     held-out rows may only stand on the right of NOT IN, NOT EXISTS and anti-joins, and in \
                     decontaminate(…, against => (…))",
                    lineage.split,
                    lineage.origin,
                    call.spec().kind.as_str(),
                    call.spec().model
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

/// The first scan of held-out rows whose rows can be in the plan's output.
pub fn held_out_scan(plan: &LogicalPlan) -> Result<Option<(String, Lineage)>> {
    let inputs: Vec<&LogicalPlan> = match plan {
        LogicalPlan::TableScan(scan) => {
            if let Some(lineage) = scan_lineage(scan)
                && lineage.split.is_held_out()
            {
                // The catalog's held-out rows are known to users as heldout.<task>.
                let name = match (&lineage.task, lineage.origin) {
                    (Some(task), Origin::Catalog) => format!("heldout.{task}"),
                    _ => scan.table_name.to_string(),
                };
                return Ok(Some((name, lineage)));
            }
            Vec::new()
        }
        LogicalPlan::Join(join) => match join.join_type {
            JoinType::LeftAnti => vec![join.left.as_ref()],
            JoinType::RightAnti => vec![join.right.as_ref()],
            _ => vec![join.left.as_ref(), join.right.as_ref()],
        },
        // Of its reference set nothing is in the output.
        LogicalPlan::Extension(extension) => match extension.node.as_any().downcast_ref::<DecontaminateNode>() {
            Some(decontaminate) => vec![decontaminate.items()],
            None => extension.node.inputs(),
        },
        other => other.inputs(),
    };
    for input in inputs {
        if let Some(found) = held_out_scan(input)? {
            return Ok(Some(found));
        }
    }
    let mut found = None;
    plan.apply_expressions(|expr| {
        if found.is_none() {
            found = held_out_subquery(expr, false)?;
        }
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// The same inside an expression; `negated` says that an odd number of NOTs stands around it.
fn held_out_subquery(expr: &Expr, negated: bool) -> Result<Option<(String, Lineage)>> {
    match expr {
        Expr::Not(inner) => return held_out_subquery(inner, !negated),
        Expr::Exists(Exists { subquery, negated: not }) => {
            return if *not != negated { Ok(None) } else { held_out_scan(&subquery.subquery) };
        }
        Expr::InSubquery(test) => {
            if let Some(found) = held_out_subquery(&test.expr, false)? {
                return Ok(Some(found));
            }
            return if test.negated != negated { Ok(None) } else { held_out_scan(&test.subquery.subquery) };
        }
        Expr::ScalarSubquery(subquery) => return held_out_scan(&subquery.subquery),
        _ => {}
    }
    // NOT reaches through AND and OR; everything else may use the value as it likes.
    let negated = negated && matches!(expr, Expr::BinaryExpr(binary) if binary.op.is_logic_operator());
    let mut found = None;
    expr.apply_children(|child| {
        if found.is_none() {
            found = held_out_subquery(child, negated)?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

fn scan_lineage(scan: &TableScan) -> Option<Lineage> {
    let provider = source_as_provider(&scan.source).ok()?;
    lineage_of(provider.as_ref()).cloned()
}
