//! An OpenAI-compatible server on a real socket that answers, fails and breaks as a test tells it.
//! In: a behaviour, a closure from a request's body to a reply. Out: an address, and a record of what was asked.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::{StreamExt, stream};
use serde_json::{Map, Value, json};
use tokio::sync::{Semaphore, oneshot};

/// What the server does with one request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A whole completion with this text, after a delay.
    Answer(String, Duration),
    /// A whole completion with this text, once the gate has a permit for it or is closed, or else after such a time.
    Gated(String, Arc<Semaphore>, Duration),
    /// A status, the header `Retry-After`, and `error.message`.
    Status(u16, Option<String>, String),
    /// A whole completion that ended for this reason, e.g. `length`.
    Finished(String, &'static str),
    /// A whole completion under another content type.
    AnswerAs(String, &'static str),
    /// A whole completion with fields of the wrong types: a number as content, texts as counts.
    WrongTypes,
    /// Status 200, a content type, and a body that is no completion: a web page, an error, no choices.
    Foreign(&'static str, String),
    /// Status 200 and the first half of a completion, properly ended.
    TornJson,
    /// Status 200 and the first half of a completion, then the connection breaks.
    ResetMidBody,
    /// The connection is closed before anything was sent.
    CloseBeforeHeaders,
    /// A whole completion, one byte each such time.
    Drip(Duration),
    /// No reply until the client goes away.
    Hang,
    /// Another reply, after a delay.
    Later(Duration, Box<Reply>),
}

impl Reply {
    /// What is left to send when its delay is over.
    async fn due(mut self) -> Reply {
        while let Reply::Later(delay, then) = self {
            tokio::time::sleep(delay).await;
            self = *then;
        }
        self
    }
}

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub authorization: Option<String>,
    pub raw: String,
    pub body: Value,
    /// [`content_key`] of the body.
    pub key: String,
    /// When it came.
    pub at: Instant,
    /// How many requests were being worked on then, this one among them.
    pub under_way: usize,
}

type Behaviour = dyn Fn(&Value, u64) -> Reply + Send + Sync;

struct Shared {
    behaviour: Box<Behaviour>,
    asked: Mutex<Vec<Asked>>,
    in_flight: AtomicUsize,
    max_in_flight: AtomicUsize,
    answered: AtomicU64,
    billed: AtomicU64,
}

impl Shared {
    /// A whole completion, made and about to be sent.
    fn whole(&self, body: &Value, text: &str, finish_reason: &str) -> String {
        self.billed.fetch_add(1, Ordering::SeqCst);
        self.answered.fetch_add(1, Ordering::SeqCst);
        completion(body, text, finish_reason).to_string()
    }

    /// The first half of a completion that is billed all the same.
    fn half(&self, body: &Value) -> String {
        self.billed.fetch_add(1, Ordering::SeqCst);
        let whole = completion(body, "an answer that never ends well", "stop").to_string();
        whole[..whole.len() / 2].to_owned()
    }
}

/// Runs until dropped, on a thread of its own: tests may block theirs.
pub struct FaultServer {
    url: String,
    shared: Arc<Shared>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl FaultServer {
    /// The behaviour is asked with each request's body and number, from 0.
    pub fn start(behaviour: impl Fn(&Value, u64) -> Reply + Send + Sync + 'static) -> Self {
        FaultServer::start_at("127.0.0.1:0", behaviour)
    }

    /// At an address where one was before, e.g. `127.0.0.1:8000`.
    pub fn start_at(address: &str, behaviour: impl Fn(&Value, u64) -> Reply + Send + Sync + 'static) -> Self {
        FaultServer::start_with(address, StatusCode::NOT_FOUND, behaviour)
    }

    /// One that answers no one, for want of the right key.
    pub fn locked() -> Self {
        let refusal = |_: &Value, _| Reply::Status(401, None, "no such key".into());
        FaultServer::start_with("127.0.0.1:0", StatusCode::UNAUTHORIZED, refusal)
    }

    /// `models`: what becomes of those who ask for the list of models; they are not counted.
    fn start_with(
        address: &str,
        models: StatusCode,
        behaviour: impl Fn(&Value, u64) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            behaviour: Box::new(behaviour),
            asked: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            max_in_flight: AtomicUsize::new(0),
            answered: AtomicU64::new(0),
            billed: AtomicU64::new(0),
        });
        let app = Router::new()
            .route("/v1/chat/completions", post(handle))
            .route("/v1/completions", post(handle))
            .route("/v1/embeddings", post(embed))
            .route("/v1/models", get(move || async move { models }))
            .layer(DefaultBodyLimit::disable())
            .with_state(shared.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                // Everything under way is dropped with the runtime when the test ends.
                tokio::select! {
                    served = async { axum::serve(listener, app).await } => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        FaultServer { url, shared, stop, thread }
    }

    /// Closes every connection and the port, and comes back when that is done.
    pub fn stop(self) {
        drop(self.stop);
        self.thread.join().unwrap();
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://").trim_end_matches("/v1")
    }

    /// The `base_url`, ending in `/v1`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Every request, in the order of arrival.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// The number of requests.
    pub fn count(&self) -> usize {
        self.shared.asked.lock().unwrap().len()
    }

    /// Comes back when all that was sent before is counted, also of those who were killed since: the server is one
    /// thread, and the answer to a connection that is made now stands behind what lies there. (Twice, for a request
    /// that is read in two pieces.)
    pub fn settled(&self) {
        for _ in 0..2 {
            let mut connection = TcpStream::connect(self.address()).unwrap();
            let request = format!("GET /v1/models HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address());
            connection.write_all(request.as_bytes()).unwrap();
            connection.read_to_end(&mut Vec::new()).unwrap();
        }
    }

    /// The number of requests with each content.
    pub fn count_by_key(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for asked in self.shared.asked.lock().unwrap().iter() {
            *counts.entry(asked.key.clone()).or_default() += 1;
        }
        counts
    }

    /// The number of whole completions sent.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::SeqCst)
    }

    /// The number of completions that a server would have billed: the whole ones, and those cut off on their way.
    pub fn billed(&self) -> u64 {
        self.shared.billed.load(Ordering::SeqCst)
    }

    /// The number of requests being worked on.
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::SeqCst)
    }

    /// The most requests that were being worked on at one time.
    pub fn max_in_flight(&self) -> usize {
        self.shared.max_in_flight.load(Ordering::SeqCst)
    }
}

