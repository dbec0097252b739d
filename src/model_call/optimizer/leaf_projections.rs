//! Fields of structs are read below unions and aliases where that can be; where it cannot, the plan stays as it is.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// DataFusion's `push_down_leaf_projections`. Of DataFusion 55.2 it fails on a call's column read above a UNION ALL BY
/// NAME: merged into `SELECT generated.answer AS answer`, the plain column `generated.answer` stands beside its alias, and
/// the schema is ambiguous. The rule looks at one node at a time and only moves expressions, so a node on which it fails
/// can be left alone.
#[derive(Debug)]
pub struct PushDownLeavesOrNot {
    inner: Arc<dyn OptimizerRule + Send + Sync>,
}

impl PushDownLeavesOrNot {
    pub fn new(inner: Arc<dyn OptimizerRule + Send + Sync>) -> Self {
        Self { inner }
    }
}

impl OptimizerRule for PushDownLeavesOrNot {
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
        // It acts on nothing else.
        if !matches!(plan, LogicalPlan::Projection(_)) {
            return Ok(Transformed::no(plan));
        }
        Ok(self.inner.rewrite(plan.clone(), config).unwrap_or_else(|error| {
            tracing::debug!("fields are not read further below: {}", error.strip_backtrace());
            Transformed::no(plan)
        }))
    }
}
