//! `calls compact` and `calls gc` of a ledger on an object store, with crashes in the middle and others at work there.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use axum::http::Method;

use crate::fault_server::{FaultServer, Reply, answer};
use crate::object_store::wait;
use crate::s3_server::{Fault, S3Server};
use crate::scratch::Scratch;

const LEDGER: &str = "[ledger]\nurl = \"s3://bucket/ledger\"\n[run]\nout = \"s3://bucket/runs\"\n";

fn start() -> (FaultServer, S3Server, Scratch) {
    let model = FaultServer::start(|body, nth| match answer(body, nth) {
        Reply::Answer(text, _) => Reply::Answer(text, Duration::from_millis(5)),
        other => other,
    });
    let s3 = S3Server::start();
    let scratch = Scratch::new(model.url(), 8, LEDGER).with_variables(&s3.variables());
    (model, s3, scratch)
}

fn questions(first: usize, last: usize) -> String {
    format!(
        "SELECT value, q FROM generate((SELECT value FROM generate_series({first}, {last})), model => 'm', \
         prompt => 'question ' || value, returns => 'q TEXT') ORDER BY value"
    )
}

fn rows(scratch: &Scratch, sql: &str) -> String {
    scratch.ok(&["sql", "--format", "csv", "-c", sql])
}

const COUNTS: &str = "SELECT (SELECT count(*) FROM calls) || ' ' || (SELECT count(DISTINCT response) FROM calls) || ' ' || \
                      (SELECT count(*) FROM attempts) || ' ' || (SELECT count(*) FROM call_uses)";

fn assert_counts(scratch: &Scratch, calls: usize, uses: usize) {
    assert_eq!(scratch.value(COUNTS), format!("{calls} {calls} {calls} {uses}"));
}

/// The ledger's objects by the kind that their names begin with.
fn objects(s3: &S3Server) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for entry in std::fs::read_dir(s3.bucket().join("ledger")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        *kinds.entry(name.split('-').next().unwrap().to_owned()).or_default() += 1;
    }
    kinds
}

