//! What a run may spend and has spent. In: requests as they start and end. Out: leave to start, until a limit is met.

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use datafusion::common::{DataFusionError, Result};

use super::progress::Dollars;
use crate::config::{Budget, Price};
use crate::counted::counted;

/// The limits and the accounts of one process. A request counts against `max_calls` when it starts, so that never
/// more are sent; tokens and cost are known when it ends, so that they can pass their limits by what is in flight.
#[derive(Debug)]
pub struct Spending {
    max_calls: AtomicU64,
    max_tokens: AtomicU64,
    /// Bits of an f64.
    max_cost_usd: AtomicU64,
    requests: AtomicU64,
    tokens: AtomicU64,
    cost_usd: Dollars,
    /// Requests without an answer that may have been billed all the same.
    unanswered: AtomicU64,
    /// The limit that was met first, of those that hold.
    spent: Mutex<Option<String>>,
}

/// The stop of a run whose budget is spent.
#[derive(Debug, Clone, PartialEq)]
pub struct BudgetSpent {
    /// `max_calls = 50`.
    pub limit: String,
    pub requests: u64,
    pub tokens: u64,
    pub cost_usd: f64,
    pub unanswered: u64,
}

impl Spending {
    pub fn new(budget: Budget) -> Self {
        let spending = Spending {
            max_calls: AtomicU64::default(),
            max_tokens: AtomicU64::default(),
            max_cost_usd: AtomicU64::default(),
            requests: AtomicU64::default(),
            tokens: AtomicU64::default(),
            cost_usd: Dollars::default(),
            unanswered: AtomicU64::default(),
            spent: Mutex::default(),
        };
        spending.limit(budget);
        spending
    }

    /// Sets the limits. What has been spent stays spent.
    pub fn limit(&self, budget: Budget) {
        let changed = [
            (&self.max_calls, budget.max_calls.unwrap_or(u64::MAX)),
            (&self.max_tokens, budget.max_tokens.unwrap_or(u64::MAX)),
            (&self.max_cost_usd, budget.max_cost_usd.unwrap_or(f64::INFINITY).to_bits()),
        ]
        .map(|(limit, value)| limit.swap(value, Relaxed) != value);
        // With other limits it is another stop.
        if changed.contains(&true) {
            *self.first() = None;
        }
    }

    fn first(&self) -> MutexGuard<'_, Option<String>> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts up to so many calls that travel in one request, and says for how many there is budget: at least one. What
    /// costs nothing goes on where the dollars are spent to the last, if there were any.
    pub fn start(&self, calls: u64, price: &Price) -> Result<u64> {
        let is_free = price.input == 0.0 && price.output == 0.0;
        let max_cost_usd = f64::from_bits(self.max_cost_usd.load(Relaxed));
        let (max_calls, max_tokens) = (self.max_calls.load(Relaxed), self.max_tokens.load(Relaxed));
        let cost_usd = self.cost_usd.get();
        let limit = if cost_usd > max_cost_usd || cost_usd >= max_cost_usd && !is_free {
            format!("max_cost_usd = {max_cost_usd}")
        } else if self.tokens.load(Relaxed) >= max_tokens {
            format!("max_tokens = {max_tokens}")
        } else {
            let more = |requests: u64| (requests < max_calls).then(|| max_calls.min(requests.saturating_add(calls)));
            match self.requests.fetch_update(Relaxed, Relaxed, more) {
                Ok(before) => return Ok(calls.min(max_calls - before)),
                Err(_) => format!("max_calls = {max_calls}"),
            }
        };
        let limit = self.first().get_or_insert(limit).clone();
        Err(DataFusionError::External(Box::new(self.stop(limit))))
    }

    /// A request was answered.
    pub fn answered(&self, tokens: u64, cost_usd: f64) {
        self.tokens.fetch_add(tokens, Relaxed);
        self.cost_usd.add(cost_usd);
    }

    /// A request that the server may have billed gave no answer: this is the most it can have come to.
    pub fn unanswered(&self, tokens: u64, cost_usd: f64) {
        self.unanswered.fetch_add(1, Relaxed);
        self.answered(tokens, cost_usd);
    }

    /// The limit that stopped the run first, with all that is spent by now; `None` where none did.
    pub fn spent(&self) -> Option<BudgetSpent> {
        self.first().clone().map(|limit| self.stop(limit))
    }

    /// What has been spent.
    pub fn so_far(&self) -> BudgetSpent {
        self.stop(String::new())
    }

    fn stop(&self, limit: String) -> BudgetSpent {
        BudgetSpent {
            limit,
            requests: self.requests.load(Relaxed),
            tokens: self.tokens.load(Relaxed),
            cost_usd: self.cost_usd.get(),
            unanswered: self.unanswered.load(Relaxed),
        }
    }
}

impl fmt::Display for BudgetSpent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BudgetSpent { limit, requests, tokens, cost_usd, unanswered } = self;
        let (requests, tokens) = (counted(*requests, "request"), counted(*tokens, "token"));
        write!(f, "the budget {limit} is spent: {requests}, {tokens}, ${cost_usd:.4}")?;
        if *unanswered > 0 {
            write!(f, " (among them {unanswered} without an answer that may be billed, at the most they can cost)")?;
        }
        let name = limit.split(' ').next().unwrap_or_default();
        write!(
            f,
            "; raise it with --{}, SET seedmill.{name} or [budget] of seedmill.toml and run the same command to go on: \
             every answer is kept",
            name.replace('_', "-")
        )
    }
}

impl Error for BudgetSpent {}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICED: Price = Price { input: 0.0, output: 1.0 };

    #[test]
    fn never_more_requests_start_than_the_limit_says_however_many_threads_ask() {
        let spending = Spending::new(Budget { max_calls: Some(50), ..Budget::default() });
        std::thread::scope(|threads| {
            for _ in 0..8 {
                threads.spawn(|| (0..100).for_each(|_| drop(spending.start(1, &PRICED))));
            }
        });
        assert_eq!(spending.spent().unwrap().requests, 50);
        assert!(
            spending
                .start(1, &PRICED)
                .unwrap_err()
                .to_string()
                .contains("the budget max_calls = 50 is spent: 50 requests")
        );
    }

    #[test]
    fn tokens_and_dollars_stop_the_next_request_and_a_raised_limit_lets_it_go() {
        let spending = Spending::new(Budget { max_tokens: Some(100), max_cost_usd: Some(0.5), ..Budget::default() });
        spending.start(1, &PRICED).unwrap();
        spending.unanswered(100, 0.1);
        let error = spending.start(1, &PRICED).unwrap_err().to_string();
        assert!(error.contains("max_tokens = 100 is spent") && error.contains("1 without an answer"), "{error}");
        spending.limit(Budget { max_cost_usd: Some(0.5), ..Budget::default() });
        spending.start(1, &PRICED).unwrap();
        spending.answered(1, 0.4);
        assert!(spending.start(1, &PRICED).unwrap_err().to_string().contains("max_cost_usd = 0.5 is spent"));
    }

    #[test]
    fn a_free_model_needs_no_dollars_and_stops_where_more_were_spent_than_there_are() {
        let spending = Spending::new(Budget { max_cost_usd: Some(0.0), ..Budget::default() });
        let free = Price { input: 0.0, output: 0.0 };
        assert_eq!(spending.start(3, &free).unwrap(), 3);
        assert!(spending.start(1, &PRICED).unwrap_err().to_string().contains("max_cost_usd = 0 is spent"));
        spending.answered(1, 0.1);
        assert!(spending.start(1, &free).is_err());
    }
}
