//! Filters and curation: above `near_duplicates` a filter stays, since below it would change which rows there are to be
//! like; through `decontaminate` it goes to the items alone, so that a call further below is not paid for a row that the
//! filter takes away. DataFusion's own rule puts what it pushes on all inputs of a node.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Extension, Filter, LogicalPlan};

use super::decontaminate::DecontaminateNode;
use super::near_duplicates::NearDuplicatesNode;
use crate::wrapped_rule::{Inner, Rules, wrap_rule};

/// The same rules, with the one that pushes filters down replaced by one that knows our nodes.
pub fn optimizer_rules(rules: Rules) -> Rules {
    wrap_rule(rules, "push_down_filter", push_down_filter)
}

fn push_down_filter(plan: LogicalPlan, inner: Inner) -> Result<Transformed<LogicalPlan>> {
    let (mut predicates, mut below) = (Vec::new(), &plan);
    while let LogicalPlan::Filter(filter) = below {
        predicates.extend(split_conjunction(&filter.predicate));
        below = &filter.input;
    }
    let LogicalPlan::Extension(extension) = below else { return inner(plan) };
    let node = extension.node.as_any();
    if predicates.is_empty() || node.is::<NearDuplicatesNode>() {
        return Ok(Transformed::no(plan));
    }
    let Some(node) = node.downcast_ref::<DecontaminateNode>() else { return inner(plan) };
    let stays = |predicate: &datafusion::logical_expr::Expr| {
        predicate.is_volatile() || predicate.column_refs().iter().any(|column| node.adds(&column.name))
    };
    let (above, pushed): (Vec<_>, Vec<_>) = predicates.into_iter().cloned().partition(stays);
    let Some(pushed) = conjunction(pushed) else { return Ok(Transformed::no(plan)) };
    let items = LogicalPlan::Filter(Filter::try_new(pushed, Arc::new(node.items().clone()))?);
    let node = LogicalPlan::Extension(Extension { node: Arc::new(node.with_items(items)?) });
    Ok(Transformed::yes(match conjunction(above) {
        Some(above) => LogicalPlan::Filter(Filter::try_new(above, Arc::new(node))?),
        None => node,
    }))
}
