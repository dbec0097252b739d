//! The HTTP provider against a server that fails in every way that servers do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use seedmill::config::{Api, ModelConfig};
use seedmill::endpoint::{
    Completion, Endpoint, ErrorKind, Message, Model, Models, OpenAiEndpoint, Parameters, Request, SendError,
};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::fault_server::{FaultServer, Reply, answer, failing_first};

fn request(prompt: &str) -> Request {
    Request {
        messages: vec![Message::new("system", "Be short."), Message::new("user", prompt)],
        parameters: Arc::new(Parameters { temperature: Some(0.7), seed: Some(7), ..Default::default() }),
        schema: Some(Arc::new(json!({
            "type": "object",
            "properties": {
                "question": {"type": "string", "maxLength": 20},
                "options": {"type": "array", "items": {"type": "string"}, "minItems": 4, "maxItems": 4},
                "index": {"type": "integer", "minimum": 0, "maximum": 3},
                "level": {"enum": ["easy", "hard"]},
                "sure": {"type": "boolean"},
            },
            "required": ["question", "options", "index", "level", "sure"],
            "additionalProperties": false,
        }))),
    }
}

fn config(server: &FaultServer) -> ModelConfig {
    ModelConfig::openai(server.url(), "m")
}

fn endpoint(server: &FaultServer) -> OpenAiEndpoint {
    OpenAiEndpoint::new(&config(server)).unwrap()
}

/// The error of one attempt at a server that always replies so.
async fn failure(reply: Reply) -> SendError {
    let server = FaultServer::start(move |_, _| reply.clone());
    endpoint(&server).send(&request("Why?")).await.unwrap_err()
}

#[tokio::test]
async fn an_answer_comes_back_whole_with_its_tokens() {
    let server = FaultServer::start(answer);
    let answer = endpoint(&server).send(&request("Why?")).await.unwrap();
    assert_eq!(answer.status, 200);
    let completion = Completion::from_body(&answer.body).unwrap();
    assert_eq!(completion.finish_reason.as_deref(), Some("stop"));
    assert!(completion.prompt_tokens > Some(0) && completion.completion_tokens > Some(0));
    let value: Value = serde_json::from_str(&completion.text).unwrap();
    assert_eq!(value["options"].as_array().unwrap().len(), 4);
    assert!(value["question"].as_str().unwrap().len() <= 20 && value["index"].as_u64().unwrap() <= 3);
    let asked = &server.asked()[0];
    assert_eq!((asked.path.as_str(), asked.authorization.as_deref()), ("/v1/chat/completions", None));
    assert_eq!(asked.body["response_format"]["json_schema"]["strict"], true);
}

#[tokio::test]
async fn a_base_model_is_asked_at_completions() {
    let server = FaultServer::start(answer);
    let config = ModelConfig { api: Api::Completions, ..config(&server) };
    let answer = OpenAiEndpoint::new(&config).unwrap().send(&request("Why?")).await.unwrap();
    assert!(!Completion::from_body(&answer.body).unwrap().text.is_empty());
    let asked = &server.asked()[0];
    assert_eq!(asked.path, "/v1/completions");
    assert_eq!(asked.body["prompt"], "Be short.\n\nWhy?");
}

#[tokio::test]
async fn a_busy_server_says_how_long_to_wait() {
    let error = failure(Reply::Status(429, Some("2".into()), "slow down".into())).await;
    assert_eq!((error.kind, error.retry_after), (ErrorKind::Busy(429), Some(Duration::from_secs(2))));
    assert_eq!(error.message, "slow down");
    let date = (chrono::Utc::now() + chrono::Duration::seconds(90)).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let wait = failure(Reply::Status(503, Some(date), "soon".into())).await.retry_after.unwrap();
    assert!((80..=90).contains(&wait.as_secs()), "{wait:?}");
}

#[tokio::test]
async fn each_way_to_fail_has_its_kind() {
    assert_eq!(failure(Reply::Status(500, None, "oops".into())).await.kind, ErrorKind::Busy(500));
    assert_eq!(failure(Reply::Status(400, None, "no".into())).await.kind, ErrorKind::Refused(400));
    assert_eq!(failure(Reply::Status(302, None, "".into())).await.kind, ErrorKind::Refused(302));
    assert_eq!(failure(Reply::TornJson).await.kind, ErrorKind::TornBody);
    assert_eq!(failure(Reply::ResetMidBody).await.kind, ErrorKind::Reset);
    let long = failure(Reply::Status(400, None, "x".repeat(9000))).await;
    assert_eq!(long.message.chars().count(), 501);
}

