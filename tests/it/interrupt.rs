//! Ctrl-C and SIGTERM on the real program, and runs that stop by themselves since everything fails alike.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use seedmill::publish::read_manifest;
use walkdir::WalkDir;

use crate::closed_port::ClosedPort;
use crate::fault_server::{FaultServer, Reply, answer};
use crate::scratch::Scratch;

const MANY: &str = "SELECT count(*) FROM generate((SELECT value FROM generate_series(1, 10000)), model => 'm', \
                    prompt => 'question ' || value)";

const PUBLISH: &str = "COPY (SELECT q AS question, completion AS answer_text, arrow_cast([], 'List(Utf8)') AS reasons \
                       FROM generate((SELECT 'question ' || value AS q FROM generate_series(1, 100)), model => 'm', \
                       prompt => q)) TO 'runs' STORED AS CURATED;";

pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// Ctrl-C, and what is in flight comes to its end.
pub fn ctrl_c(child: Child) {
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_second_ctrl_c_stops_at_once_although_the_server_hangs() {
    let server = FaultServer::start(|_, _| Reply::Hang);
    let scratch = Scratch::new(server.url(), 4, "");
    scratch.write("sql/60_publish.sql", PUBLISH);
    let mut child = scratch.start(&["run"]);
    let said = Arc::new(Mutex::new(String::new()));
    let (stderr, into) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&said));
    let reader = std::thread::spawn(move || {
        for line in stderr.lines() {
            into.lock().unwrap().push_str(&format!("{}\n", line.unwrap()));
        }
    });
    wait_until("requests", || server.in_flight() == 4);
    signal(&child, "-INT");
    // Two signals that wait to be taken are one: the second is sent when the first was taken.
    wait_until("the answer to the first", || said.lock().unwrap().contains("stopping: no new calls"));
    // It waits for what is in flight.
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none());
    let second = Instant::now();
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    let took = second.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    reader.join().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", said.lock().unwrap());
    assert_eq!(server.count(), 4);
    // What it gave up is written down, unless the disk took longer than it waits for that.
    if took < Duration::from_secs(1) {
        assert_eq!(
            scratch.value("SELECT count(*), min(error_kind), max(error_kind) FROM attempts"),
            "4,cancelled,cancelled"
        );
    }
    assert_eq!(scratch.value("SELECT state, stopped_by FROM runs"), "incomplete,interrupted");
    assert!(!scratch.path().join("runs").read_dir().is_ok_and(|mut entries| entries.next().is_some()));
}

#[test]
fn sigterm_is_a_ctrl_c_and_the_run_goes_on_later() {
    // Once ten are answered the others take their time until the signal is sent: the run does not end by itself before.
    let is_sent = Arc::new(AtomicBool::new(false));
    let quick = Arc::clone(&is_sent);
    let server = FaultServer::start(move |body, nth| match answer(body, nth) {
        Reply::Answer(text, _) if nth < 10 || quick.load(Ordering::SeqCst) => {
            Reply::Answer(text, Duration::from_millis(50))
        }
        Reply::Answer(text, _) => Reply::Answer(text, Duration::from_secs(3)),
        other => other,
    });
    let scratch = Scratch::new(server.url(), 4, "");
    scratch.write("sql/60_publish.sql", PUBLISH);
    let child = scratch.start(&["run"]);
    wait_until("answers", || server.answered() >= 10);
    signal(&child, "-TERM");
    is_sent.store(true, Ordering::SeqCst);
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{error}");
    for part in ["no new calls", "of 100 rows", "run the same command to go on"] {
        assert!(error.contains(part), "'{part}' is not in {error}");
    }
    assert_eq!(scratch.value("SELECT count(*) FROM calls"), server.count().to_string());
    assert_eq!(scratch.value("SELECT state, stopped_by FROM runs"), "incomplete,interrupted");
    scratch.ok(&["run"]);
    assert_eq!(server.count(), 100);
    assert_eq!(scratch.value("SELECT count(*), min(state) FROM runs"), "1,complete");
}

#[test]
fn a_wrong_key_or_a_wrong_name_stops_ten_thousand_rows_within_a_few_requests() {
    for (status, sentence) in [(401, "no such key"), (404, "no such model")] {
        let server = FaultServer::start(move |_, _| Reply::Status(status, None, sentence.into()));
        let scratch = Scratch::new(server.url(), 8, "");
        let output = scratch.run(&["sql", "-c", MANY]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("of model m all failed alike") && error.contains(sentence), "{error}");
        assert!(server.count() < 10 + 2 * 8, "{}", server.count());
    }
}

