//! The small model in this process: what answers when no server is configured, and what the quickstart runs on.
//! In: one logical request. Out: a `chat.completion` body whose content, under a schema, always parses.

mod engine;
mod grammar;
mod llama;
mod prefixes;
mod sampler;
mod transcode;
mod vocabulary;
mod weights;
mod worker;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use serde_json::json;
use tokio::sync::{Mutex, OnceCell};

use engine::{Engine, Model};
use sampler::{Sampler, Sampling};
use worker::{Finish, Task};

pub use weights::{FetchEvent, MODEL_NAME, WEIGHTS_SHA256, WeightsError, fetch, weights_path};

use super::{Answer, Completion, Endpoint, ErrorKind, ModelIdentity, Request, SendError};
use crate::config::{ModelConfig, Provider};

/// Tokens of prompt and answer together, where the configuration says nothing.
const CONTEXT_LENGTH: u32 = 4096;
/// Tokens of an answer, where the call says nothing.
const MAX_TOKENS: u32 = 512;

/// Gives each worker one compute thread: to be called first thing in `main`, before any other thread.
///
/// candle reads the variables at its first use. Without them every worker's products wait for one shared pool of
/// threads, which on a busy machine is tens of times slower; the answers are the same.
pub fn prepare_process() {
    for name in ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"] {
        if std::env::var_os(name).is_none() {
            // SAFETY: the caller runs this before it starts any thread, so nobody reads the environment meanwhile.
            unsafe { std::env::set_var(name, "1") };
        }
    }
}

/// A model that runs in this process, on one thread for each call in flight.
///
/// The prompt is a raw completion: the contents of the messages, system first, with an empty line between. Answers
/// are reproducible: the tokens drawn depend on the request alone, not on the worker or on earlier requests. Under a
/// schema the answer is compact JSON that ends where the schema says; stop strings end free text only. Unset
/// parameters are temperature 0.7, top_k 40, min_p 0.05 (the last two through `extra`) and 512 tokens.
pub struct EmbeddedEndpoint {
    identity: ModelIdentity,
    /// The user's own GGUF file; `None` for the built-in model.
    weights: Option<PathBuf>,
    /// The cache folder of models.
    folder: PathBuf,
    context_length: usize,
    workers: usize,
    engine: OnceCell<Arc<Engine>>,
}

impl EmbeddedEndpoint {
    /// Loads nothing: weights are read, and fetched if missing, at the first `send`. A file of the user's own
    /// (`weights = "…"`) is hashed here, once, since its hash is part of every call's identity.
    pub fn new(config: &ModelConfig) -> Result<EmbeddedEndpoint, SendError> {
        Self::with_cache(config, weights::models_folder())
    }

    fn with_cache(config: &ModelConfig, folder: PathBuf) -> Result<EmbeddedEndpoint, SendError> {
        let wrong = |message: String| SendError::new(ErrorKind::Request, message);
        if config.provider != Provider::Embedded {
            return Err(wrong(format!(
                "a model of provider {} does not run in this process",
                config.provider.as_str()
            )));
        }
        let (model, revision) = match &config.weights {
            Some(path) => {
                // The default name is not this file's.
                let named = !config.model.is_empty() && config.model != MODEL_NAME;
                let stem = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                let model = if named { config.model.clone() } else { stem() };
                (model, weights::sha256_of(path, &folder).map_err(wrong)?)
            }
            None if config.model.is_empty() || config.model == MODEL_NAME => {
                (MODEL_NAME.to_owned(), WEIGHTS_SHA256.to_owned())
            }
            None => {
                return Err(wrong(format!(
                    "the built-in model is {MODEL_NAME}, not {}; for another one set weights = \"….gguf\"",
                    config.model
                )));
            }
        };
        Ok(EmbeddedEndpoint {
            identity: ModelIdentity {
                provider: Provider::Embedded.as_str().into(),
                model: model.into(),
                revision: revision.into(),
            },
            weights: config.weights.clone(),
            folder,
            context_length: config.context_length.unwrap_or(CONTEXT_LENGTH) as usize,
            workers: config.max_in_flight.max(1),
            engine: OnceCell::new(),
        })
    }

