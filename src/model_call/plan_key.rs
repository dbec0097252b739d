//! Which plans are one: the same operators over the same tables. DataFusion compares scans by their names alone, which
//! all calls of a table function have in common, and a table with the one that was dropped before it.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::LogicalPlan;

/// A plan to be compared with others of one session, while it is there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PlanKey {
    plan: LogicalPlan,
    /// Where the tables of its scans lie, in their order: what a session knows a table by lies in one place.
    tables: Vec<usize>,
}

impl PlanKey {
    pub fn of(plan: &LogicalPlan) -> Result<PlanKey> {
        let mut tables = Vec::new();
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                tables.push(match source_as_provider(&scan.source) {
                    Ok(table) => Arc::as_ptr(&table).addr(),
                    Err(_) => Arc::as_ptr(&scan.source).addr(),
                });
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(PlanKey { plan: plan.clone(), tables })
    }

    pub fn plan(&self) -> &LogicalPlan {
        &self.plan
    }
}
