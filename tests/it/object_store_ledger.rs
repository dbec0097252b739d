//! The ledger on an object store that takes no more answers.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::Method;

use crate::object_store::{IN_FLIGHT, ROWS, assert_whole, failure, model, seeds, wait, workspace};
use crate::s3_server::{Fault, S3Server};
use crate::scratch::Scratch;

fn is_ledger_put(method: &Method, uri: &str) -> bool {
    *method == Method::PUT && uri.contains("/ledger/")
}

/// The logs that wait on this machine.
fn unsent(scratch: &Scratch) -> Vec<String> {
    let names = |folder: &Path| -> Vec<_> {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let folders = names(&scratch.path().join(".seedmill/unsent"));
    folders.iter().flat_map(|folder| names(folder)).map(|path| path.display().to_string()).collect()
}

const RECORDED: &str = "SELECT (SELECT count(*) FROM calls) || ' ' || (SELECT count(*) FROM attempts)";

#[test]
fn answers_that_the_store_refuses_for_good_are_kept_and_sent_by_the_same_command_again() {
    let (model, s3) = (model(), S3Server::start());
    seeds(&s3);
    let scratch = workspace(&model, &s3);
    let count = AtomicUsize::new(0);
    s3.fail(move |method, uri| {
        let refused = is_ledger_put(method, uri) && count.fetch_add(1, Ordering::Relaxed) > 0;
        refused.then_some(Fault::Status(403, "AccessDenied"))
    });
    let output = scratch.run(&["run"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the same command sends them first and goes on"), "{said}");
    assert_eq!(said.lines().filter(|line| line.contains("WARN")).count(), 1, "{said}");
    let waiting = unsent(&scratch);
    assert!(!waiting.is_empty() && waiting.iter().all(|log| log.ends_with(".log")), "{waiting:?}");
    // What was sent for is answered and kept, and no more was sent for.
    let asked = model.count();
    assert!(asked < ROWS, "{asked}");
    assert_eq!(scratch.value(RECORDED), format!("{asked} {asked}"));
    assert_eq!(scratch.value("SELECT state FROM runs"), "incomplete");

    // As long as the store refuses, nothing is asked.
    let error = failure(&scratch, "SELECT * FROM generate((SELECT 1 AS n), model => 'm', prompt => 'new')");
    assert!(error.contains("takes no answers") && error.contains("(403)"), "{error}");
    assert_eq!((model.count(), unsent(&scratch).len()), (asked, waiting.len()));

    s3.fail(|_, _| None);
    scratch.ok(&["run"]);
    assert_eq!(model.count(), ROWS);
    assert!(!scratch.path().join(".seedmill/unsent").exists());
    assert_whole(&scratch);
    assert_eq!(scratch.value(RECORDED), format!("{ROWS} {ROWS}"));
}

#[test]
fn a_kill_while_the_store_does_not_answer_loses_no_answer_that_waits_for_it() {
    let (model, s3) = (model(), S3Server::start());
    seeds(&s3);
    let scratch = workspace(&model, &s3);
    s3.fail(|method, uri| is_ledger_put(method, uri).then_some(Fault::Stall));
    let mut child = scratch.start(&["run"]);
    wait(&mut child, || !unsent(&scratch).iter().all(|log| log.ends_with(".new")));
    child.kill().unwrap();
    child.wait().unwrap();
    model.settled();
    let (asked, kept) = (model.count(), scratch.value("SELECT count(*) FROM calls"));
    assert_ne!(kept, "0");
    s3.fail(|_, _| None);
    scratch.ok(&["run"]);
    let kept: usize = kept.parse().unwrap();
    assert_eq!(model.count(), asked + ROWS - kept, "of {asked} asked, {kept} were kept");
    assert!(asked - kept <= 2 * IN_FLIGHT);
    assert_whole(&scratch);
    assert!(unsent(&scratch).is_empty());
}

#[test]
fn what_arrived_although_the_store_said_no_is_there_once() {
    let (model, s3) = (model(), S3Server::start());
    seeds(&s3);
    let scratch = workspace(&model, &s3);
    // The request is done, and its answer never comes, also not to those that are made again.
    s3.fail(|method, uri| is_ledger_put(method, uri).then_some(Fault::ResetAfter));
    let mut child = scratch.start(&["run"]);
    wait(&mut child, || s3.failed() > 0);
    child.kill().unwrap();
    child.wait().unwrap();
    s3.fail(|_, _| None);
    model.settled();
    let asked = model.count();
    let kept: usize = scratch.value("SELECT count(*) FROM calls").parse().unwrap();
    assert_eq!(scratch.value(RECORDED), format!("{kept} {kept}"));
    scratch.ok(&["run"]);
    assert_eq!(model.count(), asked + ROWS - kept);
    assert_whole(&scratch);
}

#[test]
fn a_machine_without_room_for_what_waits_goes_on_and_says_so() {
    let (model, s3) = (model(), S3Server::start());
    seeds(&s3);
    let scratch = workspace(&model, &s3);
    scratch.write(".seedmill/unsent", "a file where the folder would be");
    let output = scratch.run(&["run"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("would be lost"), "{said}");
    assert_whole(&scratch);
}

#[test]
fn a_dry_run_counts_what_waits_on_this_machine_as_answered_and_sends_nothing() {
    let (model, s3) = (model(), S3Server::start());
    seeds(&s3);
    let scratch = workspace(&model, &s3);
    let refuse = |after: usize| {
        let count = AtomicUsize::new(0);
        s3.fail(move |method, uri| {
            let refused = is_ledger_put(method, uri) && count.fetch_add(1, Ordering::Relaxed) >= after;
            refused.then_some(Fault::Status(403, "AccessDenied"))
        });
    };
    refuse(1);
    assert_eq!(scratch.run(&["run"]).status.code(), Some(1));
    let (waiting, asked) = (unsent(&scratch), model.count());
    assert!(!waiting.is_empty() && asked < ROWS, "{asked}");

    refuse(0);
    let failed = s3.failed();
    let told = scratch.ok(&["run", "--dry-run"]);
    assert!(told.contains(&format!("{} calls are to be asked", ROWS - asked)), "{told}");
    let (lie, sent) = match waiting.len() {
        1 => ("1 group of answers lies in ".to_owned(), "it counts as answered, and the run sends it first"),
        n => (format!("{n} groups of answers lie in "), "they count as answered, and the run sends them first"),
    };
    assert!(told.contains(&lie) && told.contains(sent), "{told}");
    assert_eq!((s3.failed(), unsent(&scratch), model.count()), (failed, waiting, asked));

    s3.fail(|_, _| None);
    scratch.ok(&["run"]);
    assert_eq!(model.count(), ROWS);
    assert!(!scratch.ok(&["run", "--dry-run"]).contains(" of answers lie"));
}
