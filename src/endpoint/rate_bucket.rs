//! A rate as a token bucket: how much may be taken now, and when there will be more.

use std::time::Duration;

use tokio::time::Instant;

/// Longer than any run; keeps sums of times valid.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// It fills up to one second's worth, so that a server that counts over any longer window sees no more than the rate.
/// Who needs more than that waits until so much has come in, a minute's worth at most. What is given back stays on top.
#[derive(Debug)]
pub(super) struct RateBucket {
    per_minute: f64,
    /// At most `per_minute`; below zero where more was taken than there was.
    level: f64,
    /// The reservation that was looked at last: it is saved for, also between two looks.
    wanted: f64,
    at: Instant,
}

impl RateBucket {
    pub fn new(per_minute: u64, now: Instant) -> Self {
        let per_minute = per_minute.max(1) as f64;
        RateBucket { per_minute, level: (per_minute / 60.0).max(1.0), wanted: 0.0, at: now }
    }

    /// What is taken for a request that needs about `n`: a minute's worth at most, since it would hold up all others
    /// for longer than that. The rest is taken once it is known, by the correction.
    fn reservation(&self, n: f64) -> f64 {
        n.min(self.per_minute)
    }

    /// When the reservation for `n` can be taken: `now` or later.
    pub fn ready(&mut self, n: f64, now: Instant) -> Instant {
        let n = self.reservation(n);
        // The time since the last look was for whoever was looked at then, or for this one.
        self.wanted = self.wanted.max(n);
        self.fill(now);
        self.wanted = n;
        let wait = (n - self.level) / self.per_second();
        // Under a microsecond is rounding.
        if wait < 1e-6 { now } else { now + Duration::try_from_secs_f64(wait).map_or(LONGEST, |d| d.min(LONGEST)) }
    }

    /// Takes the reservation for `n`, which nobody saves for any more: how much that is.
    pub fn reserve(&mut self, n: f64, now: Instant) -> f64 {
        let n = self.reservation(n);
        self.take(n, now);
        if n >= self.wanted {
            self.wanted = 0.0;
        }
        n
    }

    /// Who was looked at last has gone.
    pub fn give_up(&mut self) {
        self.wanted = 0.0;
    }

    /// Takes `n`, also where that is more than there is; gives back where negative.
    pub fn take(&mut self, n: f64, now: Instant) {
        self.fill(now);
        // More than a minute's worth was spared so long ago that no server remembers.
        self.level = (self.level - n).min(self.per_minute);
    }

    /// Adds what has come in, up to one second's worth or to what is wanted. What is there already stays.
    fn fill(&mut self, now: Instant) {
        let come_in = now.duration_since(self.at).as_secs_f64() * self.per_second();
        let most = self.per_second().max(1.0).max(self.wanted);
        self.level = self.level.max((self.level + come_in).min(most));
        self.at = now;
    }