#[test]
fn a_model_that_refuses_every_request_stops_the_run_too() {
    // One that is held up keeps the others from being counted: with refusals at once a thousand could go meanwhile.
    let server = FaultServer::start(|_, _| {
        let refusal = Reply::Status(400, None, "no such parameter".into());
        Reply::Later(Duration::from_millis(100), Box::new(refusal))
    });
    let scratch = Scratch::new(server.url(), 8, "");
    let output = scratch.run(&["sql", "-c", MANY]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("of model m all failed alike") && error.contains("no such parameter"), "{error}");
    assert!(server.count() < 200, "{}", server.count());
}

/// Half of the first rows are refused at once, while the answers to the others take their time.
#[test]
fn refusals_that_are_quicker_than_the_first_answer_stop_no_run() {
    for status in [400, 403] {
        let server = FaultServer::start(move |body, nth| {
            let question = body["messages"][0]["content"].as_str().unwrap().trim_start_matches("question ");
            match (question.parse::<u64>().unwrap() % 2, answer(body, nth)) {
                (0, _) => Reply::Status(status, None, "not this one".into()),
                (_, Reply::Answer(text, _)) => Reply::Answer(text, Duration::from_secs(1)),
                (_, other) => other,
            }
        });
        let scratch = Scratch::new(server.url(), 64, "");
        let sql = "SELECT count(*), count(completion) FROM generate((SELECT value FROM generate_series(1, 60)), \
                   model => 'm', prompt => 'question ' || value)";
        assert_eq!(scratch.value(sql), "60,30", "{status}");
    }
}

