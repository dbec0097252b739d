//! Budgets over a server that does not say how many tokens it has used.

use serde_json::{Value, json};

use crate::fault_server::{FaultServer, Reply, answer};
use crate::scratch::Scratch;

const ROWS: usize = 40;

const SQL: &str = "SELECT count(completion) FROM generate((SELECT value FROM generate_series(1, 40)), model => 'm', \
                   prompt => 'question ' || value, max_tokens => 10)";

/// The usual answer in a body that has no `usage`.
fn without_usage(body: &Value, nth: u64) -> Reply {
    let Reply::Answer(text, _) = answer(body, nth) else { unreachable!() };
    let choice = json!({"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"});
    Reply::Foreign("application/json", json!({"object": "chat.completion", "choices": [choice]}).to_string())
}

#[test]
fn a_server_that_counts_no_tokens_spends_the_budget_all_the_same_and_every_answer_is_kept() {
    // A call is expected to take 12 tokens, 10 of them at a dollar each.
    for (flag, limit, said) in [
        ("--max-cost-usd", "45", "the budget max_cost_usd = 45 is spent"),
        ("--max-tokens", "60", "the budget max_tokens = 60 is spent"),
    ] {
        let server = FaultServer::start(without_usage);
        let scratch = Scratch::new(server.url(), 4, "price_per_million = { input = 0.0, output = 1000000.0 }\n");
        let output = scratch.run(&["sql", flag, limit, "-c", SQL]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{flag}: {error}");
        assert!(error.contains(said), "{error}");
        let asked = server.count();
        assert!((1..=ROWS / 2).contains(&asked), "{flag}: {asked} requests");
        let counts = "SELECT (SELECT count(*) FROM calls) || ' ' || (SELECT count(*) FROM attempts WHERE billed)";
        assert_eq!(scratch.value(counts), format!("{asked} {asked}"), "{flag}");
        // Without a limit the rest is asked, and nothing twice.
        assert_eq!(scratch.value(SQL), ROWS.to_string(), "{flag}");
        assert_eq!(server.count(), ROWS, "{flag}");
    }
}
