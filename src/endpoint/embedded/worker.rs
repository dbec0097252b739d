//! One worker: answers prompts one after the other on one core.
//! In: a prompt's tokens, a schema, a way of drawing tokens. Out: the answer's text and why it ended.

use std::sync::Arc;

use llguidance::Matcher;
use serde_json::Value;

use super::engine::Model;
use super::grammar::first_line;
use super::llama::KvCache;
use super::sampler::Sampler;

/// Prompts are fed in blocks of so many tokens. Only whole blocks of another prompt are reused: a float product of
/// another shape may differ in its last bit, and an answer must not depend on what was asked before it.
const BLOCK: usize = 32;
/// Positions that a worker keeps for reuse, over all its caches: 0.2 GB for the built-in model.
const KEPT_POSITIONS: usize = 4096;
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

/// Keys and values of an earlier prompt.
struct Kept {
    tokens: Vec<u32>,
    cache: KvCache,
}

pub(super) struct Worker {
    model: Arc<Model>,
    /// Least recently used first.
    kept: Vec<Kept>,
    grammars: Vec<(Arc<Value>, Matcher)>,
}

impl Worker {
    pub(super) fn new(model: Arc<Model>) -> Self {
        Worker { model, kept: Vec::new(), grammars: Vec::new() }
    }

    /// Answers, or gives `None` when `cancelled` said so between two tokens.
    pub(super) fn answer(&mut self, mut task: Task, cancelled: impl Fn() -> bool) -> Result<Option<Generated>, String> {
        let mut matcher = match &task.schema {
            Some(schema) => Some(self.matcher(schema)?),
            None => None,
        };
        let mut cache = self.reusable(&task.prompt)?;
        let whole = (task.prompt.len() - 1) / BLOCK * BLOCK;
        while cache.len() < whole {
            if cancelled() {
                return Ok(None);
            }
            let at = cache.len();
            self.model.llama.feed(&mut cache, &task.prompt[at..at + BLOCK]).map_err(|e| first_line(&e))?;
        }
        let fed = task.prompt[whole..].to_vec();
        let generated = self.generate(&mut task, &mut matcher, &mut cache, fed, cancelled);
        task.prompt.truncate(whole);
        cache.truncate(whole);
        self.keep(Kept { tokens: task.prompt, cache });
        if let (Some(schema), Some(matcher)) = (task.schema, matcher) {
            self.keep_matcher(schema, matcher);
        }
        generated
    }

    /// The tokens after the prompt. `fed` are those that the cache does not yet hold.
    fn generate(
        &self,
        task: &mut Task,
        matcher: &mut Option<Matcher>,
        cache: &mut KvCache,
        mut fed: Vec<u32>,
        cancelled: impl Fn() -> bool,
    ) -> Result<Option<Generated>, String> {
        let vocabulary = &self.model.vocabulary;
        let limit = task.max_tokens.min(self.model.context_length.saturating_sub(task.prompt.len()));
        let mut text: Vec<u8> = Vec::new();
        let mut count = 0;
        let mut push = |text: &mut Vec<u8>, token: u32| {
            count += 1;
            text.extend_from_slice(vocabulary.bytes(token).unwrap_or_default());
            count
        };
        let mut tokens = 0;
        let finish = loop {
            if let Some(matcher) = matcher.as_mut() {
                for token in matcher.consume_ff_tokens().into_iter().take(limit - tokens) {
                    tokens = push(&mut text, token);
                    fed.push(token);
                }
                if let Some(error) = matcher.get_error() {
                    return Err(format!("the grammar of the answer's schema: {}", first_line(&error)));
                }
                if matcher.is_stopped() {
                    break Finish::Stop;
                }
            }
            if tokens >= limit {
                break Finish::Length;
            }
            if cancelled() {
                return Ok(None);
            }
            let hidden = self.model.llama.feed(cache, &fed).map_err(|e| first_line(&e))?;
            fed.clear();
            let allowed = match matcher.as_mut() {
                Some(matcher) => Some(matcher.compute_mask().map_err(|e| first_line(&e))?),
                None => None,
            };
            let logits = self.model.llama.logits(&hidden).map_err(|e| first_line(&e))?;
            let token = task.sampler.draw(&logits, allowed.as_ref()).ok_or("the grammar allows no token")?;
            if vocabulary.bytes(token).is_none() {
                break Finish::Stop;
            }
            tokens = push(&mut text, token);
            fed.push(token);
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
        Ok(Some(Generated { text, finish, completion_tokens: tokens }))
    }

    /// A cache of the longest run of whole blocks that an earlier prompt shares with this one.
    fn reusable(&mut self, prompt: &[u32]) -> Result<KvCache, String> {
        let shared = |kept: &Kept| {
            let same = kept.tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count();
            // The last token's hidden state is in no cache.
            same.min(prompt.len() - 1) / BLOCK * BLOCK
        };
        let best = self.kept.iter().enumerate().map(|(i, kept)| (shared(kept), i)).max();
        let Some((len, i)) = best.filter(|(len, _)| *len > 0) else { return Ok(KvCache::new()) };
        let kept = self.kept.remove(i);
        if len == kept.tokens.len() {
            return Ok(kept.cache);
        }
        // The other prompt may be asked again: its samples come interleaved with this one's.
        let copy = kept.cache.copy(len).map_err(|e| first_line(&e));
        self.kept.push(kept);
        copy
    }

    fn keep(&mut self, kept: Kept) {
        if kept.tokens.is_empty() {
            return;
        }
        self.kept.push(kept);
        while self.kept.iter().map(|kept| kept.cache.capacity()).sum::<usize>() > KEPT_POSITIONS {
            self.kept.remove(0);
        }
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
