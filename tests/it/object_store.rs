//! Whole runs on an object store: seeds read from it, the ledger on it, runs published to it, over a server that fails.

use std::collections::BTreeSet;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::http::Method;

use crate::fault_server::{FaultServer, Reply, answer};
use crate::s3_server::{Fault, S3Server};
use crate::scratch::Scratch;

pub const ROWS: usize = 120;
pub const IN_FLIGHT: usize = 8;

const PIPELINE: &str = "
CREATE VIEW asked AS SELECT * FROM generate((SELECT n FROM 's3://bucket/in/*.jsonl'), model => 'm',
    prompt => 'question ' || n, returns => 'question TEXT', seed => 1);
COPY (SELECT question, 'an answer' AS answer_text, 'numbers' AS task, [CAST(n AS TEXT)] AS seed_ids,
             reasons('tenth', n % 10 = 0, 'failed', question IS NULL) AS reasons,
             [generate_call['call_id']] AS knowledge
      FROM asked) TO 's3://bucket/runs' STORED AS CURATED OPTIONS ('max_rows_per_file' '50');
";

pub fn model() -> FaultServer {
    FaultServer::start(|body, nth| match answer(body, nth) {
        Reply::Answer(text, _) => Reply::Answer(text, Duration::from_millis(10)),
        other => other,
    })
}

pub fn seeds(s3: &S3Server) {
    for (part, from) in [("a", 1), ("b", ROWS / 2 + 1)] {
        let lines: String = (from..from + ROWS / 2).map(|n| format!("{{\"n\": {n}}}\n")).collect();
        s3.write(&format!("in/{part}.jsonl"), lines);
    }
}

pub fn workspace(model: &FaultServer, s3: &S3Server) -> Scratch {
    let more = "[ledger]\nurl = \"s3://bucket/ledger\"\n[run]\nout = \"s3://bucket/runs\"\n";
    let scratch = Scratch::new(model.url(), IN_FLIGHT, more).with_variables(&s3.variables());
    scratch.write("sql/10_all.sql", PIPELINE);
    scratch
}

const COUNTS: &str = "SELECT (SELECT count(*) FROM run.curated) || ' ' || (SELECT count(*) FROM rejected) || ' ' || \
                      (SELECT count(*) FROM calls) || ' ' || (SELECT count(*) FROM run.calls)";

pub fn assert_whole(scratch: &Scratch) {
    assert_eq!(scratch.value(COUNTS), format!("{} {} {ROWS} {ROWS}", ROWS - ROWS / 10, ROWS / 10));
}

#[test]
fn a_run_reads_pays_and_publishes_on_s3_and_the_next_one_pays_nothing() {
    let (model, s3) = (model(), S3Server::start());
    seeds(&s3);
    let scratch = workspace(&model, &s3);
    let report = scratch.ok(&["run"]);
    assert!(report.contains("Published in s3://bucket/runs/"), "{report}");
    assert_eq!(model.count(), ROWS);
    assert_whole(&scratch);
    // 120 calls and their uses in few objects.
    let objects = std::fs::read_dir(s3.bucket().join("ledger")).unwrap().count();
    assert!((1..30).contains(&objects), "{objects} objects");
    // Nothing of it is on this machine.
    assert!(!scratch.path().join(".seedmill/ledger").exists() && !scratch.path().join("runs").exists());

    scratch.ok(&["run"]);
    assert_eq!(model.count(), ROWS);
    assert_eq!(scratch.value("SELECT count(*) FROM runs WHERE state = 'complete'"), "2");
    assert!(scratch.ok(&["runs"]).contains("s3://bucket/runs/"));
    let page = scratch.ok(&["report"]);
    assert!(std::fs::read_to_string(scratch.path().join(page.trim())).unwrap().contains("<svg"));
}

