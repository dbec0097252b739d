//! What all calls of a session share: models, ledger, limits and counts. One a session, made with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use datafusion::common::{DataFusionError, Result};
use tokio::sync::{Notify, OnceCell};
use tokio_util::sync::CancellationToken;

use super::breaker::Breaker;
use super::embed::Embedders;
use super::progress::Progress;
use super::readiness::Readiness;
use super::singleflight::Singleflight;
use super::spending::Spending;
use crate::config::Budget;
use crate::endpoint::Models;
use crate::ledger::{Ledger, Location};

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
    /// most `grace`; then seals the ledger. After an interrupt nothing else is waited for.
    /// Returns how many requests were given up.
    pub async fn finish(&self, grace: Duration) -> Result<usize> {
        self.has_ended.store(true, Ordering::SeqCst);
        let wait = async {
            loop {
                let settled = self.settled.notified();
                tokio::pin!(settled);
                settled.as_mut().enable();
                if self.outstanding.load(Ordering::SeqCst) == 0 {
                    return;
                }
                settled.await;
            }
        };
        let _ = tokio::time::timeout(grace, wait).await;
        if let Some(ledger) = self.ledger.get() {
            ledger.close_in(self.interrupt.clone()).await.map_err(|e| DataFusionError::External(Box::new(e)))?;
        }
        Ok(self.outstanding.load(Ordering::SeqCst))
    }

    /// Counts a request as sent and not yet recorded until the guard is dropped; `None` where it must not be sent, since
    /// the session has ended. Look only afterwards whether it is still wanted: between a look before and this, all who wait
    /// for requests could have seen none.
    pub(super) fn outstanding(self: &Arc<Self>) -> Option<Outstanding> {
        // Counted first, and looked second; the end is told first, and counted second: one of the two sees the other.
        self.outstanding.fetch_add(1, Ordering::SeqCst);
        let outstanding = Outstanding(Arc::clone(self));
        (!self.has_ended.load(Ordering::SeqCst)).then_some(outstanding)
    }
}

/// One request between its sending and its record.
pub(super) struct Outstanding(Arc<CallRuntime>);

impl Drop for Outstanding {
    fn drop(&mut self) {
        if self.0.outstanding.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.settled.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_waits_for_what_was_sent_and_lets_nothing_more_go() {
        let folder = tempfile::tempdir().unwrap();
        let models = Arc::new(Models::from_models(Vec::new()));
        let runtime = Arc::new(CallRuntime::new(models, folder.path(), String::new(), Budget::default()));
        let sent = runtime.outstanding().unwrap();
        let ending = Arc::clone(&runtime);
        let end = tokio::spawn(async move { ending.finish(Duration::from_secs(60)).await });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!end.is_finished());
        assert!(runtime.outstanding().is_none());
        drop(sent);
        assert_eq!(end.await.unwrap().unwrap(), 0);
    }
}
