//! What the program tells while it runs and afterwards: events, lines, EXPLAIN ANALYZE.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::fault_server::{FaultServer, Reply, answer, failing_first};
use crate::scratch::Scratch;

const SQL: &str = "SELECT count(*) FROM generate((SELECT value FROM generate_series(1, 40)), model => 'm', \
                   prompt => 'question ' || value)";

fn slow(millis: u64) -> impl Fn(&Value, u64) -> Reply + Send + Sync + 'static {
    move |body, nth| match answer(body, nth) {
        Reply::Answer(text, _) => Reply::Answer(text, Duration::from_millis(millis)),
        other => other,
    }
}

/// The events of a command, by name; every line of standard error must be one.
fn events(error: &[u8]) -> BTreeMap<String, Vec<Value>> {
    let mut events = BTreeMap::<String, Vec<Value>>::new();
    for line in String::from_utf8_lossy(error).lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        events.entry(event["event"].as_str().unwrap().to_owned()).or_default().push(event);
    }
    events
}

#[test]
fn explain_analyze_shows_requests_retries_errors_tokens_cost_and_waits() {
    // The first attempt of each of five questions is turned away.
    let busy = Reply::Status(503, None, "busy".into());
    let server = FaultServer::start(failing_first(1, busy, slow(20)));
    let scratch = Scratch::new(server.url(), 2, "price_per_million = { input = 0.0, output = 1000.0 }\n");
    let sql = "EXPLAIN ANALYZE SELECT completion FROM generate((SELECT value FROM generate_series(1, 5)), model => 'm', \
               prompt => 'q' || value)";
    let first = scratch.ok(&["sql", "-c", sql]);
    let node: String = first.split("GenerateExec").nth(1).unwrap().split("Exec").next().unwrap().to_owned();
    // An answer has 8 words.
    for part in [
        "requests=10,",
        "retries=5,",
        "errors_busy_503=5,",
        "calls_asked=5,",
        "calls_replayed=0,",
        "calls_failed=0,",
        "completion_tokens=40,",
        "max_in_flight=2,",
        "cost_usd=0.040000",
    ] {
        assert!(node.contains(part), "'{part}' is not in {node}");
    }
    // What DataFusion counts of every node.
    assert!(node.contains("output_rows=5,") && !node.contains("output_batches=0,"), "{node}");
    assert!(node.contains("limiter_wait=") && !node.contains("limiter_wait=NOT RECORDED"), "{node}");
    let second = scratch.ok(&["sql", "-c", sql]);
    for part in ["requests=0,", "calls_replayed=5,", "max_in_flight=0,", "cost_usd=0.000000"] {
        assert!(second.contains(part), "'{part}' is not in {second}");
    }
}

#[test]
fn events_tell_machines_how_a_query_goes_and_ends() {
    let server = FaultServer::start(slow(200));
    let scratch = Scratch::new(server.url(), 4, "");
    let output = scratch.run(&["sql", "--json", "--format", "csv", "-c", SQL]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("40"));
    let events = events(&output.stderr);
    assert_eq!(events["run_started"].len(), 1);
    let during: Vec<&Value> = events["progress"].iter().map(|event| &event["stages"][0]).collect();
    assert!(during.len() >= 2, "{events:?}");
    let (first, last) = (during[0], during[during.len() - 1]);
    assert_eq!((first["stage"].as_str(), first["in_flight"].as_u64()), (Some("generate_call"), Some(4)));
    assert!(first["rows_done"].as_u64() < last["rows_done"].as_u64(), "{first} {last}");
    assert!(during.iter().any(|stage| stage["calls_per_second"].as_f64().unwrap() > 0.0));
    assert_eq!((last["rows_done"].as_u64(), last["in_flight"].as_u64()), (Some(40), Some(0)));
    assert_eq!(events["stage_finished"].len(), 1);
    let finished = &events["run_finished"][0];
    assert_eq!((finished["state"].as_str(), finished["requests"].as_u64()), (Some("complete"), Some(40)));
    assert_eq!(finished["exit_code"], 0);
}

#[test]
fn events_tell_the_end_of_a_stopped_query_too() {
    let server = FaultServer::start(slow(5));
    let scratch = Scratch::new(server.url(), 4, "");
    let output = scratch.run(&["sql", "--json", "--max-calls", "10", "-c", SQL]);
    assert_eq!(output.status.code(), Some(3));
    let stopped = events(&output.stderr);
    let finished = &stopped["run_finished"][0];
    assert_eq!((finished["state"].as_str(), finished["stopped_by"].as_str()), (Some("incomplete"), Some("budget")));
    assert_eq!((finished["exit_code"].as_u64(), finished["requests"].as_u64()), (Some(3), Some(10)));
    assert!(stopped["error"][0]["message"].as_str().unwrap().contains("max_calls = 10 is spent"));
    // Errors before any call are events as well.
    let output = scratch.run(&["sql", "--json", "-c", "SELEC 1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(events(&output.stderr)["error"][0]["message"].as_str().unwrap().contains("SELEC"));
}

#[test]
fn quiet_says_nothing_but_the_result_and_errors() {
    let server = FaultServer::start(slow(1));
    let scratch = Scratch::new(server.url(), 4, "");
    scratch.write("sql/10_broken.sql", "CREATE VIEW v AS SELEC nothing FROM nowhere;");
    let output = scratch.run(&["sql", "-c", SQL]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("note: the views of"));
    let output = scratch.run(&["sql", "--quiet", "--format", "csv", "-c", SQL]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(String::from_utf8_lossy(&output.stdout).contains("40"));
    let output = scratch.run(&["sql", "--quiet", "-c", "SELEC 1"]);
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("seedmill: "));
}

#[test]
fn where_there_is_no_terminal_a_line_comes_every_ten_seconds() {
    let server = FaultServer::start(slow(1_100));
    let scratch = Scratch::new(server.url(), 4, "");
    let output = scratch.run(&["sql", "-c", SQL]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = error.lines().filter(|line| line.contains("generate: ")).collect();
    assert_eq!(lines.len(), 1, "{error}");
    for part in ["/40 rows", "calls/s", "4 in flight", "tokens/s", "left"] {
        assert!(lines[0].contains(part), "'{part}' is not in {}", lines[0]);
    }
}
