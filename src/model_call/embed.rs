//! Texts to embed, gathered into requests of many texts. In: calls of `embed`, each for one text. Out: each text's own
//! durable answer; what a batch has in common ends with the request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use datafusion::common::{DataFusionError, Result, exec_err};
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::askers::{Asker, Wait};
use super::call::Call;
use super::caller::{Answered, Guess, INTERRUPTED, attempt_record, jitter, record};
use super::embed_vector::to_body;
use super::runtime::CallRuntime;
use crate::config::ModelConfig;
use crate::endpoint::{Answer, Completion, EmbeddingAnswer, ErrorKind, Model, Parameters, SendError};
use crate::ledger::Record;

/// A request goes out when it is full, or when no text has come for this long …
const QUIET: Duration = Duration::from_millis(5);

/// … or when its first text has waited this long.
const FLUSH_AFTER: Duration = Duration::from_millis(100);

/// As long as most vectors are at most, where nothing says how long a model's are.
const UNKNOWN_DIMENSIONS: usize = 4096;

/// Of a number in an answer: as many digits as a 64-bit float has, sign, point, exponent, comma and space.
const NUMBER_BYTES: u64 = 26;

/// Of all that stands around a vector.
const AROUND_BYTES: u64 = 128;

/// What becomes of one text; `Err` stops the query.
type TextAnswer = Result<Result<Answered, String>>;

/// What became of a request: each text's own answer, or why there is none.
type BatchAnswer = Result<Vec<Result<Answered, String>>, SendError>;

/// The batchers of a session: texts for one model with the same parameters travel together.
#[derive(Debug, Default)]
pub struct Embedders(Mutex<HashMap<(String, String), Arc<Embedder>>>);

/// Gathers texts.
#[derive(Debug)]
struct Embedder {
    model: Arc<Model>,
    parameters: Arc<Parameters>,
    /// How many texts a request has at most: as configured, and less once the server has refused so many.
    batch_size: AtomicUsize,
    /// How long the vectors are: as the query or the configuration says, then as the answers are.
    dimensions: AtomicUsize,
    gathered: Mutex<Gathered>,
}

#[derive(Debug, Default)]
struct Gathered {
    texts: Vec<Waiting>,
    /// How many batches were taken away, so that a timer knows whether its own is still here.
    taken: u64,
}

/// A text on its way, and who waits for it.
#[derive(Debug)]
struct Waiting {
    call: Call,
    /// The query that wants it: nothing is sent for one that is gone.
    stop: CancellationToken,
    /// The task that asks for it, which waits without a slot while the batch does.
    asker: Option<Arc<Asker>>,
    answer: oneshot::Sender<TextAnswer>,
}

impl CallRuntime {
    /// Asks for one text's embedding together with others'. `Err` stops the query, as in [`CallRuntime::call`].
    pub(super) async fn embed(
        self: &Arc<Self>,
        model: &Arc<Model>,
        call: &Call,
        stop: &CancellationToken,
    ) -> TextAnswer {
        let parameters = &call.request.parameters;
        // Two models of the configuration are two limiters.
        let key = (model.name.clone(), serde_json::to_string(&**parameters).unwrap_or_default());
        let embedder = {
            let mut embedders = self.embedders.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(embedders.entry(key).or_insert_with(|| {
                Arc::new(Embedder {
                    model: Arc::clone(model),
                    parameters: Arc::clone(parameters),
                    batch_size: AtomicUsize::new(model.config.embed_batch_size.max(1)),
                    dimensions: AtomicUsize::new(dimensions(parameters, &model.config)),
                    gathered: Mutex::default(),
                })
            }))
        };
        let (answer, answered) = oneshot::channel();
        embedder.gather(self, Waiting { call: call.clone(), stop: stop.clone(), asker: Asker::current(), answer });
        match answered.await {
            Ok(answer) => answer,
            Err(_) if stop.is_cancelled() => exec_err!("{INTERRUPTED}"),
            Err(_) => exec_err!("a request for embeddings ended without an answer"),
        }
    }
}

