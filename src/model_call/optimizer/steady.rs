//! What may go below a call: what says the same on each run, and no held-out row chooses by it.

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison};
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::lineage::lineage_of;

/// Whether a predicate is the same on each run, its subqueries included, and no held-out row is read for it.
pub fn is_steady(predicate: &Expr) -> Result<bool> {
    if predicate.is_volatile() {
        return Ok(false);
    }
    let mut steady = true;
    predicate.apply(|expr| {
        let (Expr::Exists(Exists { subquery, .. })
        | Expr::InSubquery(InSubquery { subquery, .. })
        | Expr::SetComparison(SetComparison { subquery, .. })
        | Expr::ScalarSubquery(subquery)) = expr
        else {
            return Ok(TreeNodeRecursion::Continue);
        };
        steady = !is_volatile(&subquery.subquery)? && !reads_held_out(&subquery.subquery)?;
        Ok(if steady { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(steady)
}

/// Whether a plan gives other rows on each run.
pub fn is_volatile(plan: &LogicalPlan) -> Result<bool> {
    any_node(plan, |node| {
        let mut volatile = false;
        node.apply_expressions(|expr| {
            volatile |= expr.is_volatile();
            Ok(if volatile { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        Ok(volatile)
    })
}

/// Whether a plan scans a table that is marked as held out, or as lacking held-out rows.
pub fn reads_held_out(plan: &LogicalPlan) -> Result<bool> {
    any_node(plan, |node| {
        let LogicalPlan::TableScan(scan) = node else { return Ok(false) };
        let Ok(table) = source_as_provider(&scan.source) else { return Ok(false) };
        Ok(lineage_of(table.as_ref()).is_some_and(|lineage| lineage.split.is_held_out() || lineage.lacks.is_some()))
    })
}

fn any_node(plan: &LogicalPlan, mut holds: impl FnMut(&LogicalPlan) -> Result<bool>) -> Result<bool> {
    let mut any = false;
    plan.apply_with_subqueries(|node| {
        any = holds(node)?;
        Ok(if any { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(any)
}
