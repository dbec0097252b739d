//! Stops a run in which everything fails alike: a wrong key, a wrong model name, a server that is not there, a template
//! that no row has the values for. What the server may have against some requests only stops nothing where others fare
//! better: not while those sent before are still on their way, nor where the ledger has their answers.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use datafusion::common::{Result, exec_err};

use super::progress::StageProgress;
use crate::endpoint::{ErrorKind, SendError};

/// So many calls of a model, the first of the session, must fail in one way.
const ALIKE: u64 = 10;

/// A run that goes on may ask for nothing but what failed before, also where that is no fault of the model: so many answers
/// in the ledger make up for one such failure …
const REPLAYED: u64 = 4;

/// … but for no more than so many of those that take long or may be billed, each after all of its retries: what goes on may
/// as well be a run that was stopped, at a server that answers no more.
const AT_MOST: u64 = 1000;

/// So many failures wait for older requests to end, one of which may hang; and fewer of those that may be billed.
const WAITING: usize = 1000;
const WAITING_BILLED: usize = 200;

/// What the calls that were asked have come to, by model.
#[derive(Debug, Default)]
pub struct Breaker {
    models: Mutex<HashMap<String, Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The model works, and all else is of no interest any more.
    answered: bool,
    /// Answers that the ledger had.
    replayed: u64,
    /// Requests sent so far: the number of the next one.
    sent: u64,
    /// Those that have not ended.
    under_way: BTreeSet<u64>,
    failures: HashMap<(&'static str, Option<u16>), Failures>,
}

/// Failures of one kind.
#[derive(Debug, Default)]
struct Failures {
    counted: u64,
    /// Requests that others, sent before them, may yet show to be the exception.
    waiting: BTreeSet<u64>,
}

/// A request of a model until its end.
#[derive(Debug)]
pub struct UnderWay<'a> {
    breaker: &'a Breaker,
    model: &'a str,
    /// `None` where the model has answered before.
    number: Option<u64>,
}

impl UnderWay<'_> {
    /// It has ended: its number, by which its failure is told.
    pub fn ended(self) -> u64 {
        self.number.unwrap_or(u64::MAX)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number
            && let Some(seen) = self.breaker.models().get_mut(self.model)
        {
            seen.under_way.remove(&number);
        }
    }
}

impl Breaker {
    fn models(&self) -> MutexGuard<'_, HashMap<String, Seen>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request is sent. The order tells which ones could have been answered before a failure.
    pub fn sent<'a>(&'a self, model: &'a str) -> UnderWay<'a> {
        let mut models = self.models();
        let number = match models.get_mut(model) {
            Some(seen) if seen.answered => None,
            Some(seen) => Some(seen.send()),
            None => Some(models.entry(model.to_owned()).or_default().send()),
        };
        UnderWay { breaker: self, model, number }
    }

    /// A call was answered: the model works, and the breaker of this model is done.
    pub fn answered(&self, model: &str) {
        let mut models = self.models();
        if !models.get(model).is_some_and(|seen| seen.answered) {
            models.insert(model.to_owned(), Seen { answered: true, ..Seen::default() });
        }
    }

    /// The ledger had so many answers: the model has worked. Whether it still does they do not say.
    pub fn replayed(&self, model: &str, answers: u64) {
        if answers > 0 {
            self.models().entry(model.to_owned()).or_default().replayed += answers;
        }
    }

    /// A call was given up with the request of this number, or an attempt found nobody there for the second time: whichever
    /// of a model's servers could be reached has been preferred by then. `Err` where this was one too many.
    pub fn failed(&self, model: &str, error: &SendError, request: u64) -> Result<()> {
        let kind = error.kind;
        if kind.is_of_one_request() {
            return Ok(());
        }
        let mut models = self.models();
        let seen = models.entry(model.to_owned()).or_default();
        if seen.answered {
            return Ok(());
        }
        let failures = seen.failures.entry((kind.name(), kind.status())).or_default();
        let most = if kind.may_be_of_one_request() {
            failures.waiting.insert(request);
            let oldest = seen.under_way.first().copied().unwrap_or(u64::MAX);
            let younger = failures.waiting.split_off(&oldest);
            failures.counted += std::mem::replace(&mut failures.waiting, younger).len() as u64;
            if failures.waiting.len() >= if kind.may_be_billed() { WAITING_BILLED } else { WAITING } {
                failures.counted += std::mem::take(&mut failures.waiting).len() as u64;
            }
            match kind {
                // A server that has read other requests and refuses this one costs nothing, not even time.
                ErrorKind::Refused(400 | 413 | 422) => ALIKE + seen.replayed,
                ErrorKind::Refused(_) => ALIKE.max(seen.replayed / REPLAYED),
                _ => ALIKE.max((seen.replayed / REPLAYED).min(AT_MOST)),
            }
        } else {
            failures.counted += 1;
            ALIKE
        };
        if failures.counted < most {
            return Ok(());
        }
        exec_err!("the first {most} calls of model {model} all failed alike, so no more are made: {error}")
    }

