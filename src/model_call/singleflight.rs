//! The same call asked for twice at once is asked once: the second waits for the first.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::common::Result;
use tokio::sync::OnceCell;

use crate::ledger::CallId;

use super::caller::Answered;

type Flight = Arc<OnceCell<Result<Answered, String>>>;

/// The calls that are being looked up or asked right now.
#[derive(Debug, Default)]
pub struct Singleflight {
    flights: Mutex<HashMap<CallId, Flight>>,
}

impl Singleflight {
    /// The outcome of `ask`, and whether this caller was the one who asked. When the asking caller is dropped,
    /// a waiting one takes over. A stop (`Err`) is shared with nobody.
    pub async fn ask_once<F>(&self, id: CallId, ask: impl FnOnce() -> F) -> Result<(Result<Answered, String>, bool)>
    where
        F: Future<Output = Result<Result<Answered, String>>>,
    {
        let flight = {
            let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(flights.entry(id).or_default())
        };
        let mut asked_here = false;
        let outcome = flight
            .get_or_try_init(|| {
                asked_here = true;
                ask()
            })
            .await
            .cloned();
        // Later callers find the answer in the ledger; a failed call is asked again by whoever comes next.
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if flights.get(&id).is_some_and(|current| Arc::ptr_eq(current, &flight)) {
            flights.remove(&id);
        }
        drop(flights);
        Ok((outcome?, asked_here))
    }
}
