//! Volatile and stable functions below a call are a plan error: they would make other prompts, and other bills,
//! on each run.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::optimizer::AnalyzerRule;

use super::node::CallNode;

/// Refuses plans in which the input of a call is not the same on each run.
#[derive(Debug)]
pub struct RefuseVolatileInput;

impl AnalyzerRule for RefuseVolatileInput {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::Extension(extension) = node
                && let Some(call) = extension.node.as_any().downcast_ref::<CallNode>()
            {
                check_input(call)?;
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(plan)
    }

    fn name(&self) -> &str {
        "refuse_volatile_input"
    }
}

fn check_input(call: &CallNode) -> Result<()> {
    call.input().apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::ScalarFunction(function) = expr
                    && function.func.signature().volatility != Volatility::Immutable
                {
                    return plan_err!(
                        "{}() stands below a call of {} (model {}): it would make other prompts, and other bills, on \
                         each run; draw with ORDER BY stable_hash(…), or pass the value as a variable @name",
                        function.func.name(),
                        call.spec().kind.as_str(),
                        call.spec().model
                    );
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}
