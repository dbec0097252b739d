//! EXPLAIN shows with each call what it would cost. In: a physical plan. Out: the same plan; its calls know their
//! estimates where somebody has given the history that these rest on.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::{ExecutionPlan, StatisticsContext};

use crate::model_call::estimate::CallEstimate;
use crate::model_call::exec::CallExec;
use crate::model_call::history::SharedHistory;

/// Whoever explains a plan fills the history; a query that is run has no use for estimates.
#[derive(Debug)]
pub struct ShowEstimates(pub SharedHistory);

impl PhysicalOptimizerRule for ShowEstimates {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(history) = self.0.get() else { return Ok(plan) };
        plan.transform_up(|node| {
            let Some(call) = node.downcast_ref::<CallExec>() else { return Ok(Transformed::no(node)) };
            let estimate = CallEstimate::of(call, &StatisticsContext::new(), &history)?;
            Ok(Transformed::yes(Arc::new(call.with_estimate(estimate.to_string()))))
        })
        .data()
    }

    fn name(&self) -> &str {
        "show_estimates"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
