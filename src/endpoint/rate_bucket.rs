//! A rate as a token bucket: how much may be taken now, and when there will be more.

use std::time::Duration;

use tokio::time::Instant;

/// Longer than any run; keeps sums of times valid.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// It holds one second's worth, so that a server that counts over any longer window sees no more than the rate. Who
/// needs more than that waits until so much has come in.
#[derive(Debug)]
pub(super) struct RateBucket {
    per_second: f64,
    level: f64,
    at: Instant,
}

impl RateBucket {
    pub fn new(per_minute: u64, now: Instant) -> Self {
        let per_second = per_minute.max(1) as f64 / 60.0;
        RateBucket { per_second, level: per_second.max(1.0), at: now }
    }

    /// When `n` can be taken: `now` or later.
    pub fn ready(&mut self, n: f64, now: Instant) -> Instant {
        self.fill(n, now);
        let wait = (n - self.level) / self.per_second;
        // Under a microsecond is rounding.
        if wait < 1e-6 { now } else { now + Duration::try_from_secs_f64(wait).map_or(LONGEST, |d| d.min(LONGEST)) }
    }

    /// Takes `n`, also where that is more than there is; gives back where negative.
    pub fn take(&mut self, n: f64, now: Instant) {
        self.fill(n, now);
        self.level -= n;
    }

    /// Up to one second's worth, or to what is about to be taken.
    fn fill(&mut self, wanted: f64, now: Instant) {
        let filled = self.level + now.duration_since(self.at).as_secs_f64() * self.per_second;
        self.level = filled.min(self.per_second.max(1.0).max(wanted));
        self.at = now;
    }
}
