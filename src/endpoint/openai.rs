//! Any server that speaks OpenAI's HTTP protocol, at one address or several.
//! In: a logical request. Out: the server's body as it came, or why there is none.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::Utc;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, Url, redirect};

use super::openai_body::{body, reserved};
use super::openai_error::{cut, retry_after, server_message};
use super::{
    Answer, Completion, EmbeddingAnswer, Endpoint, ErrorKind, ModelIdentity, Parameters, Request, SendError,
    openai_embeddings,
};
use crate::config::{Api, ModelConfig};

/// A server that cannot be reached in this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An answer above this is not a completion, and would fill the memory.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// Enough of an error's body for its message.
const MAX_ERROR_BYTES: usize = 64 << 10;
/// How long a server that was not there is passed over while others are.
const AVOID_MS: u64 = 5_000;

/// One address, and how much it has to do.
#[derive(Debug)]
struct Server {
    url: Url,
    embeddings: Url,
    /// `host:port`, for messages.
    place: String,
    outstanding: AtomicUsize,
    /// Milliseconds after the endpoint's start until which other servers are preferred.
    avoid_until: AtomicU64,
}

/// An OpenAI-compatible model.
#[derive(Debug)]
pub struct OpenAiEndpoint {
    identity: ModelIdentity,
    config: ModelConfig,
    client: Client,
    servers: Vec<Server>,
    /// Where the search for a free server starts, so that equally free ones take turns.
    turn: AtomicUsize,
    started: Instant,
    /// Read at the first request.
    key: OnceLock<Key>,
}

/// A secret: never printed, not even by `Debug`.
struct Key(String);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Key::SHOWN)
    }
}

impl Key {
    /// What stands in its place wherever it is shown.
    const SHOWN: &str = "[key]";
}

/// One request under way at a server; ends when dropped.
struct Outstanding<'a>(&'a Server);

