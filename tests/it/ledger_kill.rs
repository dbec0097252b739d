//! Processes killed with SIGKILL at named points of a ledger write, of a seal and of a compaction, and processes that
//! share a ledger. (The points exist in debug builds only, as tests are.)

use std::time::Duration;

use crate::fault_server::{FaultServer, Reply, answer};
use crate::scratch::Scratch;

const CRASH_AT: &str = "SEEDMILL_TEST_CRASH_AT";
const IN_FLIGHT: usize = 8;

fn slow_server() -> FaultServer {
    FaultServer::start(|body, nth| match answer(body, nth) {
        Reply::Answer(text, _) => Reply::Answer(text, Duration::from_millis(5)),
        other => other,
    })
}

/// Asks the questions from `first` to `last` and gives the answers.
fn questions(first: usize, last: usize) -> String {
    format!(
        "SELECT value, q FROM generate((SELECT value FROM generate_series({first}, {last})), model => 'm', \
         prompt => 'question ' || value, returns => 'q TEXT') ORDER BY value"
    )
}

fn rows(scratch: &Scratch, sql: &str) -> String {
    scratch.ok(&["sql", "--format", "csv", "-c", sql])
}

/// What an uninterrupted run gives.
fn expected(sql: &str) -> String {
    let server = slow_server();
    rows(&Scratch::new(server.url(), IN_FLIGHT, ""), sql)
}

fn assert_killed(scratch: &Scratch, point: &str, arguments: &[&str]) {
    let output = scratch.run_with((CRASH_AT, point), arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code().is_none(), "not killed at {point}: {} {error}", output.status);
}

/// Calls, attempts, and uses by this number of commands.
fn assert_counts(scratch: &Scratch, calls: usize, uses: usize) {
    let counts = "SELECT (SELECT count(*) FROM calls) || ' ' || (SELECT count(*) FROM attempts) || ' ' || \
                  (SELECT count(DISTINCT call_id) FROM call_uses) || ' ' || (SELECT count(*) FROM call_uses)";
    assert_eq!(scratch.value(counts), format!("{calls} {calls} {calls} {uses}"));
}

#[test]
fn a_kill_in_the_middle_of_a_write_costs_only_what_was_in_flight() {
    let server = slow_server();
    let scratch = Scratch::new(server.url(), IN_FLIGHT, "");
    let sql = questions(1, 120);
    assert_killed(&scratch, "group half written:6", &["sql", "-c", &sql]);
    let asked_before = server.count();
    assert!((IN_FLIGHT..120).contains(&asked_before), "{asked_before}");
    assert_eq!(rows(&scratch, &sql), expected(&sql));
    assert_eq!(server.count_by_key().len(), 120);
    assert!(server.count() <= 120 + IN_FLIGHT, "{} requests for 120 calls", server.count());
    assert_eq!(scratch.value("SELECT count(*) FROM calls"), "120");
}

#[test]
fn a_kill_in_the_middle_of_a_seal_loses_nothing_and_shows_nothing_twice() {
    let server = slow_server();
    let scratch = Scratch::new(server.url(), IN_FLIGHT, "");
    let points = ["segment half written:1", "segment written:1", "segment renamed:1"];
    for (done, point) in points.into_iter().enumerate() {
        let sql = questions(done * 20 + 1, done * 20 + 20);
        assert_killed(&scratch, point, &["sql", "-c", &sql]);
        assert_counts(&scratch, done * 20 + 20, done * 20 + 20);
    }
    let sql = questions(1, 60);
    assert_eq!(rows(&scratch, &sql), expected(&sql));
    assert_eq!(server.count(), 60);
    assert_counts(&scratch, 60, 120);
}

