//! Filters and curation: above `near_duplicates` a filter stays, since below it would change which rows there are to be
//! like; through `decontaminate` it goes to the items alone, so that a call further below is not paid for a row that the
//! filter takes away. DataFusion's own rule puts what it pushes on all inputs of a node.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Extension, Filter, LogicalPlan};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::decontaminate::DecontaminateNode;
use super::near_duplicates::NearDuplicatesNode;

/// The same rules, with the one that pushes filters down replaced by one that knows our nodes.
pub fn optimizer_rules(rules: Vec<Arc<dyn OptimizerRule + Send + Sync>>) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let ours = |rule: Arc<dyn OptimizerRule + Send + Sync>| match rule.name() {
        "push_down_filter" => Arc::new(PushDownFilter { inner: rule }) as _,
        _ => rule,
    };
    rules.into_iter().map(ours).collect()
}

#[derive(Debug)]
struct PushDownFilter {
    inner: Arc<dyn OptimizerRule + Send + Sync>,
}

impl OptimizerRule for PushDownFilter {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.inner.apply_order()
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let (mut predicates, mut below) = (Vec::new(), &plan);
        while let LogicalPlan::Filter(filter) = below {
            predicates.extend(split_conjunction(&filter.predicate));
            below = &filter.input;
        }
        let LogicalPlan::Extension(extension) = below else { return self.inner.rewrite(plan, config) };
        let node = extension.node.as_any();
        if predicates.is_empty() || node.is::<NearDuplicatesNode>() {
            return Ok(Transformed::no(plan));
        }
        let Some(node) = node.downcast_ref::<DecontaminateNode>() else { return self.inner.rewrite(plan, config) };
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
}
