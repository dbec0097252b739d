//! The HTTP provider against a server that fails in every way that servers do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use seedmill::config::{Api, ModelConfig};
use seedmill::endpoint::{
    Completion, Endpoint, ErrorKind, Message, Model, Models, OpenAiEndpoint, Parameters, Request, SendError,
};
use serde_json::{Value, json};

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
    let mut failed = 0;
    for _ in 0..6 {
        failed += usize::from(endpoint.send(&request).await.is_err());
    }
    assert_eq!(failed, 1);
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