#[test]
fn a_query_that_names_no_url_asks_the_store_nothing() {
    let (model, s3) = (model(), S3Server::start());
    let scratch = workspace(&model, &s3);
    std::fs::remove_file(scratch.path().join("sql/10_all.sql")).unwrap();
    scratch.write("x.csv", "a\n1\n");
    assert_eq!(scratch.value("SELECT a FROM 'x.csv'"), "1");
    assert_eq!(s3.requests(), 0);
}

#[test]
fn files_of_a_bucket_are_tables_by_pattern_and_compression() {
    let (model, s3) = (model(), S3Server::start());
    seeds(&s3);
    let packed = zstd::encode_all(&b"{\"n\": 5, \"late\": null}\n{\"n\": 6, \"late\": \"x\"}\n"[..], 1).unwrap();
    s3.write("packed/x.jsonl.zst", packed);
    s3.write("held/exam.test.csv", "q\nWhat?\n");
    let more = "[tables.packed]\nlocation = \"s3://bucket/packed/x.jsonl.zst\"\n";
    let scratch = Scratch::new(model.url(), IN_FLIGHT, more).with_variables(&s3.variables());
    assert_eq!(scratch.value("SELECT sum(n) FROM 's3://bucket/in/*.jsonl'"), (ROWS * (ROWS + 1) / 2).to_string());
    assert_eq!(scratch.value("SELECT count(*) FROM 's3://bucket/in/'"), ROWS.to_string());
    assert_eq!(scratch.value("SELECT max(late) FROM packed"), "x");
    scratch.ok(&["sql", "-c", "COPY (SELECT n FROM 's3://bucket/in/a.jsonl') TO 's3://bucket/out/a.parquet'"]);
    let created = "CREATE EXTERNAL TABLE a STORED AS PARQUET LOCATION 's3://bucket/out/'; SELECT count(*) FROM a";
    assert!(scratch.ok(&["sql", "--format", "csv", "-c", created]).contains(&(ROWS / 2).to_string()));

    let held = "SELECT * FROM generate((SELECT q FROM 's3://bucket/held/*.csv'), model => 'm', prompt => q)";
    let error = failure(&scratch, held);
    assert!(error.contains("holds held-out rows (split test, says its file name)"), "{error}");
    assert_eq!(model.count(), 0);
    let error = failure(&scratch, "SELECT * FROM 's3://bucket/none/*.parquet'");
    assert!(error.contains("no file matches the pattern 's3://bucket/none/*.parquet'"), "{error}");
    let error = failure(&scratch, "SELECT * FROM 's3://other/x.parquet'");
    assert!(error.contains("there is no bucket s3://other"), "{error}");
}

#[test]
fn a_task_names_files_of_a_bucket_by_patterns() {
    let (model, s3) = (model(), S3Server::start());
    for (file, question) in [("train/b/1", "What is b?"), ("train/a/1", "What is a?"), ("train/1", "What is above?")] {
        s3.write(&format!("maths/{file}.jsonl"), format!("{{\"q\": \"{question}\", \"a\": \"a\"}}\n"));
    }
    s3.write("maths/exam/1.jsonl", "{\"q\": \"What is held?\", \"a\": \"a\"}\n");
    let more = "[tasks]\nfrom = [\"tasks\"]\n";
    let scratch = Scratch::new(model.url(), IN_FLIGHT, more).with_variables(&s3.variables());
    scratch.write(
        "tasks/maths.yaml",
        "task: maths\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    train: s3://bucket/maths/train/*/*.jsonl\n    \
         test: s3://bucket/maths/exam/*.jsonl\noutput_type: generate_until\ntraining_split: train\ntest_split: test\n\
         doc_to_text: \"{{q}}\"\ndoc_to_target: \"{{a}}\"\nmetadata:\n  license: CC0-1.0\n  capability: knowledge\n",
    );
    let seeds = "SELECT string_agg(question, ' ' ORDER BY source_row) FROM seeds";
    assert_eq!(scratch.value(seeds), "What is a? What is b?");
    assert_eq!(scratch.value("SELECT question FROM heldout"), "What is held?");
    for file in ["maths/exam/1.jsonl", "maths/exam/", "maths/e*/1.jsonl", "*/exam/*.jsonl"] {
        let sql = format!("SELECT * FROM generate((SELECT q FROM 's3://bucket/{file}'), model => 'm', prompt => q)");
        let error = failure(&scratch, &sql);
        assert!(error.contains("holds held-out rows (split test, says the task catalog"), "{file}: {error}");
    }
    assert_eq!(model.count(), 0);
}

