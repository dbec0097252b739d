//! One sample of a row asked for until its answer reads as `returns` says. In: a call. Out: what became of it, after at
//! most `repair => n` follow-ups that tell the model what was wrong; each is a recorded call of its own.

use datafusion::common::Result;

use super::call::Call;
use super::row::SampleResult;
use super::row_caller::RowCaller;
use crate::endpoint::Message;

/// Makes a call and, where its answer does not read, its follow-ups. `Err` stops the query, as in
/// [`super::CallRuntime::call`].
pub async fn ask(caller: &RowCaller, mut call: Call) -> Result<SampleResult> {
    let RowCaller { spec, model, runtime, stop, .. } = caller;
    let mut result = SampleResult::read(runtime.call(model, &call, stop).await?, spec);
    for repair in 1..=spec.repair {
        let Some(error) = result.repairable().map(str::to_owned) else { return Ok(result) };
        call = follow_up(&call, &result.completion.text, &error);
        let mut next = SampleResult::read(runtime.call(model, &call, stop).await?, spec);
        if let (Err(why), Err(_)) = (&next.items, &next.outcome.answer) {
            next.items = Err(format!("{error}; the call to repair it failed: {why}"));
        } else if let (Err(why), true) = (&next.items, repair == spec.repair) {
            let repairs = if repair == 1 { "1 repair".to_owned() } else { format!("{repair} repairs") };
            next.items = Err(format!("{why} (after {repairs})"));
        }
        next.repaired = result.repaired;
        next.repaired.push(result.outcome);
        result = next;
    }
    Ok(result)
}

/// The call that shows the model its answer and the error. All that was said before stands before it, so that no
/// follow-up is the same call as an earlier one.
fn follow_up(call: &Call, answer: &str, error: &str) -> Call {
    let mut messages = call.request.messages.clone();
    messages.extend(said_back(answer, error));
    Call::new(&call.shape, messages)
}