    /// The loaded model. Endpoints over the same weights share one, and so share the cores.
    async fn engine(&self) -> Result<&Arc<Engine>, SendError> {
        type Loaded = (String, usize, usize, Weak<Engine>);
        static LOADED: Mutex<Vec<Loaded>> = Mutex::const_new(Vec::new());

        let load = async {
            let mut loaded = LOADED.lock().await;
            loaded.retain(|(.., engine)| engine.strong_count() > 0);
            let same = |(revision, context, workers, _): &&Loaded| {
                **revision == *self.identity.revision && *context == self.context_length && *workers == self.workers
            };
            if let Some(engine) = loaded.iter().find(same).and_then(|(.., engine)| engine.upgrade()) {
                return Ok(engine);
            }
            let source = match &self.weights {
                Some(path) => path.clone(),
                None => fetch(&|_| {}).await.map_err(|e| e.to_string())?,
            };
            let (revision, folder) = (self.identity.revision.to_string(), self.folder.clone());
            let (context, workers) = (self.context_length, self.workers);
            let start = move || {
                let path = weights::with_fast_kernels(&source, &revision, &folder)?;
                Engine::start(Model::load(&path, context)?, workers)
            };
            let engine = tokio::task::spawn_blocking(start)
                .await
                .map_err(|e| format!("loading the embedded model: {}", grammar::first_line(&e)))??;
            let engine = Arc::new(engine);
            loaded.push((self.identity.revision.to_string(), context, workers, Arc::downgrade(&engine)));
            Ok(engine)
        };
        let loaded = self.engine.get_or_try_init(|| load).await;
        loaded.map_err(|message: String| SendError::new(ErrorKind::Request, message))
    }

    fn task(&self, engine: &Engine, request: &Request) -> Result<Task, SendError> {
        let wrong = |message: String| SendError::new(ErrorKind::Request, message);
        let parameters = &request.parameters;
        let sampling = Sampling::from_parameters(parameters).map_err(wrong)?;
        let system = request.messages.iter().filter(|message| message.role == "system");
        let others = request.messages.iter().filter(|message| message.role != "system");
        let prompt = system.chain(others).map(|message| message.content.as_str()).collect::<Vec<_>>().join("\n\n");
        let tokens = engine.model.vocabulary.encode(&prompt).map_err(wrong)?;
        let context = engine.model.context_length;
        if tokens.is_empty() {
            return Err(wrong("the prompt is empty".into()));
        }
        if tokens.len() >= context {
            let message = format!(
                "the prompt has {} tokens and the context of {} holds {context}; shorten the prompt",
                tokens.len(),
                self.identity.model
            );
            return Err(SendError::new(ErrorKind::ContextOverflow(None), message));
        }
        let mut hasher = blake3::Hasher::new_derive_key("seedmill embedded sampler v1");
        match parameters.seed {
            Some(seed) => hasher.update(b"seed").update(&seed.to_le_bytes()),
            None => hasher.update(b"prompt").update(prompt.as_bytes()),
        };
        Ok(Task {
            prompt: tokens,
            schema: request.schema.clone(),
            sampler: Sampler::new(sampling, *hasher.finalize().as_bytes()),
            max_tokens: parameters.max_tokens.unwrap_or(MAX_TOKENS) as usize,
            stop: parameters.stop.clone(),
        })
    }
}

impl fmt::Debug for EmbeddedEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedEndpoint")
            .field("identity", &self.identity)
            .field("workers", &self.workers)
            .field("loaded", &self.engine.initialized())
            .finish()
    }
}

#[async_trait]
impl Endpoint for EmbeddedEndpoint {
    fn identity(&self) -> &ModelIdentity {
        &self.identity
    }

    async fn send(&self, request: &Request) -> Result<Answer, SendError> {
        let wrong = |message: String| SendError::new(ErrorKind::Request, message);
        let engine = self.engine().await?;
        let task = self.task(engine, request)?;
        let prompt_tokens = task.prompt.len();
        let generated = engine.answer(task).await.map_err(wrong)?;
        let finish_reason = match generated.finish {
            Finish::Stop => "stop",
            Finish::Length => "length",
        };
        let completion = Completion {
            text: generated.text,
            finish_reason: Some(finish_reason.to_owned()),
            prompt_tokens: Some(prompt_tokens as u64),
            completion_tokens: Some(generated.completion_tokens as u64),
            ..Completion::default()
        };
        let body = json!({
            "object": "chat.completion",
            "model": self.identity.model,
            "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": completion.text},
                "finish_reason": finish_reason,
            }],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": generated.completion_tokens,
                "total_tokens": prompt_tokens + generated.completion_tokens,
            },
        });
        Ok(Answer { status: 200, body: body.to_string(), completion })
    }
}

#[cfg(test)]
mod tests;
