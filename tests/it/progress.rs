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
    // Ten rounds of 600 ms: most of the time all four are on their way, and at some event each second.
    let server = FaultServer::start(slow(600));
    let scratch = Scratch::new(server.url(), 4, "");
    let output = scratch.run(&["sql", "--json", "--format", "csv", "-c", SQL]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("40"));
    let events = events(&output.stderr);
    assert_eq!(events["run_started"].len(), 1);
    // Before the query is planned there is no stage.
    let stages = events["progress"].iter().map(|event| &event["stages"][0]);
    let during: Vec<&Value> = stages.filter(|stage| !stage.is_null()).collect();
    assert!(during.len() >= 2, "{events:?}");
    let (first, last) = (during[0], during[during.len() - 1]);
    assert_eq!(first["stage"].as_str(), Some("generate_call"));
    assert!(during.iter().any(|stage| stage["in_flight"] == 4), "{during:?}");
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
    // Two rounds of 6 s: at 10 s four are done and four are on their way, and 20 s do not come.
    let server = FaultServer::start(slow(6_000));
    let scratch = Scratch::new(server.url(), 4, "");
    let output = scratch.run(&["sql", "-c", &SQL.replace("40", "8")]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = error.lines().filter(|line| line.contains("generate: ")).collect();
    assert_eq!(lines.len(), 1, "{error}");
    for part in ["/8 rows", "calls/s", "4 in flight", "tokens/s", "left"] {
        assert!(lines[0].contains(part), "'{part}' is not in {}", lines[0]);
    }
}

/// A command that must fail: what it says.
fn refusal(scratch: &Scratch, arguments: &[&str]) -> String {
    let output = scratch.run(arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
    error
}

/// Of tests that ask no model.
fn without_a_server() -> Scratch {
    Scratch::new("http://127.0.0.1:9", 1, "")
}

#[test]
fn a_file_holds_one_result_or_those_that_read_as_one() {
    let scratch = without_a_server();
    let read = |name: &str| std::fs::read_to_string(scratch.path().join(name)).unwrap();
    let two = "SELECT 1 AS a; SELECT 2 AS a";
    for format in ["parquet", "json"] {
        let error = refusal(&scratch, &["sql", "--format", format, "-o", "out", "-c", two]);
        assert!(error.contains("one result a file: "), "{error}");
        assert!(!scratch.path().join("out").exists());
    }
    let output = scratch.run(&["sql", "--format", "json", "-c", two]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]));
    // A definition is no result.
    scratch.ok(&["sql", "--format", "json", "-o", "one.json", "-c", "CREATE VIEW v AS SELECT 1 AS a; SELECT a FROM v"]);
    assert_eq!(read("one.json"), "[{\"a\":1}]\n");

    scratch.ok(&["sql", "--format", "csv", "-o", "out.csv", "-c", two]);
    assert_eq!(read("out.csv"), "a\n1\n2\n");
    let other = "SELECT 3 AS a; SELECT 4 AS b";
    let error = refusal(&scratch, &["sql", "--format", "csv", "-o", "out.csv", "-c", other]);
    assert!(error.contains("one result a file: CSV has no place for a second with other columns"), "{error}");
    assert_eq!(read("out.csv"), "a\n1\n2\n");
    scratch.ok(&["sql", "--format", "ndjson", "-o", "out.jsonl", "-c", other]);
    assert_eq!(read("out.jsonl"), "{\"a\":3}\n{\"b\":4}\n");
}

#[test]
fn a_command_that_fails_leaves_the_file_of_its_results_as_it_was() {
    let scratch = without_a_server();
    scratch.write("keep.csv", "old\n");
    let kept = || std::fs::read_to_string(scratch.path().join("keep.csv")).unwrap();
    let to_csv = |sql| ["sql", "--format", "csv", "-o", "keep.csv", "-c", sql];
    for sql in ["selct 1", "SELECT nothing", "SELECT 1 AS a; SELECT nothing"] {
        refusal(&scratch, &to_csv(sql));
        assert_eq!(kept(), "old\n", "{sql}");
    }
    scratch.ok(&to_csv("SELECT 1 AS a"));
    assert_eq!(kept(), "a\n1\n");
    let names = std::fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with(".seedmill-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[cfg(unix)]
#[test]
fn results_go_through_links_and_into_pipes_and_devices() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let scratch = without_a_server();
    let to = |path| scratch.ok(&["sql", "--format", "csv", "-o", path, "-c", "SELECT 1 AS a"]);
    assert_eq!(to("/dev/stdout"), "a\n1\n");
    assert_eq!(to("/dev/null"), "");
    scratch.write("there.csv", "old\n");
    let there = scratch.path().join("there.csv");
    std::fs::set_permissions(&there, std::fs::Permissions::from_mode(0o640)).unwrap();
    symlink("there.csv", scratch.path().join("link.csv")).unwrap();
    to("link.csv");
    assert!(scratch.path().join("link.csv").is_symlink());
    assert_eq!(std::fs::read_to_string(&there).unwrap(), "a\n1\n");
    assert_eq!(std::fs::metadata(&there).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn a_null_is_told_in_json() {
    let scratch = without_a_server();
    let sql = "SELECT CAST(NULL AS INT) AS a, 1 AS b";
    assert_eq!(scratch.ok(&["sql", "--format", "json", "-c", sql]), "[{\"a\":null,\"b\":1}]\n");
    assert_eq!(scratch.ok(&["sql", "--format", "ndjson", "-c", sql]), "{\"a\":null,\"b\":1}\n");
}
