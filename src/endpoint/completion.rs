//! An answer read: text, finish reason and tokens out of a raw body. Repeatable at any time over the ledger.

use serde_json::Value;

/// The first choice of a completion body.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Completion {
    pub text: String,
    /// `stop`, `length`, `content_filter`, …
    pub finish_reason: Option<String>,
    /// What a reasoning model thought (`reasoning_content` or `reasoning`), where the server tells.
    pub reasoning: Option<String>,
    /// A refusal in the model's own words (`message.refusal`).
    pub refusal: Option<String>,
    pub prompt_tokens: Option<u64>,
    pub completion_tokens: Option<u64>,
}

impl Completion {
    /// Reads a `chat.completion` or `text_completion` body, or one text's embedding in base64 as the ledger keeps it;
    /// the error says what is missing.
    pub fn from_body(body: &str) -> Result<Completion, String> {
        let body: Value = serde_json::from_str(body).map_err(|e| format!("the answer is not JSON ({e})"))?;
        let string = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        if let Some(embedding) = string(body.pointer("/data/0/embedding")) {
            let prompt_tokens = body.pointer("/usage/prompt_tokens").and_then(Value::as_u64);
            // Nothing is generated: where tokens are counted, these are none.
            let completion_tokens = prompt_tokens.map(|_| 0);
            return Ok(Completion { text: embedding, prompt_tokens, completion_tokens, ..Completion::default() });
        }
        let choice = body.pointer("/choices/0").ok_or("the answer has no choices")?;
        let message = choice.get("message");
        let text = match message {
            Some(message) => string(message.get("content")),
            None => Some(string(choice.get("text")).ok_or("the answer's choice has neither message nor text")?),
        };
        let tokens = |key: &str| body.pointer(&format!("/usage/{key}")).and_then(Value::as_u64);
        Ok(Completion {
            text: text.unwrap_or_default(),
            finish_reason: string(choice.get("finish_reason")),
            reasoning: message
                .and_then(|m| string(m.get("reasoning_content")).or_else(|| string(m.get("reasoning"))))
                .filter(|r| !r.is_empty()),
            refusal: message.and_then(|m| string(m.get("refusal"))).filter(|r| !r.is_empty()),
            prompt_tokens: tokens("prompt_tokens"),
            completion_tokens: tokens("completion_tokens"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_without_choices_is_an_error_and_an_empty_message_is_not() {
        assert!(Completion::from_body("{}").is_err());
        assert!(Completion::from_body("{\"choices\": [{").is_err());
        let body =
            r#"{"choices":[{"message":{"role":"assistant","content":null,"refusal":"no"},"finish_reason":"stop"}]}"#;
        let completion = Completion::from_body(body).unwrap();
        assert_eq!(completion.text, "");
        assert_eq!(completion.refusal.as_deref(), Some("no"));
    }
}
