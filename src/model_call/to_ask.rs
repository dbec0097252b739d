//! How many calls of a plan's first stage are not in the ledger yet. In: a call whose input has no calls; it is run.
//! Out: counts. Nothing is asked.

use std::sync::Arc;

use datafusion::common::{DataFusionError, Result};
use datafusion::dataframe::DataFrame;
use datafusion::prelude::SessionContext;
use futures::StreamExt;

use super::node::CallNode;
use super::progress::Progress;
use super::row::{CallTemplate, InputRows};
use super::runtime::CallRuntime;

/// What a call node is to ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ToAsk {
    /// Calls without an answer in the ledger. Calls that are the same count each.
    pub calls: u64,
    /// Bytes of their messages.
    pub prompt_bytes: u64,
}

/// Counts what a call node is to ask for.
pub async fn to_ask(ctx: &SessionContext, runtime: &Arc<CallRuntime>, call: &CallNode) -> Result<ToAsk> {
    let spec = call.spec();
    let model = runtime.models.get(&spec.model).map_err(|e| DataFusionError::Plan(e.to_string()))?;
    // Nothing is counted: the stage belongs to no run.
    let template = CallTemplate::new(spec, model.endpoint.identity(), Progress::default().stage(&spec.call_as));
    let mut input = DataFrame::new(ctx.state(), call.input().clone()).execute_stream().await?;
    let mut to_ask = ToAsk::default();
    while let Some(batch) = input.next().await {
        let rows = InputRows::try_new(&batch?, &spec.columns)?;
        let calls: Vec<_> =
            (0..rows.passed_through.num_rows()).flat_map(|row| template.calls(&rows, row)).flatten().collect();
        let ids: Vec<_> = calls.iter().map(|call| call.id).collect();
        for (call, known) in calls.iter().zip(runtime.ledger().await?.known(&ids)) {
            if !known {
                to_ask.calls += 1;
                to_ask.prompt_bytes += call.request.messages.iter().map(|m| m.content.len() as u64).sum::<u64>();
            }
        }
    }
    Ok(to_ask)
}
