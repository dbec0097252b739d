//! What all calls of a session share: models, ledger, limits and counts. One a session, made with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use datafusion::common::{DataFusionError, Result};
use tokio::sync::{Notify, OnceCell};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::breaker::Breaker;
use super::embed::Embedders;
use super::progress::Progress;
use super::readiness::Readiness;
use super::singleflight::Singleflight;
use super::spending::Spending;
use crate::config::Budget;
use crate::endpoint::{ErrorKind, Models, SendError};
use crate::ledger::{Ledger, Location};

/// How long the end waits for the records of requests that it has given up: they are worth less than an answer.
const LAST_RECORDS: Duration = Duration::from_secs(3);

/// The shared ground of model calls.
#[derive(Debug)]
pub struct CallRuntime {
    pub models: Arc<Models>,
    /// The id that uses of calls are recorded under.
    pub run_id: Arc<str>,
    /// What may be spent and has been. Limits set in the session are read at each execution.
    pub spending: Spending,
    pub progress: Progress,
    /// The models that are looked for before the first request.
    pub readiness: Readiness,
    /// Cancelled on Ctrl-C: no new call is sent, those in flight are waited for and recorded.
    pub interrupt: CancellationToken,
    pub(super) flights: Singleflight,
    pub(super) breaker: Breaker,
    pub(super) embedders: Embedders,
    ledger_location: Location,
    ledger: OnceCell<Arc<Ledger>>,
    outstanding: AtomicUsize,
    /// Cancelled when no answer is waited for any more.
    giving_up: CancellationToken,
    /// Requests that were given up, and those of them that are outstanding still: their records are on the way.
    given_up: AtomicUsize,
    given_up_outstanding: AtomicUsize,
    /// From the end on nothing is sent: nobody would wait for its record.
    has_ended: AtomicBool,
    settled: Notify,
}

impl CallRuntime {
    pub fn new(models: Arc<Models>, ledger: impl Into<Location>, run_id: String, budget: Budget) -> Self {
        Self {
            models,
            run_id: run_id.into(),
            spending: Spending::new(budget),
            progress: Progress::default(),
            readiness: Readiness::default(),
            interrupt: CancellationToken::new(),
            flights: Singleflight::default(),
            breaker: Breaker::default(),
            embedders: Embedders::default(),
            ledger_location: ledger.into(),
            ledger: OnceCell::new(),
            outstanding: AtomicUsize::new(0),
            giving_up: CancellationToken::new(),
            given_up: AtomicUsize::new(0),
            given_up_outstanding: AtomicUsize::new(0),
            has_ended: AtomicBool::new(false),
            settled: Notify::new(),
        }
    }

    /// The ledger, opened at the first call: a query without calls never touches it.
    pub async fn ledger(&self) -> Result<&Arc<Ledger>> {
        self.ledger
            .get_or_try_init(|| Ledger::open(&self.ledger_location))
            .await
            .map_err(|e| DataFusionError::External(Box::new(e)))
    }

    /// The ledger for one who makes no call at all: it is looked into, and on an object store nothing is sent there.
    pub async fn look_into_ledger(&self) -> Result<&Arc<Ledger>> {
        self.ledger
            .get_or_try_init(|| Ledger::open_to_look(&self.ledger_location))
            .await
            .map_err(|e| DataFusionError::External(Box::new(e)))
    }

    /// The end of the session: no request starts any more. Waits until every one that was sent is answered and recorded, at
    /// most `grace`, and gives up the others; then seals the ledger. After an interrupt nothing else is waited for.
    /// Returns how many requests were given up.
    pub async fn finish(&self, grace: Duration) -> Result<usize> {
        self.has_ended.store(true, Ordering::SeqCst);
        let is_recorded = match timeout(grace, self.recorded()).await {
            Ok(()) => true,
            Err(_) => self.give_up(LAST_RECORDS).await,
        };
        if let Some(ledger) = self.ledger.get() {
            let close = ledger.close_in(self.interrupt.clone());
            // An answer on its way to the ledger is waited for as long as it takes; what was given up holds up no end.
            let closed = if is_recorded || self.unrecorded_answers() > 0 {
                close.await
            } else {
                timeout(LAST_RECORDS, close).await.unwrap_or_else(|_| {
                    tracing::warn!("the ledger is slow: the table attempts may lack requests that were given up");
                    Ok(())
                })
            };
            closed.map_err(|e| DataFusionError::External(Box::new(e)))?;
        }
        Ok(self.given_up.load(Ordering::SeqCst) + self.unrecorded_answers())
    }

