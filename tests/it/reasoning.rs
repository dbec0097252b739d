//! What a reasoning model thought is a column of the call, the first time and each time that the answer is replayed.

use serde_json::{Value, json};

use crate::fault_server::{FaultServer, Reply};
use crate::scratch::Scratch;

/// Thinks in a field of the message or in a block before the answer, as the prompt says.
fn thinking() -> FaultServer {
    FaultServer::start(|body: &Value, _| {
        let message = match body["messages"][0]["content"].as_str() {
            Some("block") => json!({"content": "<think>\nIt is {grass}.\n</think>\n\n{\"a\": \"green\"}"}),
            Some("field") => json!({"reasoning_content": "It is the sky.", "content": "{\"a\": \"blue\"}"}),
            Some("other field") => json!({"reasoning": "It is a rose.", "content": "{\"a\": \"red\"}"}),
            _ => json!({"content": "{\"a\": \"white\"}"}),
        };
        let choices = json!([{"index": 0, "message": message, "finish_reason": "stop"}]);
        let usage = json!({"prompt_tokens": 3, "completion_tokens": 9});
        let whole = json!({"object": "chat.completion", "choices": choices, "usage": usage});
        Reply::Foreign("application/json", whole.to_string())
    })
}

/// The rows that SQL gives in a process of its own.
fn rows(scratch: &Scratch, sql: &str) -> Vec<String> {
    scratch.ok(&["sql", "--format", "csv", "-c", sql]).lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn reasoning_stands_beside_the_answer_and_is_there_again_when_another_process_replays_it() {
    let server = thinking();
    let scratch = Scratch::new(server.url(), 4, "");
    let asked = "(SELECT unnest(['block', 'field', 'other field', 'plain']) AS q)";
    let generate = format!(
        "SELECT q, a, generate_call['reasoning'] AS thought, generate_call['replayed'] AS replayed FROM generate({asked}, \
         model => 'm', prompt => q, returns => 'a TEXT') ORDER BY q"
    );
    // Of samples the second.
    let enrich = format!(
        "SELECT q, a[2] AS a, enrich_call[2]['reasoning'] AS thought, enrich_call[2]['replayed'] AS replayed \
         FROM enrich({asked}, model => 'm', prompt => q, returns => 'a TEXT', samples => 2) ORDER BY q"
    );
    for sql in [generate, enrich] {
        let expected = |replayed: bool| {
            ["block,green,It is {grass}.", "field,blue,It is the sky.", "other field,red,It is a rose.", "plain,white,"]
                .map(|row| format!("{row},{replayed}"))
        };
        assert_eq!(rows(&scratch, &sql), expected(false));
        let before = server.count();
        assert_eq!(rows(&scratch, &sql), expected(true));
        // Out of a segment that was merged, too.
        scratch.ok(&["calls", "compact"]);
        assert_eq!(rows(&scratch, &sql), expected(true));
        assert_eq!(server.count(), before);
    }
}
