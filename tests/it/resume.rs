//! Stopped runs: killed, interrupted, read while they write. What was answered is never asked again.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::fault_server::{FaultServer, Reply, answer};
use crate::scratch::Scratch;

const ROWS: usize = 200;
const IN_FLIGHT: usize = 8;

const SQL: &str = "SELECT count(*), count(DISTINCT q) FROM generate((SELECT value FROM generate_series(1, 200)), \
                   model => 'm', prompt => 'question ' || value, returns => 'q TEXT') WHERE generate_call['error'] IS NULL";

fn slow_server(millis: u64) -> FaultServer {
    FaultServer::start(move |body, nth| match answer(body, nth) {
        Reply::Answer(text, _) => Reply::Answer(text, Duration::from_millis(millis)),
        other => other,
    })
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn after_kill_9_only_what_was_in_flight_is_asked_again() {
    let server = slow_server(25);
    let scratch = Scratch::new(server.url(), IN_FLIGHT, "");
    for part in 1..=3 {
        let mut child = scratch.start(&["sql", "-c", SQL]);
        wait_until("answers", || server.answered() >= part * 40);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let out = scratch.ok(&["sql", "--format", "csv", "-c", SQL]);
    assert!(out.contains(&format!("{ROWS},{ROWS}")), "{out}");
    let distinct = server.count_by_key().len();
    assert_eq!(distinct, ROWS);
    assert!(server.count() <= ROWS + 3 * IN_FLIGHT, "{} requests for {ROWS} calls", server.count());
    assert!(server.max_in_flight() <= IN_FLIGHT);
    // Nothing at all is asked once everything is there, and each call is one row.
    let before = server.count();
    scratch.ok(&["sql", "-c", SQL]);
    assert_eq!(server.count(), before);
    assert_eq!(scratch.value("SELECT count(*) FROM calls"), ROWS.to_string());
}

#[test]
fn the_ledger_is_read_while_a_run_writes() {
    let server = slow_server(150);
    let scratch = Scratch::new(server.url(), 2, "");
    let mut child = scratch.start(&["sql", "-c", SQL]);
    wait_until("answers", || server.answered() >= 20);
    let calls: usize = scratch.value("SELECT count(*) FROM calls").parse().unwrap();
    let attempts: usize = scratch.value("SELECT count(*) FROM attempts WHERE billed").parse().unwrap();
    assert!(child.try_wait().unwrap().is_none(), "the run ended too early for this test");
    assert!((10..ROWS).contains(&calls), "{calls}");
    assert!((10..ROWS).contains(&attempts), "{attempts}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn ctrl_c_waits_for_what_is_in_flight_and_the_same_command_goes_on() {
    // From the 41st on answers take their time until the signal is sent, so that the run is still there.
    let signalled = Arc::new(AtomicBool::new(false));
    let is_signalled = Arc::clone(&signalled);
    let server = FaultServer::start(move |body, nth| match answer(body, nth) {
        Reply::Answer(text, _) => {
            let waits = nth >= 40 && !is_signalled.load(Ordering::SeqCst);
            Reply::Answer(text, Duration::from_millis(if waits { 3_000 } else { 25 }))
        }
        other => other,
    });
    let scratch = Scratch::new(server.url(), IN_FLIGHT, "");
    let child = scratch.start(&["sql", "-c", SQL]);
    wait_until("answers", || server.answered() >= 40);
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    signalled.store(true, Ordering::SeqCst);
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{error}");
    assert!(error.contains("no new calls"), "{error}");
    scratch.ok(&["sql", "-c", SQL]);
    // No request of the first run was lost.
    assert_eq!(server.count(), ROWS);
}

#[test]
fn two_references_and_two_partitions_that_ask_the_same_are_one_request() {
    let server = slow_server(25);
    let scratch = Scratch::new(server.url(), IN_FLIGHT, "");
    let both = "SELECT count(*) FROM generate((SELECT 'same' AS p FROM generate_series(1, 50)), model => 'm', prompt => p) a \
                UNION ALL SELECT count(*) FROM generate((SELECT 'same' AS p), model => 'm', prompt => p)";
    let out = scratch.ok(&["sql", "--format", "csv", "-c", both]);
    assert!(out.contains("50"), "{out}");
    assert_eq!(server.count(), 1);
    assert_eq!(scratch.value("SELECT count(*) FROM attempts"), "1");
}

#[test]
fn a_limit_above_calls_that_were_sent_loses_no_answer() {
    let server = slow_server(25);
    let scratch = Scratch::new(server.url(), IN_FLIGHT, "");
    let sql = "SELECT completion FROM generate((SELECT value FROM generate_series(1, 200)), model => 'm', prompt => 'q' || value) LIMIT 1";
    scratch.ok(&["sql", "-c", sql]);
    assert!(server.count() < ROWS, "{}", server.count());
    assert_eq!(scratch.value("SELECT count(*) FROM calls"), server.count().to_string());
}

#[test]
fn a_spent_budget_stops_the_run_and_keeps_every_answer() {
    let server = slow_server(25);
    let scratch = Scratch::new(server.url(), 4, "[budget]\nmax_calls = 20\n");
    let output = scratch.run(&["sql", "-c", SQL]);
    assert_eq!(output.status.code(), Some(3));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("the budget max_calls = 20 is spent"), "{error}");
    assert!(server.count() <= 20 + 4, "{}", server.count());
    assert_eq!(scratch.value("SELECT count(*) FROM calls"), server.count().to_string());
}

#[test]
fn explain_analyze_counts_calls() {
    let server = slow_server(25);
    let scratch = Scratch::new(server.url(), IN_FLIGHT, "");
    let sql = "EXPLAIN ANALYZE SELECT completion FROM generate((SELECT value FROM generate_series(1, 5)), model => 'm', prompt => 'q' || value)";
    let first = scratch.ok(&["sql", "-c", sql]);
    assert!(first.contains("GenerateExec: model=m") && first.contains("calls_asked=5"), "{first}");
    let second = scratch.ok(&["sql", "-c", sql]);
    assert!(second.contains("calls_asked=0") && second.contains("calls_replayed=5"), "{second}");
}

#[test]
fn a_run_in_which_everything_fails_alike_stops_with_that_reason() {
    let server = FaultServer::start(|_, _| Reply::Status(401, None, "no such key".into()));
    let scratch = Scratch::new(server.url(), IN_FLIGHT, "");
    let output = scratch.run(&["sql", "-c", SQL]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("the first 10 calls of model m all failed alike") && error.contains("no such key"),
        "{error}"
    );
    assert!(server.count() < 10 + 2 * IN_FLIGHT, "{}", server.count());
}

#[test]
fn a_finished_run_whose_refused_rows_are_all_that_is_asked_again_is_replayed() {
    for status in [400, 403] {
        let server = FaultServer::start(move |body, nth| match body["messages"][0]["content"].as_str() {
            Some(question) if question.ends_with("0 ?") => Reply::Status(status, None, "not this one".into()),
            _ => answer(body, nth),
        });
        let scratch = Scratch::new(server.url(), IN_FLIGHT, "");
        let sql = "SELECT count(*), count(completion) FROM generate((SELECT value FROM generate_series(1, 200)), \
                   model => 'm', prompt => 'question ' || value || ' ?')";
        for asked in [ROWS, ROWS + 20, ROWS + 40] {
            assert_eq!(scratch.value(sql), "200,180", "{status}");
            assert_eq!(server.count(), asked, "{status}");
        }
    }
}

#[test]
fn a_copy_that_is_stopped_leaves_the_file_that_was_there() {
    let server = FaultServer::start(answer);
    let scratch = Scratch::new(server.url(), 4, "");
    for format in ["parquet", "csv", "json"] {
        let path = scratch.path().join(format!("p.{format}"));
        std::fs::write(&path, "as it was").unwrap();
        let copy = format!(
            "COPY (SELECT value, completion FROM generate((SELECT value FROM generate_series(1, 60)), model => 'm', \
             prompt => '{format} ' || value)) TO 'p.{format}' STORED AS {format}"
        );
        let stopped = scratch.run(&["sql", "--max-calls", "20", "-c", &copy]);
        assert_eq!(stopped.status.code(), Some(3), "{}", String::from_utf8_lossy(&stopped.stderr));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "as it was", "{format}");
        scratch.ok(&["sql", "-c", &copy]);
        assert_eq!(scratch.value(&format!("SELECT count(completion) FROM 'p.{format}'")), "60", "{format}");
    }
    let names = std::fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().contains("incomplete")));
}