    /// A prompt could not be rendered. `Err` where that is so of the first calls of a stage: the stages before it would be
    /// paid for nothing.
    pub fn unrendered(stage: &StageProgress, reason: &str) -> Result<()> {
        match stage.unrendered() {
            Some(n) if n >= ALIKE => exec_err!(
                "the first {ALIKE} prompts of {} cannot be rendered, so no more calls are made: {reason}",
                stage.name()
            ),
            _ => Ok(()),
        }
    }
}

impl Seen {
    fn send(&mut self) -> u64 {
        let number = self.sent;
        self.sent += 1;
        self.under_way.insert(number);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: ErrorKind) -> SendError {
        SendError::new(kind, "not like this")
    }

    /// A call of `m` that is sent now and given up at once.
    fn fail(breaker: &Breaker, kind: ErrorKind) -> Result<()> {
        let request = breaker.sent("m").ended();
        breaker.failed("m", &error(kind), request)
    }

    /// How many of so many calls that fail at once go before the run is stopped.
    fn before_stop(breaker: &Breaker, kind: ErrorKind, calls: usize) -> usize {
        (0..calls).take_while(|_| fail(breaker, kind).is_ok()).count()
    }

    #[test]
    fn only_failures_alike_before_the_first_answer_stop_a_run() {
        let breaker = Breaker::default();
        let fail = |model: &'static str, status: u16| {
            let request = breaker.sent(model).ended();
            breaker.failed(model, &error(ErrorKind::Refused(status)), request)
        };
        for _ in 1..ALIKE {
            fail("m", 401).unwrap();
            fail("m", 404).unwrap();
            fail("other", 401).unwrap();
        }
        breaker.answered("other");
        fail("other", 401).unwrap();
        let stop = fail("m", 401).unwrap_err().to_string();
        let said = "the first 10 calls of model m all failed alike, so no more are made: refused 401: not like this";
        assert!(stop.contains(said), "{stop}");
    }

    #[test]
    fn what_failed_before_is_asked_again_where_the_ledger_has_the_other_answers() {
        // How many of 1000 are asked after 80 answers of the ledger.
        for (kind, asked) in [
            (ErrorKind::Refused(400), 89),
            (ErrorKind::Refused(422), 89),
            (ErrorKind::Refused(403), 19),
            (ErrorKind::Timeout, 19),
            (ErrorKind::Busy(500), 19),
            (ErrorKind::Refused(401), 9),
            (ErrorKind::Refused(404), 9),
            (ErrorKind::Connect, 9),
        ] {
            let breaker = Breaker::default();
            assert_eq!(before_stop(&breaker, kind, 1000), 9, "{kind:?}, without answers");
            let breaker = Breaker::default();
            breaker.replayed("m", 50);
            breaker.replayed("m", 30);
            breaker.replayed("other", 1000);
            assert_eq!(before_stop(&breaker, kind, 1000), asked, "{kind:?}");
        }
    }

    #[test]
    fn many_answers_of_the_ledger_make_up_for_no_end_of_failures_that_may_be_billed() {
        for (kind, asked) in [(ErrorKind::Timeout, 999), (ErrorKind::Busy(503), 999), (ErrorKind::Refused(403), 24_999)]
        {
            let breaker = Breaker::default();
            breaker.replayed("m", 100_000);
            assert_eq!(before_stop(&breaker, kind, 30_000), asked, "{kind:?}");
        }
    }

    #[test]
    fn a_request_that_hangs_keeps_no_run_from_its_stop() {
        for (kind, asked) in [(ErrorKind::Refused(400), 999), (ErrorKind::TornBody, 199)] {
            let breaker = Breaker::default();
            let _hangs = breaker.sent("m");
            assert_eq!(before_stop(&breaker, kind, 2000), asked, "{kind:?}");
        }
    }

    #[test]
    fn a_refusal_counts_when_all_that_was_sent_before_it_has_ended_without_an_answer() {
        let kinds = [(ErrorKind::Refused(400), 100), (ErrorKind::TornBody, 100), (ErrorKind::Refused(401), 8)];
        for (kind, asked) in kinds {
            let breaker = Breaker::default();
            fail(&breaker, kind).unwrap();
            let slow = breaker.sent("m");
            assert_eq!(before_stop(&breaker, kind, 100), asked, "{kind:?}");
            if asked == 100 {
                let refused = slow.ended();
                assert!(breaker.failed("m", &error(kind), refused).is_err(), "{kind:?}");
            }
        }
        let breaker = Breaker::default();
        let slow = breaker.sent("m");
        assert_eq!(before_stop(&breaker, ErrorKind::Refused(400), 100), 100);
        breaker.answered("m");
        drop(slow);
        assert_eq!(before_stop(&breaker, ErrorKind::Refused(400), 100), 100);
    }

    #[test]
    fn a_model_that_refuses_all_is_given_up_however_many_are_asked_at_once() {
        let breaker = Breaker::default();
        let (mut under_way, mut refused) = (Vec::new(), 0);
        loop {
            while under_way.len() < 64 {
                under_way.push(breaker.sent("m"));
            }
            // They end in some other order than they were sent in.
            let request = under_way.swap_remove(refused * 37 % 64).ended();
            refused += 1;
            assert!(refused < 64 * 20, "never");
            if breaker.failed("m", &error(ErrorKind::Refused(400)), request).is_err() {
                break;
            }
        }
    }
}
