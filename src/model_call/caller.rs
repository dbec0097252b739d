//! One call: looked up in the ledger, else asked with retries, and durable before anyone sees the answer.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::Utc;
use datafusion::common::{Result, exec_err};
use seedmill_udfs::Unrendered;
use tokio_util::sync::CancellationToken;

use super::askers::{Wait, waiting_until_asking, waiting_when_long};
use super::breaker::Breaker;
use super::call::Call;
use super::runtime::{CallRuntime, Outstanding};
use crate::endpoint::{Answer, Completion, ErrorKind, Model, Request, SendError};
use crate::ledger::{AttemptRecord, CallId, CallRecord, Lookup, Record, StoredAnswer};

/// The sentence of a query that Ctrl-C stopped.
pub const INTERRUPTED: &str = "interrupted: no new calls are made; run the same command to go on";

/// An answer, from the endpoint or from the ledger.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The raw body as it reads now, or why it does not: an older version may have taken it for an answer.
    pub completion: Result<Arc<Completion>, Arc<str>>,
    pub replayed: bool,
    /// Milliseconds of the attempt that was answered; `None` for a replay.
    pub latency_ms: Option<u64>,
    pub cost_usd: f64,
}

impl Answered {
    /// An answer out of the ledger.
    pub fn replayed(stored: &StoredAnswer) -> Self {
        Answered {
            completion: Completion::from_body(stored.response()).map(Arc::new).map_err(Arc::from),
            replayed: true,
            latency_ms: None,
            cost_usd: stored.cost_usd(),
        }
    }

    /// Prompt and completion together, as they are billed.
    fn tokens(&self, guess: Guess) -> u64 {
        self.completion.as_ref().map_or(guess, |completion| guess.corrected(completion)).tokens()
    }
}

/// The most tokens that a request is thought to take, of prompt and answer: a guess before the answer is there. What it
/// costs counts for an answer whose tokens the server does not count, too: they are billed all the same.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guess {
    pub prompt: u64,
    pub answer: u64,
}

impl Guess {
    /// Four bytes a token, and all of `max_tokens`.
    fn of(request: &Request) -> Self {
        let bytes: usize = request.messages.iter().map(|message| message.content.len()).sum();
        Guess { prompt: bytes as u64 / 4, answer: u64::from(request.parameters.max_tokens.unwrap_or(512)) }
    }

    /// With what the server has counted.
    fn corrected(self, completion: &Completion) -> Self {
        Guess {
            prompt: completion.prompt_tokens.unwrap_or(self.prompt),
            answer: completion.completion_tokens.unwrap_or(self.answer),
        }
    }

    fn tokens(self) -> u64 {
        self.prompt.saturating_add(self.answer)
    }

    pub fn cost_usd(self, model: &Model) -> f64 {
        model.config.price_per_million.cost_usd(self.prompt, self.answer)
    }
}

/// What became of a call.
#[derive(Debug, Clone)]
pub struct CallOutcome {
    pub call_id: CallId,
    /// The answer, or the sentence that becomes the row's error.
    pub answer: Result<Answered, String>,
}

impl CallRuntime {
    /// Makes a call. `Err` stops the query: Ctrl-C, a spent budget, a ledger that cannot be written.
    ///
    /// Run it in a task that is never aborted: what has been sent is waited for and recorded even when the query is
    /// gone. `stop` (a child of [`CallRuntime::interrupt`]) ends it at any point before that.
    pub async fn call(
        self: &Arc<Self>,
        model: &Arc<Model>,
        call: &Call,
        stop: &CancellationToken,
    ) -> Result<CallOutcome> {
        let is_asking = AtomicBool::new(false);
        let flight = pin!(self.flights.ask_once(call.id, || {
            is_asking.store(true, Ordering::Relaxed);
            self.find_or_ask(model, call, stop)
        }));
        let (mut answer, asked_here) = waiting_until_asking(&is_asking, flight).await?;
        if let Ok(answered) = &mut answer
            && !asked_here
        {
            (answered.replayed, answered.latency_ms) = (true, None);
        }
        let stage = &call.shape.stage;
        match &answer {
            Ok(answered) if answered.replayed => stage.replayed(1),
            Ok(answered) => {
                let completion = answered.completion.as_ref().ok();
                let tokens = |count: fn(&Completion) -> Option<u64>| completion.and_then(|c| count(c)).unwrap_or(0);
                stage.asked(tokens(|c| c.prompt_tokens), tokens(|c| c.completion_tokens), answered.cost_usd);
            }
            Err(_) => stage.failed(),
        }
        Ok(CallOutcome { call_id: call.id, answer })
    }

