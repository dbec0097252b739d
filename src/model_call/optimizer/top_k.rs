//! `ORDER BY passed-through columns LIMIT n` over `enrich` asks for n rows only: the sort with its limit goes below.
//! It stays above too, since calls do not keep an order.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Expr, FetchType, LogicalPlan, Sort, SortExpr};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::step_down::{over, step_down};
use crate::model_call::node::as_call;

/// Not below generate, nor with `on_error => 'drop'` or `'fail'`: there the first n rows of the output are not those
/// of the first n of the input.
#[derive(Debug)]
pub struct PushDownTopK;

impl OptimizerRule for PushDownTopK {
    fn name(&self) -> &str {
        "push_down_top_k"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Sort(Sort { expr, input, fetch: Some(fetch) }) = &plan else {
            return Ok(Transformed::no(plan));
        };
        let keys: Vec<Expr> = expr.iter().map(|key| key.expr.clone()).collect();
        if keys.iter().any(Expr::is_volatile) {
            return Ok(Transformed::no(plan));
        }
        match (TopK { order: expr, fetch: *fetch }).place(input, keys, false)? {
            Some(input) => {
                let sort = Sort { expr: expr.clone(), input: Arc::new(input), fetch: Some(*fetch) };
                Ok(Transformed::yes(LogicalPlan::Sort(sort)))
            }
            None => Ok(Transformed::no(plan)),
        }
    }
}

struct TopK<'a> {
    /// The sort above, for its directions.
    order: &'a [SortExpr],
    fetch: usize,
}

impl TopK<'_> {
    /// The plan with the sort as deep in it as it can stand; `None` where that is above every call, or where there
    /// are not more rows anyway.
    fn place(&self, plan: &LogicalPlan, keys: Vec<Expr>, below_a_call: bool) -> Result<Option<LogicalPlan>> {
        let call = as_call(plan);
        if call.is_none_or(|call| call.keeps_rows())
            && let Some((input, keys)) = step_down(plan, &keys)?
        {
            let placed = self.place(input, keys, below_a_call || call.is_some())?;
            return placed.map(|input| over(plan, input)).transpose();
        }
        if !below_a_call || self.has_no_more_rows(plan)? {
            return Ok(None);
        }
        let expr = self.order.iter().zip(keys).map(|(order, key)| order.with_expr(key)).collect();
        let sort = Sort { expr, input: Arc::new(plan.clone()), fetch: Some(self.fetch) };
        Ok(Some(LogicalPlan::Sort(sort)))
    }

    /// The sort of an earlier pass, or a limit that somebody wrote there.
    fn has_no_more_rows(&self, plan: &LogicalPlan) -> Result<bool> {
        Ok(match plan {
            LogicalPlan::Sort(sort) => sort.fetch.is_some_and(|fetch| fetch <= self.fetch),
            LogicalPlan::Limit(limit) => {
                matches!(limit.get_fetch_type()?, FetchType::Literal(Some(fetch)) if fetch <= self.fetch)
            }
            LogicalPlan::EmptyRelation(_) => true,
            _ => false,
        })
    }
}
