//! Tells when a server has become slow: the latencies of its answers, window by window, beside the best window.

use std::time::Duration;

/// Fewer answers than this say nothing about a median.
const LEAST: usize = 16;
/// A window whose median is so many times the best one is slow.
const SLOW: f64 = 2.0;
/// After each window the best grows by this factor, so that a stage with longer answers is not held back for ever.
const FORGET: f64 = 1.05;

#[derive(Debug, Default)]
pub(super) struct LatencyWindow {
    latencies: Vec<Duration>,
    /// Median of the best window, in seconds.
    best: Option<f64>,
}

impl LatencyWindow {
    /// Whether this answer closes a window that is slow. A window is as many answers as may be in flight.
    pub fn is_slow_after(&mut self, latency: Duration, in_flight: usize) -> bool {
        self.latencies.push(latency);
        if self.latencies.len() < in_flight.max(LEAST) {
            return false;
        }
        let middle = self.latencies.len() / 2;
        let median = self.latencies.select_nth_unstable(middle).1.as_secs_f64();
        self.latencies.clear();
        let best = self.best.map_or(median, |best| (best * FORGET).min(median));
        self.best = Some(best);
        median > SLOW * best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_slow_when_its_median_is_more_than_twice_the_best() {
        let mut window = LatencyWindow::default();
        let mut slow =
            |millis: u64| (0..20).filter(|_| window.is_slow_after(Duration::from_millis(millis), 20)).count() == 1;
        assert!(!slow(100) && !slow(190) && slow(300));
        assert!(!slow(100), "it is fast again");
        // What stays slow is not slow any more at some time.
        assert_eq!((0..30).filter(|_| slow(300)).count(), 8);
    }

    #[test]
    fn a_few_slow_answers_are_no_slow_window() {
        let mut window = LatencyWindow::default();
        assert!((0..100).all(|n| !window.is_slow_after(Duration::from_millis(if n % 5 == 0 { 900 } else { 100 }), 20)));
    }
}