impl Embedder {
    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many texts a request has at most. An answer over `max_response_bytes` is paid for and lost, so that no batch is
    /// larger than what fits in there.
    fn most_texts(&self) -> usize {
        let numbers = self.dimensions.load(Ordering::Relaxed) as u64;
        let fit = self.model.config.max_response_bytes / (numbers.saturating_mul(NUMBER_BYTES) + AROUND_BYTES);
        self.batch_size.load(Ordering::Relaxed).min(usize::try_from(fit).unwrap_or(usize::MAX)).max(1)
    }

    /// Adds a text to the batch. Tasks of their own send it: an answer that is paid is recorded whoever has gone.
    fn gather(self: &Arc<Self>, runtime: &Arc<CallRuntime>, waiting: Waiting) {
        let mut gathered = self.gathered();
        gathered.texts.push(waiting);
        let (embedder, runtime) = (Arc::clone(self), Arc::clone(runtime));
        if gathered.texts.len() >= self.most_texts() {
            let batch = gathered.take();
            tokio::spawn(embedder.send(runtime, batch));
        } else if gathered.texts.len() == 1 {
            let mine = gathered.taken;
            tokio::spawn(async move {
                let (start, mut seen) = (Instant::now(), 1);
                let batch = loop {
                    tokio::time::sleep(QUIET).await;
                    let mut gathered = embedder.gathered();
                    if gathered.taken != mine {
                        return;
                    }
                    if gathered.texts.len() == seen || start.elapsed() >= FLUSH_AFTER {
                        break gathered.take();
                    }
                    seen = gathered.texts.len();
                };
                embedder.send(runtime, batch).await;
            });
        }
    }