    fn per_second(&self) -> f64 {
        self.per_minute / 60.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// 1000 a second, and the time at which it was made.
    fn bucket() -> (RateBucket, Instant) {
        let now = Instant::now();
        (RateBucket::new(60_000, now), now)
    }

    fn seconds(n: f64) -> Duration {
        Duration::from_secs_f64(n)
    }

    /// Whether `n` can be taken after so many seconds.
    fn assert_wait(bucket: &mut RateBucket, n: f64, now: Instant, expected: f64) {
        let wait = bucket.ready(n, now).duration_since(now).as_secs_f64();
        assert!((wait - expected).abs() < 1e-3, "{n}: {wait} s, not {expected} s");
    }

    #[test]
    fn a_refund_is_not_cut_by_a_later_look() {
        let (mut bucket, start) = bucket();
        bucket.take(5000.0, start);
        bucket.take(-7500.0, start);
        // Three looks for less, and time in which no more comes in.
        for (n, after) in [(10.0, 0.0), (10.0, 1.0), (0.0, 20.0)] {
            assert_wait(&mut bucket, n, start + seconds(after), 0.0);
        }
        assert_wait(&mut bucket, 3500.0, start + seconds(20.0), 0.0);
        assert_wait(&mut bucket, 3600.0, start + seconds(20.0), 0.1);
    }

    #[test]
    fn what_a_large_waiter_has_saved_outlives_corrections_and_smaller_ones_before_it() {
        let (mut bucket, start) = bucket();
        assert_wait(&mut bucket, 30_000.0, start, 29.0);
        bucket.take(-500.0, start + seconds(10.0));
        bucket.take(300.0, start + seconds(12.0));
        assert_wait(&mut bucket, 30_000.0, start + seconds(12.0), 16.8);
        let now = start + seconds(13.0);
        assert_wait(&mut bucket, 100.0, now, 0.0);
        bucket.take(100.0, now);
        assert_wait(&mut bucket, 30_000.0, now, 15.9);
    }

    #[test]
    fn the_whole_rate_is_used_and_never_more_than_it_over_time_whatever_was_estimated() {
        for (estimated, actual) in [(5000.0, 1500.0), (1500.0, 1500.0), (500.0, 1500.0), (90_000.0, 1500.0)] {
            let (mut bucket, start) = bucket();
            let end = start + seconds(1200.0);
            // Each call is answered after two seconds; the next one always waits.
            let (mut under_way, mut now, mut used) = (VecDeque::<Instant>::new(), start, 0.0);
            while now < end {
                let next = bucket.ready(estimated, now);
                match under_way.front().copied() {
                    Some(answered) if answered <= next => {
                        under_way.pop_front();
                        now = answered;
                        bucket.take(actual - bucket.reservation(estimated), now);
                        used += actual;
                    }
                    _ => {
                        now = next;
                        bucket.reserve(estimated, now);
                        under_way.push_back(now + seconds(2.0));
                    }
                }
                let most = 1000.0 * now.duration_since(start).as_secs_f64() + 5000.0;
                assert!(used <= most, "{used} after {:?}, {estimated} estimated", now - start);
            }
            // While one has a minute's worth reserved, hardly another is on its way.
            let least = if estimated > 60_000.0 { 800_000.0 } else { 1_140_000.0 };
            assert!(used >= least, "{used} of 1200000, {estimated} estimated");
        }
    }

    #[test]
    fn an_estimate_above_a_minutes_worth_goes_after_a_minute_at_most_and_is_paid_for_afterwards() {
        let (mut bucket, start) = bucket();
        assert_wait(&mut bucket, 1e9, start, 59.0);
        let now = start + seconds(59.0);
        assert_wait(&mut bucket, 1e9, now, 0.0);
        assert_eq!(bucket.reserve(1e9, now), 60_000.0);
        // It took a minute and a half's worth in all.
        bucket.take(90_000.0 - 60_000.0, now);
        assert_wait(&mut bucket, 1000.0, now, 31.0);
    }

    #[test]
    fn what_was_saved_for_one_that_went_or_gave_up_is_not_there_for_a_burst() {
        for goes in [true, false] {
            let (mut bucket, start) = bucket();
            let ready = bucket.ready(50_000.0, start);
            assert_wait(&mut bucket, 50_000.0, ready, 0.0);
            if goes {
                bucket.reserve(50_000.0, ready);
            } else {
                bucket.take(50_000.0, ready);
                bucket.give_up();
            }
            let later = ready + seconds(50.0);
            assert_wait(&mut bucket, 1000.0, later, 0.0);
            bucket.reserve(1000.0, later);
            assert_wait(&mut bucket, 1000.0, later, 1.0);
        }
    }

    #[test]
    fn it_holds_a_second_of_what_comes_in_and_a_minute_of_what_is_given_back() {
        let (mut bucket, start) = bucket();
        assert_wait(&mut bucket, 1000.0, start + seconds(3600.0), 0.0);
        assert_wait(&mut bucket, 1500.0, start + seconds(3600.0), 0.5);
        bucket.take(-1e9, start + seconds(3600.0));
        bucket.take(60_000.0, start + seconds(3600.0));
        assert_wait(&mut bucket, 1000.0, start + seconds(3600.0), 1.0);
    }
}
