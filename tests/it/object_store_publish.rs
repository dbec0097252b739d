//! What a run leaves in a bucket whose upload is cut or refused, and who sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::Method;

use crate::interrupt::signal;
use crate::object_store::{ROWS, assert_whole, failure, model, published, seeds, wait, workspace};
use crate::s3_server::{Fault, S3Server};
use crate::scratch::Scratch;

/// Rows that Parquet cannot make small: 24 MB over 60 rows, which take several parts.
fn large_seeds(s3: &S3Server) {
    let mut state = 7u64;
    let mut digits = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{:016x}", state ^ (state >> 29))
    };
    let lines: String = (1..=60)
        .map(|n| format!("{{\"n\": {n}, \"blob\": \"{}\"}}\n", (0..25_000).map(|_| digits()).collect::<String>()))
        .collect();
    s3.write("in/large.jsonl", lines);
}

const LARGE: &str = "
COPY (SELECT 'q ' || n AS question, 'a' AS answer_text, blob AS reasoning, 'numbers' AS task,
             [CAST(n AS TEXT)] AS seed_ids, reasons('never', false) AS reasons
      FROM 's3://bucket/in/large.jsonl') TO 's3://bucket/runs' STORED AS CURATED;
";

#[test]
fn a_file_in_several_parts_comes_through_a_store_that_cuts_uploads() {
    let (model, s3) = (model(), S3Server::start());
    large_seeds(&s3);
    let scratch = workspace(&model, &s3);
    scratch.write("sql/10_all.sql", LARGE);
    let count = AtomicUsize::new(0);
    s3.fail(move |_, uri| {
        let n = uri.contains("partNumber=").then(|| count.fetch_add(1, Ordering::Relaxed))?;
        [Some(Fault::ResetBefore), Some(Fault::Status(503, "SlowDown")), Some(Fault::ResetAfter)].get(n).copied()?
    });
    scratch.ok(&["run"]);
    assert_eq!(s3.failed(), 3);
    assert_eq!(published(&s3.bucket()), Some(60));
    assert_eq!(
        scratch.value("SELECT count(DISTINCT reasoning) || ' ' || min(length(reasoning)) FROM curated"),
        "60 400000"
    );
}