#[test]
fn where_nobody_is_there_a_run_stops_within_seconds_in_spite_of_its_retries() {
    let closed = [ClosedPort::hold(), ClosedPort::hold()];
    let scratch = Scratch::new("http://127.0.0.1:1/v1", 8, "");
    scratch.write(
        "seedmill.toml",
        &format!(
            "[models.m]\nprovider = \"openai\"\nbase_urls = [\"{}\", \"{}\"]\nmodel = \"m-1\"\nmax_retries = 6\n\
             max_in_flight = 64\n",
            closed[0].url(),
            closed[1].url()
        ),
    );
    let start = Instant::now();
    let output = scratch.run(&["sql", "-c", MANY]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("of model m all failed alike") && error.contains("no connection to"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    let attempts: usize = scratch.value("SELECT count(*) FROM attempts").parse().unwrap();
    // Rows are asked or wait for a retry by 2 × 2 × 64 + 64 = 320 askers at most. Each makes a first attempt, which does
    // not count, those of the first 64 perhaps at both addresses; and a second one, which counts. Nine more that count
    // stop nobody, and may be the last ones of one row, after which its asker makes a first attempt for another.
    assert!(attempts <= 2 * 320 + 64 + 10, "{attempts}");
}

/// What several first calls share lies in a temporary file, which may be as large as the seeds.
#[test]
fn a_run_that_is_stopped_leaves_no_temporary_files() {
    let server = FaultServer::start(|body, nth| match answer(body, nth) {
        Reply::Answer(text, _) => Reply::Answer(text, Duration::from_millis(50)),
        other => other,
    });
    let few = "SELECT DISTINCT 'question ' || value AS q FROM generate_series(1, 1000)";
    let endless = "SELECT 'question ' || (a.value + b.value) AS q \
                   FROM generate_series(1, 1000000) a CROSS JOIN generate_series(1, 1000000) b";
    for (questions, answers) in [(few, 10), (endless, 0)] {
        let temporary = tempfile::tempdir().unwrap();
        let variable = ("TMPDIR".to_owned(), temporary.path().to_str().unwrap().to_owned());
        let scratch = Scratch::new(server.url(), 4, "").with_variables(&[variable]);
        let stage = |input: &str| {
            format!(
                "SELECT q AS question, completion AS answer_text, arrow_cast([], 'List(Utf8)') AS reasons \
                 FROM generate({input}, model => 'm', prompt => q)"
            )
        };
        scratch.write("sql/10_questions.sql", &format!("CREATE VIEW questions AS {questions};"));
        let both = format!("{} UNION ALL {}", stage("TABLE questions"), stage("(SELECT q || '?' AS q FROM questions)"));
        scratch.write("sql/60_publish.sql", &format!("COPY ({both}) TO 'runs' STORED AS CURATED;"));
        let files = || temporary.path().read_dir().unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
        let child = scratch.start(&["run"]);
        wait_until("a shared input", || !files().is_empty());
        wait_until("answers", || server.answered() >= answers);
        signal(&child, "-INT");
        let output = child.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{error}");
        assert_eq!(error.contains("before the first call"), answers == 0, "{error}");
        assert_eq!(files(), Vec::<std::path::PathBuf>::new());
    }
}

/// Rows without a call, each of which becomes a file.
const FILES: usize = 150;

fn many_files() -> Scratch {
    let scratch = Scratch::new("http://127.0.0.1:1/v1", 1, "");
    scratch.write(
        "sql/60_publish.sql",
        &format!(
            "COPY (SELECT 'question ' || value AS question, 'an answer' AS answer_text, 'numbers' AS task, \
             [CAST(value AS TEXT)] AS seed_ids, reasons('never', false) AS reasons \
             FROM generate_series(1, {FILES})) TO 'runs' STORED AS CURATED OPTIONS ('max_rows_per_file' '1');"
        ),
    );
    scratch
}

/// What lies in a folder, hidden or not.
fn entries(folder: &Path) -> Vec<PathBuf> {
    folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

fn assert_whole_run(run: &Path) {
    let manifest = read_manifest(run).unwrap();
    // And an empty one of rejected rows.
    assert_eq!(manifest.files.len(), FILES + 1);
    for file in &manifest.files {
        assert_eq!(run.join(&file.path).metadata().unwrap().len(), file.bytes, "{}", file.path);
    }
}

/// Stops a run as soon as it has written a file, published or not. Returns its exit code and what then lies in `runs`.
fn stopped_at(scratch: &Scratch, file: &str, signals: usize) -> (i32, Vec<PathBuf>) {
    let runs = scratch.path().join("runs");
    let child = scratch.start(&["run"]);
    let (mut files, mut since) = (0, Instant::now());
    // Without a pause: there are milliseconds between the manifest and the run's name.
    while !entries(&runs).iter().any(|run| run.join(file).exists()) {
        // Each file is synced: a slow disk may take long, as long as one comes after the other.
        if since.elapsed() >= Duration::from_secs(60) {
            let before = std::mem::replace(&mut files, WalkDir::new(&runs).into_iter().flatten().count());
            assert!(files > before, "waited in vain for {file}");
            since = Instant::now();
        }
    }
    (0..signals).for_each(|_| signal(&child, "-INT"));
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!error.contains("panicked"), "{error}");
    (output.status.code().unwrap_or_else(|| panic!("{error}")), entries(&runs))
}

#[test]
fn a_run_that_is_stopped_while_it_is_being_published_is_there_as_a_whole_or_not_at_all() {
    let moments = [("manifest.json", 15), ("README.md", 3), ("data/train-00100.parquet", 3)];
    for (file, times) in moments {
        for time in 0..times {
            let scratch = many_files();
            let (code, runs) = stopped_at(&scratch, file, 1);
            let state = scratch.value("SELECT state FROM runs");
            match runs.as_slice() {
                [] => assert_eq!((code, state.as_str()), (130, "incomplete"), "{file}, {time}"),
                [run] => {
                    assert!(!is_hidden(run), "{file}, {time}: {runs:?}");
                    assert_eq!((code, state.as_str()), (0, "complete"), "{file}, {time}");
                    assert_whole_run(run);
                }
                _ => panic!("{file}, {time}: {runs:?}"),
            }
        }
    }
}

#[test]
fn a_second_ctrl_c_takes_nothing_away_from_what_is_being_published() {
    for time in 0..8 {
        let scratch = many_files();
        let (code, mut runs) = stopped_at(&scratch, "manifest.json", 2);
        // What has no name yet is for the next run to take away.
        runs.retain(|run| !is_hidden(run));
        match runs.as_slice() {
            [] => assert_eq!(code, 130, "{time}"),
            [run] => {
                assert!([0, 130].contains(&code), "{time}: {code}");
                assert_whole_run(run);
            }
            _ => panic!("{time}: {runs:?}"),
        }
        scratch.ok(&["run"]);
        let after = entries(&scratch.path().join("runs"));
        assert_eq!(after.len(), runs.len() + 1, "{time}: {after:?}");
        after.iter().for_each(|run| assert_whole_run(run));
    }
}
