//! Any server that speaks OpenAI's HTTP protocol, at one address or several.
//! In: a logical request. Out: the server's body as it came, or why there is none.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::Utc;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, StatusCode, Uri};

use super::connections::{Failure, Reply};
use super::context_bound::least_tokens;
use super::openai_body::{body, reserved};
use super::openai_error::{cut, refuses_response_format, retry_after, says_too_long, server_message};
use super::replicas::{Replica, Replicas};
use super::secrets::Secrets;
use super::{
    Answer, Completion, EmbeddingAnswer, Endpoint, ErrorKind, ModelIdentity, Parameters, Request, SendError,
    openai_embeddings,
};
use crate::config::ModelConfig;

/// A server that is there lists its models in this time.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Enough of an error's body for its message.
const MAX_ERROR_BYTES: u64 = 64 << 10;

/// An OpenAI-compatible model.
#[derive(Debug)]
pub struct OpenAiEndpoint {
    identity: ModelIdentity,
    config: ModelConfig,
    /// What every request carries but the key.
    headers: HeaderMap,
    timeout: Duration,
    replicas: Replicas,
    secrets: Secrets,
    /// The server takes no `response_format`: the schema is stated in the prompt from then on.
    states_schema: AtomicBool,
    /// How often bodies of these hashes were refused for their `response_format`, as it seems, and not sent without it yet:
    /// samples may have one body.
    format_refused: Mutex<HashMap<u64, usize>>,
}