    /// Sends a batch until each of its texts has an answer or an error, or is not wanted any more. True where the server
    /// took so many texts.
    fn send(self: Arc<Self>, runtime: Arc<CallRuntime>, mut batch: Vec<Waiting>) -> BoxFuture<'static, bool> {
        async move {
            let mut attempt = 0;
            loop {
                batch.retain(|text| !text.stop.is_cancelled() && !text.answer.is_closed());
                let Some(first) = batch.first() else { return false };
                // It was gathered before there was an answer to tell how many fit in, or a refusal.
                let most = self.most_texts();
                if batch.len() > most {
                    let mut pieces = Vec::new();
                    while !batch.is_empty() {
                        let rest = batch.split_off(most.min(batch.len()));
                        pieces.push(Arc::clone(&self).send(Arc::clone(&runtime), std::mem::replace(&mut batch, rest)));
                    }
                    return join_all(pieces).await.into_iter().all(|took| took);
                }
                let (error, request) = match self.attempt(&runtime, &batch, attempt).await {
                    Err(stopped) => return stop(batch, stopped),
                    Ok((Ok(answers), _)) => {
                        let unsent = batch.split_off(answers.len().min(batch.len()));
                        for (text, answer) in batch.into_iter().zip(answers) {
                            // Nobody waits any more: it is in the ledger.
                            let _ = text.answer.send(Ok(answer));
                        }
                        if unsent.is_empty() {
                            return true;
                        }
                        // There was no budget for these; the next attempt says so.
                        (batch, attempt) = (unsent, 0);
                        continue;
                    }
                    Ok((Err(error), request)) => (error, request),
                };
                first.call.shape.stage.error(&error);
                let too_much = matches!(
                    error.kind,
                    ErrorKind::Refused(400 | 413 | 422) | ErrorKind::ContextOverflow(Some(_)) | ErrorKind::TooLarge
                );
                if batch.len() > 1 && too_much {
                    if error.kind == ErrorKind::TooLarge {
                        // No text is at fault: the next batch of so many would be paid for in vain, too.
                        self.batch_size.fetch_min(batch.len().div_ceil(2), Ordering::Relaxed);
                    }
                    return self.halve(runtime, batch).await;
                }
                let delay = self.model.retry.delay(attempt, &error, jitter(first.call.id, attempt));
                let Some(delay) = delay else { return self.give_up(&runtime, batch, &error, request, attempt) };
                // A server that is not there at the second attempt either is not waited for batch by batch.
                if attempt > 0
                    && error.kind == ErrorKind::Connect
                    && let Err(stopped) = runtime.breaker.failed(&self.model.name, &error, request)
                {
                    return stop(batch, stopped);
                }
                tracing::debug!(model = %self.model.name, %error, ?delay, "an attempt failed; it is made again");
                // The batch holds no slot meanwhile, nor do the rows of its texts: others are asked.
                let waits: Vec<Wait> = batch.iter().filter_map(|text| text.asker.clone()).map(Wait::of).collect();
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    // Whoever asks for one of these texts next is not to wait for this batch.
                    () = unwanted(&batch) => {}
                }
                drop(waits);
                attempt += u32::from(!error.again);
            }
        }
        .boxed()
    }

    /// A refusal may be for the number of texts, or for one of them. Where both halves are taken it was the number,
    /// and no later request has more.
    async fn halve(self: Arc<Self>, runtime: Arc<CallRuntime>, mut batch: Vec<Waiting>) -> bool {
        let second = batch.split_off(batch.len().div_ceil(2));
        let half = batch.len();
        let first = Arc::clone(&self).send(Arc::clone(&runtime), batch).await;
        let second = Arc::clone(&self).send(runtime, second).await;
        if first && second {
            self.batch_size.fetch_min(half, Ordering::Relaxed);
        }
        first && second
    }

    /// Every text of the batch gets the error.
    fn give_up(
        &self,
        runtime: &CallRuntime,
        batch: Vec<Waiting>,
        error: &SendError,
        request: u64,
        attempt: u32,
    ) -> bool {
        let tries = if attempt == 0 { String::new() } else { format!(" (after {} attempts)", attempt + 1) };
        if let Err(stopped) = runtime.breaker.failed(&self.model.name, error, request) {
            return stop(batch, stopped);
        }
        for text in batch {
            let _ = text.answer.send(Ok(Err(format!("{error}{tries}"))));
        }
        false
    }

    /// One request, recorded for each of its texts whatever becomes of it; with its number for the breaker. Where there is
    /// budget for some of the texts only, these are the first ones, and the others have no answers.
    async fn attempt(&self, runtime: &Arc<CallRuntime>, batch: &[Waiting], attempt: u32) -> Result<(BatchAnswer, u64)> {
        let (model, Some(first)) = (&self.model, batch.first()) else { return Ok((Ok(Vec::new()), 0)) };
        let texts: Vec<&str> = batch.iter().map(|text| text_of(&text.call)).collect();
        let guessed = |texts: &[&str]| texts.iter().map(|text| guess(text).prompt).sum::<u64>();
        let waiting = Instant::now();
        let permit = tokio::select! {
            permit = model.limiter.acquire(guessed(&texts), first.call.shape.depth) => Some(permit),
            () = unwanted(batch) => None,
        };
        let stage = &first.call.shape.stage;
        stage.waited(waiting.elapsed());
        // Counted before the last look at who wants it: what goes after that is waited for.
        let outstanding = runtime.outstanding();
        let is_wanted = batch.iter().any(|text| !text.stop.is_cancelled());
        let (Some(permit), Some(mut outstanding), true) = (permit, outstanding, is_wanted) else {
            return exec_err!("{INTERRUPTED}");
        };
        let sent = runtime.spending.start(batch.len() as u64, &model.config.price_per_million)?;
        let sent = usize::try_from(sent).unwrap_or(batch.len());
        let (batch, texts) = (&batch[..sent], &texts[..sent]);
        let on_its_way = stage.request(attempt);
        let request = runtime.breaker.sent(&model.name);
        let (time_ms, start) = (Utc::now().timestamp_millis(), Instant::now());
        let result = outstanding.answer(model.endpoint.embed(texts, &self.parameters)).await;
        let latency = start.elapsed();
        match &result {
            Ok(answers) => {
                runtime.breaker.answered(&model.name);
                let lengths = answers.iter().filter_map(|answer| answer.embedding.as_ref().ok().map(Vec::len));
                if let Some(dimensions) = lengths.max() {
                    self.dimensions.store(dimensions, Ordering::Relaxed);
                }
                let tokens: Option<u64> = answers.iter().map(|answer| answer.prompt_tokens).sum();
                let tokens = tokens.unwrap_or_else(|| guessed(texts));
                permit.succeeded(tokens);
                runtime.spending.answered(tokens, model.config.price_per_million.cost_usd(tokens, 0));
            }
            Err(error) => {
                permit.failed(error);
                if error.kind.may_be_billed() {
                    let tokens = guessed(texts);
                    runtime.spending.unanswered(tokens, model.config.price_per_million.cost_usd(tokens, 0));
                }
            }
        }
        let mut records = Vec::with_capacity(2 * batch.len());
        let outcome: BatchAnswer = match result {
            Ok(answers) => Ok(batch
                .iter()
                .zip(answers)
                .map(|(text, answer)| answered(model, &text.call, answer, time_ms, latency, &mut records))
                .collect()),
            Err(error) => {
                for text in batch {
                    let mut record = attempt_record(model, &text.call, time_ms, latency);
                    record.status = error.kind.status();
                    record.error_kind = Some(error.kind.name().to_owned());
                    record.error = Some(error.message.clone());
                    record.billed = error.kind.may_be_billed();
                    record.cost_usd = if record.billed { guess(text_of(&text.call)).cost_usd(model) } else { 0.0 };
                    records.push(Record::Attempt(record));
                }
                Err(error)
            }
        };
        runtime.ledger().await?.append(records).await?;
        // Sent and not yet durable is in flight.
        drop((permit, outstanding, on_its_way));
        match outcome {
            // The program ends, and nobody waits for the rows.
            Err(error) if error.kind == ErrorKind::Cancelled => {
                stage.error(&error);
                exec_err!("{INTERRUPTED}")
            }
            outcome => Ok((outcome, request.ended())),
        }
    }
}