/// A log with damage is kept aside before its segment counts: who finds both deletes the log.
#[test]
fn a_kill_in_the_middle_of_a_seal_keeps_a_damaged_log_aside() {
    let server = slow_server();
    let scratch = Scratch::new(server.url(), IN_FLIGHT, "");
    let sql = questions(1, 20);
    assert_killed(&scratch, "segment half written:1", &["sql", "-c", &sql]);
    let files = |suffix: &str| {
        let entries = std::fs::read_dir(scratch.path().join(".seedmill/ledger")).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.to_string_lossy().ends_with(suffix));
        paths
    };
    let log = files(".log").remove(0);
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&log, &bytes).unwrap();
    let again = questions(1, 1);
    assert_killed(&scratch, "segment renamed:1", &["sql", "-c", &again]);
    rows(&scratch, &again);
    assert!(!log.exists());
    let damaged = files(".damaged");
    assert_eq!(damaged.len(), 1);
    let kept = std::fs::read(&damaged[0]).unwrap();
    assert!(bytes.starts_with(&kept) && kept.len() > 200, "{} bytes of {}", kept.len(), bytes.len());
}

#[test]
fn a_kill_in_the_middle_of_a_compaction_loses_nothing_and_shows_nothing_twice() {
    let server = slow_server();
    let scratch = Scratch::new(server.url(), IN_FLIGHT, "");
    for part in 0..3 {
        rows(&scratch, &questions(part * 20 + 1, part * 20 + 20));
    }
    let points =
        ["compaction half written:2", "compaction written:1", "compaction renamed:1", "replaced segment removed:1"];
    for point in points {
        assert_killed(&scratch, point, &["calls", "compact"]);
        assert_counts(&scratch, 60, 60);
    }
    let sql = questions(1, 60);
    assert_eq!(rows(&scratch, &sql), expected(&sql));
    assert_eq!(server.count(), 60);
    let compacted = scratch.ok(&["calls", "compact"]);
    assert_counts(&scratch, 60, 120);
    let after: Vec<&str> = compacted.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(after[..5], ["after", "1", "60", "60", "120"], "{compacted}");
    let folders = std::fs::read_dir(scratch.path().join(".seedmill/ledger")).unwrap();
    let is_segment = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("segment-");
    assert_eq!(folders.filter(|entry| is_segment(&entry.as_ref().unwrap().file_name())).count(), 1);
}

#[test]
fn a_ledger_is_compacted_and_read_while_it_is_written() {
    let server = slow_server();
    let scratch = Scratch::new(server.url(), IN_FLIGHT, "");
    rows(&scratch, &questions(1, 20));
    rows(&scratch, &questions(21, 40));
    let sql = questions(1, 600);
    let mut writer = scratch.start(&["sql", "--format", "csv", "-c", &sql]);
    let mut last = 40;
    while writer.try_wait().unwrap().is_none() {
        let compacted = scratch.ok(&["calls", "compact"]);
        assert!(compacted.contains("before"), "{compacted}");
        let now: usize = scratch.value("SELECT count(*) FROM calls").parse().unwrap();
        assert!(now >= last, "{now} calls after {last}");
        last = now;
    }
    let output = writer.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 601);
    assert_eq!(server.count(), 600);
    scratch.ok(&["calls", "compact"]);
    assert_counts(&scratch, 600, 640);
}

/// One begins at the first question and the other at the last. Where they meet both may have a call in flight at once;
/// from then on each finds what the other has paid for.
#[test]
fn two_processes_on_one_workspace_pay_twice_only_for_what_both_had_in_flight() {
    let server = slow_server();
    let scratch = Scratch::new(server.url(), IN_FLIGHT, "");
    let sql = |value: &str| {
        format!(
            "SELECT v, q FROM generate((SELECT {value} AS v FROM generate_series(1, 600)), model => 'm', \
             prompt => 'question ' || v, returns => 'q TEXT') ORDER BY v"
        )
    };
    let children = ["value", "601 - value"].map(|value| scratch.start(&["sql", "--format", "csv", "-c", &sql(value)]));
    let outputs = children.map(|child| {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    });
    assert_eq!(outputs[0].lines().count(), 601);
    assert_eq!(outputs[0], outputs[1]);
    assert_eq!(server.count_by_key().len(), 600);
    assert!(server.count() <= 600 + 2 * IN_FLIGHT, "{} requests for 600 calls", server.count());
    assert_eq!(scratch.value("SELECT count(*) || ' ' || count(DISTINCT response) FROM calls"), "600 600");
    let before = server.count();
    assert_eq!(rows(&scratch, &sql("value")), outputs[0]);
    assert_eq!(server.count(), before);
}