#[tokio::test]
async fn nobody_there_is_a_connect_error_that_names_the_place() {
    let url = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let config = ModelConfig::openai(format!("http://{url}/v1"), "m");
    let error = OpenAiEndpoint::new(&config).unwrap().send(&request("Why?")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Connect);
    assert!(error.message.contains(&url), "{error}");
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_and_let_go() {
    let server = FaultServer::start(|_, _| Reply::Hang);
    let config = ModelConfig { timeout_seconds: 0.2, ..config(&server) };
    let error = OpenAiEndpoint::new(&config).unwrap().send(&request("Why?")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout);
    let patience = Instant::now() + Duration::from_secs(5);
    while server.in_flight() > 0 {
        assert!(Instant::now() < patience, "the request still hangs");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_key_is_sent_and_never_told() {
    const KEY: &str = "sk-hush-hush-1234";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{KEY}\nsecond line")).unwrap();
    let server = FaultServer::start(|_, _| Reply::Status(401, None, format!("Incorrect API key provided: {KEY}.")));
    let with_file = ModelConfig { api_key_file: Some(file.path().into()), ..config(&server) };
    let endpoint = OpenAiEndpoint::new(&with_file).unwrap();
    let error = endpoint.send(&request("Why?")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused(401));
    assert_eq!(error.message, "Incorrect API key provided: [key].");
    assert!(!format!("{error:?}").contains(KEY));
    assert!(!format!("{endpoint:?}").contains(KEY), "not in Debug either");
    assert_eq!(server.asked()[0].authorization, Some(format!("Bearer {KEY}")));

    let unset = ModelConfig { api_key_env: Some("SEEDMILL_TEST_NO_SUCH_KEY".into()), ..config(&server) };
    let error = OpenAiEndpoint::new(&unset).unwrap().send(&request("Why?")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Request);
    assert!(error.message.contains("SEEDMILL_TEST_NO_SUCH_KEY") && error.message.contains("is not set"), "{error}");

    let set = ModelConfig { api_key_env: Some("PATH".into()), ..config(&server) };
    OpenAiEndpoint::new(&set).unwrap().send(&request("Why?")).await.unwrap_err();
    assert_eq!(server.asked()[1].authorization, std::env::var("PATH").ok().map(|path| format!("Bearer {path}")));
    assert_eq!(server.count(), 2, "without its key a request is not sent");
}

#[tokio::test]
async fn without_response_format_the_schema_is_in_the_prompt() {
    let server = FaultServer::start(answer);
    let config = ModelConfig { response_format: false, ..config(&server) };
    OpenAiEndpoint::new(&config).unwrap().send(&request("Why?")).await.unwrap();
    let body = server.asked().remove(0).body;
    assert!(body.get("response_format").is_none());
    let content = body["messages"][1]["content"].as_str().unwrap();
    assert!(content.starts_with("Why?") && content.contains(r#""minItems":4"#), "{content}");
}

#[tokio::test]
async fn the_same_request_is_sent_as_the_same_bytes() {
    let server = FaultServer::start(answer);
    let endpoint = endpoint(&server);
    for prompt in ["Why?", "Why?", "How?"] {
        endpoint.send(&request(prompt)).await.unwrap();
    }
    let asked = server.asked();
    assert_eq!(asked[0].raw, asked[1].raw);
    assert_ne!(asked[0].raw, asked[2].raw);
    assert_eq!(server.count_by_key().into_values().collect::<std::collections::BTreeSet<_>>(), [1, 2].into());
}

#[tokio::test]
async fn only_what_may_pass_is_asked_again() {
    let retried = |code: u16| async move { failure(Reply::Status(code, None, "x".into())).await.kind.is_retryable() };
    for code in [408, 409, 429, 500, 502, 503, 504, 529] {
        assert!(retried(code).await, "{code}");
    }
    for code in [400, 401, 402, 403, 404, 405, 410, 413, 415, 422, 301, 307] {
        assert!(!retried(code).await, "{code}");
    }
    let page = |kind| Reply::Foreign(kind, "<html>Log in</html>".into());
    let error = |body: &str| Reply::Foreign("application/json", body.into());
    for (reply, message) in [
        (Reply::TornJson, "is not JSON"),
        (Reply::ResetMidBody, "broke"),
        (Reply::CloseBeforeHeaders, "broke"),
        (page("text/html"), "the answer is a web page"),
        (page("application/json"), "the answer is a web page"),
        (error(r#"{"choices": []}"#), "the answer has no choices"),
        (error(r#"{"error": {"message": "upstream is gone", "code": 502}}"#), "upstream is gone"),
        (error("[]"), "the answer has no choices"),
        (error(""), "is not JSON"),
    ] {
        let error = failure(reply.clone()).await;
        assert!(error.kind.is_retryable() && error.message.contains(message), "{reply:?}: {error}");
    }
}

#[tokio::test]
async fn an_answer_over_the_limit_is_cut_off_and_not_asked_for_again() {
    let server = FaultServer::start(|_, _| Reply::Answer("long ".repeat(100_000), Duration::ZERO));
    let config = ModelConfig { max_response_bytes: 10_000, ..config(&server) };
    let error = OpenAiEndpoint::new(&config).unwrap().send(&request("Why?")).await.unwrap_err();
    assert_eq!((error.kind, error.kind.is_retryable(), error.kind.may_be_billed()), (ErrorKind::TooLarge, false, true));
    assert!(error.message.contains("longer than max_response_bytes = 10000"), "{error}");
}

#[tokio::test]
async fn an_answer_that_drips_is_given_up_after_the_whole_time() {
    let server = FaultServer::start(|_, _| Reply::Drip(Duration::from_millis(50)));
    let config = ModelConfig { timeout_seconds: 0.5, ..config(&server) };
    let error = OpenAiEndpoint::new(&config).unwrap().send(&request("Why?")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout);
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_carries_no_key() {
    let elsewhere = FaultServer::start(answer);
    let target = format!("{}/chat/completions", elsewhere.url());
    let redirecting = axum::Router::new().fallback(move || {
        let target = target.clone();
        async move { axum::response::Redirect::temporary(&target) }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, redirecting).await });
    let config = ModelConfig { api_key_env: Some("PATH".into()), ..ModelConfig::openai(url, "m") };
    let error = OpenAiEndpoint::new(&config).unwrap().send(&request("Why?")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused(307));
    assert!(error.message.contains("redirects elsewhere; put the right address in base_urls"), "{error}");
    assert_eq!(elsewhere.count(), 0);
    serving.abort();
}

#[tokio::test]
async fn https_at_a_server_without_a_certificate_is_no_connection() {
    let server = FaultServer::start(answer);
    let config = ModelConfig::openai(server.url().replace("http://", "https://"), "m");
    let error = OpenAiEndpoint::new(&config).unwrap().send(&request("Why?")).await.unwrap_err();
    assert_eq!((error.kind, server.count()), (ErrorKind::Connect, 0));
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused_before_anything_is_sent() {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        // A client that goes on would send its request, with the key, next.
        match acceptor.accept(socket).await {
            Ok(mut stream) => stream.read(&mut [0; 1024]).await.unwrap_or(0),
            Err(_) => 0,
        }
    });
    let config = ModelConfig::openai(format!("https://localhost:{port}/v1"), "m");
    let error = OpenAiEndpoint::new(&config).unwrap().send(&request("Why?")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Connect, "{error:?}");
    assert!(error.message.contains("certificate"), "{}", error.message);
    assert_eq!(server.await.unwrap(), 0, "bytes of a request");
}

#[tokio::test]
async fn a_server_that_refuses_response_format_is_told_the_schema_in_the_prompt_from_then_on() {
    for (code, message) in [
        (400, "Unrecognized request argument supplied: response_format"),
        (422, "json_schema is not a valid type"),
        (501, "Guided decoding is not implemented"),
    ] {
        let server = FaultServer::start(move |body, nth| match body.get("response_format") {
            Some(_) => Reply::Status(code, None, message.into()),
            None => answer(body, nth),
        });
        let endpoint = endpoint(&server);
        let error = endpoint.send(&request("Why?")).await.unwrap_err();
        assert!(error.again && error.message == message, "{error:?}");
        for prompt in ["Why?", "How?"] {
            endpoint.send(&request(prompt)).await.unwrap();
        }
        let asked = server.asked();
        assert_eq!(asked.len(), 3, "one refusal, however many calls");
        assert!(asked[1..].iter().all(|asked| asked.raw.contains("It must follow this JSON schema")));
    }
    // Another refusal is one.
    let error = failure(Reply::Status(400, None, "temperature is out of range".into())).await;
    assert!(!error.again);
}

#[tokio::test]
async fn a_refusal_of_one_prompt_that_quotes_it_leaves_response_format_to_the_others() {
    let server = FaultServer::start(|body, nth| match body["messages"][1]["content"].as_str() {
        Some(prompt) if prompt.starts_with("Poison") => Reply::Status(400, None, format!("cannot be answered: {body}")),
        _ => answer(body, nth),
    });
    let endpoint = endpoint(&server);
    for round in 0..2 {
        let first = endpoint.send(&request("Poison")).await.unwrap_err();
        assert!(first.again, "round {round}: it may be for the response_format");
        let second = endpoint.send(&request("Poison")).await.unwrap_err();
        assert_eq!((second.kind, second.again), (ErrorKind::Refused(400), false), "round {round}: it was not");
        endpoint.send(&request("Why?")).await.unwrap();
    }
    let with_format: Vec<bool> =
        server.asked().iter().map(|asked| asked.body.get("response_format").is_some()).collect();
    assert_eq!(with_format, [true, false, true, true, false, true]);
}

#[tokio::test]
async fn calls_that_are_refused_at_once_for_their_response_format_are_each_sent_without_it() {
    let server = FaultServer::start(|body, nth| match body.get("response_format") {
        Some(_) => Reply::Status(400, None, "response_format is not supported".into()),
        None => answer(body, nth),
    });
    let endpoint = endpoint(&server);
    // Two of them have one body, as samples have.
    let requests: Vec<Request> = (0..4).map(|n| request(&format!("Question {}?", n / 2))).collect();
    for result in join_all(requests.iter().map(|request| endpoint.send(request))).await {
        assert!(result.unwrap_err().again);
    }
    for result in join_all(requests.iter().map(|request| endpoint.send(request))).await {
        result.unwrap();
    }
    assert_eq!(server.count(), 8);
    endpoint.send(&request("Why?")).await.unwrap();
    assert_eq!(server.count(), 9, "the first answer settled it");
}

#[tokio::test]
async fn a_prompt_over_the_context_is_known_before_it_is_sent_and_from_the_servers_words() {
    let server = FaultServer::start(answer);
    let config = ModelConfig { context_length: Some(100), ..config(&server) };
    let endpoint = OpenAiEndpoint::new(&config).unwrap();
    assert!(endpoint.check(&request(&"word ".repeat(98))).is_ok());
    let error = endpoint.check(&request(&"word ".repeat(99))).unwrap_err();
    assert_eq!(error.kind, ErrorKind::ContextOverflow(None));
    assert!(error.to_string().starts_with("context_overflow: the prompt takes at least 101 tokens"), "{error}");
    let mut with_answer = request("Why?");
    with_answer.parameters = Arc::new(Parameters { max_tokens: Some(98), ..Default::default() });
    let error = endpoint.check(&with_answer).unwrap_err();
    assert!(error.message.contains("with max_tokens = 98 takes at least 101 tokens"), "{error}");
    assert!(OpenAiEndpoint::new(&ModelConfig::openai("http://h/v1", "m")).unwrap().check(&with_answer).is_ok());

    let words = "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.";
    let error = failure(Reply::Status(400, None, words.into())).await;
    assert_eq!((error.kind, error.kind.is_retryable()), (ErrorKind::ContextOverflow(Some(400)), false));
}

#[tokio::test]
async fn several_addresses_share_the_work_and_a_dead_one_is_passed_over() {
    let slow = |body: &Value, nth| match answer(body, nth) {
        Reply::Answer(text, _) => Reply::Answer(text, Duration::from_millis(50)),
        other => other,
    };
    let servers = [FaultServer::start(slow), FaultServer::start(slow)];
    let both = ModelConfig { base_urls: servers.iter().map(|s| s.url().to_owned()).collect(), ..config(&servers[0]) };
    let endpoint = OpenAiEndpoint::new(&both).unwrap();
    let request = request("Why?");
    join_all((0..20).map(|_| endpoint.send(&request))).await.into_iter().for_each(|answer| drop(answer.unwrap()));
    assert_eq!(servers.each_ref().map(FaultServer::count), [10, 10]);

    let dead = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/v1", listener.local_addr().unwrap())
    };
    let one = ModelConfig { base_urls: vec![dead, servers[0].url().to_owned()], ..both };
    let endpoint = OpenAiEndpoint::new(&one).unwrap();
    let mut failed = Vec::new();
    for _ in 0..6 {
        failed.extend(endpoint.send(&request).await.err());
    }
    assert_eq!(failed.len(), 1);
    assert!(failed[0].again, "another server is there: no wait");
}

/// A run over one server that is there and one that comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_costs_a_call_no_wait_and_is_asked_again_when_it_is_back() {
    let slow = |body: &Value, nth| match answer(body, nth) {
        Reply::Answer(text, _) => Reply::Answer(text, Duration::from_millis(20)),
        other => other,
    };
    let (stays, dies) = (FaultServer::start(slow), FaultServer::start(slow));
    let address = dies.address().to_owned();
    let urls = [dies.url().to_owned(), stays.url().to_owned()];
    // A wait would be a minute.
    let settings = ModelConfig {
        base_urls: urls.into(),
        max_in_flight: 8,
        max_retries: 3,
        retry_base_seconds: 60.0,
        ..config(&stays)
    };
    let endpoint = Arc::new(OpenAiEndpoint::new(&settings).unwrap());
    let models = Models::from_models(vec![Model::new("writer", settings, endpoint)]);
    let model = models.get("writer").unwrap();
    let call = async |n: u32| {
        let request = request(&format!("Question {n}?"));
        let mut attempts = 0;
        loop {
            let _permit = model.limiter.acquire(100, 0).await;
            attempts += 1;
            match model.endpoint.send(&request).await {
                Ok(_) => return attempts,
                Err(error) => {
                    let wait = model.retry.delay(0, &error, 1.0).unwrap();
                    assert_eq!(wait, Duration::ZERO, "{error:?}");
                }
            }
        }
    };
    // Questions from a number on until a server has been asked so often, 400 at most. None is asked twice.
    let ask_until = async |server: &FaultServer, times: usize, first: u32| {
        for first in (first..first + 400).step_by(20) {
            assert_eq!(join_all((first..first + 20).map(&call)).await.iter().sum::<u32>(), 20);
            if server.count() >= times {
                return;
            }
        }
        panic!("asked {} times, not {times}", server.count());
    };
    ask_until(&dies, 8, 1_000).await;
    dies.stop();
    // So that the client, too, has seen its connections closed.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let attempts: u32 = join_all((20..60).map(&call)).await.iter().sum();
    assert!((41..=48).contains(&attempts), "{attempts}: those in flight met it, and nobody after them");

    let back = FaultServer::start_at(&address, slow);
    assert_eq!(join_all((60..64).map(&call)).await.iter().sum::<u32>(), 4);
    assert_eq!(back.count(), 0, "it is out for 5 s");
    tokio::time::sleep(Duration::from_secs(5)).await;
    ask_until(&back, 3, 2_000).await;
}

#[tokio::test]
async fn a_models_limiter_keeps_the_server_within_max_in_flight_and_retries_get_through() {
    let server =
        FaultServer::start(failing_first(1, Reply::Status(503, Some("0.05".into()), "busy".into()), |body, n| {
            match answer(body, n) {
                Reply::Answer(text, _) => Reply::Answer(text, Duration::from_millis(10)),
                other => other,
            }
        }));
    let config = ModelConfig { max_in_flight: 4, ..config(&server) };
    let endpoint = Arc::new(OpenAiEndpoint::new(&config).unwrap());
    let models = Models::from_models(vec![Model::new("writer", config, endpoint)]);
    let model = models.get("writer").unwrap();
    let call = async |n: u32| {
        let request = request(&format!("Question {n}?"));
        for attempt in 0.. {
            let permit = model.limiter.acquire(100, 0).await;
            match model.endpoint.send(&request).await {
                Ok(_) => return permit.succeeded(80),
                Err(error) => {
                    permit.throttled(error.retry_after);
                    drop(permit);
                    tokio::time::sleep(model.retry.delay(attempt, &error, 0.01).unwrap()).await;
                }
            }
        }
    };
    join_all((0..20).map(call)).await;
    assert_eq!((server.count(), server.answered()), (40, 20));
    assert!((2..=4).contains(&server.max_in_flight()), "{}", server.max_in_flight());
}
