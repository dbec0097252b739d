//! What `run` and `explain` do about the first calls of a plan before any is made: what they share is run once, and a
//! preview takes some of their seeds.

use std::num::NonZeroUsize;

use datafusion::common::Result;
use datafusion::logical_expr::LogicalPlan;

use crate::model_call::{Preview, share_inputs};
use crate::session::Workspace;

/// A plan as it was written, and the same over what its first calls share, which has been run.
pub(super) struct FirstCalls {
    pub(super) written: LogicalPlan,
    pub(super) shared: LogicalPlan,
}

impl FirstCalls {
    /// With `limit_seeds` both take that many seeds only, the same ones.
    pub(super) async fn of(
        workspace: &Workspace,
        plan: LogicalPlan,
        limit_seeds: Option<NonZeroUsize>,
    ) -> Result<FirstCalls> {
        let shared = share_inputs(workspace.ctx(), plan.clone()).await?;
        // What has been run is not run again.
        workspace.tell_left_out();
        let Some(seeds) = limit_seeds else { return Ok(FirstCalls { written: plan, shared }) };
        let preview = Preview::of(&workspace.ctx().state(), &shared, seeds.get()).await?;
        Ok(FirstCalls { written: preview.limit(plan)?, shared: preview.limit(shared)? })
    }
}
