//! `WHERE id IN (SELECT …)`, `NOT IN`, `EXISTS` and `NOT EXISTS` over passed-through columns go below a call, as
//! other filters do: no call is paid for a row that they take away.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Expr, Join, JoinType, LogicalPlan};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::steady::{is_steady, is_volatile, reads_held_out};
use super::step_down::{over, step_down};
use crate::model_call::node::as_call;

/// DataFusion makes semi and anti joins of these predicates, and leaves those where the predicates stood.
#[derive(Debug)]
pub struct PushDownSemiJoin;

impl OptimizerRule for PushDownSemiJoin {
    fn name(&self) -> &str {
        "push_down_semi_join"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let mut plan = Transformed::no(plan);
        // Where it stood the next of several stands now.
        while let Some(below) = below_calls(&plan.data)? {
            plan = Transformed::yes(below);
        }
        Ok(plan)
    }
}

/// The plan with the semi join at its top below its calls; `None` where there is none, or it stays.
fn below_calls(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let Some(join) = as_semi_join(plan) else { return Ok(None) };
    // Held-out rows may take rows away from a call, and never choose them; nor may a draw.
    if join.join_type == JoinType::LeftSemi && reads_held_out(&join.right)? || is_volatile(&join.right)? {
        return Ok(None);
    }
    // What the join needs of its left side: one expression for each pair of keys, then the filter's columns.
    let mut needed: Vec<Expr> = join.on.iter().map(|(left, _)| left.clone()).collect();
    let columns: Vec<Column> = join.filter.iter().flat_map(Expr::column_refs).cloned().collect();
    let columns: Vec<Column> = columns.into_iter().filter(|column| join.left.schema().has_column(column)).collect();
    needed.extend(columns.iter().cloned().map(Expr::Column));
    if needed.iter().chain(join.on.iter().map(|(_, right)| right)).chain(&join.filter).any(Expr::is_volatile) {
        return Ok(None);
    }
    (SemiJoin { join, columns }).place(&join.left, needed, false)
}

fn as_semi_join(plan: &LogicalPlan) -> Option<&Join> {
    match plan {
        LogicalPlan::Join(join) if matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti) => Some(join),
        _ => None,
    }
}

struct SemiJoin<'a> {
    join: &'a Join,
    /// The left side's columns in the join's filter.
    columns: Vec<Column>,
}

impl SemiJoin<'_> {
    /// The plan with the join below its calls; `None` where that is above every call.
    fn place(&self, plan: &LogicalPlan, needed: Vec<Expr>, below_a_call: bool) -> Result<Option<LogicalPlan>> {
        if let Some(other) = as_semi_join(plan).filter(|_| !below_a_call) {
            // Each takes its rows away, whatever the other has left.
            let placed = self.place(&other.left, needed, below_a_call)?;
            let beside = |left| plan.with_new_exprs(plan.expressions(), vec![left, other.right.as_ref().clone()]);
            return placed.map(beside).transpose();
        }
        let below = match plan {
            LogicalPlan::Filter(filter) if is_steady(&filter.predicate)? => {
                Some((filter.input.as_ref(), needed.clone()))
            }
            _ => step_down(plan, &needed)?,
        };
        if let Some((input, needed)) = below {
            let placed = self.place(input, needed, below_a_call || as_call(plan).is_some())?;
            return placed.map(|input| over(plan, input)).transpose();
        }
        if below_a_call { self.over(plan, needed) } else { Ok(None) }
    }

    /// The join over another left side; `None` where both sides have a column of the same name.
    fn over(&self, left: &LogicalPlan, mut needed: Vec<Expr>) -> Result<Option<LogicalPlan>> {
        let join = self.join;
        let names = |plan: &LogicalPlan| plan.schema().columns();
        if names(&join.right).iter().any(|column| names(left).contains(column)) {
            return Ok(None);
        }
        let of_filter: HashMap<&Column, Expr> = self.columns.iter().zip(needed.split_off(join.on.len())).collect();
        let replace = |expr: Expr| match &expr {
            Expr::Column(column) => Ok(match of_filter.get(column) {
                Some(below) => Transformed::yes(below.clone()),
                None => Transformed::no(expr),
            }),
            _ => Ok(Transformed::no(expr)),
        };
        let filter = join.filter.clone().map(|filter| filter.transform_up(replace).data()).transpose()?;
        let on = needed.into_iter().zip(&join.on).map(|(left, (_, right))| (left, right.clone())).collect();
        let join = Join::try_new(
            Arc::new(left.clone()),
            Arc::clone(&join.right),
            on,
            filter,
            join.join_type,
            join.join_constraint,
            join.null_equality,
            join.null_aware,
        )?;
        Ok(Some(LogicalPlan::Join(join)))
    }
}
