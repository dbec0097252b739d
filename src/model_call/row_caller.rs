//! The calls of rows: looked up in the ledger many at once, and asked one row at a time.
//! In: input rows. Out: finished rows.

use std::ops::Range;
use std::sync::Arc;

use datafusion::common::Result;
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use super::assemble::FinishedRow;
use super::call::Call;
use super::caller::{Answered, CallOutcome};
use super::repair;
use super::row::{CallTemplate, InputRows, SampleResult};
use super::runtime::CallRuntime;
use super::spec::CallSpec;
use crate::endpoint::Model;

/// A row of which the ledger does not have every answer.
#[derive(Debug)]
pub struct UnansweredRow {
    rows: Arc<InputRows>,
    row: usize,
    /// By sample; `None` for no call.
    calls: Vec<Option<Call>>,
}

/// Some rows after the look into the ledger.
#[derive(Debug, Default)]
pub struct LookedUp {
    pub finished: Vec<FinishedRow>,
    pub unanswered: Vec<UnansweredRow>,
}

/// What the tasks of one partition share.
#[derive(Debug)]
pub struct RowCaller {
    pub spec: Arc<CallSpec>,
    pub model: Arc<Model>,
    pub runtime: Arc<CallRuntime>,
    pub template: Arc<CallTemplate>,
    /// Cancelled when the rows are not wanted any more: nothing is sent after that.
    pub stop: CancellationToken,
}

impl RowCaller {
    /// Makes the calls of some rows. Rows without calls, and those whose answers are all in the ledger, are finished.
    pub async fn look_up(self: Arc<Self>, rows: Arc<InputRows>, range: Range<usize>) -> Result<LookedUp> {
        let unanswered: Vec<UnansweredRow> = range
            .map(|row| UnansweredRow { rows: Arc::clone(&rows), row, calls: self.template.calls(&rows, row) })
            .collect();
        let mut looked_up = LookedUp::default();
        let ids: Vec<_> = unanswered.iter().flat_map(|row| row.calls.iter().flatten()).map(|call| call.id).collect();
        if ids.is_empty() {
            looked_up.finished = unanswered.into_iter().map(UnansweredRow::without_calls).collect();
            self.template.stage.rows_done(looked_up.finished.len());
            return Ok(looked_up);
        }
        let stored = self.runtime.ledger().await?.find_all(&ids).await?;
        // Before any of the others is asked.
        self.runtime.breaker.replayed(&self.model.name, stored.iter().flatten().count() as u64);
        let mut stored = stored.into_iter();
        let mut replayed = 0;
        for row in unanswered {
            // Every call of the row takes its own out of the iterator.
            let answers: Vec<_> = row.calls.iter().flatten().map(|_| stored.next().flatten()).collect();
            // One that cannot be read any more is asked again.
            if answers.iter().any(Option::is_none) {
                looked_up.unanswered.push(row);
                continue;
            }
            let mut answers = answers.into_iter().flatten();
            let samples = row.calls.iter().map(|call| {
                let (call, stored) = (call.as_ref()?, answers.next()?);
                let answer = Ok(Answered::replayed(&stored));
                Some(SampleResult::read(CallOutcome { call_id: call.id, answer }, &self.spec))
            });
            let samples: Vec<Option<SampleResult>> = samples.collect();
            let results = || samples.iter().flatten();
            // Its follow-ups are yet to be looked up.
            if self.spec.repair > 0 && results().any(|result| result.repairable().is_some()) {
                looked_up.unanswered.push(row);
                continue;
            }
            replayed += results().count();
            looked_up.finished.push(FinishedRow { rows: row.rows, row: row.row, samples });
        }
        self.template.stage.replayed(replayed);
        self.template.stage.rows_done(looked_up.finished.len());
        Ok(looked_up)
    }

    /// Asks for a row's samples at once, and reads each as soon as it is durable.
    pub async fn ask(self: &Arc<Self>, row: UnansweredRow) -> Result<FinishedRow> {
        let UnansweredRow { rows, row, calls } = row;
        let ask = async |call: Option<Call>| {
            let Some(call) = call else { return Ok(None) };
            repair::ask(self, call).await.map(Some)
        };
        let samples = match <[_; 1]>::try_from(calls) {
            Ok([call]) => vec![ask(call).await?],
            // All to their ends, also when one stops the query: what has been sent is waited for and recorded.
            Err(calls) => join_all(calls.into_iter().map(ask)).await.into_iter().collect::<Result<_>>()?,
        };
        self.template.stage.rows_done(1);
        Ok(FinishedRow { rows, row, samples })
    }
}

impl UnansweredRow {
    fn without_calls(self) -> FinishedRow {
        FinishedRow { rows: self.rows, row: self.row, samples: self.calls.iter().map(|_| None).collect() }
    }
}
