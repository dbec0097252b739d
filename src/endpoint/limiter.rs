//! How fast one model may be asked, for the whole process: requests in flight, requests and tokens a minute.
//! In: callers that wait for a permit. Out: permits, fewer after the server says that it is too much.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use super::retry::MAX_RETRY_AFTER;
use crate::config::ModelConfig;

/// The limiter of one model. Clones are the same limiter.
#[derive(Debug, Clone)]
pub struct Limiter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    slots: Arc<Semaphore>,
    max_in_flight: usize,
    state: Mutex<State>,
}

/// Invariant: free slots + held slots - `owed` = `allowed`.
#[derive(Debug)]
struct State {
    /// How many may be in flight now, 1 to `max_in_flight`.
    allowed: usize,
    /// Slots that are to vanish when their holders let go of them.
    owed: usize,
    /// Successes since `allowed` last changed.
    successes: usize,
    last_cut: Option<Instant>,
    paused_until: Option<Instant>,
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
}

/// A token bucket that may be overdrawn: who takes more than there is waits until it is filled again. It holds one
/// second's worth, so that a server that counts over any longer window sees no more than the rate.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    fn new(per_minute: Option<u64>, now: Instant) -> Option<Self> {
        per_minute.map(|n| {
            let per_second = n.max(1) as f64 / 60.0;
            Bucket { per_second, level: per_second.max(1.0), at: now }
        })
    }

    /// Takes `n` (gives back where negative); the result is when what was taken is there.
    fn take(&mut self, n: f64, now: Instant) -> Instant {
        let filled = self.level + now.duration_since(self.at).as_secs_f64() * self.per_second;
        self.level = filled.min(self.per_second.max(1.0)) - n;
        self.at = now;
        now + Duration::try_from_secs_f64(-self.level.min(0.0) / self.per_second).unwrap_or(Duration::MAX / 4)
    }
}

impl Limiter {
    pub fn new(config: &ModelConfig) -> Self {
        let max_in_flight = config.max_in_flight.clamp(1, Semaphore::MAX_PERMITS);
        let now = Instant::now();
        Limiter(Arc::new(Inner {
            slots: Arc::new(Semaphore::new(max_in_flight)),
            max_in_flight,
            state: Mutex::new(State {
                allowed: max_in_flight,
                owed: 0,
                successes: 0,
                last_cut: None,
                paused_until: None,
                requests: Bucket::new(config.requests_per_minute, now),
                tokens: Bucket::new(config.tokens_per_minute, now),
            }),
        }))
    }

    /// Waits, first come first served, until one more request of about this many tokens (prompt and answer) may be
    /// sent. Dropping the future gives back what it has taken.
    pub async fn acquire(&self, estimated_tokens: u64) -> Permit {
        // The semaphore is never closed.
        let slot = self.0.slots.clone().acquire_owned().await.ok();
        let now = Instant::now();
        let mut start = {
            let mut state = self.0.state();
            let requests = state.requests.as_mut().map(|bucket| bucket.take(1.0, now));
            let tokens = state.tokens.as_mut().map(|bucket| bucket.take(estimated_tokens as f64, now));
            requests.max(tokens).unwrap_or(now)
        };
        let mut permit = Permit { inner: self.0.clone(), slot, sent: None, tokens: AtomicU64::new(estimated_tokens) };
        loop {
            // The pause may have grown while we slept.
            start = start.max(self.0.state().paused_until.unwrap_or(start));
            if start <= Instant::now() {
                break;
            }
            sleep_until(start).await;
        }
        permit.sent = Some(Instant::now());
        permit
    }

    /// How many requests may be in flight now.
    pub fn allowed_in_flight(&self) -> usize {
        self.0.state().allowed
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to have one request in flight; given back on drop.
#[derive(Debug)]
pub struct Permit {
    inner: Arc<Inner>,
    slot: Option<OwnedSemaphorePermit>,
    /// When it was given; `None` while still waiting for the rates.
    sent: Option<Instant>,
    /// What was taken out of the bucket of tokens.
    tokens: AtomicU64,
}

impl Permit {
    /// The request was answered with this many tokens in all. After a whole round of successes one more may be in
    /// flight.
    pub fn succeeded(&self, actual_tokens: u64) {
        let mut state = self.inner.state();
        let charged = self.tokens.swap(actual_tokens, Ordering::Relaxed);
        if let Some(bucket) = state.tokens.as_mut() {
            bucket.take(actual_tokens as f64 - charged as f64, Instant::now());
        }
        state.successes += 1;
        if state.allowed < self.inner.max_in_flight && state.successes >= state.allowed {
            state.successes = 0;
            state.allowed += 1;
            match state.owed {
                0 => self.inner.slots.add_permits(1),
                _ => state.owed -= 1,
            }
        }
    }

    /// The server said that it is too much (429 or 503): half as many may be in flight, and none is sent before
    /// `retry_after` is over. Requests sent before the last halving are the same news and halve no more.
    pub fn throttled(&self, retry_after: Option<Duration>) {
        let mut state = self.inner.state();
        let now = Instant::now();
        if let Some(wait) = retry_after {
            let until = now + wait.min(MAX_RETRY_AFTER);
            state.paused_until = state.paused_until.max(Some(until));
        }
        if state.last_cut.is_some() && self.sent <= state.last_cut {
            return;
        }
        state.last_cut = Some(now);
        state.successes = 0;
        let gone = state.allowed - (state.allowed / 2).max(1);
        state.allowed -= gone;
        state.owed += gone - self.inner.slots.forget_permits(gone);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.inner.state();
        if self.sent.is_none() {
            let now = Instant::now();
            state.requests.as_mut().map(|bucket| bucket.take(-1.0, now));
            let tokens = self.tokens.load(Ordering::Relaxed) as f64;
            state.tokens.as_mut().map(|bucket| bucket.take(-tokens, now));
        }
        if let Some(slot) = self.slot.take()
            && state.owed > 0
        {
            state.owed -= 1;
            slot.forget();
        }
    }
}

#[cfg(test)]
#[path = "limiter_tests.rs"]
mod tests;
