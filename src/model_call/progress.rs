//! Counts of a session's calls, by stage: for progress bars, reports and EXPLAIN ANALYZE.
//! In: one handle an exec, on which calls are counted without a lock. Out: sums by stage, at any moment.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::endpoint::SendError;

/// What one stage (the name of its call column) has done so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StageCounts {
    /// Input rows that reached the stage, with or without a call.
    pub rows: u64,
    /// Input rows whose calls have all ended.
    pub rows_done: u64,
    /// Rows the stage gave out.
    pub rows_out: u64,
    /// Answers asked for and got.
    pub asked: u64,
    /// Answers taken from the ledger.
    pub replayed: u64,
    /// Calls that ended without an answer.
    pub failed: u64,
    /// Answers that did not read as `returns` says.
    pub unparsed: u64,
    /// Items that `items => n` asked for and answers that read did not bring.
    pub items_short: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub cost_usd: f64,
    /// Attempts sent, the repeated ones too.
    pub requests: u64,
    /// Attempts that repeat a failed one.
    pub retries: u64,
    /// Requests that are on their way right now.
    pub in_flight: u64,
    /// The most requests that were on their way at one time.
    pub max_in_flight: u64,
    /// How long calls waited for the limiter, all of them together.
    pub waited: Duration,
    /// Partitions whose rows may still come.
    pub open: u64,
    /// Failed attempts by kind, with the status where there is one: `timeout`, `busy_429`.
    pub errors: BTreeMap<String, u64>,
}

impl StageCounts {
    pub fn calls(&self) -> u64 {
        self.asked + self.replayed + self.failed
    }

    /// Adds another exec's counts. Its peak adds up too: both may have had it at one time.
    fn add(&mut self, other: &StageCounts) {
        self.rows += other.rows;
        self.rows_done += other.rows_done;
        self.rows_out += other.rows_out;
        self.asked += other.asked;
        self.replayed += other.replayed;
        self.failed += other.failed;
        self.unparsed += other.unparsed;
        self.items_short += other.items_short;
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.cost_usd += other.cost_usd;
        self.requests += other.requests;
        self.retries += other.retries;
        self.in_flight += other.in_flight;
        self.max_in_flight += other.max_in_flight;
        self.waited += other.waited;
        self.open += other.open;
        for (kind, count) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
    }
}

/// Sum of US dollars that many threads add to.
#[derive(Debug, Default)]
pub(super) struct Dollars(AtomicU64);

impl Dollars {
    pub(super) fn add(&self, usd: f64) {
        if usd != 0.0 {
            // Never `Err`: the closure always gives a value.
            let _ = self.0.fetch_update(Relaxed, Relaxed, |bits| Some((f64::from_bits(bits) + usd).to_bits()));
        }
    }

    pub(super) fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }
}

/// The counts of one exec, which add to those of its stage. All partitions of the exec share it.
#[derive(Debug)]
pub struct StageProgress {
    name: Arc<str>,
    rows: AtomicU64,
    rows_done: AtomicU64,
    rows_out: AtomicU64,
    asked: AtomicU64,
    replayed: AtomicU64,
    failed: AtomicU64,
    unparsed: AtomicU64,
    items_short: AtomicU64,
    prompt_tokens: AtomicU64,
    completion_tokens: AtomicU64,
    cost_usd: Dollars,
    requests: AtomicU64,
    retries: AtomicU64,
    in_flight: AtomicU64,
    max_in_flight: AtomicU64,
    waited_nanos: AtomicU64,
    open: AtomicU64,
    /// Whether a prompt could be rendered, and how many could not before that.
    rendered: AtomicBool,
    unrendered: AtomicU64,
    /// Failures are rare, and each is written down anyway.
    errors: Mutex<BTreeMap<(&'static str, Option<u16>), u64>>,
}

impl StageProgress {
    fn new(name: &str) -> Self {
        let zero = AtomicU64::default;
        StageProgress {
            name: name.into(),
            rows: zero(),
            rows_done: zero(),
            rows_out: zero(),
            asked: zero(),
            replayed: zero(),
            failed: zero(),
            unparsed: zero(),
            items_short: zero(),
            prompt_tokens: zero(),
            completion_tokens: zero(),
            cost_usd: Dollars::default(),
            requests: zero(),
            retries: zero(),
            in_flight: zero(),
            max_in_flight: zero(),
            waited_nanos: zero(),
            open: zero(),
            rendered: AtomicBool::new(false),
            unrendered: zero(),
            errors: Mutex::default(),
        }
    }

