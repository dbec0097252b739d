//! How fast one model may be asked, for the whole process: requests in flight, requests and tokens a minute.
//! In: callers that wait for a permit; those of later stages go first. Out: permits, fewer after the server says that it
//! is too much.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::latency_window::LatencyWindow;
use super::rate_bucket::RateBucket;
use super::retry::MAX_RETRY_AFTER;
use super::{ErrorKind, SendError};
use crate::config::ModelConfig;

/// The limiter of one model. Clones are the same limiter.
#[derive(Debug, Clone)]
pub struct Limiter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max_in_flight: usize,
    state: Mutex<State>,
}

/// Invariant while nobody holds the lock: someone waits only where no slot is free (`in_flight` ≥ `allowed`), or where
/// a timer is set for the time at which the first in the queue may go.
#[derive(Debug)]
struct State {
    /// How many may be in flight now, 1 to `max_in_flight`.
    allowed: usize,
    /// Permits given out; above `allowed` for a while after a cut.
    in_flight: usize,
    waiting: BTreeMap<Place, Waiter>,
    /// Who came in all, for the order of those with one depth.
    came: u64,
    /// When the queue is looked at again.
    timer: Option<Instant>,
    /// Successes since `allowed` last changed.
    successes: usize,
    last_cut: Option<Instant>,
    paused_until: Option<Instant>,
    requests: Option<RateBucket>,
    tokens: Option<RateBucket>,
    /// Where the limit follows latency.
    latency: Option<LatencyWindow>,
}

/// A place in the queue: the later stage first, and within it first come, first served.
type Place = (Reverse<usize>, u64);

#[derive(Debug)]
struct Waiter {
    tokens: u64,
    permit: oneshot::Sender<Permit>,
    /// The waiter's own, for the timer.
    runtime: Handle,
}

impl Limiter {
    pub fn new(config: &ModelConfig) -> Self {
        let max_in_flight = config.max_in_flight.max(1);
        let now = Instant::now();
        Limiter(Arc::new(Inner {
            max_in_flight,
            state: Mutex::new(State {
                allowed: max_in_flight,
                in_flight: 0,
                waiting: BTreeMap::new(),
                came: 0,
                timer: None,
                successes: 0,
                last_cut: None,
                paused_until: None,
                requests: config.requests_per_minute.map(|n| RateBucket::new(n, now)),
                tokens: config.tokens_per_minute.map(|n| RateBucket::new(n, now)),
                latency: config.adapt_to_latency.then(LatencyWindow::default),
            }),
        }))
    }

    /// Waits until one more request of about this many tokens (prompt and answer) may be sent. Among those who wait the
    /// one of the latest stage goes first: `depth` is the number of call stages below its own. What is near its end
    /// gets there before more is begun. Nobody holds a slot while waiting for a rate or a pause. Dropping the future
    /// gives back what it has taken.
    pub async fn acquire(&self, estimated_tokens: u64, depth: usize) -> Permit {
        loop {
            let (waiting, permitted) = {
                let mut state = self.0.state();
                let now = Instant::now();
                if state.waiting.is_empty() && state.may_start(estimated_tokens, now).is_some_and(|start| start <= now)
                {
                    return state.start(&self.0, estimated_tokens, now).sent(now);
                }
                let (permit, permitted) = oneshot::channel();
                state.came += 1;
                let place = (Reverse(depth), state.came);
                let waiter = Waiter { tokens: estimated_tokens, permit, runtime: Handle::current() };
                state.waiting.insert(place, waiter);
                (Waiting { inner: &self.0, place }, permitted)
            };
            // It may be the first in the queue now.
            self.0.hand_out();
            let mut permitted = permitted;
            // The queue keeps the other end until it sends.
            if let Ok(permit) = (&mut permitted).await {
                std::mem::forget(waiting);
                return permit.sent(Instant::now());
            }
        }
    }

    /// How many requests more could be in flight than are, or wait for a rate or a pause.
    pub fn free_slots(&self) -> usize {
        let state = self.0.state();
        state.allowed.saturating_sub(state.in_flight + state.waiting.len())
    }

    /// Whether some wait to send a request.
    pub fn has_waiting(&self) -> bool {
        !self.0.state().waiting.is_empty()
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

    /// Gives permits to the first in the queue while there are any.
    fn hand_out(self: &Arc<Self>) {
        while let Some((waiter, permit)) = self.next() {
            // Without the lock: the permit of a waiter that is gone comes back at once, through its drop.
            let _ = waiter.send(permit);
        }
    }

    fn next(self: &Arc<Self>) -> Option<(oneshot::Sender<Permit>, Permit)> {
        let mut state = self.state();
        let tokens = state.waiting.first_key_value()?.1.tokens;
        let now = Instant::now();
        let start = state.may_start(tokens, now)?;
        if start <= now {
            let (_, waiter) = state.waiting.pop_first()?;
            return Some((waiter.permit, state.start(self, tokens, now)));
        }
        // A timer that is over may belong to a runtime that is gone.
        if !state.timer.is_some_and(|set| now < set && set <= start) {
            state.timer = Some(start);
            let inner = Arc::clone(self);
            state.waiting.first_key_value()?.1.runtime.spawn(async move {
                sleep_until(start).await;
                inner.hand_out();
            });
        }
        None
    }
}

impl State {
    /// When a request of so many tokens may be sent, were it the next; `None` while no slot is free.
    fn may_start(&mut self, tokens: u64, now: Instant) -> Option<Instant> {
        if self.in_flight >= self.allowed {
            return None;
        }
        let requests = self.requests.as_mut().map(|bucket| bucket.ready(1.0, now));
        let tokens = self.tokens.as_mut().map(|bucket| bucket.ready(tokens as f64, now));
        requests.max(tokens).max(self.paused_until).or(Some(now))
    }