/// What makes two requests the same question: messages (or prompt) and seed.
pub fn content_key(body: &Value) -> String {
    let content = json!([body.get("messages"), body.get("prompt"), body.get("seed")]);
    blake3::hash(content.to_string().as_bytes()).to_hex()[..16].to_owned()
}

/// A behaviour that gives `reply` to the first `times` requests of each content, and then does as `then`.
pub fn failing_first(
    times: u64,
    reply: Reply,
    then: impl Fn(&Value, u64) -> Reply + Send + Sync + 'static,
) -> impl Fn(&Value, u64) -> Reply + Send + Sync + 'static {
    let seen = Mutex::new(HashMap::<String, u64>::new());
    move |body, nth| {
        let mut seen = seen.lock().unwrap();
        let times_seen = seen.entry(content_key(body)).or_default();
        *times_seen += 1;
        if *times_seen <= times { reply.clone() } else { then(body, nth) }
    }
}

/// The usual behaviour: an answer that follows the schema of `response_format` and depends on nothing but the content.
pub fn answer(body: &Value, _nth: u64) -> Reply {
    let key = content_key(body);
    let text = match body.pointer("/response_format/json_schema/schema") {
        Some(schema) => following(schema, &key).to_string(),
        None => words(&key, usize::MAX),
    };
    Reply::Answer(text, Duration::ZERO)
}

