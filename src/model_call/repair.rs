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
/// follow-up is the same call as an earlier one. Its words are part of its identity: other words are other calls.
fn follow_up(call: &Call, answer: &str, error: &str) -> Call {
    // Servers refuse a message without text.
    let answer = if answer.trim().is_empty() { "(no text)" } else { answer };
    let mut messages = call.request.messages.clone();
    messages.push(Message::new("assistant", answer));
    messages.push(Message::new(
        "user",
        format!("This answer cannot be used: {error}. Answer again with the whole corrected JSON and nothing else."),
    ));
    Call::new(&call.shape, messages)
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
        let body = json!({"choices": [{"message": message, "finish_reason": finish_reason}]}).to_string();
        let completion = Completion::from_body(&body).map(Arc::new).map_err(Arc::from);
        let answered = Answered { completion, replayed: false, latency_ms: None, cost_usd: 0.0 };
        SampleResult::read(CallOutcome { call_id: CallId::from_bytes([0; 32]), answer: Ok(answered) }, &spec(items))
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
