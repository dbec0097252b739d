//! The tasks that ask a partition's rows, each one row after the other: a task a row would be made, woken and joined
//! anew for each. In: unanswered rows. Out: finished rows, which lie here until the pump takes them.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use datafusion::common::{DataFusionError, Result};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::assemble::FinishedRow;
use super::row_caller::{RowCaller, UnansweredRow};

/// Beside those that may ask, as many askers again and so many more may wait without a slot: each keeps a row. When so
/// many wait, no more rows are begun until one of them is done.
const WAITING: usize = 64;

/// A look into the ledger that takes longer than this is mostly a wait for another process.
const LONG_LOOK: Duration = Duration::from_millis(50);

tokio::task_local! {
    /// The asker that this task is.
    static ASKER: Arc<Asker>;
}

/// The askers of one pump. They are not aborted with it: what they have sent is recorded, and nothing more is sent once
/// the caller's `stop` is cancelled.
pub(super) struct Askers {
    desk: Arc<Desk>,
    tasks: FuturesUnordered<JoinHandle<Result<()>>>,
}

/// What pump and askers share.
struct Desk {
    caller: Arc<RowCaller>,
    /// At most so many ask at once, mostly half of them, beside those that wait without a slot; from so many waiting
    /// rows on no more are wanted.
    capacity: usize,
    /// So many finished rows are worth a batch.
    batch_rows: usize,
    state: Mutex<State>,
    /// The pump has something to do; not told of each row.
    news: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<UnansweredRow>,
    finished: Vec<FinishedRow>,
    /// Tasks that ask, or are about to.
    askers: usize,
    /// Those of them that wait without a slot: for their next attempt, or for someone else's answer.
    without_slot: usize,
}

/// One task that asks.
pub(super) struct Asker {
    desk: Arc<Desk>,
    /// How many of its row's calls wait without a slot.
    waits: AtomicUsize,
}

/// A call that waits without a slot, until it is dropped: the slot is for another row.
pub(super) struct Wait(Arc<Asker>);

impl Asker {
    /// The one that this task is; `None` where the call is not an asker's.
    pub fn current() -> Option<Arc<Self>> {
        ASKER.try_with(Arc::clone).ok()
    }
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asker").field("waits", &self.waits).finish_non_exhaustive()
    }
}

impl Wait {
    /// `None` where the call is not an asker's.
    pub fn begin() -> Option<Self> {
        Asker::current().map(Wait::of)
    }

    /// Of a call that another task makes for the asker.
    pub fn of(asker: Arc<Asker>) -> Self {
        if asker.waits.fetch_add(1, Ordering::Relaxed) == 0 {
            asker.desk.waits();
        }
        Wait(asker)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if self.0.waits.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.desk.state().without_slot -= 1;
        }
    }
}

/// Runs a look into the ledger, which is a [`Wait`] from the moment on at which it has taken long. (By reference: a future
/// that is an argument takes its room twice, in each call that is in flight.)
pub(super) async fn waiting_when_long<F: Future>(mut look: Pin<&mut F>) -> F::Output {
    if let Ok(found) = tokio::time::timeout(LONG_LOOK, look.as_mut()).await {
        return found;
    }
    let _wait = Wait::begin();
    look.await
}

/// Runs a call that may be someone else's, which is a [`Wait`] until it is asked here.
pub(super) async fn waiting_until_asking<F: Future>(is_asking: &AtomicBool, mut call: Pin<&mut F>) -> F::Output {
    let mut wait = None;
    poll_fn(|context| {
        let polled = call.as_mut().poll(context);
        if polled.is_ready() || is_asking.load(Ordering::Relaxed) {
            wait = None;
        } else if wait.is_none() {
            wait = Wait::begin();
        }
        polled
    })
    .await
}

impl Askers {
    pub fn new(caller: Arc<RowCaller>, capacity: usize, batch_rows: usize) -> Self {
        let desk = Desk { caller, capacity, batch_rows, state: Mutex::default(), news: Notify::new() };
        Askers { desk: Arc::new(desk), tasks: FuturesUnordered::new() }
    }

