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
    /// So many ask at once, and from so many waiting rows on no more are wanted.
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

    /// Starts askers for the rows that wait, where there is room for them.
    pub fn start(&mut self) {
        let waiting = self.desk.state().waiting.len();
        let room = self.desk.capacity.saturating_sub(self.tasks.len());
        for _ in 0..waiting.min(room) {
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

    /// Asks rows until none waits, or until more than a batch of finished ones waits for a pump that is held up.
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
            if state.finished.len() >= self.batch_rows + self.capacity {
                return None;
            }
            let row = state.waiting.pop_front()?;
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