#[test]
fn a_pattern_reaches_into_the_folders_of_a_bucket_that_it_names() {
    let (model, s3) = (model(), S3Server::start());
    for (file, n) in [("a/train", 1), ("b/train", 2), ("a/other", 4), ("a/deep/train", 8), ("train", 16)] {
        s3.write(&format!("sets/{file}.jsonl"), format!("{{\"n\": {n}}}\n"));
    }
    s3.write("sets/b/exam.test.jsonl", "{\"n\": 32}\n");
    let more = "[tables.inbox]\nlocation = \"s3://bucket/sets/*/train.jsonl\"\n";
    let scratch = Scratch::new(model.url(), IN_FLIGHT, more).with_variables(&s3.variables());
    assert_eq!(scratch.value("SELECT sum(n) FROM 's3://bucket/sets/*/train.jsonl'"), "3");
    assert_eq!(scratch.value("SELECT sum(n) FROM 's3://bucket/sets/**/train.jsonl'"), "27");
    assert_eq!(scratch.value("SELECT sum(n) FROM 's3://bucket/sets/a/*.jsonl'"), "5");
    assert_eq!(scratch.value("SELECT sum(n) FROM inbox"), "3");
    // The columns are the statement's.
    let created = "CREATE EXTERNAL TABLE t (n INT, m INT) STORED AS JSON LOCATION 's3://bucket/sets/*/train.jsonl'; \
                   SELECT sum(n) + count(m) AS told FROM t";
    let told = scratch.ok(&["sql", "--format", "csv", "-c", created]);
    assert!(told.lines().any(|line| line == "3"), "{told}");

    let held = "SELECT * FROM generate((SELECT n FROM 's3://bucket/sets/*/*.jsonl'), model => 'm', prompt => 'q' || n)";
    let error = failure(&scratch, held);
    assert!(error.contains("holds held-out rows (split test, says its file name)"), "{error}");
    assert_eq!(model.count(), 0);
    let error = failure(&scratch, "SELECT * FROM 's3://bucket/sets/*/none.jsonl'");
    assert!(error.contains("no file matches the pattern 's3://bucket/sets/*/none.jsonl'"), "{error}");
}

#[test]
fn a_copy_to_a_store_that_is_stopped_leaves_what_was_there() {
    let (model, s3) = (model(), S3Server::start());
    let scratch = Scratch::new(model.url(), 4, "").with_variables(&s3.variables());
    s3.write("out/x.parquet", "as it was");
    for to in ["out/x.parquet", "folder/"] {
        let copy = format!(
            "COPY (SELECT value, completion FROM generate((SELECT value FROM generate_series(1, 60)), model => 'm', \
             prompt => '{to} ' || value)) TO 's3://bucket/{to}' STORED AS PARQUET"
        );
        let stopped = scratch.run(&["sql", "--max-calls", "20", "-c", &copy]);
        assert_eq!(stopped.status.code(), Some(3), "{}", String::from_utf8_lossy(&stopped.stderr));
        match to {
            "folder/" => assert!(std::fs::read_dir(s3.bucket().join(to)).into_iter().flatten().next().is_none()),
            _ => assert_eq!(std::fs::read_to_string(s3.bucket().join(to)).unwrap(), "as it was"),
        }
        scratch.ok(&["sql", "-c", &copy]);
        assert_eq!(scratch.value(&format!("SELECT count(completion) FROM 's3://bucket/{to}'")), "60");
    }
}