    /// More rows to ask, by askers that [`Askers::start`] starts.
    pub fn extend(&mut self, rows: Vec<UnansweredRow>) {
        self.desk.state().waiting.extend(rows);
    }

    /// Starts askers for the rows that wait: as many as fill the model's slots beside those that wait without one, and
    /// more where slots are free all the same.
    pub fn start(&mut self) {
        let (waiting, without_slot) = {
            let state = self.desk.state();
            (state.waiting.len(), state.without_slot)
        };
        let (running, capacity) = (self.tasks.len(), self.desk.capacity);
        let asking = running.saturating_sub(without_slot);
        let room = match capacity.div_ceil(2).saturating_sub(asking) {
            0 => self.desk.caller.model.limiter.free_slots().min(capacity.saturating_sub(asking)),
            room => room,
        };
        let room = room.min((2 * capacity + WAITING).saturating_sub(running));
        for _ in 0..waiting.min(room) {
            self.desk.state().askers += 1;
            self.tasks.push(tokio::spawn(Arc::clone(&self.desk).ask()));
        }
    }

    /// Whether more rows are wanted.
    pub fn wants_rows(&self) -> bool {
        self.desk.state().waiting.len() < self.desk.capacity
    }

    /// Whether nothing waits and nothing is asked.
    pub fn is_idle(&self) -> bool {
        self.tasks.is_empty() && self.desk.state().waiting.is_empty()
    }

    /// How many finished rows lie here.
    pub fn finished(&self) -> usize {
        self.desk.state().finished.len()
    }

    pub fn take_finished(&mut self) -> Vec<FinishedRow> {
        std::mem::take(&mut self.desk.state().finished)
    }

    /// Returns when the first row since the last [`Askers::take_finished`] is finished, a batch is full, more rows are
    /// wanted, an asker waits without a slot or one has ended; `Err` stops the query. Cancel-safe.
    pub async fn news(&mut self) -> Result<()> {
        tokio::select! {
            () = self.desk.news.notified() => Ok(()),
            // A panic in an asker is an error of the query.
            Some(ended) = self.tasks.next() => ended.map_err(|e| DataFusionError::External(Box::new(e)))?,
        }
    }
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks rows until none waits, until more than a batch of finished ones waits for a pump that is held up, or until
    /// there are more askers than the model has slots for.
    async fn ask(self: Arc<Self>) -> Result<()> {
        let asker = Arc::new(Asker { desk: Arc::clone(&self), waits: AtomicUsize::new(0) });
        ASKER.scope(asker, self.ask_rows()).await
    }

    async fn ask_rows(&self) -> Result<()> {
        while let Some(row) = self.next() {
            let row = self.caller.ask(row).await?;
            self.finish(row);
        }
        Ok(())
    }

    fn next(&self) -> Option<UnansweredRow> {
        let (row, is_low) = {
            let mut state = self.state();
            let is_held_up = state.finished.len() >= self.batch_rows + self.capacity;
            let asking = state.askers.saturating_sub(state.without_slot);
            let is_spare = asking > self.capacity.div_ceil(2) && self.caller.model.limiter.has_waiting();
            let row = if is_held_up || is_spare { None } else { state.waiting.pop_front() };
            let Some(row) = row else {
                state.askers -= 1;
                return None;
            };
            (row, state.waiting.len() + 1 == self.capacity)
        };
        if is_low {
            self.news.notify_one();
        }
        Some(row)
    }

    /// An asker begins to wait without a slot: the pump starts another one, if there is a row for it.
    fn waits(&self) {
        let has_rows = {
            let mut state = self.state();
            state.without_slot += 1;
            !state.waiting.is_empty()
        };
        if has_rows {
            self.news.notify_one();
        }
    }

    fn finish(&self, row: FinishedRow) {
        let finished = {
            let mut state = self.state();
            state.finished.push(row);
            state.finished.len()
        };
        if finished == 1 || finished == self.batch_rows {
            self.news.notify_one();
        }
    }
}
