//! Ctrl-C and SIGTERM on the real program, and runs that stop by themselves since everything fails alike.

use std::net::TcpListener;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::fault_server::{FaultServer, Reply, answer};
use crate::scratch::Scratch;

const MANY: &str = "SELECT count(*) FROM generate((SELECT value FROM generate_series(1, 10000)), model => 'm', \
                    prompt => 'question ' || value)";

const PUBLISH: &str = "COPY (SELECT q AS question, completion AS answer_text, arrow_cast([], 'List(Utf8)') AS reasons \
                       FROM generate((SELECT 'question ' || value AS q FROM generate_series(1, 100)), model => 'm', \
                       prompt => q)) TO 'runs' STORED AS CURATED;";

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn a_second_ctrl_c_stops_at_once_although_the_server_hangs() {
    let server = FaultServer::start(|_, _| Reply::Hang);
    let scratch = Scratch::new(server.url(), 4, "");
    scratch.write("sql/60_publish.sql", PUBLISH);
    let mut child = scratch.start(&["run"]);
    wait_until("requests", || server.in_flight() == 4);
    signal(&child, "-INT");
    // It waits for what is in flight.
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none());
    let second = Instant::now();
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    assert!(second.elapsed() < Duration::from_secs(10), "{:?}", second.elapsed());
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{error}");
    assert_eq!(server.count(), 4);
    assert_eq!(scratch.value("SELECT state, stopped_by FROM runs"), "incomplete,interrupted");
    assert!(!scratch.path().join("runs").read_dir().is_ok_and(|mut entries| entries.next().is_some()));
}

#[test]
fn sigterm_is_a_ctrl_c_and_the_run_goes_on_later() {
    let server = FaultServer::start(|body, nth| match answer(body, nth) {
        Reply::Answer(text, _) => Reply::Answer(text, Duration::from_millis(50)),
        other => other,
    });
    let scratch = Scratch::new(server.url(), 4, "");
    scratch.write("sql/60_publish.sql", PUBLISH);
    let child = scratch.start(&["run"]);
    wait_until("answers", || server.answered() >= 10);
    signal(&child, "-TERM");
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
fn where_nobody_is_there_a_run_stops_within_seconds_in_spite_of_its_retries() {
    // Two addresses that refuse: bound a moment ago, and bound no more.
    let closed = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let scratch = Scratch::new("http://127.0.0.1:1/v1", 8, "");
    scratch.write(
        "seedmill.toml",
        &format!(
            "[models.m]\nprovider = \"openai\"\nbase_urls = [\"http://{}/v1\", \"http://{}/v1\"]\nmodel = \"m-1\"\n\
             max_retries = 6\nmax_in_flight = 64\n",
            closed(),
            closed()
        ),
    );
    let start = Instant::now();
    let output = scratch.run(&["sql", "-c", MANY]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("of model m all failed alike") && error.contains("no connection to"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    let attempts: usize = scratch.value("SELECT count(*) FROM attempts").parse().unwrap();
    assert!(attempts < 500, "{attempts}");
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