pub fn failure(scratch: &Scratch, sql: &str) -> String {
    let output = scratch.run(&["sql", "-c", sql]);
    assert!(!output.status.success(), "{sql}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn wrong_credentials_are_a_sentence_without_the_secret() {
    let (model, s3) = (model(), S3Server::start());
    seeds(&s3);
    for (name, value, location, said) in [
        ("AWS_ACCESS_KEY_ID", "other", "in/*.jsonl", "or do not permit this on s3://bucket/in (403)"),
        ("AWS_SECRET_ACCESS_KEY", "wrong-hush", "in/*.jsonl", "s3://bucket does not accept the secret key"),
        ("AWS_SECRET_ACCESS_KEY", "wrong-hush", "in/a.jsonl", "or do not permit this on s3://bucket/in/a.jsonl (403)"),
    ] {
        let mut variables = s3.variables();
        variables.push((name.into(), value.into()));
        let scratch = Scratch::new(model.url(), IN_FLIGHT, "").with_variables(&variables);
        let error = failure(&scratch, &format!("SELECT * FROM 's3://bucket/{location}'"));
        assert!(error.contains(said) && error.lines().count() == 1, "{error}");
        assert!(!error.contains("hush"), "{error}");
        for file in ["s3://bucket/out/x.parquet", "s3://bucket/out/x.csv"] {
            let error = failure(&scratch, &format!("COPY (SELECT 1 AS a) TO '{file}'"));
            // The server's code is in the body of its answer, which a client that is still sending may not see.
            let named = error.contains(&format!("{file} (403)")) || error.contains("does not accept the secret key");
            assert!(named && !error.contains("hush"), "{error}");
            assert!(!error.contains("bug in DataFusion"), "{error}");
        }
    }
}

#[test]
fn a_killed_run_goes_on_and_pays_again_at_most_for_what_was_in_flight() {
    let (model, s3) = (model(), S3Server::start());
    seeds(&s3);
    let scratch = workspace(&model, &s3);
    let mut child = scratch.start(&["run"]);
    wait(&mut child, || model.answered() as usize >= ROWS / 2);
    child.kill().unwrap();
    child.wait().unwrap();
    model.settled();
    let asked = model.count();
    let durable: usize = scratch.value("SELECT count(*) FROM calls").parse().unwrap();
    assert_eq!(scratch.value("SELECT count(*) FROM runs WHERE state = 'complete'"), "0");
    scratch.ok(&["run"]);
    assert_eq!(model.count(), asked + ROWS - durable, "of {asked} asked, {durable} were durable");
    assert_whole(&scratch);
}

pub fn wait(child: &mut Child, mut until: impl FnMut() -> bool) {
    let start = Instant::now();
    while !until() && child.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_secs(120), "waited in vain");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_run_comes_through_a_store_that_fails_and_is_seen_as_a_whole_or_not_at_all() {
    let (model, s3) = (model(), S3Server::start());
    seeds(&s3);
    let scratch = workspace(&model, &s3);
    let count = AtomicUsize::new(0);
    s3.fail(move |method, _| {
        // Every third request, in turn in each way. What is done and not answered is told apart by its name.
        let n = count.fetch_add(1, Ordering::Relaxed);
        match (n % 3, n / 3 % 5) {
            (0, 0) => Some(Fault::Status(500, "InternalError")),
            (0, 1) => Some(Fault::Status(503, "SlowDown")),
            (0, 2) => Some(Fault::ResetBefore),
            (0, 3) if *method == Method::PUT => Some(Fault::ResetAfter),
            (0, 4) if *method == Method::GET => Some(Fault::Cut),
            _ => None,
        }
    });
    let done = Arc::new(AtomicBool::new(false));
    let reader = {
        let (done, bucket) = (Arc::clone(&done), s3.bucket());
        let mut seen = BTreeSet::from([published(&bucket)]);
        std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                seen.insert(published(&bucket));
                std::thread::sleep(Duration::from_millis(1));
            }
            seen.insert(published(&bucket));
            seen
        })
    };
    let output = scratch.run(&["run"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    done.store(true, Ordering::Relaxed);
    let seen: Vec<_> = reader.join().unwrap().into_iter().collect();
    assert_eq!(seen, [None, Some(ROWS)]);
    assert!(s3.failed() > 10, "{} requests failed", s3.failed());
    s3.fail(|_, _| None);
    assert_eq!(model.count(), ROWS);
    assert_whole(&scratch);
}

/// The rows of the files that a manifest names, read as they are at this moment; `None` where there is no manifest.
pub fn published(bucket: &std::path::Path) -> Option<usize> {
    let runs = std::fs::read_dir(bucket.join("runs")).ok()?;
    let run = runs.map(|run| run.unwrap().path()).find(|run| run.join("manifest.json").exists())?;
    let manifest: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(run.join("manifest.json")).unwrap()).unwrap();
    let mut rows = 0;
    for file in manifest["files"].as_array().unwrap() {
        let bytes = std::fs::read(run.join(file["path"].as_str().unwrap())).unwrap();
        assert_eq!(bytes.len() as u64, file["bytes"].as_u64().unwrap());
        assert!(bytes.ends_with(b"PAR1"));
        rows += file["rows"].as_u64().unwrap() as usize;
    }
    Some(rows)
}