fn kinds(kinds: &[(&str, usize)]) -> BTreeMap<String, usize> {
    kinds.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect()
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[test]
fn small_objects_become_a_segment_and_segments_a_larger_one() {
    let (model, s3, scratch) = start();
    let empty = scratch.ok(&["calls", "compact"]);
    assert_eq!(words(empty.lines().last().unwrap())[..2], ["after", "0"]);
    for part in 0..3 {
        rows(&scratch, &questions(part * 20 + 1, part * 20 + 20));
    }
    let before = objects(&s3);
    assert!(before["log"] >= 3 && before.len() == 1, "{before:?}");
    let told = scratch.ok(&["calls", "compact"]);
    let told: Vec<_> = told.lines().map(words).collect();
    assert_eq!(told[1][..5], ["before", before["log"].to_string().as_str(), "60", "60", "60"]);
    assert_eq!(told[2][..5], ["after", "1", "60", "60", "60"]);
    assert_eq!(objects(&s3), kinds(&[("generation", 1), ("segment", 4)]));
    assert_counts(&scratch, 60, 60);

    // The answers replay, and what comes later is merged with the segment.
    let all = rows(&scratch, &questions(1, 70));
    assert_eq!((all.lines().count(), model.count()), (71, 70));
    scratch.ok(&["calls", "compact"]);
    assert_eq!(objects(&s3), kinds(&[("generation", 1), ("segment", 4)]));
    assert_counts(&scratch, 70, 130);
    assert_eq!(rows(&scratch, &questions(1, 70)), all);
    assert_eq!(model.count(), 70);
    let one = "SELECT count(*) || ' ' || min(stage) FROM calls JOIN call_uses USING (call_id) WHERE messages LIKE '%question 7\"%'";
    assert_eq!(scratch.value(one), "3 generate_call");
    // Other programs read the files as they are.
    let read = "SELECT count(*) FROM 's3://bucket/ledger/*-calls.parquet'";
    assert_eq!(scratch.value(read), "70");
}

#[test]
fn many_small_objects_are_told_and_calls_that_are_there_several_times_are_kept_once() {
    let (model, s3, scratch) = start();
    rows(&scratch, &questions(1, 20));
    let logs = std::fs::read_dir(s3.bucket().join("ledger")).unwrap().count();
    let told = "small objects are in the ledger: seedmill calls compact merges them";
    assert!(!scratch.ok(&["calls"]).contains(told));
    // As if others had paid for the same, later.
    for entry in std::fs::read_dir(s3.bucket().join("ledger")).unwrap().map(|entry| entry.unwrap()).collect::<Vec<_>>()
    {
        let bytes = std::fs::read(entry.path()).unwrap();
        for other in 1..=100 {
            let name = entry.file_name().into_string().unwrap().replace("log-", &format!("log-f{other:03}"));
            s3.write(&format!("ledger/{name}"), &bytes);
        }
    }
    assert!(scratch.ok(&["calls"]).contains(&format!("{} {told}", 101 * logs)));
    let counts = format!("20 20 {} {}", 20 * 101, 20 * 101);
    assert_eq!(scratch.value(COUNTS), counts);
    let compacted = scratch.ok(&["calls", "compact"]);
    assert_eq!(words(compacted.lines().last().unwrap())[..3], ["after", "1", "20"]);
    assert_eq!(scratch.value(COUNTS), counts);
    assert!(!scratch.ok(&["calls"]).contains(told));
    rows(&scratch, &questions(1, 20));
    assert_eq!(model.count(), 20);
}

#[test]
fn a_kill_in_the_middle_of_a_compaction_loses_nothing_and_shows_nothing_twice() {
    let (model, s3, scratch) = start();
    for part in 0..3 {
        rows(&scratch, &questions(part * 20 + 1, part * 20 + 20));
    }
    let mut uses = 60;
    for point in ["object segment written:1", "generation created:1", "merged object deleted:1"] {
        let output = scratch.run_with(("SEEDMILL_TEST_CRASH_AT", point), &["calls", "compact"]);
        assert!(output.status.code().is_none(), "not killed at {point}");
        assert_counts(&scratch, 60, uses);
        // The next point has this to merge.
        rows(&scratch, &questions(1, 60));
        uses += 60;
        assert_counts(&scratch, 60, uses);
        assert_eq!(model.count(), 60, "after {point}");
    }
    scratch.ok(&["calls", "compact"]);
    assert_counts(&scratch, 60, uses);
    // What the crashes have left may be read until it is a day old.
    let left = objects(&s3);
    assert!(left["segment"] > 4 && left["generation"] == 1 && !left.contains_key("log"), "{left:?}");
    for entry in std::fs::read_dir(s3.bucket().join("ledger")).unwrap() {
        let file = std::fs::File::options().write(true).open(entry.unwrap().path()).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(2 * 86_400)).unwrap();
    }
    // Nobody can tell that who has put it is dead. A merge that is committed makes sure that it comes too late.
    scratch.ok(&["calls", "compact"]);
    assert_eq!(objects(&s3), left);
    rows(&scratch, &questions(1, 60));
    uses += 60;
    scratch.ok(&["calls", "compact"]);
    assert_eq!(objects(&s3), kinds(&[("generation", 1), ("segment", 4)]));
    assert_counts(&scratch, 60, uses);
    assert_eq!(rows(&scratch, &questions(1, 60)).lines().count(), 61);
    assert_eq!(model.count(), 60);
}

fn is_log_read(method: &Method, uri: &str) -> bool {
    *method == Method::GET && uri.contains("/ledger/log-")
}

#[test]
fn a_query_that_was_planned_before_a_compaction_lists_again_and_shows_each_row_once() {
    for sql in ["calls", "attempts", "call_uses"] {
        let (_model, s3, scratch) = start();
        // One object is merged already, so there are segments and logs.
        rows(&scratch, &questions(1, 20));
        rows(&scratch, &questions(21, 40));
        scratch.ok(&["calls", "compact"]);
        rows(&scratch, &questions(41, 60));
        rows(&scratch, &questions(61, 80));
        let waiting = Arc::new(AtomicBool::new(false));
        let gate = Arc::clone(&waiting);
        let reads = AtomicUsize::new(0);
        // The first log is read, the others when they are gone.
        s3.fail(move |method, uri| {
            let waits = is_log_read(method, uri) && reads.fetch_add(1, Ordering::SeqCst) > 0;
            gate.fetch_or(waits, Ordering::SeqCst);
            waits.then_some(Fault::Gate)
        });
        let count = format!("SELECT count(*) || ' ' || count(DISTINCT call_id) FROM {sql}");
        let mut reader = scratch.start(&["sql", "--format", "csv", "-c", &count]);
        wait(&mut reader, || waiting.load(Ordering::SeqCst));
        s3.fail(|_, _| None);
        scratch.ok(&["calls", "compact"]);
        assert_eq!(objects(&s3), kinds(&[("generation", 1), ("segment", 4)]));
        s3.open_gate();
        let output = reader.wait_with_output().unwrap();
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(out.lines().nth(1), Some("80 80"), "{sql}: {error}");
    }
}