impl OpenAiEndpoint {
    /// The error, of kind `Request`, says which setting is wrong.
    pub fn new(config: &ModelConfig) -> Result<Self, SendError> {
        let wrong = |message: String| SendError::new(ErrorKind::Request, message);
        if config.base_urls.is_empty() {
            return Err(wrong(format!("model '{}' has no base_urls", config.model)));
        }
        if let Some(key) = reserved(&config.extra_body) {
            return Err(wrong(format!("extra_body of model '{}' may not set '{key}'", config.model)));
        }
        let replicas = Replicas::new(&config.base_urls, config.api)?;
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("seedmill/", env!("CARGO_PKG_VERSION"))));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        for (name, value) in &config.headers {
            let invalid = || wrong(format!("the header {name:?} of model '{}' is not a valid header", config.model));
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
            let mut value = HeaderValue::from_str(value).map_err(|_| invalid())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let timeout = Duration::try_from_secs_f64(config.timeout_seconds)
            .map_err(|_| wrong(format!("timeout_seconds of model '{}' is no duration", config.model)))?;
        Ok(OpenAiEndpoint {
            identity: ModelIdentity {
                provider: config.provider.as_str().into(),
                model: config.model.as_str().into(),
                revision: config.revision.as_str().into(),
            },
            headers,
            timeout,
            secrets: Secrets::new(config),
            states_schema: AtomicBool::new(!config.response_format),
            format_refused: Mutex::default(),
            config: config.clone(),
            replicas,
        })
    }

    async fn attempt(&self, replica: &Replica, key: Option<&str>, request: &Request) -> Result<Answer, SendError> {
        let written = |response_format: bool| {
            body(&self.config, request, response_format)
                .map_err(|e| SendError::new(ErrorKind::Request, format!("the request is no JSON: {e}")))
        };
        if request.schema.is_none() || self.states_schema.load(Ordering::Relaxed) {
            return self.complete(replica, key, written(false)?, false).await;
        }
        let with_format = written(true)?;
        let hash = {
            let mut hasher = DefaultHasher::new();
            with_format.hash(&mut hasher);
            hasher.finish()
        };
        if !self.take_refusal(hash) {
            let result = self.complete(replica, key, with_format, true).await;
            if result.as_ref().is_err_and(|error| error.again) {
                *self.format_refused().entry(hash).or_default() += 1;
            }
            return result;
        }
        let result = self.complete(replica, key, written(false)?, false).await;
        // A server may quote a request that it refuses for another reason: only an answer shows what the reason was.
        if result.is_ok() && !self.states_schema.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "model '{}' takes no response_format, so schemas are stated in the prompt; response_format = false in \
                 seedmill.toml saves the first refusal",
                self.config.model
            );
        }
        result
    }

    fn format_refused(&self) -> MutexGuard<'_, HashMap<u64, usize>> {
        self.format_refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a body of this hash was refused and is to be sent without its `response_format` now.
    fn take_refusal(&self, hash: u64) -> bool {
        let mut refused = self.format_refused();
        let Some(times) = refused.get_mut(&hash) else { return false };
        *times -= 1;
        if *times == 0 {
            refused.remove(&hash);
        }
        true
    }

    /// Posts a body and reads the completion.
    async fn complete(
        &self,
        replica: &Replica,
        key: Option<&str>,
        body: String,
        response_format: bool,
    ) -> Result<Answer, SendError> {
        let (status, body) = self.post(replica, &replica.url, key, body, response_format).await?;
        match Completion::from_body(&body) {
            Ok(completion) => Ok(Answer { status, body, completion }),
            Err(missing) => Err(torn(replica, &body, missing)),
        }
    }

    /// Posts a body and reads a 2xx answer to its end.
    async fn post(
        &self,
        replica: &Replica,
        url: &Uri,
        key: Option<&str>,
        body: String,
        response_format: bool,
    ) -> Result<(u16, String), SendError> {
        let reply = self.exchange(replica, Method::POST, url, key, body, self.timeout).await?;
        if !reply.status.is_success() {
            return Err(self.refused(replica, &reply, response_format));
        }
        let Reply { status, body, broken, .. } = reply;
        if let Some(failure) = broken {
            return Err(self.failed(replica, failure, self.timeout));
        }
        let limit = self.config.max_response_bytes;
        if body.len() as u64 > limit {
            let message = format!("the answer of {} is longer than max_response_bytes = {limit}", replica.place);
            return Err(SendError::new(ErrorKind::TooLarge, message));
        }
        // A text may be cut inside a character: it is paid, and kept but for that.
        let body = String::from_utf8(body).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
        Ok((status.as_u16(), self.secrets.hide_in_answer(body)))
    }

    /// A request to one server, and its reply of whatever status.
    async fn exchange(
        &self,
        replica: &Replica,
        method: Method,
        url: &Uri,
        key: Option<&str>,
        body: String,
        timeout: Duration,
    ) -> Result<Reply, SendError> {
        let mut request = replica.connections.request(body);
        if method == Method::POST {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        *request.method_mut() = method;
        *request.uri_mut() = url.clone();
        for (name, value) in &self.headers {
            request.headers_mut().insert(name, value.clone());
        }
        if let Some(key) = key {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| {
                let message = format!("the key of model '{}' has characters that no header takes", self.config.model);
                SendError::new(ErrorKind::Request, message)
            })?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let limit = self.config.max_response_bytes;
        let limit = |status: StatusCode| if status.is_success() { limit } else { MAX_ERROR_BYTES };
        let reply = replica.connections.send(request, limit, timeout).await;
        reply.map_err(|failure| self.failed(replica, failure, timeout))
    }

    /// Asks one server for its list of models. A server without such a list, or too busy for it, is there all the same.
    async fn list_models(&self, replica: &Replica, key: Option<&str>) -> Result<(), SendError> {
        let url = &replica.models;
        let reply = self.exchange(replica, Method::GET, url, key, String::new(), PROBE_TIMEOUT).await?;
        if matches!(reply.status.as_u16(), 401 | 403) {
            return Err(self.refused(replica, &reply, false));
        }
        Ok(())
    }

    /// Sends one attempt to the replica whose turn it is, and tells the replicas what became of it.
    async fn visit<T>(
        &self,
        attempt: impl AsyncFnOnce(&Replica, Option<&str>) -> Result<T, SendError>,
    ) -> Result<T, SendError> {
        let key = self.secrets.key()?;
        let visit = self.replicas.choose(Instant::now());
        let visit = visit.ok_or_else(|| SendError::new(ErrorKind::Request, "the model has no base_urls"))?;
        let result = attempt(visit.replica(), key).await;
        let elsewhere = visit.ended(result.as_ref().err().map(|error| error.kind), Instant::now());
        result.map_err(|mut error| {
            error.again |= elsewhere;
            error.message = cut(&self.secrets.hide_in_error(error.message));
            error
        })
    }

    /// No answer came: why.
    fn failed(&self, replica: &Replica, failure: Failure, timeout: Duration) -> SendError {
        let place = &replica.place;
        match failure {
            Failure::Connect(cause) => SendError::new(ErrorKind::Connect, format!("no connection to {place}: {cause}")),
            Failure::Timeout => {
                let message = format!("{place} gave no answer in {} s", timeout.as_secs_f64());
                SendError::new(ErrorKind::Timeout, message)
            }
            Failure::Reset(cause) => {
                SendError::new(ErrorKind::Reset, format!("the connection to {place} broke: {cause}"))
            }
        }
    }

    /// A status other than 2xx. The status counts also where its body cannot be read.
    fn refused(&self, replica: &Replica, reply: &Reply, response_format: bool) -> SendError {
        let status = reply.status;
        let retry_after = retry_after(&reply.headers, Utc::now());
        let body = String::from_utf8_lossy(&reply.body);
        let code = status.as_u16();
        let kind = match code {
            400 | 413 | 422 if says_too_long(&body) => ErrorKind::ContextOverflow(Some(code)),
            408 | 409 | 429 | 500.. => ErrorKind::Busy(code),
            _ => ErrorKind::Refused(code),
        };
        let message = match server_message(&body) {
            Some(message) => message,
            None if status.is_redirection() => {
                format!("{} redirects elsewhere; put the right address in base_urls", replica.place)
            }
            None => format!("{} says {}", replica.place, status.canonical_reason().unwrap_or("no more")),
        };
        let again = response_format
            && !matches!(kind, ErrorKind::ContextOverflow(_))
            && matches!(code, 400 | 422 | 501)
            && refuses_response_format(&body);
        SendError { kind, message, retry_after, again }
    }
}

