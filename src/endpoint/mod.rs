//! Who answers a model call: a server that speaks OpenAI's protocol, or the small model in this process.
//! In: one logical request. Out: one raw answer, to be made durable before anyone parses it.

mod completion;
mod connections;
mod context_bound;
#[cfg(feature = "embedded")]
pub mod embedded;
mod latency_window;
mod limiter;
mod model;
mod nearly_json;
mod openai;
mod openai_body;
mod openai_embeddings;
mod openai_error;
mod rate_bucket;
mod replicas;
mod request;
mod retry;
mod secrets;
mod send_error;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

pub use completion::Completion;
pub use limiter::{Limiter, Permit};
pub use model::{Model, ModelError, Models};
pub use openai::OpenAiEndpoint;
pub use request::{Message, Parameters, Request};
pub use retry::RetryPolicy;
pub use send_error::{ErrorKind, SendError};

/// What makes a model's answers its own: part of every call's identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelIdentity {
    /// `openai` or `embedded`.
    pub provider: Arc<str>,
    /// The model's name as sent.
    pub model: Arc<str>,
    /// The configured revision; for `embedded` the SHA-256 of the weights.
    pub revision: Arc<str>,
}

/// One answer as it came: status 2xx and the whole body, a JSON document in the shape of OpenAI's
/// `chat.completion` (or `text_completion`) object.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
    /// The body as [`Completion::from_body`] reads it.
    pub completion: Completion,
}

/// One text's part of the answer to a batch of texts.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingAnswer {
    /// Finite numbers, at least one; or the sentence that says what is wrong with this text's embedding.
    pub embedding: Result<Vec<f32>, String>,
    /// This text's share of the tokens that the batch was counted as, where the server counts them.
    pub prompt_tokens: Option<u64>,
}

/// A place that answers requests.
///
/// Promises of every implementation:
/// - `send` makes exactly one attempt. It neither retries nor waits for a rate limit; the caller does.
/// - Dropping the future cancels the attempt.
/// - An `Ok` body has been checked to be a completion that [`Completion::from_body`] reads; a torn or foreign
///   2xx body is a [`SendError`] of kind [`ErrorKind::TornBody`].
/// - No secret is in an error's text.
#[async_trait]
pub trait Endpoint: Debug + Send + Sync {
    fn identity(&self) -> &ModelIdentity;

    /// Whether it has what no request goes without, such as its key. An error stops the query: no other row would fare
    /// better.
    fn can_be_asked(&self) -> Result<(), SendError> {
        Ok(())
    }

    /// What can be said of a request before it is sent: an error that sending it would surely bring, too. The caller
    /// asks before it takes a permit, and counts no attempt.
    fn check(&self, _request: &Request) -> Result<(), SendError> {
        Ok(())
    }

    /// Whether someone is there who knows the key, without asking for an answer: nothing is billed. The error says why not.
    async fn probe(&self) -> Result<(), SendError> {
        Ok(())
    }

    async fn send(&self, request: &Request) -> Result<Answer, SendError>;

    /// Embeds texts in one attempt: one answer a text, in their order. Of the parameters only `extra` is sent.
    async fn embed(&self, _texts: &[&str], _parameters: &Parameters) -> Result<Vec<EmbeddingAnswer>, SendError> {
        Err(SendError::new(ErrorKind::Request, "this provider has no embeddings"))
    }
}