impl Drop for Outstanding<'_> {
    fn drop(&mut self) {
        self.0.outstanding.fetch_sub(1, Ordering::Relaxed);
    }
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
        let servers: Vec<Server> =
            config.base_urls.iter().map(|url| Server::new(url, config.api)).collect::<Result<_, _>>()?;
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            let invalid = || wrong(format!("the header {name:?} of model '{}' is not a valid header", config.model));
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
            let mut value = HeaderValue::from_str(value).map_err(|_| invalid())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let timeout = Duration::try_from_secs_f64(config.timeout_seconds)
            .map_err(|_| wrong(format!("timeout_seconds of model '{}' is no duration", config.model)))?;
        let mut client = Client::builder()
            .user_agent(concat!("seedmill/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .timeout(timeout)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(config.max_in_flight)
            // A redirected POST may become a GET, and a key is for the configured server only.
            .redirect(redirect::Policy::none());
        if servers.iter().all(|server| is_loopback(&server.url)) {
            client = client.no_proxy();
        }
        Ok(OpenAiEndpoint {
            identity: ModelIdentity {
                provider: config.provider.as_str().to_owned(),
                model: config.model.clone(),
                revision: config.revision.clone(),
            },
            client: client.build().map_err(|e| wrong(format!("no HTTP client could be made: {}", cause(e))))?,
            config: config.clone(),
            servers,
            turn: AtomicUsize::new(0),
            started: Instant::now(),
            key: OnceLock::new(),
        })
    }

    /// The least busy server that is there; the least busy of all where none is.
    fn server(&self) -> Option<Outstanding<'_>> {
        let now = self.now_ms();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let server = (0..self.servers.len())
            .map(|i| &self.servers[turn.wrapping_add(i) % self.servers.len()])
            .min_by_key(|s| (s.avoid_until.load(Ordering::Relaxed) > now, s.outstanding.load(Ordering::Relaxed)))?;
        server.outstanding.fetch_add(1, Ordering::Relaxed);
        Some(Outstanding(server))
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// The key that is sent; `None` for a model without one.
    fn key(&self) -> Result<Option<&str>, SendError> {
        let ModelConfig { api_key_env, api_key_file, model, .. } = &self.config;
        if api_key_env.is_none() && api_key_file.is_none() {
            return Ok(None);
        }
        if let Some(key) = self.key.get() {
            return Ok(Some(&key.0));
        }
        let wrong = |message: String| SendError::new(ErrorKind::Request, message);
        let from_env = api_key_env.as_ref().and_then(|name| std::env::var(name).ok());
        let key = match (from_env, api_key_file) {
            (Some(key), _) => key,
            (None, Some(file)) => std::fs::read_to_string(file).map_err(|e| {
                wrong(format!("the key file {} of model '{model}' cannot be read: {e}", file.display()))
            })?,
            (None, None) => {
                let name = api_key_env.as_deref().unwrap_or_default();
                return Err(wrong(format!("the environment variable {name}, the key of model '{model}', is not set")));
            }
        };
        let key = key.lines().next().unwrap_or_default().trim().to_owned();
        if key.is_empty() {
            return Err(wrong(format!("the key of model '{model}' is empty")));
        }
        Ok(Some(&self.key.get_or_init(|| Key(key)).0))
    }

    async fn attempt(&self, server: &Server, request: &Request) -> Result<Answer, SendError> {
        let body = body(&self.config, request).to_string();
        let (status, body) = self.post(server, &server.url, body).await?;
        match Completion::from_body(&body) {
            Ok(completion) => Ok(Answer { status, body, completion }),
            Err(missing) => Err(server.torn(&body, missing)),
        }
    }

    /// Posts a body and reads a 2xx answer to its end.
    async fn post(&self, server: &Server, url: &Url, body: String) -> Result<(u16, String), SendError> {
        let mut post = self.client.post(url.clone()).header(CONTENT_TYPE, "application/json").body(body);
        if let Some(key) = self.key()? {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| {
                let message = format!("the key of model '{}' has characters that no header takes", self.config.model);
                SendError::new(ErrorKind::Request, message)
            })?;
            value.set_sensitive(true);
            post = post.header(AUTHORIZATION, value);
        }
        let response = post.send().await.map_err(|e| self.failed(server, e))?;
        let status = response.status();
        if !status.is_success() {
            return Err(refused(server, response).await);
        }
        let status = status.as_u16();
        let (body, end) = read(response, MAX_ANSWER_BYTES).await;
        end.map_err(|e| self.failed(server, e))?;
        let torn = |message: String| SendError::new(ErrorKind::TornBody, format!("{}: {message}", server.place));
        if body.len() > MAX_ANSWER_BYTES {
            return Err(torn(format!("the answer is longer than {MAX_ANSWER_BYTES} bytes")));
        }
        let body = String::from_utf8(body).map_err(|_| torn("the answer is not UTF-8".into()))?;
        Ok((status, body))
    }

    /// An error as users may see it.
    fn shown(&self, mut error: SendError) -> SendError {
        // Servers quote what they were sent.
        if let Some(key) = self.key.get() {
            error.message = error.message.replace(&key.0, Key::SHOWN);
        }
        error.message = cut(&error.message);
        error
    }

    /// No answer came: why.
    fn failed(&self, server: &Server, error: reqwest::Error) -> SendError {
        let place = &server.place;
        if error.is_connect() {
            server.avoid_until.store(self.now_ms() + AVOID_MS, Ordering::Relaxed);
            SendError::new(ErrorKind::Connect, format!("no connection to {place}: {}", cause(error)))
        } else if error.is_timeout() {
            let message = format!("{place} gave no answer in {} s", self.config.timeout_seconds);
            SendError::new(ErrorKind::Timeout, message)
        } else if error.is_builder() {
            SendError::new(ErrorKind::Request, format!("the request could not be made: {}", cause(error)))
        } else {
            SendError::new(ErrorKind::Reset, format!("the connection to {place} broke: {}", cause(error)))
        }
    }
}

#[async_trait]
impl Endpoint for OpenAiEndpoint {
    fn identity(&self) -> &ModelIdentity {
        &self.identity
    }

    async fn send(&self, request: &Request) -> Result<Answer, SendError> {
        if let Some(key) = reserved(&request.parameters.extra) {
            return Err(SendError::new(ErrorKind::Request, format!("extra may not set '{key}'")));
        }
        let server = self.server().ok_or_else(|| SendError::new(ErrorKind::Request, "the model has no base_urls"))?;
        self.attempt(server.0, request).await.map_err(|error| self.shown(error))
    }

