//! Keys and values of recent prompts, shared by all workers: prompts of one stage begin alike, and the samples of
//! one row ask the same prompt again.
//! In: a prompt's tokens. Out: a cache that holds them, and the last token's hidden state.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Result;

use super::llama::{KvCache, Llama};

/// Prompts are fed in blocks of so many tokens, and of another prompt only whole blocks are reused: a float product
/// of another shape may differ in its last bit, and an answer must not depend on what was asked before it.
const BLOCK: usize = 64;
/// Positions kept over all prompts: 0.2 GB for the built-in model.
const KEPT_POSITIONS: usize = 4096;

/// A fed prompt.
struct Prefix {
    tokens: Vec<u32>,
    cache: KvCache,
    /// Of the last token.
    hidden: Vec<f32>,
}

pub(super) struct Prefixes {
    /// Least recently used first.
    kept: Mutex<Vec<Arc<Prefix>>>,
}

impl Prefixes {
    pub(super) fn new() -> Self {
        Prefixes { kept: Mutex::new(Vec::new()) }
    }

    /// Feeds what no earlier prompt has; `None` when `cancelled` said so between two blocks.
    pub(super) fn prefill(
        &self,
        llama: &Llama,
        tokens: Vec<u32>,
        cancelled: impl Fn() -> bool,
    ) -> Result<Option<(KvCache, Vec<f32>)>> {
        let whole = whole_blocks(&tokens);
        let mut cache = match self.longest(&tokens) {
            Some((len, prefix)) if len == tokens.len() => {
                return Ok(Some((prefix.cache.copy(len)?, prefix.hidden.clone())));
            }
            Some((len, prefix)) => prefix.cache.copy(len)?,
            None => KvCache::new(),
        };
        while cache.len() < whole {
            if cancelled() {
                return Ok(None);
            }
            let at = cache.len();
            llama.feed(&mut cache, &tokens[at..at + BLOCK])?;
        }
        let hidden = llama.feed(&mut cache, &tokens[whole..])?;
        self.keep(Prefix { cache: cache.copy(tokens.len())?, hidden: hidden.clone(), tokens });
        Ok(Some((cache, hidden)))
    }

    /// The kept prompt with the most in common, and how much of it can be reused: all, or a number of whole blocks.
    fn longest(&self, tokens: &[u32]) -> Option<(usize, Arc<Prefix>)> {
        let shared = |prefix: &Prefix| {
            let same = prefix.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count();
            if same == tokens.len() && same == prefix.tokens.len() {
                return same;
            }
            same.min(whole_blocks(tokens)).min(whole_blocks(&prefix.tokens)) / BLOCK * BLOCK
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (len, i) = kept.iter().enumerate().map(|(i, prefix)| (shared(prefix), i)).max()?;
        if len == 0 {
            return None;
        }
        let prefix = kept.remove(i);
        kept.push(Arc::clone(&prefix));
        Some((len, prefix))
    }

    fn keep(&self, prefix: Prefix) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|other| other.tokens != prefix.tokens);
        kept.push(Arc::new(prefix));
        while kept.iter().map(|prefix| prefix.cache.capacity()).sum::<usize>() > KEPT_POSITIONS {
            kept.remove(0);
        }
    }
}

/// The tokens that are fed in whole blocks. The last token is never among them: its hidden state is asked for.
fn whole_blocks(tokens: &[u32]) -> usize {
    tokens.len().saturating_sub(1) / BLOCK * BLOCK
}