/// The usual behaviour of `/v1/embeddings`: for each text `dimensions` numbers (4 where nothing is said) that depend on
/// the text only, the last text first. A token is a word.
pub fn embeddings(body: &Value, _nth: u64) -> Reply {
    let texts: Vec<&str> = body["input"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let dimensions = body["dimensions"].as_u64().unwrap_or(4) as usize;
    let mut data: Vec<Value> = (0..).zip(&texts).map(|(index, text)| embedding(index, text, dimensions)).collect();
    data.reverse();
    let tokens: usize = texts.iter().map(|text| text.split_whitespace().count()).sum();
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    let whole = json!({"object": "list", "data": data, "model": body["model"], "usage": usage});
    Reply::Answer(whole.to_string(), Duration::ZERO)
}

/// One entry of `data`.
pub fn embedding(index: usize, text: &str, dimensions: usize) -> Value {
    let mut bytes = blake3::Hasher::new().update(text.as_bytes()).finalize_xof();
    let mut number = || {
        let mut byte = [0];
        bytes.fill(&mut byte);
        f64::from(byte[0]) / 256.0
    };
    json!({"object": "embedding", "index": index, "embedding": (0..dimensions).map(|_| number()).collect::<Vec<_>>()})
}

/// A value that the schema allows, derived from `salt`.
fn following(schema: &Value, salt: &str) -> Value {
    let number = || u64::from(blake3::hash(salt.as_bytes()).as_bytes()[0]);
    let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
    if let Some(value) = schema.get("const") {
        return value.clone();
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values[number() as usize % values.len()].clone();
    }
    if let Some(schemas) = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(*key)).and_then(Value::as_array) {
        return following(&schemas[0], salt);
    }
    let kind = schema.get("type").and_then(|kind| kind.as_str().or_else(|| kind.get(0)?.as_str()));
    match kind {
        Some("object") => {
            let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
            let values =
                properties.iter().map(|(name, schema)| (name.clone(), following(schema, &format!("{salt}.{name}"))));
            Value::Object(values.collect::<Map<_, _>>())
        }
        Some("array") => {
            let items = schema.get("items").cloned().unwrap_or(json!({"type": "string"}));
            let length = bound("minItems").unwrap_or(1);
            (0..length).map(|i| following(&items, &format!("{salt}.{i}"))).collect()
        }
        Some("integer") => json!(bound("minimum").unwrap_or(0) + number() % bound("maximum").map_or(100, |n| n + 1)),
        Some("number") => json!(bound("minimum").unwrap_or(0) as f64 + number() as f64 / 256.0),
        Some("boolean") => json!(number() % 2 == 0),
        Some("null") => Value::Null,
        _ => words(salt, bound("maxLength").unwrap_or(u64::MAX) as usize).into(),
    }
}

/// Eight words that nothing else has.
fn words(salt: &str, max_length: usize) -> String {
    let hex = blake3::hash(salt.as_bytes()).to_hex();
    let words: Vec<&str> = (0..8).map(|i| &hex[i * 6..i * 6 + 6]).collect();
    words.join(" ").chars().take(max_length).collect()
}

/// Counts a request as under way until its handler is done or dropped.
struct UnderWay(Arc<Shared>);

