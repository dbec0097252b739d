//! The prompts of a plan rendered before anything is paid for: those of the first calls for their first row, and every
//! template for a row that is made up. In: a plan. Out: an error, or notes about what may fail.

use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::logical_expr::LogicalPlan;

use crate::model_call::{CallNode, call_nodes, render_first_row, render_made_up_row};
use crate::session::Workspace;

/// Checks the prompts of a plan. `calls` are those of the same plan, optimized. Where a template fails only for the row
/// that was made up, the sentence about it is given back.
pub(super) async fn check_prompts(
    workspace: &Workspace,
    plan: &LogicalPlan,
    calls: &[CallNode],
) -> Result<Vec<String>> {
    let (state, mut notes) = (workspace.ctx().state(), Vec::new());
    for call in calls {
        if call_nodes(call.input())?.is_empty() {
            let (kind, stage) = (call.spec().kind.as_str(), &call.spec().call_as);
            let context = |e: DataFusionError| e.context(format!("{kind} of {stage} for its first row"));
            if let Some(reason) = render_first_row(&state, call).await.map_err(context)? {
                return Err(context(DataFusionError::Plan(reason)));
            }
        }
    }
    for call in call_nodes(plan)? {
        let (stage, has_row) = (&call.spec().call_as, call_nodes(call.input())?.is_empty());
        for failure in render_made_up_row(&state, &call).await? {
            if failure.no_row_can {
                return plan_err!("{stage}: {}", failure.reason);
            }
            let note = format!(
                "{stage}: {} (for a row that was made up, with \"1\" for every text and eight items in every list; rows \
                 for which it is so get an error and no call)",
                failure.reason
            );
            // A row of the data says more than one that is made up.
            if !has_row && !notes.contains(&note) {
                notes.push(note);
            }
        }
    }
    Ok(notes)
}
