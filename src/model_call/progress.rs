//! Counts of a session's calls, by stage, for progress lines and reports.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What one stage (the name of its call column) has done so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StageCounts {
    /// Input rows that reached the stage, with or without a call.
    pub rows: u64,
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
}

impl StageCounts {
    pub fn calls(&self) -> u64 {
        self.asked + self.replayed + self.failed
    }
}

/// Counts by stage. Tokens and cost are of asked answers only: a replay costs nothing.
#[derive(Debug, Default)]
pub struct Progress {
    stages: Mutex<BTreeMap<String, StageCounts>>,
}

impl Progress {
    pub fn update(&self, stage: &str, change: impl FnOnce(&mut StageCounts)) {
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        match stages.get_mut(stage) {
            Some(counts) => change(counts),
            None => change(stages.entry(stage.to_owned()).or_default()),
        }
    }

    pub fn stages(&self) -> BTreeMap<String, StageCounts> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All stages together.
    pub fn total(&self) -> StageCounts {
        let stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        stages.values().fold(StageCounts::default(), |mut total, stage| {
            total.rows += stage.rows;
            total.rows_out += stage.rows_out;
            total.asked += stage.asked;
            total.replayed += stage.replayed;
            total.failed += stage.failed;
            total.unparsed += stage.unparsed;
            total.items_short += stage.items_short;
            total.prompt_tokens += stage.prompt_tokens;
            total.completion_tokens += stage.completion_tokens;
            total.cost_usd += stage.cost_usd;
            total
        })
    }
}