#[test]
fn a_run_that_was_opened_before_a_compaction_finds_its_answers_where_they_are_now() {
    let (model, s3, scratch) = start();
    rows(&scratch, &questions(1, 40));
    let reads = Arc::new(Mutex::new(HashMap::<String, usize>::new()));
    let waiting = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&waiting);
    // At opening each log is read once; when it is read for its answers, it is gone.
    s3.fail(move |method, uri| {
        if !is_log_read(method, uri) {
            return None;
        }
        let mut reads = reads.lock().unwrap();
        let nth = reads.entry(uri.to_owned()).or_default();
        *nth += 1;
        gate.fetch_or(*nth > 1, Ordering::SeqCst);
        (*nth > 1).then_some(Fault::Gate)
    });
    let mut run = scratch.start(&["sql", "--format", "csv", "-c", &questions(1, 60)]);
    wait(&mut run, || waiting.load(Ordering::SeqCst));
    s3.fail(|_, _| None);
    scratch.ok(&["calls", "compact"]);
    assert!(!objects(&s3).contains_key("log") || model.count() > 40);
    s3.open_gate();
    let output = run.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 61);
    assert_eq!(model.count(), 60);
    assert_counts(&scratch, 60, 100);
}

#[test]
fn a_ledger_is_compacted_by_two_and_read_while_it_is_written() {
    let (model, s3, scratch) = start();
    rows(&scratch, &questions(1, 20));
    let mut writer = scratch.start(&["sql", "--format", "csv", "-c", &questions(1, 400)]);
    let mut last = 20;
    while writer.try_wait().unwrap().is_none() {
        let compactors = [scratch.start(&["calls", "compact"]), scratch.start(&["calls", "compact"])];
        let now: usize = scratch.value("SELECT count(*) FROM calls").parse().unwrap();
        let attempts: usize = scratch.value("SELECT count(*) FROM attempts").parse().unwrap();
        assert!(now >= last && attempts >= now, "{now} calls and {attempts} attempts after {last}");
        last = now;
        let outputs = compactors.map(|compactor| compactor.wait_with_output().unwrap());
        let errors = outputs.each_ref().map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
        let is_busy = |error: &String| error.contains("being compacted by another process; try again");
        assert!(
            outputs.iter().zip(&errors).all(|(output, error)| output.status.success() || is_busy(error)),
            "{errors:?}"
        );
    }
    let output = writer.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 401);
    assert_eq!(model.count(), 400);
    scratch.ok(&["calls", "compact"]);
    assert_counts(&scratch, 400, 420);
    assert!(!objects(&s3).contains_key("log"));
}

#[test]
fn gc_drops_on_a_store_what_no_run_uses_and_keeps_what_runs_there_name() {
    let (model, _s3, scratch) = start();
    rows(&scratch, &questions(1, 10));
    scratch.ok(&["calls", "compact"]);
    let publish = "COPY (SELECT 'q ' || value AS question, 'a' AS answer_text, 't' AS task, 'MIT' AS license, \
                   [named_struct('stage', 'generate_call', 'call_id', generate_call['call_id'])] AS calls, \
                   CAST([] AS TEXT[]) AS reasons FROM generate((SELECT value FROM generate_series(9, 12)), model => 'm', \
                   prompt => 'question ' || value, returns => 'q TEXT')) TO 's3://bucket/runs' STORED AS CURATED";
    scratch.ok(&["sql", "-c", publish]);
    std::thread::sleep(Duration::from_secs(6));
    let used = Instant::now();
    rows(&scratch, &questions(3, 4));
    let age = || format!("{}ms", used.elapsed().as_millis() + 5_000);
    let told = scratch.ok(&["calls", "gc", "--older-than", &age(), "--dry-run"]);
    assert!(
        told.contains("m-1") && told.contains("kept: 4 unused calls that published runs in s3://bucket/runs"),
        "{told}"
    );
    assert_eq!(scratch.value("SELECT count(*) FROM calls"), "12");
    let told = scratch.ok(&["calls", "gc", "--older-than", &age(), "--yes"]);
    assert!(told.contains("dropped; the ledger took"), "{told}");
    assert_eq!(scratch.value("SELECT count(*) FROM calls"), "6");
    assert_eq!(scratch.value("SELECT count(*) FROM attempts"), "12");
    assert_eq!(model.count(), 12);
    rows(&scratch, &questions(1, 12));
    assert_eq!(model.count(), 18);
}
