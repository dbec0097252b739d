//! A call that is about to be paid for: its answer, of whatever process, or the right to ask it, which one has at a time.

use std::time::Duration;

use super::claims::Claim;
use super::{CallId, Ledger, LedgerError, StoredAnswer};

/// Between two looks at a call that another process asks; doubled up to the longest.
const SHORTEST_WAIT: Duration = Duration::from_millis(5);
const LONGEST_WAIT: Duration = Duration::from_millis(80);

/// What the ledger has to say to one who wants a call's answer.
#[derive(Debug)]
pub enum Lookup {
    Found(StoredAnswer),
    /// Nobody has the answer, and nobody else asks for it while the claim is held.
    Claimed(Claim),
}

impl Ledger {
    /// The stored answer to a call, of any process; else the right to ask it. Waits while another process (or another
    /// task of this one) asks the same call. Cancel-safe.
    pub async fn find_or_claim(&self, id: &CallId) -> Result<Lookup, LedgerError> {
        let mut wait = SHORTEST_WAIT;
        loop {
            if let Some(answer) = self.find(id).await? {
                return Ok(Lookup::Found(answer));
            }
            self.takes_answers()?;
            let claim = self.claim(id);
            // The last holder let go of its claim only when its answer was durable: look after, not before.
            if let Some(answer) = self.find_of_others(id).await? {
                return Ok(Lookup::Found(answer));
            }
            if let Some(claim) = claim {
                return Ok(Lookup::Claimed(claim));
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}

#[cfg(test)]
#[path = "find_or_claim_tests.rs"]
mod tests;