#[test]
fn two_machines_on_one_prefix_publish_two_runs_and_share_what_is_durable() {
    let (model, s3) = (model(), S3Server::start());
    seeds(&s3);
    let (one, two) = (workspace(&model, &s3), workspace(&model, &s3));
    let (mut first, mut second) = (one.start(&["run"]), two.start(&["run"]));
    assert!(first.wait().unwrap().success() && second.wait().unwrap().success());
    let asked = model.count();
    assert!((ROWS..=2 * ROWS).contains(&asked), "{asked}");
    assert_eq!(
        one.value("SELECT count(*) || ' ' || sum(curated_rows) FROM runs"),
        format!("2 {}", 2 * (ROWS - ROWS / 10))
    );
    assert_whole(&two);
    two.ok(&["run"]);
    assert_eq!(model.count(), asked);
}

#[test]
fn tasks_are_found_under_a_root_in_a_bucket_and_its_held_out_files_are_refused_by_their_urls() {
    let (model, s3) = (model(), S3Server::start());
    s3.write("sets/team/capitals/train.jsonl", "{\"q\": \"Of France?\", \"a\": \"Paris\"}\n");
    s3.write("sets/team/capitals/data.bin", "");
    // Its name in the bucket says nothing; that it is the task's test split does.
    s3.write("sets/team/capitals/data/testing.jsonl", "{\"q\": \"Of Spain?\", \"a\": \"Madrid\"}\n");
    let more = "[tasks]\nfrom = [\"tasks\"]\n[data]\nroots = [\"s3://bucket/sets\"]\n";
    let scratch = Scratch::new(model.url(), IN_FLIGHT, more).with_variables(&s3.variables());
    scratch.write(
        "tasks/capitals.yaml",
        "task: capitals\ndataset_path: team/capitals\noutput_type: generate_until\ntraining_split: train\n\
         test_split: test\ndoc_to_text: \"{{q}}\"\ndoc_to_target: \"{{a}}\"\n\
         metadata:\n  license: CC0-1.0\n  capability: knowledge\n  format: short_answer\n  language: en\n",
    );
    assert_eq!(scratch.value("SELECT question FROM seeds"), "Of France?");
    assert_eq!(scratch.value("SELECT question FROM heldout.capitals"), "Of Spain?");
    let sql = "SELECT * FROM generate((SELECT q FROM 's3://bucket/sets/team/capitals/data/*.jsonl'), model => 'm', \
               prompt => q)";
    let error = failure(&scratch, sql);
    assert!(
        error.contains("holds held-out rows (split test, says the task catalog, which has the same file)"),
        "{error}"
    );
    s3.fail(|_, _| Some(Fault::Status(403, "AccessDenied")));
    let error = failure(&scratch, "SELECT 1");
    assert!(error.contains("[data] roots: ") && error.contains("(403)"), "{error}");
}