impl Gathered {
    fn take(&mut self) -> Vec<Waiting> {
        self.taken += 1;
        std::mem::take(&mut self.texts)
    }
}

/// Returns when no query wants any of these texts any more; an interrupt is the end of all queries.
async fn unwanted(batch: &[Waiting]) {
    for text in batch {
        text.stop.cancelled().await;
    }
}

/// How long the vectors will be, at a guess before the first answer.
fn dimensions(parameters: &Parameters, config: &ModelConfig) -> usize {
    let asked = parameters.extra.get("dimensions").and_then(Value::as_u64);
    let known = asked.or_else(|| config.dimensions.map(u64::from)).and_then(|n| usize::try_from(n).ok());
    known.unwrap_or(UNKNOWN_DIMENSIONS)
}

/// The one text of a call of `embed`.
fn text_of(call: &Call) -> &str {
    call.request.messages.first().map_or("", |message| message.content.as_str())
}

/// Four bytes a token, as for prompts. Texts are not answered, but priced as prompts.
fn guess(text: &str) -> Guess {
    Guess { prompt: text.len() as u64 / 4 + 1, answer: 0 }
}

/// Tells all who wait that the query stops. Nothing is known then of how many texts the server takes.
fn stop(batch: Vec<Waiting>, error: DataFusionError) -> bool {
    let error = Arc::new(error);
    for text in batch {
        let _ = text.answer.send(Err(DataFusionError::Shared(Arc::clone(&error))));
    }
    false
}

/// One text's answer, and its records. A text whose embedding is wrong has no answer, and is asked for again by the
/// next run; the server has billed it all the same.
fn answered(
    model: &Model,
    call: &Call,
    answer: EmbeddingAnswer,
    time_ms: i64,
    latency: Duration,
    records: &mut Vec<Record>,
) -> Result<Answered, String> {
    let mut attempt = attempt_record(model, call, time_ms, latency);
    attempt.status = Some(200);
    attempt.billed = true;
    let guess = guess(text_of(call));
    let read = answer.embedding.and_then(|embedding| {
        let body = to_body(&model.endpoint.identity().model, &embedding, answer.prompt_tokens);
        let completion = Completion::from_body(&body)?;
        Ok(Answer { status: 200, body, completion })
    });
    match read {
        Ok(answer) => {
            let (call, answered) = record(model, call, answer, guess, time_ms, latency);
            attempt.cost_usd = call.cost_usd;
            records.extend([Record::Attempt(attempt), Record::Call(call)]);
            Ok(answered)
        }
        Err(error) => {
            let prompt = answer.prompt_tokens.unwrap_or(guess.prompt);
            attempt.cost_usd = Guess { prompt, ..guess }.cost_usd(model);
            attempt.error_kind = Some(ErrorKind::TornBody.name().to_owned());
            attempt.error = Some(error.clone());
            records.push(Record::Attempt(attempt));
            Err(error)
        }
    }
}
