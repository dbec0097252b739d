//! Budgets: what a run may spend stops it, marks it as incomplete, publishes nothing and loses nothing.

use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::fault_server::{FaultServer, Reply, answer};
use crate::scratch::Scratch;

const ROWS: usize = 200;
const IN_FLIGHT: usize = 8;

const PUBLISH: &str = "COPY (SELECT q AS question, completion AS answer_text, arrow_cast([], 'List(Utf8)') AS reasons \
                       FROM generate((SELECT 'question ' || value AS q FROM generate_series(1, 200)), model => 'm', \
                       prompt => q, max_tokens => 50)) TO 'runs' STORED AS CURATED;";

const SQL: &str = "SELECT count(*) FROM generate((SELECT value FROM generate_series(1, 200)), model => 'm', \
                   prompt => 'question ' || value)";

/// A pipeline of 200 calls. A token of the server is a word, 1 dollar a million of them is 1e-6 a word.
fn pipeline(server: &FaultServer, more: &str) -> Scratch {
    let more = format!("price_per_million = {{ input = 1000.0, output = 1000.0 }}\n{more}");
    let scratch = Scratch::new(server.url(), IN_FLIGHT, &more);
    scratch.write("sql/60_publish.sql", PUBLISH);
    scratch
}

fn slow(body: &serde_json::Value, nth: u64) -> Reply {
    match answer(body, nth) {
        Reply::Answer(text, _) => Reply::Answer(text, Duration::from_millis(10)),
        other => other,
    }
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What lies in the folder that runs are published to.
fn out(scratch: &Scratch) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(scratch.path().join("runs")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_spent_budget_publishes_nothing_and_a_raised_one_goes_on_where_it_stopped() {
    let server = FaultServer::start(slow);
    let scratch = pipeline(&server, "[budget]\nmax_calls = 50\n");
    let output = scratch.run(&["run", "--yes"]);
    let said = error(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    for part in [
        "generate has done 50 of 200 rows",
        "max_calls = 50 is spent: 50 requests",
        "--max-calls",
        "every answer is kept",
    ] {
        assert!(said.contains(part), "'{part}' is not in {said}");
    }
    assert_eq!(server.count(), 50);
    assert!(server.max_in_flight() <= IN_FLIGHT);
    assert_eq!(out(&scratch), [""; 0]);
    assert_eq!(scratch.value("SELECT count(*) FROM calls"), "50");
    assert_eq!(scratch.value("SELECT count(*), min(state), min(stopped_by) FROM runs"), "1,incomplete,budget");
    assert!(scratch.value("SELECT reason FROM runs").contains("max_calls = 50 is spent"));

    // The flag stands over the file; what is in the ledger is not asked again.
    scratch.ok(&["run", "--max-calls", "1e3"]);
    assert_eq!(server.count(), ROWS);
    assert_eq!(scratch.value("SELECT count(*), min(state), count(reason) FROM runs"), "1,complete,0");
    assert_eq!(scratch.value("SELECT count(*) FROM curated"), ROWS.to_string());
}

#[test]
fn a_run_whose_estimate_is_above_the_budget_needs_yes() {
    let server = FaultServer::start(slow);
    let scratch = pipeline(&server, "");
    let output = scratch.run(&["run", "--max-calls", "50"]);
    assert_eq!(output.status.code(), Some(2), "{}", error(&output));
    assert!(error(&output).contains("about 200 calls, above max_calls = 50; start with --yes"), "{}", error(&output));
    let output = scratch.run(&["run", "--max-cost-usd", "0.001"]);
    assert_eq!(output.status.code(), Some(2), "{}", error(&output));
    assert!(error(&output).contains("above max_cost_usd = 0.001"), "{}", error(&output));
    assert_eq!(server.count(), 0);
    // What is in the ledger costs nothing: 150 calls are left, then none.
    assert_eq!(scratch.run(&["run", "--yes", "--max-calls", "50"]).status.code(), Some(3));
    let output = scratch.run(&["run", "--max-calls", "149"]);
    assert!(error(&output).contains("about 150 calls"), "{}", error(&output));
    scratch.ok(&["run", "--max-calls", "150"]);
    scratch.ok(&["run", "--max-calls", "0"]);
    assert_eq!(server.count(), ROWS);
}

#[test]
fn set_changes_the_budget_show_tells_it_and_a_flag_stands_over_it() {
    let server = FaultServer::start(slow);
    let scratch = Scratch::new(server.url(), IN_FLIGHT, "[budget]\nmax_calls = 1000\n");
    let output = scratch.run(&["sql", "-c", &format!("SET seedmill.max_calls = 20; {SQL}")]);
    assert_eq!(output.status.code(), Some(3), "{}", error(&output));
    assert_eq!(server.count(), 20);
    let output = scratch.run(&["sql", "--max-calls", "5", "-c", &format!("SET seedmill.max_calls = 20; {SQL}")]);
    assert_eq!(output.status.code(), Some(3), "{}", error(&output));
    assert_eq!(server.count(), 25);
    // Without a limit all of 200 are asked, whatever SET and the file say.
    scratch.ok(&["sql", "--max-calls", "none", "-c", &format!("SET seedmill.max_calls = 20; {SQL}")]);
    assert_eq!(server.count(), 200);
    let shown = scratch.ok(&["sql", "--max-calls", "none", "--format", "csv", "-c", "SHOW seedmill.max_calls"]);
    assert!(shown.contains("seedmill.max_calls,none"), "{shown}");
    let shown =
        scratch.ok(&["sql", "--format", "csv", "-c", "SET seedmill.max_tokens = 1e6; SHOW seedmill.max_tokens"]);
    assert!(shown.contains("seedmill.max_tokens,1000000"), "{shown}");
    let shown = scratch.ok(&["sql", "--format", "csv", "-c", "SHOW seedmill.max_calls"]);
    assert!(shown.contains("seedmill.max_calls,1000"), "{shown}");
    for (sql, sentence) in [
        ("SET seedmill.max_cals = 1", "did you mean 'max_calls'?"),
        ("SET seedmill.max_calls = 'many'", "it must be a whole number from 0"),
    ] {
        let output = scratch.run(&["sql", "-c", sql]);
        assert_eq!(output.status.code(), Some(1));
        assert!(error(&output).contains(sentence), "{}", error(&output));
    }
}

#[test]
fn what_cannot_be_sent_for_want_of_a_key_stops_with_that_and_spends_nothing() {
    let server = FaultServer::start(slow);
    let scratch = Scratch::new(server.url(), IN_FLIGHT, "api_key_env = \"SEEDMILL_TEST_NO_SUCH_KEY\"\n");
    let sql = "SELECT completion FROM generate((SELECT unnest(['a', 'b']) AS q), model => 'm', prompt => q)";
    let output = scratch.run(&["sql", "--max-calls", "1", "-c", sql]);
    assert_eq!(output.status.code(), Some(1), "{}", error(&output));
    let said = "model 'm' cannot be asked: request: the environment variable SEEDMILL_TEST_NO_SUCH_KEY";
    assert!(error(&output).contains(said), "{}", error(&output));
    let embed = "SELECT embedding FROM embed((SELECT 'a' AS q), model => 'm', text => q)";
    let output = scratch.run(&["sql", "-c", embed]);
    assert!(!output.status.success() && error(&output).contains(said), "{}", error(&output));
    assert_eq!((server.count(), scratch.number("SELECT count(*) FROM attempts")), (0, 0));
    // What is answered needs no key.
    scratch.run_with(("SEEDMILL_TEST_NO_SUCH_KEY", "sk"), &["sql", "-c", sql]);
    assert_eq!(server.count(), 2);
    scratch.ok(&["sql", "-c", sql]);
    assert_eq!(server.count(), 2);
}

#[test]
fn calls_that_failed_are_told_also_where_their_rows_are_written_without_the_reason() {
    let server = FaultServer::start(|body, nth| match nth {
        0 => Reply::Status(400, None, "as asked".into()),
        nth => answer(body, nth),
    });
    let scratch = Scratch::new(server.url(), IN_FLIGHT, "");
    let copy = "COPY (SELECT completion FROM generate((SELECT unnest(['a', 'b', 'c']) AS q), model => 'm', prompt => q)) \
                TO 'answers.parquet'";
    let output = scratch.run(&["sql", "-c", copy]);
    assert!(output.status.success(), "{}", error(&output));
    let said = "note: generate: 1 of 3 calls failed; why stands in generate_call['error'] of its row";
    assert!(error(&output).contains(said), "{}", error(&output));
    let output = scratch.run(&["sql", "--quiet", "-c", copy]);
    assert!(output.status.success() && !error(&output).contains("failed"), "{}", error(&output));
}

#[test]
fn tokens_and_dollars_are_passed_by_no_more_than_what_is_in_flight() {
    let server = FaultServer::start(slow);
    let scratch = Scratch::new(server.url(), 4, "price_per_million = { input = 0.0, output = 125000.0 }\n");
    // An answer has 8 words, so it costs a dollar.
    let output = scratch.run(&["sql", "--max-cost-usd", "20", "-c", SQL]);
    assert_eq!(output.status.code(), Some(3), "{}", error(&output));
    assert!(error(&output).contains("max_cost_usd = 20 is spent"), "{}", error(&output));
    let cost: f64 = scratch.value("SELECT sum(cost_usd) FROM calls").parse().unwrap();
    assert!((20.0..=23.0).contains(&cost), "{cost}");
    let before = server.count();
    let output = scratch.run(&["sql", "--max-tokens", "100", "-c", SQL]);
    assert_eq!(output.status.code(), Some(3), "{}", error(&output));
    let tokens: u64 = scratch.value("SELECT sum(prompt_tokens + completion_tokens) FROM calls").parse().unwrap();
    let a_call = tokens / server.count() as u64;
    let asked = (server.count() - before) as u64;
    assert!(asked * a_call >= 100 && (asked - 4) * a_call < 100, "{asked} calls of {a_call} tokens");
}

#[test]
fn attempts_without_an_answer_that_may_be_billed_are_charged_too() {
    // Every request is torn: the server bills answers that nobody can read.
    let server = FaultServer::start(|_, _| Reply::TornJson);
    let scratch = Scratch::new(server.url(), 1, "price_per_million = { input = 0.0, output = 1000000.0 }\n");
    let sql = "SELECT count(*) FROM generate((SELECT value FROM generate_series(1, 8)), model => 'm', \
               prompt => 'question ' || value, max_tokens => 10)";
    let output = scratch.run(&["sql", "--max-cost-usd", "45", "-c", sql]);
    assert_eq!(output.status.code(), Some(3), "{}", error(&output));
    // Each is 10 dollars at the most.
    assert_eq!(server.count(), 5, "{}", error(&output));
    assert!(error(&output).contains("5 without an answer that may be billed"), "{}", error(&output));
    assert_eq!(scratch.value("SELECT sum(cost_usd), count(*) FROM attempts WHERE billed"), "50.0,5");
}

#[test]
fn answers_whose_tokens_nobody_counts_cost_the_most_they_can_wherever_their_cost_stands() {
    let server = FaultServer::start(|_, _| {
        let body = r#"{"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}"#;
        Reply::Foreign("application/json", body.to_owned())
    });
    let scratch = Scratch::new(server.url(), 1, "price_per_million = { input = 0.0, output = 1000000.0 }\n");
    let sql = |question: &str| {
        format!(
            "SELECT sum(generate_call['cost_usd']) FROM generate((SELECT value FROM generate_series(1, 4)), model => 'm', \
             prompt => '{question} ' || value, max_tokens => 10)"
        )
    };
    let output = scratch.run(&["sql", "--json", "--format", "csv", "-c", &sql("first")]);
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("40.0"), "{output:?}");
    let events: Vec<serde_json::Value> =
        error(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for name in ["stage_finished", "run_finished"] {
        let event = events.iter().find(|event| event["event"] == name).unwrap();
        assert_eq!(event["cost_usd"], 40.0, "{event}");
    }
    assert_eq!(scratch.value("SELECT sum(cost_usd), count(completion_tokens) FROM calls"), "40.0,0");
    assert_eq!(scratch.value("SELECT sum(cost_usd) FROM attempts"), "40.0");
    assert_eq!(scratch.value(&sql("first")), "40.0");
    assert_eq!(server.count(), 4);
    let output = scratch.run(&["sql", "--max-cost-usd", "25", "-c", &sql("second")]);
    assert_eq!(output.status.code(), Some(3), "{}", error(&output));
    assert_eq!(server.count(), 4 + 3);
}

#[test]
fn retries_count_as_requests_and_never_pass_max_calls() {
    let server = FaultServer::start(|_, _| Reply::Status(503, None, "busy".into()));
    let scratch = Scratch::new(server.url(), IN_FLIGHT, "");
    let output = scratch.run(&["sql", "--max-calls", "7", "-c", SQL]);
    assert_eq!(output.status.code(), Some(3), "{}", error(&output));
    assert_eq!(server.count(), 7);
}

#[test]
fn a_failed_run_is_shown_with_its_reason_until_a_later_one_is_published() {
    let has_key = Arc::new(AtomicBool::new(false));
    let key = Arc::clone(&has_key);
    let server = FaultServer::start(move |body, nth| match key.load(Ordering::SeqCst) {
        false => Reply::Status(401, None, "no such key".into()),
        true => slow(body, nth),
    });
    let scratch = pipeline(&server, "");
    let output = scratch.run(&["run"]);
    assert_eq!(output.status.code(), Some(1), "{}", error(&output));
    assert_eq!(scratch.value("SELECT state, stopped_by, models[1] FROM runs"), "incomplete,failed,m");
    assert!(scratch.value("SELECT reason FROM runs").contains("no such key"));
    assert_eq!(out(&scratch), [""; 0]);
    assert_eq!(scratch.run(&["run"]).status.code(), Some(1));
    assert_eq!(scratch.value("SELECT count(*), max(state) FROM runs"), "2,incomplete");
    has_key.store(true, Ordering::SeqCst);
    scratch.ok(&["run"]);
    assert_eq!(scratch.value("SELECT count(*), min(state) FROM runs"), "1,complete");
}

#[test]
fn rows_that_are_replayed_are_asked_about_in_the_next_stage_and_count_for_the_budget() {
    let server = FaultServer::start(answer);
    let scratch = Scratch::new(server.url(), IN_FLIGHT, "price_per_million = { input = 1000.0, output = 1000.0 }\n");
    scratch.write(
        "sql/10_write.sql",
        "CREATE VIEW written AS SELECT q, completion AS draft FROM generate((SELECT 'question ' || value AS q \
         FROM generate_series(1, 20)), model => 'm', prompt => q, max_tokens => 50);",
    );
    let solve = |prompt: &str| {
        let sql = format!(
            "COPY (SELECT q AS question, completion[1] AS answer_text, reasons('failed', draft IS NULL) AS reasons \
             FROM enrich(TABLE written, model => 'm', prompt => '{prompt} ' || draft, samples => 5, \
             max_tokens => 50)) TO 'runs' STORED AS CURATED;"
        );
        scratch.write("sql/30_solve.sql", &sql);
    };
    solve("solve");
    scratch.ok(&["run"]);
    let asked = server.count();
    assert_eq!(asked, 20 + 100);
    // Nothing is left of the first stage, and all of the second.
    solve("solve again");
    let output = scratch.run(&["run", "--max-cost-usd", "0.1"]);
    assert_eq!(output.status.code(), Some(2), "{}", error(&output));
    assert!(error(&output).contains("above max_cost_usd = 0.1; start with --yes"), "{}", error(&output));
    let output = scratch.run(&["run", "--max-calls", "99"]);
    assert!(error(&output).contains("about 100 calls, above max_calls = 99"), "{}", error(&output));
    assert_eq!(server.count(), asked);
}

#[test]
fn rows_that_share_a_call_or_have_none_are_asked_about_in_the_next_stage_all_the_same() {
    // A first stage with one call for 20 rows, and one with calls for half of them.
    let cases = [("'the same'", "about 21 calls"), ("CASE WHEN value > 10 THEN q END", "about 30 calls")];
    for (prompt, estimate) in cases {
        let server = FaultServer::start(answer);
        let scratch = Scratch::new(server.url(), IN_FLIGHT, "");
        let write = format!(
            "CREATE VIEW written AS SELECT q, completion AS draft FROM generate((SELECT value, 'question ' || value AS q \
             FROM generate_series(1, 20)), model => 'm', prompt => {prompt}, max_tokens => 50);"
        );
        scratch.write("sql/10_write.sql", &write);
        scratch.write(
            "sql/30_solve.sql",
            "COPY (SELECT q AS question, completion AS answer_text, reasons('failed', completion IS NULL) AS reasons \
             FROM enrich(TABLE written, model => 'm', prompt => 'solve ' || q || coalesce(draft, ''), \
             max_tokens => 50)) TO 'runs' STORED AS CURATED;",
        );
        let output = scratch.run(&["run", "--max-calls", "15"]);
        assert_eq!(output.status.code(), Some(2), "{}", error(&output));
        assert!(error(&output).contains(estimate), "{prompt}: {}", error(&output));
        scratch.ok(&["run", "--max-calls", "30"]);
    }
}

#[test]
fn a_model_that_costs_nothing_answers_without_a_dollar_and_a_priced_one_does_not() {
    let server = FaultServer::start(answer);
    let scratch = Scratch::new(server.url(), IN_FLIGHT, "");
    scratch.ok(&["sql", "--max-cost-usd", "0", "-c", SQL]);
    assert_eq!(server.count(), ROWS);
    let scratch = Scratch::new(server.url(), IN_FLIGHT, "price_per_million = { input = 0.0, output = 1.0 }\n");
    let output = scratch.run(&["sql", "--max-cost-usd", "0", "-c", SQL]);
    assert_eq!(output.status.code(), Some(3), "{}", error(&output));
    assert!(error(&output).contains("max_cost_usd = 0 is spent: 0 requests"), "{}", error(&output));
    assert_eq!(server.count(), ROWS);
}