    /// The stage: the name of its call column.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// So many partitions will give rows; each ends with [`StageProgress::partition`]'s guard.
    pub fn opened(&self, partitions: usize) {
        self.open.fetch_add(partitions as u64, Relaxed);
    }

    /// One partition, which ends when the guard is dropped.
    pub fn partition(self: &Arc<Self>) -> OpenPartition {
        OpenPartition(Arc::clone(self))
    }

    /// Input rows came.
    pub fn rows_in(&self, rows: usize) {
        self.rows.fetch_add(rows as u64, Relaxed);
    }

    /// Input rows have all their calls behind them.
    pub fn rows_done(&self, rows: usize) {
        self.rows_done.fetch_add(rows as u64, Relaxed);
    }

    /// Rows were given out.
    pub fn rows_out(&self, rows: usize) {
        self.rows_out.fetch_add(rows as u64, Relaxed);
    }

    /// A call was answered by its endpoint.
    pub fn asked(&self, prompt_tokens: u64, completion_tokens: u64, cost_usd: f64) {
        self.asked.fetch_add(1, Relaxed);
        self.prompt_tokens.fetch_add(prompt_tokens, Relaxed);
        self.completion_tokens.fetch_add(completion_tokens, Relaxed);
        self.cost_usd.add(cost_usd);
    }

    /// Calls were answered by the ledger.
    pub fn replayed(&self, calls: usize) {
        self.replayed.fetch_add(calls as u64, Relaxed);
    }

    /// A call ended without an answer.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    /// Answers did not read as `returns` says.
    pub fn unparsed(&self, answers: usize) {
        self.unparsed.fetch_add(answers as u64, Relaxed);
    }

    /// Answers that read brought so many items fewer than were asked for.
    pub fn items_short(&self, items: u64) {
        self.items_short.fetch_add(items, Relaxed);
    }

    /// A call's prompt could be rendered.
    pub fn rendered(&self) {
        // Written once: a line that all calls write to would go from processor to processor.
        if !self.rendered.load(Relaxed) {
            self.rendered.store(true, Relaxed);
        }
    }

    /// A call's prompt could not be rendered: how many could not before one could, or `None` where one could.
    pub fn unrendered(&self) -> Option<u64> {
        let none_could = !self.rendered.load(Relaxed) && self.replayed.load(Relaxed) == 0;
        none_could.then(|| self.unrendered.fetch_add(1, Relaxed) + 1)
    }

