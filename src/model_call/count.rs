//! Exactly how many calls the first call node of a plan will make, and how many of them the ledger has already.
//! In: a call whose input has no calls. Out: counts; the input is run, and nothing is asked.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result};
use datafusion::dataframe::DataFrame;
use datafusion::prelude::SessionContext;
use futures::StreamExt;

use super::caller::unrendered;
use super::node::CallNode;
use super::progress::Progress;
use super::row::{CallTemplate, InputRows};
use super::runtime::CallRuntime;
use crate::config::ModelName;

/// What one call node would ask for.
#[derive(Debug, Clone, PartialEq)]
pub struct CallCount {
    pub model: ModelName,
    /// The name of the call column.
    pub stage: String,
    /// Rows that reach the node.
    pub rows: u64,
    /// Calls of all rows and samples; a NULL prompt is none, nor is one that cannot be rendered or is never sent, since
    /// the model has no room for it.
    pub calls: u64,
    /// Calls that were counted before, here or in another node: they are asked once.
    pub repeated: u64,
    /// Distinct calls whose answers are in the ledger.
    pub in_ledger: u64,
    /// Bytes of all messages of the calls that are to be asked.
    pub prompt_bytes: u64,
}

impl CallCount {
    /// Requests that the node will make, if each is answered at the first attempt.
    pub fn to_ask(&self) -> u64 {
        self.calls - self.repeated - self.in_ledger
    }
}

/// The calls counted so far, in 16 bytes each: two that share them are not to be expected (2^-79 among 20 million).
#[derive(Debug, Default)]
pub struct CountedCalls(HashSet<[u8; 16]>);

/// Runs the input of a call and counts what it would ask for. An input with calls would make them; see
/// [`super::call_nodes`].
pub async fn count_calls(
    ctx: &SessionContext,
    runtime: &Arc<CallRuntime>,
    call: &CallNode,
    counted: &mut CountedCalls,
) -> Result<CallCount> {
    let spec = call.spec();
    let model = runtime.models.get(&spec.model).map_err(|e| DataFusionError::Plan(e.to_string()))?;
    let ledger = runtime.ledger().await?;
    // Nothing is asked, so nothing shows in the session's progress.
    let uncounted = Progress::default().stage(&spec.call_as);
    let template = CallTemplate::new(spec, model.endpoint.identity(), uncounted, 0);
    let mut count = CallCount {
        model: spec.model.clone(),
        stage: spec.call_as.clone(),
        rows: 0,
        calls: 0,
        repeated: 0,
        in_ledger: 0,
        prompt_bytes: 0,
    };
    let mut input = DataFrame::new(ctx.state(), call.input().clone()).execute_stream().await?;
    while let Some(batch) = input.next().await {
        let rows = InputRows::try_new(&batch?, &spec.columns)?;
        for row in 0..rows.passed_through.num_rows() {
            count.rows += 1;
            let calls = template.calls(&rows, row).into_iter().flatten();
            for call in calls.filter(|call| unrendered(&call.request).is_none()) {
                // An answer of a time with more room is replayed all the same.
                if model.endpoint.check(&call.request).is_err() && ledger.known(&[call.id]) != [true] {
                    continue;
                }
                count.calls += 1;
                let mut key = [0; 16];
                key.copy_from_slice(&call.id.as_bytes()[..16]);
                if !counted.0.insert(key) {
                    count.repeated += 1;
                } else if ledger.known(&[call.id]) == [true] {
                    count.in_ledger += 1;
                } else {
                    count.prompt_bytes += call.request.messages.iter().map(|m| m.content.len() as u64).sum::<u64>();
                }
            }
        }
    }
    Ok(count)
}
