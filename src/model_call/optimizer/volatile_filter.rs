//! Filters go below calls, but those with random() stay: below, a drawn filter would keep or drop all the rows that
//! one generate makes together, and would choose other calls, and another bill, on each run. So do those for which
//! held-out rows are read: these choose no calls.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan};

use super::steady::is_steady;
use crate::model_call::node::as_call;
use crate::wrapped_rule::Inner;

/// DataFusion's `push_down_filter`, which looks at the columns of a predicate alone where an extension node stands
/// below it.
pub fn push_down_steady_filter(plan: LogicalPlan, inner: Inner) -> Result<Transformed<LogicalPlan>> {
    let Some(FiltersOverCall { unsteady, steady, call }) = FiltersOverCall::of(&plan)? else { return inner(plan) };
    let Some(steady) = conjunction(steady) else { return Ok(Transformed::no(plan)) };
    let below = inner(LogicalPlan::Filter(Filter::try_new(steady, Arc::new(call))?))?;
    match conjunction(unsteady) {
        Some(unsteady) if below.transformed => {
            Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(unsteady, Arc::new(below.data))?)))
        }
        _ => Ok(Transformed::no(plan)),
    }
}

/// Filters right above a call.
struct FiltersOverCall {
    /// The predicates that stay.
    unsteady: Vec<Expr>,
    steady: Vec<Expr>,
    call: LogicalPlan,
}

impl FiltersOverCall {
    /// `None` where all predicates may go below.
    fn of(plan: &LogicalPlan) -> Result<Option<FiltersOverCall>> {
        let (mut unsteady, mut steady, mut below) = (Vec::new(), Vec::new(), plan);
        while let LogicalPlan::Filter(filter) = below {
            for predicate in split_conjunction(&filter.predicate) {
                if is_steady(predicate)? { steady.push(predicate.clone()) } else { unsteady.push(predicate.clone()) }
            }
            below = &filter.input;
        }
        let stays = !unsteady.is_empty() && as_call(below).is_some();
        Ok(stays.then(|| FiltersOverCall { unsteady, steady, call: below.clone() }))
    }
}
