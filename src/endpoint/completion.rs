//! An answer read: text, finish reason and tokens out of a raw body. Repeatable at any time over the ledger.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::nearly_json;

/// No answer has more tokens: a count above it is a server's mistake and as good as none. Believed, it would make the
/// limiter wait for years, and sums would wrap.
const MOST_TOKENS: u64 = 1_000_000_000;

/// The first choice of a completion body.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Completion {
    /// Without the reasoning.
    pub text: String,
    /// `stop`, `length`, `content_filter`, …
    pub finish_reason: Option<String>,
    /// What a reasoning model thought: `reasoning_content` or `reasoning`, and the `<think>` blocks before the answer.
    pub reasoning: Option<String>,
    /// A refusal in the model's own words (`message.refusal`).
    pub refusal: Option<String>,
    pub prompt_tokens: Option<u64>,
    pub completion_tokens: Option<u64>,
}

impl Completion {
    /// Reads a `chat.completion` or `text_completion` body, or one text's embedding in base64 as the ledger keeps it;
    /// the error says what is missing. A content that is no text is its JSON, one in parts is the parts' texts, counts
    /// may be in quotes, and half a surrogate pair is U+FFFD.
    pub fn from_body(body: &str) -> Result<Completion, String> {
        match serde_json::from_str::<UsualBody>(body).ok().and_then(UsualBody::completion) {
            Some(completion) => Ok(completion),
            None => Self::from_any_body(body),
        }
    }

    fn from_any_body(body: &str) -> Result<Completion, String> {
        let body: Value = nearly_json::read(body).map_err(|e| format!("the answer is not JSON ({e})"))?;
        if let Some(embedding) = body.pointer("/data/0/embedding").and_then(Value::as_str) {
            let prompt_tokens = body.pointer("/usage/prompt_tokens").and_then(Value::as_u64).and_then(believable);
            // Nothing is generated: where tokens are counted, these are none.
            let completion_tokens = prompt_tokens.map(|_| 0);
            return Ok(Completion {
                text: embedding.to_owned(),
                prompt_tokens,
                completion_tokens,
                ..Completion::default()
            });
        }
        let choice = body.get("choices").and_then(|choices| choices.get(0)).ok_or("the answer has no choices")?;
        let mut reasoning = Vec::new();
        let message = choice.get("message");
        let content = match message {
            Some(Value::Object(message)) => {
                let key = |key: &str| message.get(key).and_then(Value::as_str);
                reasoning.extend(key("reasoning_content").or_else(|| key("reasoning")));
                message.get("content")
            }
            Some(_) => return Err("the answer's message is no object".into()),
            None => Some(choice.get("text").ok_or("the answer's choice has neither message nor text")?),
        };
        let finish_reason = choice.get("finish_reason").and_then(Value::as_str);
        let content = text_of(content);
        let (thought, text) = split_thoughts(&content, finish_reason);
        reasoning.extend(thought);
        reasoning.retain(|thought| !thought.trim().is_empty());
        let usage = body.get("usage");
        let tokens = |key: &str| usage.and_then(|usage| count(usage.get(key)?));
        Ok(Completion {
            text: text.to_owned(),
            finish_reason: finish_reason.map(str::to_owned),
            reasoning: (!reasoning.is_empty()).then(|| reasoning.join("\n\n")),
            refusal: message
                .and_then(|m| m.get("refusal")?.as_str())
                .filter(|refusal| !refusal.is_empty())
                .map(str::to_owned),
            prompt_tokens: tokens("prompt_tokens"),
            completion_tokens: tokens("completion_tokens"),
        })
    }
}

/// What nearly every server sends, read without a tree of values in between. Whatever does not fit is left to
/// `from_any_body`, which gives the same where this gives something.
#[derive(Deserialize)]
struct UsualBody<'a> {
    #[serde(borrow)]
    choices: Vec<UsualChoice<'a>>,
    usage: Option<UsualUsage>,
    /// Of an embedding, which is read otherwise.
    data: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct UsualChoice<'a> {
    #[serde(borrow)]
    message: UsualMessage<'a>,
    #[serde(borrow)]
    finish_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct UsualMessage<'a> {
    content: Option<String>,
    #[serde(borrow)]
    reasoning_content: Option<Cow<'a, str>>,
    #[serde(borrow)]
    reasoning: Option<Cow<'a, str>>,
    #[serde(borrow)]
    refusal: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct UsualUsage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
}

impl UsualBody<'_> {
    /// `None` where there is more to it: reasoning, or a block of it in the content.
    fn completion(self) -> Option<Completion> {
        let UsualChoice { message, finish_reason } = self.choices.into_iter().next()?;
        let text = message.content.unwrap_or_default();
        let thinks = message.reasoning_content.or(message.reasoning).is_some() || text.contains('<');
        if thinks || self.data.is_some() {
            return None;
        }
        Some(Completion {
            text,
            finish_reason: finish_reason.map(Cow::into_owned),
            reasoning: None,
            refusal: message.refusal.filter(|refusal| !refusal.is_empty()).map(Cow::into_owned),
            prompt_tokens: self.usage.as_ref().and_then(|usage| usage.prompt_tokens).and_then(believable),
            completion_tokens: self.usage.as_ref().and_then(|usage| usage.completion_tokens).and_then(believable),
        })
    }
}

