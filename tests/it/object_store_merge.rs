//! Runs that merge the small objects of a ledger on a store by themselves, with crashes, two at once, and a store that
//! fails at it.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use axum::http::Method;
use tokio::sync::Semaphore;

use crate::fault_server::{FaultServer, Reply, answer};
use crate::s3_server::{Fault, S3Server};
use crate::scratch::Scratch;

const MORE: &str = "[ledger]\nurl = \"s3://bucket/ledger\"\n";
/// Of the first calls.
const CALLS: usize = 20;
/// Within this time comes what is waited for.
const LONGEST: Duration = Duration::from_secs(300);

fn start(in_flight: usize, delay_ms: u64) -> (FaultServer, S3Server, Scratch) {
    let model = FaultServer::start(move |body, nth| match answer(body, nth) {
        Reply::Answer(text, _) => Reply::Answer(text, Duration::from_millis(delay_ms)),
        other => other,
    });
    let s3 = S3Server::start();
    let scratch = Scratch::new(model.url(), in_flight, MORE).with_variables(&s3.variables());
    (model, s3, scratch)
}

fn questions(first: usize, last: usize) -> String {
    format!(
        "SELECT value, q FROM generate((SELECT value FROM generate_series({first}, {last})), model => 'm', \
         prompt => 'question ' || value, returns => 'q TEXT') ORDER BY value"
    )
}

fn ask(sql: &str) -> [&str; 5] {
    ["sql", "--format", "csv", "-c", sql]
}

/// The ledger's objects whose names begin so.
fn objects(s3: &S3Server, kind: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(s3.bucket().join("ledger")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(kind)).collect()
}

/// Some logs once more, so many times, as if other processes had paid for the same calls and ended.
fn copies(s3: &S3Server, logs: usize, times: usize) {
    for path in objects(s3, "log-").into_iter().take(logs) {
        let (name, bytes) = (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap());
        for other in 1..=times {
            s3.write(&format!("ledger/{}", name.replace("log-", &format!("log-f{other:03}"))), &bytes);
        }
    }
}

/// A ledger of [`CALLS`] calls, with as many attempts and as many uses as are given back, in more objects than a run
/// leaves alone: 8 calls at most were in a log, so there are 3 logs at least, each 50 times.
fn many_objects(scratch: &Scratch, s3: &S3Server) -> usize {
    scratch.ok(&ask(&questions(1, CALLS)));
    copies(s3, usize::MAX, 49);
    CALLS * 50
}

const COUNTS: &str = "SELECT (SELECT count(*) FROM calls) || ' ' || (SELECT count(DISTINCT call_id) FROM calls) || ' ' || \
                      (SELECT count(*) FROM attempts) || ' ' || (SELECT count(*) FROM call_uses)";

fn counts(calls: usize, attempts: usize, uses: usize) -> String {
    format!("{calls} {calls} {attempts} {uses}")
}

/// How many logs a command reads.
fn logs_read(s3: &S3Server, command: impl FnOnce()) -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    let reads = Arc::clone(&count);
    s3.fail(move |method, uri| {
        reads.fetch_add(usize::from(*method == Method::GET && uri.contains("/ledger/log-")), Ordering::Relaxed);
        None
    });
    command();
    s3.fail(|_, _| None);
    count.load(Ordering::Relaxed)
}

/// From now on commits of merges wait at the gate: how many do.
fn commits_at_the_gate(s3: &S3Server) -> Arc<AtomicUsize> {
    let waiting = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&waiting);
    s3.fail(move |method, uri| {
        let commits = *method == Method::PUT && uri.contains("/ledger/generation-");
        count.fetch_add(usize::from(commits), Ordering::SeqCst);
        commits.then_some(Fault::Gate)
    });
    waiting
}

fn age(s3: &S3Server, by: Duration) {
    for path in objects(s3, "") {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - by).unwrap();
    }
}