#[test]
fn a_copy_into_a_folder_that_is_stopped_leaves_no_file_there() {
    let server = FaultServer::start(answer);
    let scratch = Scratch::new(server.url(), 4, "");
    for (n, partitions) in ["", " PARTITIONED BY (part)"].into_iter().enumerate() {
        let copy = format!(
            "COPY (SELECT value, completion, CAST(value % 3 AS TEXT) AS part FROM generate((SELECT value FROM \
             generate_series(1, 60)), model => 'm', prompt => '{n} ' || value)) TO 'out{n}/' STORED AS PARQUET{partitions}"
        );
        let folder = scratch.path().join(format!("out{n}"));
        let stopped = scratch.run(&["sql", "--max-calls", "20", "-c", &copy]);
        assert_eq!(stopped.status.code(), Some(3), "{}", String::from_utf8_lossy(&stopped.stderr));
        assert_eq!(files(&folder), Vec::<String>::new(), "{partitions}");
        scratch.ok(&["sql", "-c", &copy]);
        if partitions.is_empty() {
            assert_eq!(scratch.value(&format!("SELECT count(completion) FROM 'out{n}/'")), "60");
        }
        let written = files(&folder);
        assert!(written.iter().all(|name| name.ends_with(".parquet")), "{written:?}");
        // One for a value of `part`, else as many as were open at once.
        assert!(if partitions.is_empty() { !written.is_empty() } else { written.len() == 3 }, "{written:?}");
    }
}

/// The names of the files below a folder.
fn files(folder: &std::path::Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap()) {
        match entry.file_type().unwrap().is_dir() {
            true => names.extend(files(&entry.path())),
            false => names.push(entry.file_name().into_string().unwrap()),
        }
    }
    names
}
