//! DataFusion's optimizer rules with a function of ours around them, which sees the plan before and after.
//! In: a list of rules. Out: the same list, with the same names in it.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

pub type Rules = Vec<Arc<dyn OptimizerRule + Send + Sync>>;

/// What the rule that is wrapped makes of a plan.
pub type Inner<'a> = &'a dyn Fn(LogicalPlan) -> Result<Transformed<LogicalPlan>>;

type Rewrite = fn(LogicalPlan, Inner) -> Result<Transformed<LogicalPlan>>;

/// The same rules, with the one of this name wrapped in `rewrite`.
pub fn wrap_rule(mut rules: Rules, name: &str, rewrite: Rewrite) -> Rules {
    let rule = rules.iter_mut().find(|rule| rule.name() == name);
    // After an update of DataFusion: every test that opens a session fails here, so that none of ours is lost silently.
    debug_assert!(rule.is_some(), "DataFusion has no optimizer rule {name} any more");
    if let Some(rule) = rule {
        *rule = Arc::new(WrappedRule { inner: Arc::clone(rule), rewrite });
    }
    rules
}

#[derive(Debug)]
struct WrappedRule {
    inner: Arc<dyn OptimizerRule + Send + Sync>,
    rewrite: Rewrite,
}

impl OptimizerRule for WrappedRule {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.inner.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        (self.rewrite)(plan, &|plan| self.inner.rewrite(plan, config))
    }
}
