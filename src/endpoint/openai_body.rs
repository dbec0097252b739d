//! A logical request as the body of OpenAI's `chat/completions` or `completions`: how it travels, not what is asked.
//! The same request gives the same bytes.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Message, Parameters, Request};
use crate::config::{Api, ModelConfig};

/// Keys that `extra` and `extra_body` may not set: they would make it another call, an answer that is not read, or one
/// that is paid several times over.
const RESERVED: [&str; 5] = ["model", "messages", "prompt", "stream", "n"];

/// The key among these extra keys that may not be set.
pub(super) fn reserved(extra: &Map<String, Value>) -> Option<&'static str> {
    RESERVED.into_iter().find(|key| extra.contains_key(*key))
}

/// The body, with its keys in one fixed order. A schema travels as `response_format`, else it is stated in the prompt.
///
/// # Errors
/// None that are known: texts have no value that JSON lacks.
pub(super) fn body(config: &ModelConfig, request: &Request, response_format: bool) -> serde_json::Result<String> {
    let schema = request.schema.as_deref();
    let messages = match schema {
        Some(schema) if !response_format => Cow::Owned(stating(&request.messages, schema)),
        _ => Cow::Borrowed(request.messages.as_slice()),
    };
    let messages = match config.api {
        Api::Chat => Messages::Chat { messages: &messages },
        Api::Completions => {
            let contents: Vec<&str> = messages.iter().map(|m| m.content.as_str()).collect();
            Messages::Completions { prompt: contents.join("\n\n") }
        }
    };
    let settings = settings(config, &request.parameters, schema.filter(|_| response_format));
    serde_json::to_string(&Body { model: &config.model, messages, settings })
}

/// Texts are written from where they stand: a tree of values would copy each prompt twice.
#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    #[serde(flatten)]
    messages: Messages<'a>,
    #[serde(flatten)]
    settings: Map<String, Value>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Messages<'a> {
    Chat { messages: &'a [Message] },
    Completions { prompt: String },
}

/// What stands behind the messages.
fn settings(config: &ModelConfig, parameters: &Parameters, schema: Option<&Value>) -> Map<String, Value> {
    let mut body = Map::new();
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(key.into(), value);
        }
    };
    set("temperature", parameters.temperature.map(Value::from));
    set("top_p", parameters.top_p.map(Value::from));
    let max_tokens = if config.max_completion_tokens { "max_completion_tokens" } else { "max_tokens" };
    set(max_tokens, parameters.max_tokens.map(Value::from));
    set("seed", parameters.seed.map(Value::from));
    set("stop", (!parameters.stop.is_empty()).then(|| parameters.stop.as_slice().into()));
    set(
        "response_format",
        schema.map(|schema| {
            json!({"type": "json_schema", "json_schema": {"name": "answer", "strict": true, "schema": schema}})
        }),
    );
    merge(&mut body, &parameters.extra);
    merge(&mut body, &config.extra_body);
    body
}

/// The messages with the schema stated at the end of the last one of the user.
fn stating(messages: &[Message], schema: &Value) -> Vec<Message> {
    let statement = format!("Answer with one JSON value and nothing else. It must follow this JSON schema:\n{schema}");
    let mut messages = messages.to_vec();
    match messages.iter_mut().rev().find(|m| m.role == "user") {
        Some(message) => message.content = format!("{}\n\n{statement}", message.content),
        None => messages.push(Message::new("user", statement)),
    }
    messages
}

/// Objects are merged key by key; of two other values the later stands.
pub(super) fn merge(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Value::Object(into)), Value::Object(from)) => merge(into, from),
            (Some(place), value) => *place = value.clone(),
            (None, value) => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    fn request() -> Request {
        Request {
            messages: vec![Message::new("system", "Be short."), Message::new("user", "Why?")],
            parameters: Arc::new(Parameters {
                temperature: Some(0.5),
                max_tokens: Some(8),
                seed: Some(7),
                stop: vec!["\n".into()],
                extra: map(json!({"top_k": 40, "kwargs": {"a": 1}})),
                ..Default::default()
            }),
            schema: Some(Arc::new(json!({"type": "object", "properties": {"b": {}, "a": {}}}))),
        }
    }

    fn read(body: serde_json::Result<String>) -> Value {
        serde_json::from_str(&body.unwrap()).unwrap()
    }

    #[test]
    fn the_bytes_of_a_request_are_fixed() {
        let config = ModelConfig {
            extra_body: map(json!({"kwargs": {"b": 2}, "top_k": 20})),
            ..ModelConfig::openai("http://h/v1", "m")
        };
        assert_eq!(
            body(&config, &request(), true).unwrap(),
            r#"{"model":"m","messages":[{"role":"system","content":"Be short."},{"role":"user","content":"Why?"}],"#
                .to_owned()
                + r#""temperature":0.5,"max_tokens":8,"seed":7,"stop":["\n"],"response_format":{"type":"json_schema","#
                + r#""json_schema":{"name":"answer","strict":true,"schema":{"type":"object","properties":{"b":{},"a":{}}}}},"#
                + r#""top_k":20,"kwargs":{"a":1,"b":2}}"#
        );
    }

    #[test]
    fn a_server_without_response_format_is_told_the_schema_in_the_last_user_message() {
        let config = ModelConfig::openai("http://h/v1", "m");
        let mut request = request();
        request.messages.push(Message::new("assistant", "Because"));
        let body = read(body(&config, &request, false));
        assert!(body.get("response_format").is_none());
        let content = body["messages"][1]["content"].as_str().unwrap();
        assert!(content.starts_with("Why?\n\nAnswer with one JSON value"), "{content}");
        assert!(content.ends_with(r#"{"type":"object","properties":{"b":{},"a":{}}}"#), "{content}");
    }

    #[test]
    fn a_base_model_gets_the_contents_as_one_prompt() {
        let config = ModelConfig { api: Api::Completions, ..ModelConfig::openai("http://h/v1", "m") };
        let body = read(body(&config, &request(), true));
        assert_eq!(body["prompt"], "Be short.\n\nWhy?");
        assert!(body.get("messages").is_none());
    }

    #[test]
    fn the_limit_of_tokens_goes_under_the_name_that_the_server_takes() {
        let config = ModelConfig { max_completion_tokens: true, ..ModelConfig::openai("http://h/v1", "o4") };
        let body = read(body(&config, &request(), true));
        assert_eq!((&body["max_completion_tokens"], body.get("max_tokens")), (&json!(8), None));
    }
}