    async fn embed(&self, texts: &[&str], parameters: &Parameters) -> Result<Vec<EmbeddingAnswer>, SendError> {
        if let Some(key) = openai_embeddings::reserved_key(&parameters.extra) {
            return Err(SendError::new(ErrorKind::Request, format!("extra may not set '{key}'")));
        }
        let server = self.server().ok_or_else(|| SendError::new(ErrorKind::Request, "the model has no base_urls"))?;
        let body = openai_embeddings::body(&self.config, texts, parameters).to_string();
        let (_, body) = self.post(server.0, &server.0.embeddings, body).await.map_err(|error| self.shown(error))?;
        openai_embeddings::read(&body, texts).map_err(|missing| self.shown(server.0.torn(&body, missing)))
    }
}

impl Server {
    fn new(base_url: &str, api: Api) -> Result<Self, SendError> {
        let wrong =
            || SendError::new(ErrorKind::Request, "base_urls must be http:// or https:// addresses without a user");
        let mut url = Url::parse(base_url).map_err(|_| wrong())?;
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
            return Err(wrong());
        }
        let place = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_owned(),
            (None, _) => return Err(wrong()),
        };
        let mut embeddings = url.clone();
        embeddings.path_segments_mut().map_err(|()| wrong())?.pop_if_empty().push("embeddings");
        url.path_segments_mut().map_err(|()| wrong())?.pop_if_empty().extend(match api {
            Api::Chat => ["chat", "completions"].as_slice(),
            Api::Completions => &["completions"],
        });
        Ok(Server { url, embeddings, place, outstanding: AtomicUsize::new(0), avoid_until: AtomicU64::new(0) })
    }

    /// A 2xx body that is no answer. Some gateways send an error with status 200.
    fn torn(&self, body: &str, missing: String) -> SendError {
        let message = match serde_json::from_str::<serde_json::Value>(body) {
            Ok(value) if value.get("error").is_some() => server_message(body).unwrap_or(missing),
            _ => missing,
        };
        SendError::new(ErrorKind::TornBody, format!("{}: {message}", self.place))
    }
}

/// A proxy of the environment is not for servers on this machine.
fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        None => false,
    }
}

/// A status other than 2xx. The status counts also where its body cannot be read.
async fn refused(server: &Server, response: Response) -> SendError {
    let status = response.status();
    let kind = match status.as_u16() {
        code @ (408 | 409 | 429 | 500..) => ErrorKind::Busy(code),
        code => ErrorKind::Refused(code),
    };
    let retry_after = retry_after(response.headers(), Utc::now());
    let (body, _) = read(response, MAX_ERROR_BYTES).await;
    let message = match server_message(&String::from_utf8_lossy(&body)) {
        Some(message) => message,
        None if status.is_redirection() => {
            format!("{} redirects elsewhere; put the right address in base_urls", server.place)
        }
        None => format!("{} says {}", server.place, status.canonical_reason().unwrap_or("no more")),
    };
    SendError { kind, message, retry_after }
}

/// The body up to where it passes `limit` bytes, and how it ended.
async fn read(mut response: Response, limit: usize) -> (Vec<u8>, Result<(), reqwest::Error>) {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return (body, Ok(())),
            Err(error) => return (body, Err(error)),
        }
        if body.len() > limit {
            return (body, Ok(()));
        }
    }
}

/// An error's innermost cause: the outer ones say where, not what. Never the address, which may hold a secret.
fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_becomes_the_address_of_its_api() {
        let url = |base, api| Server::new(base, api).map(|s| s.url.to_string());
        assert_eq!(url("http://h:1/v1", Api::Chat).unwrap(), "http://h:1/v1/chat/completions");
        assert_eq!(
            url("https://h/v1/?api-version=2", Api::Completions).unwrap(),
            "https://h/v1/completions?api-version=2"
        );
        let error = url("http://me:hush@h/v1", Api::Chat).unwrap_err();
        assert!(!error.message.contains("hush"));
        assert!(url("ftp://h", Api::Chat).is_err());
    }

    #[test]
    fn only_addresses_of_this_machine_are_loopback() {
        let loopback = |url: &str| is_loopback(&Url::parse(url).unwrap());
        assert!(loopback("http://127.0.0.1:8000/v1") && loopback("http://[::1]/v1") && loopback("http://localhost/v1"));
        assert!(!loopback("http://10.0.0.1/v1") && !loopback("https://localhost.example/v1"));
    }

    #[test]
    fn settings_that_would_change_the_call_are_refused() {
        let mut config = ModelConfig::openai("http://h/v1", "m");
        config.extra_body.insert("stream".into(), true.into());
        assert!(OpenAiEndpoint::new(&config).unwrap_err().message.contains("may not set 'stream'"));
    }
}