/// A content as text, whatever it is.
fn text_of(content: Option<&Value>) -> String {
    match content {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        // `[{"type": "text", "text": …}, …]`
        Some(Value::Array(parts)) if parts.iter().any(|part| part.get("text").is_some_and(Value::is_string)) => {
            parts.iter().filter_map(|part| part.get("text")?.as_str()).collect()
        }
        Some(other) => other.to_string(),
    }
}

/// A count, also in quotes or with a point.
fn count(value: &Value) -> Option<u64> {
    let whole = |n: f64| (n >= 0.0 && n.fract() == 0.0 && n < 9e15).then_some(n as u64);
    let count = value.as_u64().or_else(|| value.as_f64().and_then(whole));
    count.or_else(|| value.as_str()?.trim().parse().ok()).and_then(believable)
}

/// The count of tokens as a server gave it; `None` above [`MOST_TOKENS`].
pub(super) fn believable(tokens: u64) -> Option<u64> {
    (tokens <= MOST_TOKENS).then_some(tokens)
}

/// The `<think>` blocks before an answer, and the answer. A block that the limit of tokens cut off has no answer after
/// it. Where the prompt itself opened the block, as the chat templates of some models do, only its end is there.
fn split_thoughts<'a>(content: &'a str, finish_reason: Option<&str>) -> (Vec<&'a str>, &'a str) {
    const OPEN: &str = "<think>";
    const CLOSE: &str = "</think>";
    let mut thoughts = Vec::new();
    let mut rest = content;
    loop {
        let opened = rest.trim_start().strip_prefix(OPEN);
        let inside = opened.unwrap_or(rest);
        match inside.split_once(CLOSE) {
            // An end further on belongs to what the answer itself says, unless nothing was opened before it.
            Some((thought, after)) if opened.is_some() || thoughts.is_empty() && !thought.contains(OPEN) => {
                thoughts.push(thought.trim());
                rest = after.trim_start();
            }
            None if opened.is_some() && finish_reason == Some("length") => {
                thoughts.push(inside.trim());
                return (thoughts, "");
            }
            _ => return (thoughts, rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(message: Value, finish_reason: &str) -> Completion {
        let body = json!({"choices": [{"message": message, "finish_reason": finish_reason}]});
        Completion::from_body(&body.to_string()).unwrap()
    }

    proptest::proptest! {
        /// The short way reads what the long way reads, and nothing else.
        #[test]
        fn both_ways_to_read_a_body_give_the_same(
            content in r#"null|"(a|é|\\n|\\"|<think>|</think>|<b>){0,6}"|7|\[\{"text": "x"\}\]"#,
            key in "content|reasoning|reasoning_content|refusal|text|tool_calls",
            value in r#"null|""|"why \\u00e9"|3|\[\]"#,
            reason in r#"null|"stop"|"length"|1"#,
            tokens in r#"null|3|3\.0|"3"|-1|\{\}|1000000001|18446744073709551615|1e30"#,
            more in r#"|, "data": \[\]|, "data": null|, "choices": \[\]|, "usage": null"#,
        ) {
            let body = format!(
                r#"{{"choices": [{{"message": {{"content": {content}, "{key}": {value}}}, "finish_reason": {reason}}}],
                    "usage": {{"prompt_tokens": {tokens}, "completion_tokens": 5}}{more}}}"#
            );
            proptest::prop_assert_eq!(Completion::from_body(&body), Completion::from_any_body(&body), "{}", body);
        }
    }

    #[test]
    fn a_body_without_choices_is_an_error_and_an_empty_message_is_not() {
        assert!(Completion::from_body("{}").is_err());
        assert!(Completion::from_body("{\"choices\": [{").is_err());
        assert!(Completion::from_body(r#"{"choices": []}"#).is_err());
        assert!(Completion::from_body(r#"{"choices": [{"message": "hello"}]}"#).is_err());
        let body =
            r#"{"choices":[{"message":{"role":"assistant","content":null,"refusal":"no"},"finish_reason":"stop"}]}"#;
        let completion = Completion::from_body(body).unwrap();
        assert_eq!(completion.text, "");
        assert_eq!(completion.refusal.as_deref(), Some("no"));
    }

    #[test]
    fn contents_and_counts_of_other_types_are_read_as_what_they_mean() {
        let text = |content: Value| read(json!({"content": content}), "stop").text;
        assert_eq!(text(json!(42)), "42");
        assert_eq!(text(json!({"a": 1})), r#"{"a":1}"#);
        assert_eq!(
            text(json!([{"type": "text", "text": "Hel"}, {"type": "image"}, {"type": "text", "text": "lo"}])),
            "Hello"
        );
        assert_eq!(text(json!([1, 2])), "[1,2]");
        let usage = json!({"prompt_tokens": "12", "completion_tokens": 3.0});
        let body = json!({"choices": [{"text": "x", "finish_reason": 7}], "usage": usage}).to_string();
        let read = Completion::from_body(&body).unwrap();
        assert_eq!((read.prompt_tokens, read.completion_tokens, read.finish_reason), (Some(12), Some(3), None));
        let body = json!({"choices": [{"text": "x"}], "usage": {"prompt_tokens": -1, "completion_tokens": "many"}});
        let read = Completion::from_body(&body.to_string()).unwrap();
        assert_eq!((read.prompt_tokens, read.completion_tokens), (None, None));
    }

    #[test]
    fn a_body_that_is_nearly_json_is_an_answer() {
        let body = r#"{"choices": [{"message": {"content": "cut \ud83d"}, "logprobs": {"mean": NaN}, "finish_reason": "length"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 5}}"#;
        let read = Completion::from_body(body).unwrap();
        assert_eq!((read.text.as_str(), read.completion_tokens), ("cut \u{fffd}", Some(5)));
        assert!(Completion::from_body(&body[..body.len() / 2]).is_err());
    }

    #[test]
    fn counts_that_no_answer_has_are_none() {
        for (given, read) in [
            (json!(MOST_TOKENS), Some(MOST_TOKENS)),
            (json!(MOST_TOKENS + 1), None),
            (json!(u64::MAX), None),
            (json!(1e18), None),
            (json!(u64::MAX.to_string()), None),
        ] {
            let usage = json!({"prompt_tokens": 3, "completion_tokens": given});
            // The short way, the long one, and an embedding.
            for content in ["x", "<x>"] {
                let body = json!({"choices": [{"message": {"content": content}}], "usage": usage}).to_string();
                let completion = Completion::from_body(&body).unwrap();
                assert_eq!((completion.prompt_tokens, completion.completion_tokens), (Some(3), read), "{body}");
            }
            let body = json!({"data": [{"embedding": "AA=="}], "usage": {"prompt_tokens": given}}).to_string();
            let completion = Completion::from_body(&body).unwrap();
            // In quotes it is no count of an embedding, whatever it says.
            assert_eq!(completion.prompt_tokens, read, "{body}");
        }
    }

    #[test]
    fn reasoning_is_kept_apart_from_the_answer() {
        let split = |content: &str, finish: &str| {
            let read = read(json!({"content": content}), finish);
            (read.reasoning.unwrap_or_default(), read.text)
        };
        let is = |reasoning: &str, text: &str| (reasoning.to_owned(), text.to_owned());
        assert_eq!(split("\n<think>\nHm. {1}\n</think>\n\nBlue.", "stop"), is("Hm. {1}", "Blue."));
        assert_eq!(split("<think>a</think><think>b</think> c", "stop"), is("a\n\nb", "c"));
        assert_eq!(split("<think></think>\n\nBlue.", "stop"), is("", "Blue."));
        assert_eq!(split("<think>Hm, let me", "length"), is("Hm, let me", ""));
        assert_eq!(split("<think>Hm, let me", "stop"), is("", "<think>Hm, let me"));
        assert_eq!(split("The prompt began it.</think>Blue.", "stop"), is("The prompt began it.", "Blue."));
        assert_eq!(split("Write <think>x</think> first.", "stop"), is("", "Write <think>x</think> first."));
        assert_eq!(split("<think>a</think>It ends with </think>.", "stop"), is("a", "It ends with </think>."));
        assert_eq!(split("  as it is ", "stop"), is("", "  as it is "));

        let both = read(json!({"content": "<think>b</think>c", "reasoning_content": "a"}), "stop");
        assert_eq!((both.reasoning.as_deref(), both.text.as_str()), (Some("a\n\nb"), "c"));
        assert_eq!(read(json!({"content": "c", "reasoning": "a"}), "stop").reasoning.as_deref(), Some("a"));
        assert_eq!(read(json!({"content": "c", "reasoning": ""}), "stop").reasoning, None);
    }

    fn any_json() -> impl proptest::strategy::Strategy<Value = Value> {
        use proptest::prelude::*;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "(<think>|</think>|[a-zé \"{]){0,6}".prop_map(Value::from),
        ];
        let key = "choices|message|content|text|usage|prompt_tokens|finish_reason|reasoning|refusal|0";
        leaf.prop_recursive(5, 40, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
                prop::collection::btree_map(key, inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest::proptest! {
        #[test]
        fn no_body_makes_it_panic(value in any_json(), message in any_json(), text in ".{0,40}") {
            let _ = Completion::from_body(&text);
            let _ = Completion::from_body(&value.to_string());
            for choice in [json!({"message": message}), json!({"text": message, "finish_reason": "length"}), message] {
                let body = json!({"choices": [choice], "usage": value}).to_string();
                let read = Completion::from_body(&body);
                // The same bytes read the same at any time.
                proptest::prop_assert_eq!(&read, &Completion::from_body(&body));
                let cut: String = body.chars().take(body.len() / 2).collect();
                proptest::prop_assert!(Completion::from_body(&cut).is_err());
            }
        }
    }
}
