//! What a server's refusal says: its own message and how long it asks us to wait.

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use hyper::header::HeaderMap;
use serde_json::Value;

/// An error message is cut to this many characters.
const MAX_MESSAGE: usize = 500;

/// The server's own words in a body: `error.message` as OpenAI has it, `error`, `message` or `detail` as others do, else
/// the start of the text; `None` for an empty body and for a web page.
pub(super) fn server_message(body: &str) -> Option<String> {
    let words = match serde_json::from_str::<Value>(body) {
        Ok(body) => ["/error/message", "/error", "/message", "/detail"]
            .iter()
            .find_map(|place| body.pointer(place).and_then(Value::as_str))
            .map(str::to_owned)
            .unwrap_or_else(|| body.to_string()),
        Err(_) if body.trim_start().starts_with('<') => return None,
        Err(_) => body.to_owned(),
    };
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    (!words.is_empty()).then_some(words)
}

/// The first [`MAX_MESSAGE`] characters.
pub(super) fn cut(message: &str) -> String {
    match message.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}

/// Whether a refusal is about the schema that `response_format` carried: the names it has with OpenAI, vLLM, TGI,
/// llama.cpp and the gateways before them.
pub(super) fn refuses_response_format(body: &str) -> bool {
    let body = body.to_lowercase();
    ["response_format", "response format", "json_schema", "json schema", "guided", "structured"]
        .iter()
        .any(|name| body.contains(name))
}

/// Whether a refusal says that the prompt does not fit: the words of OpenAI and vLLM, llama.cpp, TGI, Anthropic, Mistral.
pub(super) fn says_too_long(body: &str) -> bool {
    let body = body.to_lowercase();
    [
        "context_length_exceeded",
        "context length",
        "exceed_context_size",
        "context size",
        "context window",
        "max_new_tokens` must be <=",
        "prompt is too long",
        "input is too long",
        "too many tokens",
        "max_model_len",
    ]
    .iter()
    .any(|words| body.contains(words))
}

/// How long the server asks us to wait: `retry-after-ms` (as OpenAI and Azure send it), else `Retry-After`
/// (RFC 9110 §10.2.3).
pub(super) fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let milliseconds = text("retry-after-ms").and_then(|ms| ms.parse::<f64>().ok());
    milliseconds
        .and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok())
        .or_else(|| text("retry-after").and_then(|value| wait(value, now)))
}

/// Seconds, or one of the three date forms of RFC 9110 §5.6.7; a date gone by is no wait.
fn wait(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"]
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(value, form).ok())?;
    Some((date.and_utc() - now).to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_and_as_each_form_of_date() {
        let now = DateTime::parse_from_rfc3339("1994-11-06T08:49:07Z").unwrap().to_utc();
        let read = |value: &str| {
            let headers = HeaderMap::from_iter([("retry-after".parse().unwrap(), value.parse().unwrap())]);
            retry_after(&headers, now)
        };
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("0.5"), Some(Duration::from_millis(500)));
        for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(read(date), Some(Duration::from_secs(30)), "{date}");
        }
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
        assert_eq!(read("-1"), None);
        let headers = HeaderMap::from_iter([
            ("retry-after-ms".parse().unwrap(), "250".parse().unwrap()),
            ("retry-after".parse().unwrap(), "1".parse().unwrap()),
        ]);
        assert_eq!(retry_after(&headers, now), Some(Duration::from_millis(250)));
    }

    #[test]
    fn refusals_are_told_apart_by_their_words() {
        let too_long = [
            r#"{"error":{"message":"This model's maximum context length is 8192 tokens. However, you requested 9000","code":"context_length_exceeded"}}"#,
            r#"{"error":{"code":400,"message":"the request exceeds the available context size. try increasing it","type":"exceed_context_size_error"}}"#,
            r#"{"error":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096"}"#,
            r#"{"error":{"message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#,
        ];
        assert!(too_long.iter().all(|body| says_too_long(body) && !refuses_response_format(body)));
        let formats = [
            r#"{"error":{"message":"Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."}}"#,
            r#"{"detail":"Guided decoding is not available"}"#,
            r#"{"message":"Structured outputs are disabled"}"#,
        ];
        assert!(formats.iter().all(|body| refuses_response_format(body) && !says_too_long(body)));
        let other = r#"{"error":{"message":"The model `m` does not exist."}}"#;
        assert!(!says_too_long(other) && !refuses_response_format(other));
    }

    #[test]
    fn the_servers_own_words_are_found_in_every_usual_shape() {
        assert_eq!(server_message(r#"{"error":{"message":"too\nlong","code":1}}"#).as_deref(), Some("too long"));
        assert_eq!(server_message(r#"{"object":"error","message":"no"}"#).as_deref(), Some("no"));
        assert_eq!(server_message("overloaded").as_deref(), Some("overloaded"));
        assert_eq!(server_message(r#"{"code":3}"#).as_deref(), Some(r#"{"code":3}"#));
        assert_eq!(server_message("<html>502</html>"), None);
        assert_eq!(server_message(" "), None);
        assert_eq!(cut(&"é".repeat(900)).chars().count(), 501);
    }
}
