//! About how often each n-gram occurs, so that the rare ones are looked for first. It only decides how fast near duplicates
//! are found and never which are found, so several n-grams may share a counter.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

const COUNTERS: usize = 1 << 20;

/// Counters that all partitions add to. A plan that is only shown has none.
#[derive(Debug, Default)]
pub struct Frequencies(OnceLock<Vec<AtomicU32>>);

impl Frequencies {
    pub fn add(&self, set: &[u64]) {
        let counters = self.0.get_or_init(|| (0..COUNTERS).map(|_| AtomicU32::new(0)).collect());
        for shingle in set {
            counters[(shingle >> 44) as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts as they are now: an order must not change while it is in use.
    pub fn frozen(&self) -> Vec<u32> {
        self.0.get().into_iter().flatten().map(|counter| counter.load(Ordering::Relaxed)).collect()
    }

    /// The count of an n-gram in frozen counts.
    pub fn of(counts: &[u32], shingle: u64) -> u32 {
        counts.get((shingle >> 44) as usize).copied().unwrap_or(0)
    }
}