    fn start(&mut self, inner: &Arc<Inner>, tokens: u64, now: Instant) -> Permit {
        self.in_flight += 1;
        if let Some(bucket) = &mut self.requests {
            bucket.reserve(1.0, now);
        }
        let reserved = self.tokens.as_mut().map(|bucket| bucket.reserve(tokens as f64, now) as u64);
        Permit { inner: Arc::clone(inner), sent: None, tokens: AtomicU64::new(reserved.unwrap_or(tokens)) }
    }

    /// Out of the rates; back into them where negative.
    fn take(&mut self, requests: f64, tokens: f64, now: Instant) {
        if let Some(bucket) = &mut self.requests {
            bucket.take(requests, now);
        }
        if let Some(bucket) = &mut self.tokens {
            bucket.take(tokens, now);
        }
    }

    /// Only so many may be in flight from now on, at least one.
    fn cut(&mut self, allowed: usize, now: Instant) {
        self.last_cut = Some(now);
        self.successes = 0;
        self.allowed = allowed.max(1);
    }
}

/// A place in the queue, left when dropped.
struct Waiting<'a> {
    inner: &'a Arc<Inner>,
    place: Place,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let left = {
            let mut state = self.inner.state();
            let left = state.waiting.remove(&self.place);
            if left.is_some() && state.waiting.is_empty() {
                let State { requests, tokens, .. } = &mut *state;
                requests.iter_mut().chain(tokens).for_each(RateBucket::give_up);
            }
            left
        };
        // The next one may need less.
        if left.is_some() {
            self.inner.hand_out();
        }
    }
}

/// The right to have one request in flight; given back on drop.
#[derive(Debug)]
pub struct Permit {
    inner: Arc<Inner>,
    /// When the caller had it; `None` on the way to a caller that may be gone.
    sent: Option<Instant>,
    /// What was taken out of the bucket of tokens.
    tokens: AtomicU64,
}

impl Permit {
    fn sent(mut self, now: Instant) -> Self {
        self.sent = Some(now);
        self
    }

    /// The request was answered with this many tokens in all. After a whole round of successes one more may be in
    /// flight; where the limit follows latency, a quarter fewer after a round that was slow. The slot may be kept for a
    /// while: what was not used of the tokens is there for those who wait at once.
    pub fn succeeded(&self, actual_tokens: u64) {
        let mut state = self.inner.state();
        let charged = self.tokens.swap(actual_tokens, Ordering::Relaxed);
        if state.tokens.is_some() || state.latency.is_some() {
            let now = Instant::now();
            state.take(0.0, actual_tokens as f64 - charged as f64, now);
            let allowed = state.allowed;
            if self.sent > state.last_cut
                && let (Some(window), Some(sent)) = (&mut state.latency, self.sent)
                && window.is_slow_after(now.duration_since(sent), allowed)
            {
                state.cut(allowed - allowed.div_ceil(4), now);
                return;
            }
        }
        state.successes += 1;
        let one_more = state.allowed < self.inner.max_in_flight && state.successes >= state.allowed;
        if one_more {
            state.successes = 0;
            state.allowed += 1;
        }
        let gives_back = state.tokens.is_some() && actual_tokens < charged;
        drop(state);
        if one_more || gives_back {
            self.inner.hand_out();
        }
    }

    /// The attempt gave no answer: the server may have said that it is too much, and what it did not use of the rates is
    /// there for the next one. A refusal is a request all the same, and what may be billed has used its tokens; so has
    /// what was too much, by the count of servers that count refusals.
    pub fn failed(&self, error: &SendError) {
        if matches!(error.kind, ErrorKind::Busy(429 | 503)) {
            self.throttled(error.retry_after);
        }
        if !error.kind.may_be_billed() && error.kind != ErrorKind::Busy(429) {
            let requests = if error.kind.was_sent() { 0.0 } else { 1.0 };
            let tokens = self.tokens.swap(0, Ordering::Relaxed) as f64;
            self.inner.state().take(-requests, -tokens, Instant::now());
            self.inner.hand_out();
        }
    }

    /// The server said that it is too much (429 or 503): half as many may be in flight, and none is sent before
    /// `retry_after` is over. Requests sent before the last cut are the same news and cut no more.
    pub fn throttled(&self, retry_after: Option<Duration>) {
        let mut state = self.inner.state();
        let now = Instant::now();
        if let Some(wait) = retry_after {
            let until = now + wait.min(MAX_RETRY_AFTER);
            state.paused_until = state.paused_until.max(Some(until));
        }
        if self.sent > state.last_cut {
            let half = state.allowed / 2;
            state.cut(half, now);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.inner.state();
        state.in_flight -= 1;
        if self.sent.is_none() {
            let tokens = self.tokens.load(Ordering::Relaxed) as f64;
            state.take(-1.0, -tokens, Instant::now());
        }
        let someone_waits = !state.waiting.is_empty();
        drop(state);
        if someone_waits {
            self.inner.hand_out();
        }
    }
}

#[cfg(test)]
#[path = "limiter_tests.rs"]
mod tests;
