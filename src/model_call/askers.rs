//! The tasks that ask a partition's rows, each one row after the other: a task a row would be made, woken and joined
//! anew for each. In: unanswered rows. Out: finished rows, which lie here until the pump takes them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::common::{DataFusionError, Result};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::assemble::FinishedRow;
use super::row_caller::{RowCaller, UnansweredRow};

/// The askers of one pump. They are not aborted with it: what they have sent is recorded, and nothing more is sent once
/// the caller's `stop` is cancelled.
pub(super) struct Askers {
    desk: Arc<Desk>,
    tasks: FuturesUnordered<JoinHandle<Result<()>>>,
}

/// What pump and askers share.
struct Desk {
    caller: Arc<RowCaller>,
    /// At most so many ask at once, mostly half of them; from so many waiting rows on no more are wanted.
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

    /// Starts askers for the rows that wait: as many as fill the model's slots, and more where slots are free all the
    /// same, since some wait for their next attempt then, or for another process.
    pub fn start(&mut self) {
        let waiting = self.desk.state().waiting.len();
        let (running, capacity) = (self.tasks.len(), self.desk.capacity);
        let room = match capacity.div_ceil(2).saturating_sub(running) {
            0 => self.desk.caller.model.limiter.free_slots().min(capacity.saturating_sub(running)),
            room => room,
        };
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
    /// wanted or an asker has ended; `Err` stops the query. Cancel-safe.
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
            let is_spare = state.askers > self.capacity.div_ceil(2) && self.caller.model.limiter.has_waiting();
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