    /// Waits for no answer any more: each request in flight becomes an attempt of the kind `cancelled`. True when that is
    /// in the ledger; false where it is not after `limit`.
    pub async fn give_up(&self, limit: Duration) -> bool {
        self.giving_up.cancel();
        timeout(limit, self.recorded()).await.is_ok()
    }

    /// Returns when nothing is outstanding.
    async fn recorded(&self) {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            if self.outstanding.load(Ordering::SeqCst) == 0 {
                return;
            }
            settled.await;
        }
    }

    /// How many requests are outstanding that were not given up: at the end, those whose answers are not durable yet.
    fn unrecorded_answers(&self) -> usize {
        let outstanding = self.outstanding.load(Ordering::SeqCst);
        outstanding.saturating_sub(self.given_up_outstanding.load(Ordering::SeqCst))
    }

    /// Counts a request as sent and not yet recorded until the guard is dropped; `None` where it must not be sent, since
    /// the session has ended. Look only afterwards whether it is still wanted: between a look before and this, all who wait
    /// for requests could have seen none.
    pub(super) fn outstanding(self: &Arc<Self>) -> Option<Outstanding> {
        // Counted first, and looked second; the end is told first, and counted second: one of the two sees the other.
        self.outstanding.fetch_add(1, Ordering::SeqCst);
        let outstanding = Outstanding { runtime: Arc::clone(self), is_given_up: false };
        (!self.has_ended.load(Ordering::SeqCst)).then_some(outstanding)
    }
}

/// One request between its sending and its record.
pub(super) struct Outstanding {
    runtime: Arc<CallRuntime>,
    is_given_up: bool,
}

impl Outstanding {
    /// What comes of the request: its answer, also one that is there in the very moment in which it is given up, or else
    /// that it was given up. So there is one of the two to record, and never both.
    pub async fn answer<T>(&mut self, request: impl Future<Output = Result<T, SendError>>) -> Result<T, SendError> {
        if let Some(result) = self.runtime.giving_up.run_until_cancelled(request).await {
            return result;
        }
        self.is_given_up = true;
        self.runtime.given_up.fetch_add(1, Ordering::SeqCst);
        self.runtime.given_up_outstanding.fetch_add(1, Ordering::SeqCst);
        Err(SendError::new(ErrorKind::Cancelled, "no answer had come when the command ended"))
    }
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        if self.is_given_up {
            self.runtime.given_up_outstanding.fetch_sub(1, Ordering::SeqCst);
        }
        if self.runtime.outstanding.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.runtime.settled.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that opens no ledger.
    fn runtime() -> Arc<CallRuntime> {
        let models = Arc::new(Models::from_models(Vec::new()));
        Arc::new(CallRuntime::new(models, std::path::Path::new("nowhere"), String::new(), Budget::default()))
    }

    #[tokio::test]
    async fn the_end_waits_for_what_was_sent_and_lets_nothing_more_go() {
        let runtime = runtime();
        let sent = runtime.outstanding().unwrap();
        let ending = Arc::clone(&runtime);
        let end = tokio::spawn(async move { ending.finish(Duration::from_secs(60)).await });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!end.is_finished());
        assert!(runtime.outstanding().is_none());
        drop(sent);
        assert_eq!(end.await.unwrap().unwrap(), 0);
    }

    #[tokio::test]
    async fn what_has_no_answer_at_the_end_is_given_up_and_one_that_comes_in_that_moment_is_taken() {
        let runtime = runtime();
        let (mut late, mut hangs) = (runtime.outstanding().unwrap(), runtime.outstanding().unwrap());
        let ending = Arc::clone(&runtime);
        let late = tokio::spawn(async move {
            let answer = async {
                ending.giving_up.cancelled().await;
                Ok(7)
            };
            late.answer(answer).await
        });
        let hangs = tokio::spawn(async move { hangs.answer(std::future::pending::<Result<(), SendError>>()).await });
        assert_eq!(runtime.finish(Duration::from_millis(20)).await.unwrap(), 1);
        assert_eq!(late.await.unwrap().unwrap(), 7);
        assert_eq!(hangs.await.unwrap().unwrap_err().kind, ErrorKind::Cancelled);
    }
}