/// What a follow-up says. Its words are part of its identity: other words are other calls, and all repairs that were ever
/// made would be paid for again.
fn said_back(answer: &str, error: &str) -> [Message; 2] {
    // Servers refuse a message without text.
    let answer = if answer.trim().is_empty() { "(no text)" } else { answer };
    let told =
        format!("This answer cannot be used: {error}. Answer again with the whole corrected JSON and nothing else.");
    [Message::new("assistant", answer), Message::new("user", told)]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Map, json};

    use super::*;
    use crate::endpoint::Completion;
    use crate::ledger::CallId;
    use crate::model_call::caller::{Answered, CallOutcome};
    use crate::model_call::returns::Returns;
    use crate::model_call::spec::{CallKind, CallSpec, MessageColumns, OnError};

    fn spec(items: Option<u32>) -> CallSpec {
        CallSpec {
            kind: CallKind::Generate,
            model: "m".into(),
            columns: MessageColumns::default(),
            returns: Some(Returns::parse("q TEXT").unwrap()),
            output: String::new(),
            call_as: String::new(),
            items,
            samples: None,
            repair: 2,
            dimensions: None,
            temperature: None,
            top_p: None,
            max_tokens: None,
            seed: None,
            stop: Vec::new(),
            extra: Map::new(),
            variant: String::new(),
            on_error: OnError::Keep,
        }
    }

    fn read(message: serde_json::Value, finish_reason: &str, items: Option<u32>) -> SampleResult {
        read_as(&spec(items), message, finish_reason)
    }

    fn read_as(spec: &CallSpec, message: serde_json::Value, finish_reason: &str) -> SampleResult {
        let body = json!({"choices": [{"message": message, "finish_reason": finish_reason}]}).to_string();
        let completion = Completion::from_body(&body).map(Arc::new).map_err(Arc::from);
        let answered = Answered { completion, replayed: false, latency_ms: None, cost_usd: 0.0 };
        SampleResult::read(CallOutcome { call_id: CallId::from_bytes([0; 32]), answer: Ok(answered) }, spec)
    }

    /// The words of every kind of broken answer, as they have been paid for. If this fails, all repairs that users have in
    /// their ledgers are asked and paid again: put the words back.
    #[test]
    fn what_a_model_is_told_about_its_answer_never_changes() {
        const RETURNS: &str = "q VARCHAR(5), n INT NULL, ok BOOLEAN NULL, x DOUBLE NULL, e ENUM('a', 'b') NULL, \
                               l TEXT[2] NULL, s STRUCT<a TEXT> NULL";
        let long = format!("It is {}", "é".repeat(100));
        let long_told = format!("the answer holds no JSON: 'It is {}…'", "é".repeat(74));
        let cases = [
            (None, "", "the answer holds no JSON: ''"),
            (None, "no\n  idea", "the answer holds no JSON: 'no idea'"),
            (None, long.as_str(), long_told.as_str()),
            (None, r#"{"q": "ab"#, r#"the answer holds no JSON: '{"q": "ab'"#),
            (None, r#"{"q": "a" "n": 1}"#, r#"the answer holds no JSON: '{"q": "a" "n": 1}'"#),
            (None, r#"Use {"q" or so."#, r#"the answer holds no JSON: 'Use {"q" or so.'"#),
            (None, "[1]", "the answer is a number, not an object"),
            (None, r#"{"n": 1}"#, "'q' is missing"),
            (None, r#"{"q": null}"#, "'q' is null, not a text"),
            (None, r#"{"q": "123456"}"#, "'q' is longer than 5 characters"),
            (None, r#"{"q": "a", "n": "many"}"#, "'n' is a text, not a whole number"),
            (None, r#"{"q": "a", "n": 1.5}"#, "'n' is a number, not a whole number"),
            (None, r#"{"q": "a", "ok": 1}"#, "'ok' is a number, not true or false"),
            (None, r#"{"q": "a", "x": []}"#, "'x' is a list, not a number"),
            (None, r#"{"q": "a", "e": "c"}"#, "'e' is 'c', not one of a, b"),
            (None, r#"{"q": "a", "e": true}"#, "'e' is true or false, not a text"),
            (None, r#"{"q": "a", "l": ["x"]}"#, "'l' has 1 elements, not 2"),
            (None, r#"{"q": "a", "l": ["x", {}]}"#, "'l[1]' is an object, not a text"),
            (None, r#"{"q": "a", "l": "x"}"#, "'l' is a text, not a list"),
            (None, r#"{"q": "a", "s": [1]}"#, "'s' is a list, not an object"),
            (None, r#"{"q": "a", "s": {}}"#, "'s.a' is missing"),
            (Some(2), r#"{"items": []}"#, "the answer lists 0 items"),
            (Some(2), r#"{"items": 3}"#, "'items' is a number, not a list"),
            (Some(2), r#"{"items": [{"q": "a"}, {"n": 1}]}"#, "'items[1].q' is missing"),
            (Some(2), r#"[{"q": "a"}, 2]"#, "'items[1]' is a number, not an object"),
            (Some(2), "[1]", "the answer is a number, not an object"),
        ];
        for (items, answer, told) in cases {
            let spec = CallSpec { returns: Some(Returns::parse(RETURNS).unwrap()), ..spec(items) };
            let result = read_as(&spec, json!({"content": answer}), "stop");
            let error = result.repairable().unwrap_or_else(|| panic!("{answer} reads: {:?}", result.items));
            let [assistant, user] = said_back(&result.completion.text, error);
            let told = format!(
                "This answer cannot be used: {told}. Answer again with the whole corrected JSON and nothing else."
            );
            let answer = if answer.is_empty() { "(no text)" } else { answer };
            assert_eq!((&*assistant.role, assistant.content.as_str()), ("assistant", answer));
            assert_eq!((&*user.role, user.content), ("user", told));
        }
    }

    #[test]
    fn only_a_whole_answer_of_the_wrong_form_is_sent_back() {
        let wrong = json!({"content": "{}"});
        assert_eq!(read(wrong.clone(), "stop", None).repairable(), Some("'q' is missing"));
        assert_eq!(read(json!({"content": "{\"q\": \"x\"}"}), "stop", None).repairable(), None, "it reads");
        assert_eq!(read(wrong.clone(), "length", None).repairable(), None, "it would be cut again");
        assert_eq!(read(wrong, "content_filter", None).repairable(), None);
        assert_eq!(read(json!({"content": null, "refusal": "no"}), "stop", None).repairable(), None);
    }

    #[test]
    fn items_before_a_cut_are_used_and_the_missing_ones_counted() {
        let cut = json!({"content": "{\"items\": [{\"q\": \"a\"}, {\"q\": \"b\"}, {\"q\": \"c"});
        let result = read(cut, "length", Some(5));
        assert_eq!(result.items, Ok(vec![json!({"q": "a"}), json!({"q": "b"})]));
        assert_eq!(result.items_short(&spec(Some(5))), 3);
        assert_eq!(result.repairable(), None);
        let none = json!({"content": "{\"items\": [{\"q\": \"a"});
        let result = read(none, "length", Some(5));
        assert!(result.items.as_ref().is_err_and(|e| e.starts_with("the answer was cut off at max_tokens")));
        assert_eq!((result.repairable(), result.items_short(&spec(Some(5)))), (None, 0));
        let more = read(json!({"content": "[{\"q\": \"a\"}, {\"q\": \"b\"}]"}), "stop", Some(1));
        assert_eq!((more.items.as_ref().map(Vec::len), more.items_short(&spec(Some(1)))), (Ok(2), 0));
    }
}
