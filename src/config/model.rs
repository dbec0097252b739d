//! One `[models.<name>]` table of `seedmill.toml`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde_json::{Map, Value};

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provider {
    /// Any server that speaks OpenAI's HTTP protocol.
    OpenAi,
    /// The small model in this process.
    Embedded,
}

impl Provider {
    pub fn as_str(self) -> &'static str {
        match self {
            Provider::OpenAi => "openai",
            Provider::Embedded => "embedded",
        }
    }
}

/// Which OpenAI call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Api {
    #[default]
    Chat,
    /// For base models: `/completions` over the concatenated messages.
    Completions,
}

/// US dollars for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Price {
    pub input: f64,
    pub output: f64,
}

impl Price {
    /// The cost in US dollars of a call with these token counts.
    pub fn cost_usd(&self, prompt_tokens: u64, completion_tokens: u64) -> f64 {
        (prompt_tokens as f64 * self.input + completion_tokens as f64 * self.output) / 1e6
    }
}

/// A configured model. No secret is in it: keys are named by environment variable.
#[derive(Clone, PartialEq)]
pub struct ModelConfig {
    pub provider: Provider,
    /// For `openai`: one or more `…/v1` addresses without a trailing slash.
    pub base_urls: Vec<String>,
    /// The model's name as it is sent. For `embedded`: the built-in model's name.
    pub model: String,
    /// Part of a call's identity; for servers that serve other weights under one name.
    pub revision: String,
    pub api: Api,
    /// The environment variable that holds the key.
    pub api_key_env: Option<String>,
    /// The file whose first line is the key.
    pub api_key_file: Option<PathBuf>,
    pub context_length: Option<u32>,
    /// Merged into every request's body.
    pub extra_body: Map<String, Value>,
    pub headers: BTreeMap<String, String>,
    pub max_in_flight: usize,
    pub requests_per_minute: Option<u64>,
    pub tokens_per_minute: Option<u64>,
    /// Whether fewer are in flight when answers become slow. Off: long answers take long too.
    pub adapt_to_latency: bool,
    pub price_per_million: Price,
    /// Seconds before an attempt is given up.
    pub timeout_seconds: f64,
    /// How often a failed attempt is made again.
    pub max_retries: u32,
    /// The widest wait before the first retry, in seconds; it doubles with each one, up to 60 s.
    pub retry_base_seconds: f64,
    /// An answer with a longer body is cut off and is an error.
    pub max_response_bytes: u64,
    /// Whether `max_tokens` is sent as `max_completion_tokens`, as OpenAI's reasoning models want it.
    pub max_completion_tokens: bool,
    /// Whether the server takes `response_format`; otherwise the schema is stated in the prompt.
    pub response_format: bool,
    /// The length of this model's embeddings, so that `embed` gives FLOAT[n]; it is not sent.
    pub dimensions: Option<u32>,
    /// How many texts one request of `embed` has at most.
    pub embed_batch_size: usize,
    /// For `embedded`: a GGUF file of the user's instead of the built-in model's.
    pub weights: Option<PathBuf>,
}

/// Without the values of headers and the queries of addresses, which may be secrets.
impl fmt::Debug for ModelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<&str> =
            self.base_urls.iter().map(|url| url.split(['?', '#']).next().unwrap_or_default()).collect();
        f.debug_struct("ModelConfig")
            .field("provider", &self.provider)
            .field("model", &self.model)
            .field("revision", &self.revision)
            .field("base_urls", &urls)
            .field("headers", &self.headers.keys())
            .field("max_in_flight", &self.max_in_flight)
            .finish_non_exhaustive()
    }
}

impl ModelConfig {
    /// The built-in model, which `local` names when nothing is configured.
    pub fn embedded() -> Self {
        ModelConfig {
            provider: Provider::Embedded,
            base_urls: Vec::new(),
            model: "SmolLM2-135M-Instruct".into(),
            revision: String::new(),
            api: Api::Completions,
            api_key_env: None,
            api_key_file: None,
            context_length: None,
            extra_body: Map::new(),
            headers: BTreeMap::new(),
            max_in_flight: std::thread::available_parallelism().map_or(2, |n| n.get()),
            requests_per_minute: None,
            tokens_per_minute: None,
            adapt_to_latency: false,
            price_per_million: Price::default(),
            timeout_seconds: 600.0,
            max_retries: 0,
            retry_base_seconds: 0.5,
            max_response_bytes: 64 << 20,
            max_completion_tokens: false,
            response_format: true,
            dimensions: None,
            embed_batch_size: 64,
            weights: None,
        }
    }

    /// An OpenAI-compatible server at one address, with the defaults of every setting.
    pub fn openai(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        ModelConfig {
            provider: Provider::OpenAi,
            base_urls: vec![base_url.into()],
            model: model.into(),
            api: Api::Chat,
            max_in_flight: 64,
            timeout_seconds: 600.0,
            max_retries: 6,
            ..ModelConfig::embedded()
        }
    }
}
