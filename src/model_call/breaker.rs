//! Stops a run in which everything fails alike: a wrong key, a wrong model name, a server that is not there, a template
//! that no row has the values for.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use datafusion::common::{Result, exec_err};

use super::progress::StageProgress;
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

    /// A call was given up, or an attempt found nobody there for the second time: whichever of a model's servers could
    /// be reached has been preferred by then. `Err` where this was one too many.
    pub fn failed(&self, model: &str, error: &SendError) -> Result<()> {
        if error.kind.is_of_one_request() {
            return Ok(());
        }
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = models.entry(model.to_owned()).or_default();
        let alike = seen.failures.entry((error.kind.name(), error.kind.status())).or_default();
        *alike += 1;
        if seen.answered || *alike < ALIKE {
            return Ok(());
        }
        exec_err!("the first {ALIKE} calls of model {model} all failed alike, so no more are made: {error}")
    }

    /// A prompt could not be rendered. `Err` where that is so of the first calls of a stage: the stages before it would be
    /// paid for nothing.
    pub fn unrendered(stage: &StageProgress, reason: &str) -> Result<()> {
        match stage.unrendered() {
            Some(n) if n >= u64::from(ALIKE) => exec_err!(
                "the first {ALIKE} prompts of {} cannot be rendered, so no more calls are made: {reason}",
                stage.name()
            ),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::ErrorKind;

    #[test]
    fn only_failures_alike_before_the_first_answer_stop_a_run() {
        let error = |kind| SendError::new(kind, "no such key");
        let breaker = Breaker::default();
        for _ in 1..ALIKE {
            breaker.failed("m", &error(ErrorKind::Refused(401))).unwrap();
            breaker.failed("m", &error(ErrorKind::Refused(404))).unwrap();
            breaker.failed("other", &error(ErrorKind::Refused(401))).unwrap();
        }
        breaker.answered("other");
        breaker.failed("other", &error(ErrorKind::Refused(401))).unwrap();
        let stop = breaker.failed("m", &error(ErrorKind::Refused(401))).unwrap_err().to_string();
        assert!(stop.contains("model m all failed alike, so no more are made: refused 401: no such key"), "{stop}");
    }
}
