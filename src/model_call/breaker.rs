//! Stops a run in which everything fails alike: a wrong key, a wrong model name, a server that is not there.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use datafusion::common::{Result, exec_err};

use crate::endpoint::SendError;

/// So many calls of a model, the first of the session, must fail in one way.
const ALIKE: u32 = 10;

/// What the calls that were asked have come to, by model.
#[derive(Debug, Default)]
pub struct Breaker {
    models: Mutex<HashMap<String, Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    answered: bool,
    failures: HashMap<(&'static str, Option<u16>), u32>,
}

impl Breaker {
    /// A call was answered: the model works, and the breaker of this model is done.
    pub fn answered(&self, model: &str) {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        if !models.get(model).is_some_and(|seen| seen.answered) {
            models.entry(model.to_owned()).or_default().answered = true;
        }
    }

    /// A call was given up. `Err` where this was one too many.
    pub fn failed(&self, model: &str, error: &SendError) -> Result<()> {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = models.entry(model.to_owned()).or_default();
        let alike = seen.failures.entry((error.kind.name(), error.kind.status())).or_default();
        *alike += 1;
        if seen.answered || *alike < ALIKE {
            return Ok(());
        }
        exec_err!("the first {ALIKE} calls of model {model} all failed alike, so no more are made: {error}")
    }
}
