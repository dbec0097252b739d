//! Whether and when a failed attempt is made again.

use std::time::Duration;

use super::SendError;

/// Full-jitter exponential backoff (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// How often an attempt is made again.
    pub max_retries: u32,
    /// The window after the first failure; it doubles with each one.
    pub base: Duration,
    /// The widest window.
    pub cap: Duration,
}

/// The longest wait that a server can ask for.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

impl RetryPolicy {
    pub fn new(max_retries: u32, base: Duration) -> Self {
        RetryPolicy { max_retries, base, cap: Duration::from_secs(60) }
    }

    /// The wait before the next attempt; `None` to give up. `attempt` counts the failures before this one, from 0;
    /// `jitter` is a random number in [0, 1). What the server asks for is waited first, so that those who were
    /// told the same do not come back at the same moment.
    pub fn delay(&self, attempt: u32, error: &SendError, jitter: f64) -> Option<Duration> {
        if error.again {
            return Some(Duration::ZERO);
        }
        if attempt >= self.max_retries || !error.kind.is_retryable() {
            return None;
        }
        let window = self.base.saturating_mul(2u32.saturating_pow(attempt)).min(self.cap);
        let asked = error.retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
        Some(asked + window.mul_f64(jitter.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::ErrorKind;

    const BASE: Duration = Duration::from_millis(500);

    #[test]
    fn the_window_doubles_up_to_its_cap() {
        let policy = RetryPolicy::new(100, BASE);
        let error = SendError::new(ErrorKind::Busy(503), "");
        let longest = |attempt| policy.delay(attempt, &error, 1.0).unwrap();
        assert_eq!(longest(0), Duration::from_millis(500));
        assert_eq!(longest(3), Duration::from_secs(4));
        assert_eq!(longest(99), Duration::from_secs(60));
        assert_eq!(policy.delay(3, &error, 0.0), Some(Duration::ZERO));
    }

    #[test]
    fn what_the_server_asks_is_the_least_wait() {
        let mut error = SendError::new(ErrorKind::Busy(429), "");
        error.retry_after = Some(Duration::from_secs(7));
        let delay = RetryPolicy::new(1, BASE).delay(0, &error, 0.5).unwrap();
        assert_eq!(delay, Duration::from_millis(7250));
        error.retry_after = Some(Duration::from_secs(86_400));
        assert_eq!(RetryPolicy::new(1, BASE).delay(0, &error, 0.0), Some(MAX_RETRY_AFTER));
    }

    #[test]
    fn refusals_and_spent_retries_are_given_up() {
        let policy = RetryPolicy::new(2, BASE);
        assert_eq!(policy.delay(0, &SendError::new(ErrorKind::Refused(400), ""), 0.5), None);
        assert_eq!(policy.delay(2, &SendError::new(ErrorKind::Timeout, ""), 0.5), None);
        let again = SendError { again: true, ..SendError::new(ErrorKind::Refused(400), "") };
        assert_eq!(policy.delay(2, &again, 0.5), Some(Duration::ZERO), "sent otherwise, it is no retry");
    }
}