#[test]
fn a_run_whose_upload_is_refused_is_seen_nowhere_and_leaves_no_file() {
    let (model, s3) = (model(), S3Server::start());
    large_seeds(&s3);
    let scratch = workspace(&model, &s3);
    scratch.write("sql/10_all.sql", LARGE);
    s3.fail(|_, uri| uri.contains("partNumber=2").then_some(Fault::Status(403, "AccessDenied")));
    let output = scratch.run(&["run"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("train-00000.parquet cannot be written: "), "{error}");
    s3.fail(|_, _| None);
    assert_eq!(published(&s3.bucket()), None);
    assert_eq!(scratch.value("SELECT state || ' ' || stopped_by FROM runs"), "incomplete failed");
    assert!(failure(&scratch, "SELECT * FROM run.curated").contains("there is no complete run in s3://bucket/runs"));
}

/// The files under each run's folder in the bucket, the newest run last.
fn files(s3: &S3Server) -> Vec<(String, Vec<String>)> {
    let mut runs: Vec<_> = std::fs::read_dir(s3.bucket().join("runs"))
        .into_iter()
        .flatten()
        .map(|run| run.unwrap())
        .filter(|run| run.path().is_dir())
        .map(|run| {
            let (mut files, mut folders) = (Vec::new(), vec![run.path()]);
            while let Some(folder) = folders.pop() {
                for entry in std::fs::read_dir(folder).unwrap() {
                    let path = entry.unwrap().path();
                    match path.is_dir() {
                        true => folders.push(path),
                        false => files.push(path.strip_prefix(run.path()).unwrap().display().to_string()),
                    }
                }
            }
            files.sort();
            (run.file_name().into_string().unwrap(), files)
        })
        .filter(|(_, files)| !files.is_empty())
        .collect();
    runs.sort();
    runs
}

fn is_manifest_put(method: &Method, uri: &str) -> bool {
    *method == Method::PUT && uri.contains("/manifest.json")
}

fn assert_nothing_is_seen(scratch: &Scratch) {
    assert_eq!(scratch.value("SELECT count(*) FROM runs WHERE state = 'complete'"), "0");
    let error = failure(scratch, "SELECT * FROM run.curated");
    assert!(error.contains("there is no complete run in s3://bucket/runs"), "{error}");
    let runs = scratch.ok(&["runs", "--format", "csv"]);
    assert!(!runs.contains("complete,") || runs.contains("incomplete,"), "{runs}");
}

#[test]
fn a_run_whose_manifest_is_refused_takes_its_files_away() {
    let (model, s3) = (model(), S3Server::start());
    seeds(&s3);
    let scratch = workspace(&model, &s3);
    s3.fail(|method, uri| is_manifest_put(method, uri).then_some(Fault::Status(403, "AccessDenied")));
    let output = scratch.run(&["run"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && error.contains("manifest.json cannot be written"), "{error}");
    assert_eq!(files(&s3), []);
    assert_nothing_is_seen(&scratch);
    s3.fail(|_, _| None);
    scratch.ok(&["run"]);
    assert_eq!(model.count(), ROWS);
    assert_whole(&scratch);
}

#[test]
fn files_that_a_run_may_not_take_away_are_seen_by_nobody_and_go_with_the_next_run() {
    let (model, s3) = (model(), S3Server::start());
    seeds(&s3);
    let scratch = workspace(&model, &s3);
    s3.fail(|method, uri| {
        let deletes = *method == Method::DELETE || uri.contains("?delete");
        let refused = is_manifest_put(method, uri) || deletes;
        refused.then_some(Fault::Status(403, "AccessDenied"))
    });
    let output = scratch.run(&["run"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(1) && error.contains("the next run takes away what this one has left"),
        "{error}"
    );
    let left = files(&s3);
    assert!(left.len() == 1 && left[0].1.contains(&"data/train-00000.parquet".to_owned()), "{left:?}");
    s3.fail(|_, _| None);
    assert_nothing_is_seen(&scratch);
    assert_eq!(files(&s3), left);
    scratch.ok(&["run"]);
    let after = files(&s3);
    assert!(after.len() == 1 && after[0].0 != left[0].0, "{after:?}");
    assert!(after[0].1.contains(&"manifest.json".to_owned()));
    // Nor is anything else left.
    let beside = std::fs::read_dir(s3.bucket().join("runs")).unwrap();
    assert_eq!(beside.filter(|entry| !entry.as_ref().unwrap().path().is_dir()).count(), 0);
    assert_whole(&scratch);
}

#[test]
fn what_a_killed_run_has_left_goes_with_the_next_one_and_what_a_living_one_writes_stays() {
    let (model, s3) = (model(), S3Server::start());
    seeds(&s3);
    let scratch = workspace(&model, &s3);
    let waiting = Arc::new(AtomicBool::new(false));
    let gate = |fault: Fault| {
        let waiting = Arc::clone(&waiting);
        move |method: &Method, uri: &str| {
            let waits = is_manifest_put(method, uri) && !waiting.swap(true, Ordering::SeqCst);
            waits.then_some(fault)
        }
    };
    s3.fail(gate(Fault::Stall));
    let mut killed = scratch.start(&["run"]);
    wait(&mut killed, || waiting.load(Ordering::SeqCst));
    killed.kill().unwrap();
    killed.wait().unwrap();
    let left = files(&s3);
    assert_eq!(left.len(), 1);
    assert_nothing_is_seen(&scratch);

    waiting.store(false, Ordering::SeqCst);
    s3.fail(gate(Fault::Gate));
    let mut living = scratch.start(&["run"]);
    wait(&mut living, || waiting.load(Ordering::SeqCst));
    let names = |s3: &S3Server| files(s3).into_iter().map(|(run, _)| run).collect::<Vec<_>>();
    let of_living = names(&s3);
    assert!(of_living.len() == 1 && of_living[0] != left[0].0, "{of_living:?}");
    scratch.ok(&["run"]);
    assert!(names(&s3).contains(&of_living[0]) && names(&s3).len() == 2);
    s3.open_gate();
    assert!(living.wait().unwrap().success());
    assert_eq!(scratch.value("SELECT count(*) FROM runs WHERE state = 'complete'"), "2");
    assert_eq!(model.count(), ROWS);
    assert_whole(&scratch);
}

/// Does this to the first manifest that is put, and says that it has come.
fn to_the_first_manifest(
    fault: Fault,
    came: Arc<AtomicBool>,
) -> impl FnMut(&Method, &str) -> Option<Fault> + Send + 'static {
    move |method, uri| (is_manifest_put(method, uri) && !came.swap(true, Ordering::SeqCst)).then_some(fault)
}

#[test]
fn a_run_that_is_stopped_while_its_manifest_travels_is_published_with_all_its_files() {
    let (model, s3) = (model(), S3Server::start());
    seeds(&s3);
    let scratch = workspace(&model, &s3);
    let came = Arc::new(AtomicBool::new(false));
    s3.fail(to_the_first_manifest(Fault::Gate, Arc::clone(&came)));
    let mut child = scratch.start(&["run"]);
    wait(&mut child, || came.load(Ordering::SeqCst));
    signal(&child, "-INT");
    std::thread::sleep(Duration::from_millis(800));
    assert!(child.try_wait().unwrap().is_none());
    s3.open_gate();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    assert!(error.contains("the run is being published") && !error.contains("panicked"), "{error}");
    assert_eq!(scratch.value("SELECT state FROM runs"), "complete");
    assert_eq!(
        scratch.value("SELECT (SELECT count(*) FROM run.curated) || ' ' || (SELECT count(*) FROM rejected)"),
        format!("{} {}", ROWS - ROWS / 10, ROWS / 10)
    );
}

#[test]
fn a_second_ctrl_c_leaves_the_files_of_a_manifest_that_never_arrives_to_the_next_run() {
    let (model, s3) = (model(), S3Server::start());
    seeds(&s3);
    let scratch = workspace(&model, &s3);
    let came = Arc::new(AtomicBool::new(false));
    s3.fail(to_the_first_manifest(Fault::Stall, Arc::clone(&came)));
    let mut child = scratch.start(&["run"]);
    wait(&mut child, || came.load(Ordering::SeqCst));
    let left = files(&s3);
    assert_eq!(left.len(), 1);
    signal(&child, "-INT");
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{error}");
    assert!(!error.contains("panicked"), "{error}");
    assert_eq!(files(&s3), left);
    assert_nothing_is_seen(&scratch);
    scratch.ok(&["run"]);
    let after = files(&s3);
    assert!(after.len() == 1 && after[0].0 != left[0].0, "{after:?}");
    assert_eq!(model.count(), ROWS);
    assert_whole(&scratch);
}