    async fn find_or_ask(
        self: &Arc<Self>,
        model: &Arc<Model>,
        call: &Call,
        stop: &CancellationToken,
    ) -> Result<Result<Answered, String>> {
        if stop.is_cancelled() {
            return exec_err!("{INTERRUPTED}");
        }
        if let Some(unrendered) = unrendered(&call.request) {
            Breaker::unrendered(&call.shape.stage, unrendered.reason)?;
            return Ok(Err(format!("unrendered: {}", unrendered.reason)));
        }
        call.shape.stage.rendered();
        // Waits while another process asks the same call. The claim is held until the answer is durable.
        let ledger = self.ledger().await?;
        let _claim = match ledger.claim_at_once(&call.id) {
            Some(claim) => claim,
            None => match stop.run_until_cancelled(waiting_when_long(pin!(ledger.find_or_claim(&call.id)))).await {
                Some(lookup) => match lookup? {
                    Lookup::Found(stored) => {
                        self.breaker.replayed(&model.name, 1);
                        return Ok(Ok(Answered::replayed(&stored)));
                    }
                    Lookup::Claimed(claim) => claim,
                },
                None => return exec_err!("{INTERRUPTED}"),
            },
        };
        if !self.readiness.is_met() {
            match stop.run_until_cancelled(self.readiness.require()).await {
                Some(ready) => ready?,
                None => return exec_err!("{INTERRUPTED}"),
            }
        }
        if let Err(error) = model.endpoint.can_be_asked() {
            return exec_err!("model '{}' cannot be asked: {error}", model.name);
        }
        if let Err(error) = model.endpoint.check(&call.request) {
            return Ok(Err(error.to_string()));
        }
        if call.shape.embeds {
            return self.embed(model, call, stop).await;
        }
        let guess = Guess::of(&call.request);
        let mut attempt = 0;
        loop {
            let waiting = Instant::now();
            let permit = stop.run_until_cancelled(model.limiter.acquire(guess.tokens(), call.shape.depth)).await;
            call.shape.stage.waited(waiting.elapsed());
            // Counted before the last look at `stop`: what goes after that is waited for.
            let outstanding = self.outstanding();
            let (Some(permit), Some(mut outstanding), false) = (permit, outstanding, stop.is_cancelled()) else {
                return exec_err!("{INTERRUPTED}");
            };
            self.spending.start(1, &model.config.price_per_million)?;
            let on_its_way = call.shape.stage.request(attempt);
            let request = self.breaker.sent(&model.name);
            let (records, outcome) = send(model, call, guess, &mut outstanding).await;
            // What the server said holds at once for others; the slot is kept until the answer is durable.
            match &outcome {
                Ok(answered) => {
                    // While it still counts as under way: at no moment does it look as if nothing had come of it.
                    self.breaker.answered(&model.name);
                    let tokens = answered.tokens(guess);
                    permit.succeeded(tokens);
                    self.spending.answered(tokens, answered.cost_usd);
                }
                Err(error) => {
                    permit.failed(error);
                    if error.kind.may_be_billed() {
                        self.spending.unanswered(guess.tokens(), guess.cost_usd(model));
                    }
                }
            }
            let recorded = ledger.append(records).await;
            drop(permit);
            drop((outstanding, on_its_way));
            let request = request.ended();
            recorded?;
            let error = match outcome {
                Ok(answered) => return Ok(Ok(answered)),
                Err(error) => error,
            };
            call.shape.stage.error(&error);
            // The program ends, and nobody waits for the row.
            if error.kind == ErrorKind::Cancelled {
                return exec_err!("{INTERRUPTED}");
            }
            let Some(delay) = model.retry.delay(attempt, &error, jitter(call.id, attempt)) else {
                self.breaker.failed(&model.name, &error, request)?;
                let tries = if attempt == 0 { String::new() } else { format!(" (after {} attempts)", attempt + 1) };
                return Ok(Err(format!("{error}{tries}")));
            };
            // A server that is not there at the second attempt either is not waited for call by call.
            if attempt > 0 && error.kind == ErrorKind::Connect {
                self.breaker.failed(&model.name, &error, request)?;
            }
            tracing::debug!(model = %model.name, %error, ?delay, "an attempt failed; it is made again");
            // It holds no slot meanwhile: another row is asked.
            let wait = Wait::begin();
            if stop.run_until_cancelled(tokio::time::sleep(delay)).await.is_none() {
                return exec_err!("{INTERRUPTED}");
            }
            drop(wait);
            attempt += u32::from(!error.again);
        }
    }
}

