//! Joins that lose none of their keys. In: DataFusion's rules. Out: the same rules, of which the one that takes cross joins
//! away leaves alone what it would break.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{NullEquality, Result};
use datafusion::logical_expr::{Expr, JoinType, LogicalPlan};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// The same rules, with the one that takes cross joins away replaced by one that loses no keys.
pub fn optimizer_rules(rules: Vec<Arc<dyn OptimizerRule + Send + Sync>>) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let ours = |rule: Arc<dyn OptimizerRule + Send + Sync>| match rule.name() {
        "eliminate_cross_join" => Arc::new(KeepJoinKeys { inner: rule }) as _,
        _ => rule,
    };
    rules.into_iter().map(ours).collect()
}

/// `eliminate_cross_join` joins the inputs of inner joins in another order and gives each key to the join that has one side
/// of it left and the other right. In DataFusion 55 a key that never comes to stand so is gone, without a word:
/// `c.v = a.v + b.v` where c is joined before b; and keys of IS NOT DISTINCT FROM become those of `=` where the topmost
/// join has `=`. More rows, or fewer, would be asked about and paid for.
#[derive(Debug)]
struct KeepJoinKeys {
    inner: Arc<dyn OptimizerRule + Send + Sync>,
}

impl OptimizerRule for KeepJoinKeys {
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
        let keys = keys(&plan)?;
        if keys.is_empty() {
            return self.inner.rewrite(plan, config);
        }
        let rewritten = self.inner.rewrite(plan.clone(), config)?;
        if !rewritten.transformed || keys.is_subset(&self::keys(&rewritten.data)?) {
            return Ok(rewritten);
        }
        // What is lost is lost at one place: the others are looked at on their own.
        let children = plan.map_children(|child| self.rewrite(child, config))?;
        if children.transformed { children.map_data(|plan| plan.recompute_schema()) } else { Ok(children) }
    }
}

/// The keys of inner joins with what NULL is equal to, each in both orders of its sides.
fn keys(plan: &LogicalPlan) -> Result<HashSet<(Expr, Expr, bool)>> {
    let mut keys = HashSet::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Join(join) = node
            && join.join_type == JoinType::Inner
        {
            let nulls_are_equal = matches!(join.null_equality, NullEquality::NullEqualsNull);
            for (left, right) in &join.on {
                keys.insert((left.clone(), right.clone(), nulls_are_equal));
                keys.insert((right.clone(), left.clone(), nulls_are_equal));
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(keys)
}