#[async_trait]
impl Endpoint for OpenAiEndpoint {
    fn identity(&self) -> &ModelIdentity {
        &self.identity
    }

    fn can_be_asked(&self) -> Result<(), SendError> {
        self.secrets.key().map(drop)
    }

    fn check(&self, request: &Request) -> Result<(), SendError> {
        let Some(context) = self.config.context_length.map(u64::from) else { return Ok(()) };
        let least = least_tokens(request);
        if least <= context {
            return Ok(());
        }
        let answer = match request.parameters.max_tokens {
            Some(n) => format!(" with max_tokens = {n}"),
            None => String::new(),
        };
        let message = format!(
            "the prompt{answer} takes at least {least} tokens, more than context_length = {context} of model '{}'; it was \
             not sent",
            self.config.model
        );
        Err(SendError::new(ErrorKind::ContextOverflow(None), message))
    }

    async fn probe(&self) -> Result<(), SendError> {
        let key = self.secrets.key()?;
        let mut last = Ok(());
        for replica in self.replicas.iter() {
            last = self.list_models(replica, key).await;
            if last.is_ok() {
                return last;
            }
        }
        last.map_err(|mut error| {
            error.message = cut(&self.secrets.hide_in_error(error.message));
            error
        })
    }

    async fn send(&self, request: &Request) -> Result<Answer, SendError> {
        if let Some(key) = reserved(&request.parameters.extra) {
            return Err(SendError::new(ErrorKind::Request, format!("extra may not set '{key}'")));
        }
        self.visit(async |replica, key| self.attempt(replica, key, request).await).await
    }

    async fn embed(&self, texts: &[&str], parameters: &Parameters) -> Result<Vec<EmbeddingAnswer>, SendError> {
        if let Some(key) = openai_embeddings::reserved_key(&parameters.extra) {
            return Err(SendError::new(ErrorKind::Request, format!("extra may not set '{key}'")));
        }
        let body = openai_embeddings::body(&self.config, texts, parameters).to_string();
        self.visit(async |replica, key| {
            let (_, body) = self.post(replica, &replica.embeddings, key, body, false).await?;
            openai_embeddings::read(&body, texts).map_err(|missing| torn(replica, &body, missing))
        })
        .await
    }
}

/// A 2xx body that is no answer. Some gateways send an error with status 200.
fn torn(replica: &Replica, body: &str, missing: String) -> SendError {
    let message = match serde_json::from_str::<serde_json::Value>(body) {
        Ok(value) if value.get("error").is_some() => server_message(body).unwrap_or(missing),
        Err(_) if body.trim_start().starts_with('<') => "the answer is a web page".to_owned(),
        _ => missing,
    };
    SendError::new(ErrorKind::TornBody, format!("{}: {message}", replica.place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_would_change_the_call_are_refused() {
        let mut config = ModelConfig::openai("http://h/v1", "m");
        config.extra_body.insert("stream".into(), true.into());
        assert!(OpenAiEndpoint::new(&config).unwrap_err().message.contains("may not set 'stream'"));
    }
}
