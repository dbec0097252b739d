//! The same call wanted in several places at once (references, partitions, queries, processes) is one request.

use std::time::{Duration, Instant};

use futures::future::join_all;
use seedmill::session::OpenOptions;

use crate::fault_server::{FaultServer, Reply, answer};
use crate::scratch::Scratch;

const ROWS: usize = 200;
const IN_FLIGHT: usize = 8;

fn slow_server(millis: u64) -> FaultServer {
    FaultServer::start(move |body, nth| match answer(body, nth) {
        Reply::Answer(text, _) => Reply::Answer(text, Duration::from_millis(millis)),
        other => other,
    })
}

/// `generate` over so many rows.
fn generate(rows: usize) -> String {
    format!(
        "generate((SELECT value FROM generate_series(1, {rows})), model => 'm', prompt => 'question ' || value, \
         returns => 'q TEXT')"
    )
}

/// Answered rows, and distinct answers among them.
fn counted(rows: usize) -> String {
    format!("SELECT count(*), count(DISTINCT q) FROM {} WHERE generate_call['error'] IS NULL", generate(rows))
}

#[test]
fn references_and_partitions_that_ask_the_same_at_once_are_one_request_each() {
    let (one, call) = (generate(40), "generate_call['error'] IS NULL");
    let cases = [
        ("a self join", format!("SELECT a.value FROM {one} a JOIN {one} b ON a.value = b.value AND a.q = b.q"), 40),
        (
            "one name, joined",
            format!("WITH g AS (SELECT * FROM {one}) SELECT a.value FROM g a JOIN g b ON a.q = b.q WHERE a.{call}"),
            40,
        ),
        ("a union", format!("SELECT value FROM {one} WHERE {call} UNION ALL SELECT value FROM {one} WHERE {call}"), 80),
        (
            "partitions of one input",
            "SELECT value FROM generate((SELECT value FROM generate_series(1, 40) UNION ALL SELECT value FROM \
             generate_series(1, 40) UNION ALL SELECT value FROM generate_series(40, 1, -1)), model => 'm', \
             prompt => 'question ' || value, returns => 'q TEXT') WHERE generate_call['error'] IS NULL"
                .into(),
            120,
        ),
    ];
    for (case, sql, rows) in cases {
        let server = slow_server(10);
        let scratch = Scratch::new(server.url(), IN_FLIGHT, "");
        assert_eq!(scratch.texts(&sql).len(), rows, "{case}");
        assert_eq!((server.count(), server.count_by_key().len()), (40, 40), "{case}");
        assert_eq!(scratch.number("SELECT count(*) FROM attempts"), 40, "{case}");
    }
}

#[test]
fn queries_of_one_session_at_the_same_time_share_their_calls() {
    let server = slow_server(10);
    let scratch = Scratch::new(server.url(), IN_FLIGHT, "");
    scratch.session(OpenOptions::default(), async |workspace| {
        let queries = (0..3).map(|_| async {
            let batches = workspace.sql(&format!("SELECT q FROM {}", generate(40))).await?.collect().await?;
            Ok::<_, datafusion::error::DataFusionError>(batches.iter().map(|batch| batch.num_rows()).sum::<usize>())
        });
        for rows in join_all(queries).await {
            assert_eq!(rows.unwrap(), 40);
        }
    });
    assert_eq!(server.count(), 40);
    assert_eq!(scratch.number("SELECT count(*) FROM call_uses WHERE NOT replayed"), 40);
    assert_eq!(scratch.number("SELECT count(*) FROM call_uses"), 120);
}

#[test]
fn sessions_on_one_workspace_at_the_same_time_share_their_calls() {
    let server = slow_server(10);
    let scratch = Scratch::new(server.url(), IN_FLIGHT, "");
    let sql = counted(40);
    std::thread::scope(|scope| {
        let sessions: Vec<_> = (0..3).map(|_| scope.spawn(|| scratch.texts(&sql))).collect();
        for session in sessions {
            assert_eq!(session.join().unwrap(), [["40", "40"]]);
        }
    });
    // Locks on calls are Linux's; elsewhere what is in flight in two at once is paid twice.
    if cfg!(target_os = "linux") {
        assert_eq!(server.count(), 40);
    }
    assert_eq!(scratch.number("SELECT count(*) FROM calls"), 40);
}

#[test]
fn two_processes_on_one_workspace_both_finish_and_pay_once() {
    let server = slow_server(20);
    let scratch = Scratch::new(server.url(), IN_FLIGHT, "");
    let sql = counted(ROWS);
    let both = [(); 2].map(|()| scratch.start(&["sql", "--format", "csv", "-c", &sql]));
    for child in both {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(out.contains(&format!("{ROWS},{ROWS}")), "{out}");
    }
    assert_eq!(server.count_by_key().len(), ROWS);
    let twice = server.count() - ROWS;
    if cfg!(target_os = "linux") {
        assert_eq!(twice, 0, "calls paid twice");
    }
    // No corruption: every call is a row and is replayed, every request is an attempt.
    assert_eq!(scratch.number("SELECT count(*) FROM calls"), ROWS);
    assert_eq!(scratch.number("SELECT count(*) FROM attempts"), server.count());
    let asked = server.count();
    assert_eq!(scratch.texts(&sql), [[ROWS.to_string(), ROWS.to_string()]]);
    assert_eq!(server.count(), asked);
}

#[test]
fn a_process_takes_over_the_calls_of_one_that_was_killed_beside_it() {
    let server = slow_server(40);
    let scratch = Scratch::new(server.url(), IN_FLIGHT, "");
    let sql = counted(ROWS);
    let [mut dies, lives] = [(); 2].map(|()| scratch.start(&["sql", "--format", "csv", "-c", &sql]));
    let start = Instant::now();
    while server.answered() < 60 {
        assert!(start.elapsed() < Duration::from_secs(60), "no answers");
        std::thread::sleep(Duration::from_millis(5));
    }
    dies.kill().unwrap();
    dies.wait().unwrap();
    let output = lives.wait_with_output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && out.contains(&format!("{ROWS},{ROWS}")), "{out}");
    assert_eq!(server.count_by_key().len(), ROWS);
    if cfg!(target_os = "linux") {
        assert!(server.count() <= ROWS + IN_FLIGHT, "{} requests for {ROWS} calls", server.count());
    }
    assert_eq!(scratch.number("SELECT count(*) FROM calls"), ROWS);
}