/// One attempt, with its records whatever becomes of it.
async fn send(
    model: &Model,
    call: &Call,
    guess: Guess,
    outstanding: &mut Outstanding,
) -> (Vec<Record>, Result<Answered, SendError>) {
    let (time_ms, start) = (Utc::now().timestamp_millis(), Instant::now());
    let result = outstanding.answer(model.endpoint.send(&call.request)).await;
    let latency = start.elapsed();
    let mut attempt = attempt_record(model, call, time_ms, latency);
    match result {
        Ok(answer) => {
            let (call, answered) = record(model, call, answer, guess, time_ms, latency);
            attempt.status = Some(200);
            attempt.billed = true;
            attempt.cost_usd = call.cost_usd;
            (vec![Record::Attempt(attempt), Record::Call(call)], Ok(answered))
        }
        Err(error) => {
            attempt.status = error.kind.status();
            attempt.error_kind = Some(error.kind.name().to_owned());
            attempt.error = Some(error.message.clone());
            // The server may have billed an answer that never arrived whole.
            attempt.billed = error.kind.may_be_billed();
            attempt.cost_usd = if attempt.billed { guess.cost_usd(model) } else { 0.0 };
            (vec![Record::Attempt(attempt)], Err(error))
        }
    }
}

/// Why a request cannot be sent: a text of it could not be rendered.
pub(super) fn unrendered(request: &Request) -> Option<Unrendered<'_>> {
    request.messages.iter().find_map(|message| seedmill_udfs::unrendered(&message.content))
}

/// The record of an attempt before anyone knows what became of it.
pub(super) fn attempt_record(model: &Model, call: &Call, time_ms: i64, latency: Duration) -> AttemptRecord {
    AttemptRecord {
        call_id: call.id,
        model: Arc::clone(&model.endpoint.identity().model),
        time_ms,
        latency_ms: millis(latency),
        status: None,
        error_kind: None,
        error: None,
        billed: false,
        cost_usd: 0.0,
    }
}

pub(super) fn record(
    model: &Model,
    call: &Call,
    answer: Answer,
    guess: Guess,
    time_ms: i64,
    latency: Duration,
) -> (CallRecord, Answered) {
    let Answer { body, completion, .. } = answer;
    let cost_usd = guess.corrected(&completion).cost_usd(model);
    let identity = model.endpoint.identity();
    let record = CallRecord {
        call_id: call.id,
        provider: Arc::clone(&identity.provider),
        model: Arc::clone(&identity.model),
        revision: Arc::clone(&identity.revision),
        variant: Arc::clone(&call.shape.variant),
        sample: call.shape.sample,
        // Texts have no value that JSON lacks.
        messages: serde_json::to_string(&call.request.messages).unwrap_or_default(),
        parameters: Arc::clone(&call.shape.recorded_parameters),
        response: body,
        finish_reason: completion.finish_reason.clone(),
        prompt_tokens: completion.prompt_tokens,
        completion_tokens: completion.completion_tokens,
        cost_usd,
        time_ms,
    };
    let completion = Ok(Arc::new(completion));
    (record, Answered { completion, replayed: false, latency_ms: Some(millis(latency)), cost_usd })
}

/// A fraction in [0, 1) that spreads retries and is the same on each run.
pub(super) fn jitter(call_id: CallId, attempt: u32) -> f64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(call_id.as_bytes());
    hasher.update(&attempt.to_le_bytes());
    let mut bytes = [0; 4];
    hasher.finalize_xof().fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