    /// A call waited so long for the limiter.
    pub fn waited(&self, time: Duration) {
        self.waited_nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// A request is on its way until the guard is dropped. `attempt` counts from 0.
    pub fn request(self: &Arc<Self>, attempt: u32) -> OnItsWay {
        self.requests.fetch_add(1, Relaxed);
        if attempt > 0 {
            self.retries.fetch_add(1, Relaxed);
        }
        let now = self.in_flight.fetch_add(1, Relaxed) + 1;
        self.max_in_flight.fetch_max(now, Relaxed);
        OnItsWay(Arc::clone(self))
    }

    /// An attempt gave no answer.
    pub fn error(&self, error: &SendError) {
        *self.errors().entry((error.kind.name(), error.kind.status())).or_default() += 1;
    }

    /// The counts at this moment. Each is exact; together they are not one instant.
    pub fn snapshot(&self) -> StageCounts {
        let get = |count: &AtomicU64| count.load(Relaxed);
        let error = |((name, status), count): (&(&str, Option<u16>), &u64)| {
            (status.map_or_else(|| (*name).to_owned(), |status| format!("{name}_{status}")), *count)
        };
        StageCounts {
            rows: get(&self.rows),
            rows_done: get(&self.rows_done),
            rows_out: get(&self.rows_out),
            asked: get(&self.asked),
            replayed: get(&self.replayed),
            failed: get(&self.failed),
            unparsed: get(&self.unparsed),
            items_short: get(&self.items_short),
            prompt_tokens: get(&self.prompt_tokens),
            completion_tokens: get(&self.completion_tokens),
            cost_usd: self.cost_usd.get(),
            requests: get(&self.requests),
            retries: get(&self.retries),
            in_flight: get(&self.in_flight),
            max_in_flight: get(&self.max_in_flight),
            waited: Duration::from_nanos(get(&self.waited_nanos)),
            open: get(&self.open),
            errors: self.errors().iter().map(error).collect(),
        }
    }

    fn errors(&self) -> MutexGuard<'_, BTreeMap<(&'static str, Option<u16>), u64>> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request between its sending and its end.
#[derive(Debug)]
pub struct OnItsWay(Arc<StageProgress>);

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// One partition of an exec until its last row.
#[derive(Debug)]
pub struct OpenPartition(Arc<StageProgress>);

impl Drop for OpenPartition {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// Counts by stage. Tokens and cost are of asked answers only: a replay costs nothing.
#[derive(Debug, Default)]
pub struct Progress {
    execs: Mutex<Vec<Arc<StageProgress>>>,
}

impl Progress {
    /// A new handle, for one exec: what is counted on it adds to the stage of this name.
    pub fn stage(&self, name: &str) -> Arc<StageProgress> {
        let stage = Arc::new(StageProgress::new(name));
        self.execs.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&stage));
        stage
    }

    pub fn stages(&self) -> BTreeMap<String, StageCounts> {
        self.stages_since(0).into_iter().collect()
    }

    /// How many handles there are: what tells later statements from those before.
    pub fn execs(&self) -> usize {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The stages by first appearance, of the handles made since there were so many.
    pub fn stages_since(&self, execs: usize) -> Vec<(String, StageCounts)> {
        let all = self.execs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut stages = Vec::<(String, StageCounts)>::new();
        for exec in all.iter().skip(execs) {
            match stages.iter_mut().find(|(name, _)| **name == *exec.name) {
                Some((_, counts)) => counts.add(&exec.snapshot()),
                None => stages.push((exec.name.to_string(), exec.snapshot())),
            }
        }
        stages
    }

    /// All stages together.
    pub fn total(&self) -> StageCounts {
        let mut total = StageCounts::default();
        self.stages().values().for_each(|stage| total.add(stage));
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::ErrorKind;

    #[test]
    fn execs_of_one_name_are_one_stage_and_counts_outlive_their_exec() {
        let progress = Progress::default();
        let (a, b, other) = (progress.stage("solve"), progress.stage("solve"), progress.stage("write"));
        a.asked(3, 2, 0.25);
        b.asked(1, 1, 0.5);
        b.error(&SendError::new(ErrorKind::Busy(429), ""));
        a.error(&SendError::new(ErrorKind::Timeout, ""));
        other.failed();
        drop(a);
        let stages = progress.stages();
        assert_eq!((stages["solve"].asked, stages["solve"].prompt_tokens, stages["solve"].cost_usd), (2, 4, 0.75));
        assert_eq!(stages["solve"].errors, BTreeMap::from([("busy_429".into(), 1), ("timeout".into(), 1)]));
        assert_eq!((stages["write"].failed, progress.total().calls()), (1, 3));
    }

    #[test]
    fn requests_on_their_way_are_counted_until_they_end() {
        let stage = Progress::default().stage("solve");
        let (first, second) = (stage.request(0), stage.request(1));
        drop(first);
        let third = stage.request(0);
        let counts = stage.snapshot();
        assert_eq!((counts.requests, counts.retries, counts.in_flight, counts.max_in_flight), (3, 1, 2, 2));
        drop((second, third));
        assert_eq!((stage.snapshot().in_flight, stage.snapshot().max_in_flight), (0, 2));
    }
}