#[test]
fn a_command_that_finds_many_small_objects_merges_them_and_the_next_but_one_deletes_them() {
    let (model, s3, scratch) = start(8, 5);
    let before = many_objects(&scratch, &s3);
    let logs = objects(&s3, "log-").len();
    assert!(logs_read(&s3, || drop(scratch.ok(&ask(&questions(1, CALLS))))) >= logs);
    assert_eq!((objects(&s3, "generation-").len(), objects(&s3, "segment-").len()), (1, 4));
    assert_eq!(scratch.value(COUNTS), counts(CALLS, before, before + CALLS));
    // Who has listed the objects before may still read them.
    assert!(objects(&s3, "log-").len() >= logs);
    assert!(!scratch.ok(&["calls"]).contains("small objects"));
    let again = logs_read(&s3, || drop(scratch.ok(&ask(&questions(1, CALLS + 5)))));
    assert!(again < 10, "{again} logs read");
    assert!(objects(&s3, "log-").len() >= logs);

    age(&s3, Duration::from_secs(300));
    scratch.ok(&ask(&questions(1, 1)));
    assert!(objects(&s3, "log-").len() < 10);
    let uses = before + CALLS + CALLS + 5 + 1;
    assert_eq!(scratch.value(COUNTS), counts(CALLS + 5, before + 5, uses));
    assert_eq!(model.count(), CALLS + 5);
}

#[test]
fn a_run_merges_while_it_makes_calls() {
    // From the eleventh on a call takes 5 s, in which others' objects are looked at anew, until there is a merge.
    let merged = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&merged);
    let model = FaultServer::start(move |body, nth| match answer(body, nth) {
        Reply::Answer(text, _) if nth >= 10 => Reply::Gated(text, Arc::clone(&gate), Duration::from_secs(5)),
        other => other,
    });
    let s3 = S3Server::start();
    let scratch = Scratch::new(model.url(), 1, MORE).with_variables(&s3.variables());
    scratch.ok(&ask(&questions(1, 2)));
    let mut run = scratch.start(&ask(&questions(1, 60)));
    let start = Instant::now();
    while model.count() < 10 {
        assert!(run.try_wait().unwrap().is_none() && start.elapsed() < LONGEST);
        std::thread::sleep(Duration::from_millis(5));
    }
    copies(&s3, 1, 130);
    while objects(&s3, "generation-").is_empty() {
        assert!(run.try_wait().unwrap().is_none(), "no merge before the end of the run");
        assert!(start.elapsed() < LONGEST, "no merge");
        std::thread::sleep(Duration::from_millis(5));
    }
    let asked = model.count();
    assert!(run.try_wait().unwrap().is_none());
    merged.close();
    let output = run.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 61);
    assert!(asked < 55, "merged after {asked} calls of 60");
    assert_eq!(model.count(), 60);
    assert_eq!(scratch.value("SELECT count(*) || ' ' || count(DISTINCT call_id) FROM calls"), "60 60");
    scratch.ok(&ask(&questions(1, 60)));
    assert_eq!(model.count(), 60);
}

#[test]
fn a_run_killed_while_it_merges_loses_nothing_and_shows_nothing_twice() {
    let (model, s3, scratch) = start(8, 5);
    let before = many_objects(&scratch, &s3);
    for point in ["object segment written:1", "generation created:1"] {
        let output = scratch.run_with(("SEEDMILL_TEST_CRASH_AT", point), &ask("SELECT 1"));
        assert!(output.status.success(), "a command without calls merges nothing");
        let sql = questions(1, CALLS);
        let output = scratch.run_with(("SEEDMILL_TEST_CRASH_AT", point), &ask(&sql));
        assert!(output.status.code().is_none(), "not killed at {point}");
        let uses: usize = scratch.value("SELECT count(*) FROM call_uses").parse().unwrap();
        assert!([0, CALLS, 2 * CALLS].contains(&(uses - before)), "{uses} uses, {before} before");
        assert_eq!(scratch.value(COUNTS), counts(CALLS, before, uses), "after {point}");
    }
    let uses: usize = scratch.value("SELECT count(*) FROM call_uses").parse().unwrap();
    assert_eq!(scratch.ok(&ask(&questions(1, CALLS + 2))).lines().count(), CALLS + 3);
    assert_eq!(scratch.value(COUNTS), counts(CALLS + 2, before + 2, uses + CALLS + 2));
    assert_eq!(model.count(), CALLS + 2);
}