impl UnderWay {
    fn new(shared: &Arc<Shared>) -> Self {
        let now = shared.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        shared.max_in_flight.fetch_max(now, Ordering::SeqCst);
        UnderWay(shared.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn handle(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, raw: Bytes) -> Response {
    let _under_way = UnderWay::new(&shared);
    let Ok(body) = serde_json::from_slice::<Value>(&raw) else {
        return error(400, None, "the body is not JSON");
    };
    let asked = Asked {
        path: uri.path().to_owned(),
        authorization: headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned()),
        raw: String::from_utf8(raw.to_vec()).unwrap(),
        key: content_key(&body),
        body: body.clone(),
        at: Instant::now(),
        under_way: shared.in_flight.load(Ordering::SeqCst),
    };
    let nth = {
        let mut all = shared.asked.lock().unwrap();
        all.push(asked);
        all.len() as u64 - 1
    };
    let reply = (shared.behaviour)(&body, nth);
    match reply.due().await {
        Reply::Answer(text, delay) => {
            tokio::time::sleep(delay).await;
            json_response(shared.whole(&body, &text, "stop").into())
        }
        Reply::Gated(text, gate, longest) => {
            if let Ok(Ok(permit)) = tokio::time::timeout(longest, gate.acquire()).await {
                permit.forget();
            }
            json_response(shared.whole(&body, &text, "stop").into())
        }
        Reply::Finished(text, reason) => json_response(shared.whole(&body, &text, reason).into()),
        Reply::AnswerAs(text, kind) => {
            ([(header::CONTENT_TYPE, kind)], shared.whole(&body, &text, "stop")).into_response()
        }
        Reply::WrongTypes => {
            let mut whole: Value = serde_json::from_str(&shared.whole(&body, "42", "stop")).unwrap();
            whole["choices"][0]["message"]["content"] = json!(42);
            whole["usage"] = json!({"prompt_tokens": "many", "completion_tokens": "3"});
            json_response(whole.to_string().into())
        }
        Reply::Foreign(kind, body) => ([(header::CONTENT_TYPE, kind)], body).into_response(),
        Reply::Status(code, retry_after, message) => error(code, retry_after, &message),
        Reply::TornJson => json_response(shared.half(&body).into()),
        Reply::ResetMidBody => {
            let first = stream::iter([Ok(Bytes::from(shared.half(&body)))]);
            let breaks = stream::once(async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Err(std::io::Error::other("broken on purpose"))
            });
            json_response(Body::from_stream(first.chain(breaks)))
        }
        // Ends the task of this connection, without the message that a panic prints.
        Reply::CloseBeforeHeaders => std::panic::resume_unwind(Box::new("closed on purpose")),
        Reply::Drip(pause) => {
            let bytes = completion(&body, "an answer that takes its time", "stop").to_string().into_bytes();
            let drops = stream::iter(bytes).then(move |byte| async move {
                tokio::time::sleep(pause).await;
                Ok::<_, std::io::Error>(Bytes::from(vec![byte]))
            });
            json_response(Body::from_stream(drops))
        }
        Reply::Hang => std::future::pending().await,
        Reply::Later(..) => unreachable!("its delay is over"),
    }
}

/// `/v1/embeddings`: the text of an answer is the whole body.
async fn embed(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, raw: Bytes) -> Response {
    let _under_way = UnderWay::new(&shared);
    let Ok(body) = serde_json::from_slice::<Value>(&raw) else {
        return error(400, None, "the body is not JSON");
    };
    let asked = Asked {
        path: uri.path().to_owned(),
        authorization: headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned()),
        raw: String::from_utf8(raw.to_vec()).unwrap(),
        key: blake3::hash(body["input"].to_string().as_bytes()).to_hex().to_string(),
        body: body.clone(),
        at: Instant::now(),
        under_way: shared.in_flight.load(Ordering::SeqCst),
    };
    let nth = {
        let mut all = shared.asked.lock().unwrap();
        all.push(asked);
        all.len() as u64 - 1
    };
    let whole = |body: &Value| match embeddings(body, 0) {
        Reply::Answer(whole, _) => whole,
        _ => unreachable!(),
    };
    let reply = (shared.behaviour)(&body, nth);
    match reply.due().await {
        Reply::Answer(text, delay) => {
            tokio::time::sleep(delay).await;
            shared.answered.fetch_add(1, Ordering::SeqCst);
            shared.billed.fetch_add(1, Ordering::SeqCst);
            json_response(text.into())
        }
        Reply::Status(code, retry_after, message) => error(code, retry_after, &message),
        Reply::TornJson | Reply::ResetMidBody => {
            let whole = whole(&body);
            json_response(whole[..whole.len() / 2].to_owned().into())
        }
        Reply::Foreign(kind, body) => ([(header::CONTENT_TYPE, kind)], body).into_response(),
        Reply::CloseBeforeHeaders => std::panic::resume_unwind(Box::new("closed on purpose")),
        Reply::Hang => std::future::pending().await,
        other => unreachable!("{other:?} is for completions"),
    }
}

fn json_response(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn error(code: u16, retry_after: Option<String>, message: &str) -> Response {
    let body = json!({"error": {"message": message, "type": "fault", "code": code}}).to_string();
    let mut response = (StatusCode::from_u16(code).unwrap(), body).into_response();
    if let Some(wait) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, wait.parse().unwrap());
    }
    response
}

/// A completion body of the kind that was asked for. A token is a word.
fn completion(body: &Value, text: &str, finish_reason: &str) -> Value {
    let prompt = body.get("messages").or_else(|| body.get("prompt")).map(Value::to_string).unwrap_or_default();
    let (prompt_tokens, completion_tokens) = (prompt.split_whitespace().count(), text.split_whitespace().count());
    let (object, choice) = if body.get("messages").is_some() {
        let message = json!({"role": "assistant", "content": text});
        ("chat.completion", json!({"index": 0, "message": message, "finish_reason": finish_reason}))
    } else {
        ("text_completion", json!({"index": 0, "text": text, "finish_reason": finish_reason}))
    };
    json!({
        "id": format!("cmpl-{}", content_key(body)),
        "object": object,
        "created": 0,
        "model": body.get("model"),
        "choices": [choice],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    })
}
