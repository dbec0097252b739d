//! One worker: answers prompts one after the other on one core.
//! In: a prompt's tokens, a schema, a way of drawing tokens. Out: the answer's text and why it ended.

use std::sync::Arc;

use llguidance::Matcher;
use serde_json::Value;

use super::engine::Model;
use super::grammar::first_line;
use super::sampler::Sampler;

/// Compiled schemas that a worker keeps.
const KEPT_GRAMMARS: usize = 32;

/// What is to be answered.
pub(super) struct Task {
    /// At least one token, fewer than the context holds.
    pub(super) prompt: Vec<u32>,
    pub(super) schema: Option<Arc<Value>>,
    pub(super) sampler: Sampler,
    pub(super) max_tokens: usize,
    /// Free text ends before the first of these; an answer under a schema ends where the schema says.
    pub(super) stop: Vec<String>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    Stop,
    Length,
}

#[derive(Debug, PartialEq)]
pub(super) struct Generated {
    pub(super) text: String,
    pub(super) finish: Finish,
    pub(super) completion_tokens: usize,
}

pub(super) struct Worker {
    model: Arc<Model>,
    grammars: Vec<(Arc<Value>, Matcher)>,
}

impl Worker {
    pub(super) fn new(model: Arc<Model>) -> Self {
        Worker { model, grammars: Vec::new() }
    }

    /// Answers, or gives `None` when `cancelled` said so between two tokens.
    pub(super) fn answer(&mut self, mut task: Task, cancelled: impl Fn() -> bool) -> Result<Option<Generated>, String> {
        let Some(schema) = task.schema.take() else { return self.generate(task, None, cancelled) };
        let mut matcher = self.matcher(&schema)?;
        let generated = self.generate(task, Some(&mut matcher), cancelled);
        self.keep_matcher(schema, matcher);
        generated
    }

    fn generate(
        &self,
        mut task: Task,
        mut matcher: Option<&mut Matcher>,
        cancelled: impl Fn() -> bool,
    ) -> Result<Option<Generated>, String> {
        let Model { llama, vocabulary, prefixes, context_length, .. } = &*self.model;
        let limit = task.max_tokens.min(context_length.saturating_sub(task.prompt.len()));
        let mut text: Vec<u8> = Vec::new();
        let mut count = 0;
        let mut cache = None;
        // Tokens that the cache does not hold yet.
        let mut fed = std::mem::take(&mut task.prompt);
        let finish = loop {
            if let Some(matcher) = matcher.as_mut() {
                // Where the grammar leaves no choice, its tokens are fed in one go; the first ones with the prompt.
                for token in matcher.consume_ff_tokens().into_iter().take(limit - count) {
                    text.extend_from_slice(vocabulary.bytes(token).unwrap_or_default());
                    fed.push(token);
                    count += 1;
                }
                if let Some(error) = matcher.get_error() {
                    return Err(format!("the grammar of the answer's schema: {}", first_line(&error)));
                }
                if matcher.is_stopped() {
                    break Finish::Stop;
                }
            }
            if count >= limit {
                break Finish::Length;
            }
            if cancelled() {
                return Ok(None);
            }
            let tokens = std::mem::take(&mut fed);
            let hidden = match &mut cache {
                Some(cache) => llama.feed(cache, &tokens),
                None => match prefixes.prefill(llama, tokens, &cancelled) {
                    Ok(Some((prefilled, hidden))) => {
                        cache = Some(prefilled);
                        Ok(hidden)
                    }
                    Ok(None) => return Ok(None),
                    Err(e) => Err(e),
                },
            };
            let logits = hidden.and_then(|hidden| llama.logits(&hidden)).map_err(|e| first_line(&e))?;
            let allowed = match matcher.as_mut() {
                Some(matcher) => Some(matcher.compute_mask().map_err(|e| first_line(&e))?),
                None => None,
            };
            let token = task.sampler.draw(&logits, allowed.as_ref()).ok_or("the grammar allows no token")?;
            let Some(bytes) = vocabulary.bytes(token) else { break Finish::Stop };
            text.extend_from_slice(bytes);
            fed.push(token);
            count += 1;
            match matcher.as_mut() {
                Some(matcher) => matcher.consume_token(token).map_err(|e| first_line(&e))?,
                None => {
                    if let Some(end) = task.stop.iter().filter_map(|stop| find(&text, stop.as_bytes())).min() {
                        text.truncate(end);
                        break Finish::Stop;
                    }
                }
            }
        };
        let text = String::from_utf8(text).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
        Ok(Some(Generated { text, finish, completion_tokens: count }))
    }

    fn matcher(&mut self, schema: &Arc<Value>) -> Result<Matcher, String> {
        if let Some(i) = self.grammars.iter().position(|(kept, _)| kept == schema) {
            let (_, mut matcher) = self.grammars.remove(i);
            if matcher.reset().is_ok() {
                return Ok(matcher);
            }
        }
        self.model.grammars.compile(schema)
    }

    fn keep_matcher(&mut self, schema: Arc<Value>, matcher: Matcher) {
        if self.grammars.len() == KEPT_GRAMMARS {
            self.grammars.remove(0);
        }
        self.grammars.push((schema, matcher));
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    if wanted.is_empty() {
        return None;
    }
    text.windows(wanted.len()).position(|window| window == wanted)
}