#[test]
fn of_two_runs_that_merge_at_once_one_is_first_and_both_go_on() {
    let (model, s3, one) = start(8, 5);
    let two = Scratch::new(model.url(), 8, MORE).with_variables(&s3.variables());
    let before = many_objects(&one, &s3);
    let waiting = commits_at_the_gate(&s3);
    let (first, second) = (questions(1, CALLS + 10), questions(6, CALLS + 20));
    let runs = [one.start(&ask(&first)), two.start(&ask(&second))];
    let start = Instant::now();
    while waiting.load(Ordering::SeqCst) < 2 {
        assert!(start.elapsed() < LONGEST, "waited in vain for two commits");
        std::thread::sleep(Duration::from_millis(5));
    }
    s3.let_one_pass();
    while objects(&s3, "generation-").is_empty() {
        assert!(start.elapsed() < LONGEST, "waited in vain for the first commit");
        std::thread::sleep(Duration::from_millis(5));
    }
    s3.open_gate();
    for run in runs {
        let output = run.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !said.contains("WARN"), "{said}");
    }
    s3.fail(|_, _| None);
    assert_eq!((objects(&s3, "generation-").len(), objects(&s3, "segment-").len()), (1, 4));
    let paid = model.count() - CALLS;
    assert!((20..=30).contains(&paid), "{paid}");
    let uses = before + CALLS + 10 + CALLS + 15;
    assert_eq!(one.value(COUNTS), counts(CALLS + 20, before + paid, uses));
    one.ok(&ask(&questions(1, CALLS + 20)));
    assert_eq!(model.count(), CALLS + paid);
}

#[test]
fn a_merge_that_the_store_refuses_is_a_note_and_one_that_it_fails_at_is_tried_again() {
    let (model, s3, scratch) = start(8, 5);
    let before = many_objects(&scratch, &s3);
    let is_put = |method: &Method, uri: &str, name: &str| *method == Method::PUT && uri.contains(name);
    let noted = |output: std::process::Output, note: &str| {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let notes: Vec<_> = said.lines().filter(|line| line.contains("background_merge")).collect();
        assert!(output.status.success() && notes.len() == 1 && notes[0].contains(note), "{said}");
    };
    for name in ["/ledger/segment-", "/ledger/generation-"] {
        s3.fail(move |method, uri| is_put(method, uri, name).then_some(Fault::Status(403, "AccessDenied")));
        noted(scratch.run(&ask(&questions(1, CALLS))), "its small objects are not merged now");
        assert!(objects(&s3, "generation-").is_empty());
    }
    let (failures, commits) = (AtomicUsize::new(0), AtomicUsize::new(0));
    s3.fail(move |method, uri| {
        if is_put(method, uri, "/ledger/generation-") {
            // A commit whose answer is lost has come about.
            return (commits.fetch_add(1, Ordering::Relaxed) == 0).then_some(Fault::ResetAfter);
        }
        let fails = is_put(method, uri, "/ledger/segment-");
        match failures.fetch_add(usize::from(fails), Ordering::Relaxed) {
            0 | 2 if fails => Some(Fault::Status(500, "InternalError")),
            1 if fails => Some(Fault::ResetBefore),
            _ => None,
        }
    });
    let output = scratch.run(&ask(&questions(1, CALLS)));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    s3.fail(|_, _| None);
    assert_eq!(objects(&s3, "generation-").len(), 1);
    assert_eq!(scratch.value(COUNTS), counts(CALLS, before, before + 3 * CALLS));
    // What may not be deleted stays.
    age(&s3, Duration::from_secs(300));
    s3.fail(|method, uri| {
        (*method == Method::DELETE || uri.contains("delete")).then_some(Fault::Status(403, "AccessDenied"))
    });
    let logs = objects(&s3, "log-").len();
    noted(scratch.run(&ask(&questions(1, CALLS))), "small objects that were merged stay there");
    assert!(objects(&s3, "log-").len() >= logs);
    assert_eq!(scratch.value(COUNTS), counts(CALLS, before, before + 4 * CALLS));
    assert_eq!(model.count(), CALLS);
}

#[test]
fn ctrl_c_waits_for_no_merge() {
    let (_model, s3, scratch) = start(8, 5);
    many_objects(&scratch, &s3);
    let waiting = commits_at_the_gate(&s3);
    let sql = questions(1, CALLS);
    let mut run = scratch.start(&ask(&sql));
    let start = Instant::now();
    while waiting.load(Ordering::SeqCst) == 0 {
        assert!(start.elapsed() < LONGEST, "waited in vain for a commit");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut out = BufReader::new(run.stdout.take().unwrap());
    for row in 0..=CALLS {
        assert!(out.read_line(&mut String::new()).unwrap() > 0, "{row} lines");
    }
    // Its rows are all out, and it waits for the merge.
    std::thread::sleep(Duration::from_secs(1));
    assert!(run.try_wait().unwrap().is_none());
    let signalled = Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap();
    assert!(signalled.success());
    let signal = Instant::now();
    run.wait().unwrap();
    assert!(signal.elapsed() < Duration::from_secs(10), "{:?}", signal.elapsed());
    let mut more = String::new();
    out.read_to_string(&mut more).unwrap();
    assert_eq!(more, "");
    s3.open_gate();
}
