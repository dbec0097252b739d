//! The guard across processes: what one session writes, another knows.

use crate::fault_server::{FaultServer, answer};
use crate::scratch::Scratch;

#[test]
fn held_out_rows_stay_held_out_through_a_file() {
    let server = FaultServer::start(answer);
    let scratch = Scratch::new(server.url(), 2, "");
    scratch.write("t.test.jsonl", "{\"q\": \"held?\"}\n");
    let copy =
        "CREATE EXTERNAL TABLE h STORED AS JSON LOCATION 't.test.jsonl'; COPY (SELECT q FROM h) TO 'plain.parquet'";
    scratch.ok(&["sql", "-c", copy]);
    let read = "CREATE EXTERNAL TABLE p STORED AS PARQUET LOCATION 'plain.parquet'";
    let output = scratch.run(&["sql", "-c", &format!("{read}; SELECT * FROM generate(p, model => 'm', prompt => q)")]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("p holds held-out rows (split test, says its file's footer)"), "{error}");
    // A user who knows better says so.
    let own = "CREATE EXTERNAL TABLE p STORED AS PARQUET LOCATION 'plain.parquet' OPTIONS ('seedmill.split' 'train')";
    scratch.ok(&["sql", "-c", &format!("{own}; SELECT * FROM generate(p, model => 'm', prompt => q)")]);
    assert_eq!(server.count(), 1);
}

#[test]
fn the_licence_gate_goes_by_the_variable_target_wherever_it_is_set() {
    let server = FaultServer::start(answer);
    let variable = "[tasks]\nfrom = [\"tasks\"]\n[variables]\ntarget = \"commercial\"\n";
    let scratch = Scratch::new(server.url(), 2, variable);
    scratch.write(
        "tasks/closed/closed.yaml",
        "task: closed\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    train: train.jsonl\n\
         output_type: generate_until\ntraining_split: train\ndoc_to_text: \"{{q}}\"\ndoc_to_target: \"{{a}}\"\n\
         metadata:\n  license: CC-BY-NC-4.0\n  capability: knowledge\n",
    );
    scratch.write("tasks/closed/train.jsonl", "{\"q\": \"Is it free?\", \"a\": \"no\"}\n");
    let sql = "SELECT completion FROM generate((SELECT q FROM raw.closed), model => 'm', prompt => q)";
    let unknown = "is unknown; use 'research' or 'commercial'";
    for (set, sentence) in [
        (&["--set", "target=5"][..], unknown),
        (&["--set", "target=true"], unknown),
        (&["--set", "target=resaerch"], unknown),
        (&[], "CC-BY-NC-4.0, which does not permit a commercial run"),
    ] {
        let output = scratch.run(&[&["sql", "-c", sql], set].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{set:?}: {error}");
        assert!(error.contains(sentence), "{set:?}: {error}");
    }
    assert_eq!(server.count(), 0);
    // The command line stands over the file.
    scratch.ok(&["sql", "--set", "target=research", "-c", sql]);
    assert_eq!(server.count(), 1);
}

/// A task of one row: YAML lines of its files by split, and the licence.
fn task(scratch: &Scratch, name: &str, files: &str, licence: &str) {
    scratch.write(
        &format!("tasks/{name}/{name}.yaml"),
        &format!(
            "task: {name}\ndataset_path: json\n{files}output_type: generate_until\ntraining_split: train\n\
             test_split: test\ndoc_to_text: \"{{{{q}}}}\"\ndoc_to_target: \"{{{{a}}}}\"\n\
             metadata:\n  license: {licence}\n  capability: knowledge\n"
        ),
    );
}

/// The error of a call over a file.
fn refusal(scratch: &Scratch, file: &str, more: &[&str]) -> String {
    let sql = format!("SELECT completion FROM generate((SELECT q FROM '{file}'), model => 'm', prompt => q)");
    let output = scratch.run(&[&["sql", "-c", &sql], more].concat());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{file}: {error}");
    error
}

const TASKS: &str = "[tasks]\nfrom = [\"tasks\"]\n";
const HELD_OUT: &str = "holds held-out rows (split test, says the task catalog, which has the same file)";

#[test]
fn a_file_that_a_task_s_pattern_takes_in_is_the_catalog_s_by_whatever_path_it_is_read() {
    let server = FaultServer::start(answer);
    let datasets = "[tasks.datasets.\"org/set\"]\nfiles = \"data/*/{split}.jsonl\"\nsplits = { test = \"exam\" }\n";
    let scratch = Scratch::new(server.url(), 2, &format!("{TASKS}{datasets}"));
    task(
        &scratch,
        "closed",
        "dataset_kwargs: {data_files: {train: 'rows/*/*.jsonl', test: 'held/*.jsonl'}}\n",
        "CC-BY-NC-4.0",
    );
    scratch.write(
        "tasks/set/set.yaml",
        "task: set\ndataset_path: org/set\noutput_type: generate_until\ntraining_split: train\ntest_split: test\n\
         doc_to_text: \"{{q}}\"\ndoc_to_target: \"{{a}}\"\nmetadata:\n  license: CC0-1.0\n  capability: knowledge\n",
    );
    for (file, question) in [
        ("tasks/closed/rows/x/1", "Is it free?"),
        ("tasks/closed/held/1", "Is it held?"),
        ("data/x/exam", "Is it an exam?"),
        ("data/x/train", "Is it a row?"),
        ("data/exam", "Is it mine?"),
    ] {
        scratch.write(&format!("{file}.jsonl"), &format!("{{\"q\": \"{question}\", \"a\": \"no\"}}\n"));
    }
    for file in [
        "tasks/closed/held/1.jsonl",
        "tasks/closed/held/",
        "*/closed/held/1.jsonl",
        "data/x/exam.jsonl",
        "data/?/e*.jsonl",
    ] {
        let error = refusal(&scratch, file, &[]);
        assert!(error.contains(HELD_OUT), "{file}: {error}");
    }
    let error = refusal(&scratch, "tasks/closed/rows/x/1.jsonl", &["--set", "target=commercial"]);
    assert!(error.contains("CC-BY-NC-4.0, which does not permit a commercial run"), "{error}");
    assert_eq!(server.count(), 0);
    assert_eq!(scratch.value("SELECT question FROM seeds WHERE task = 'set'"), "Is it a row?");
    assert_eq!(scratch.value("SELECT question FROM heldout WHERE task = 'set'"), "Is it an exam?");
    for file in ["data/x/train.jsonl", "data/exam.jsonl"] {
        let sql = format!("SELECT completion FROM generate((SELECT q FROM '{file}'), model => 'm', prompt => q)");
        scratch.ok(&["sql", "-c", &sql]);
    }
    assert_eq!(server.count(), 2);
}

#[cfg(unix)]
#[test]
fn no_link_leads_past_a_task_s_pattern() {
    use std::os::unix::fs::symlink;
    let server = FaultServer::start(answer);
    let scratch = Scratch::new(server.url(), 2, TASKS);
    task(&scratch, "linked", "dataset_kwargs: {data_files: {test: 'held/*.jsonl'}}\n", "CC0-1.0");
    scratch.write("far/1.jsonl", "{\"q\": \"Is it far?\", \"a\": \"no\"}\n");
    scratch.write("farther/blob.jsonl", "{\"q\": \"Is it farther?\", \"a\": \"no\"}\n");
    let link = |to: &str, from: &str| symlink(scratch.path().join(to), scratch.path().join(from)).unwrap();
    // The task's folder, a file in it, and a file of the user's.
    link("far", "tasks/linked/held");
    link("farther/blob.jsonl", "far/2.jsonl");
    link("far/1.jsonl", "mine.jsonl");
    for file in
        ["tasks/linked/held/1.jsonl", "far/1.jsonl", "mine.jsonl", "far/2.jsonl", "farther/blob.jsonl", "fa?/*.jsonl"]
    {
        let error = refusal(&scratch, file, &[]);
        assert!(error.contains(HELD_OUT), "{file}: {error}");
    }
    let url = format!("file://other{}", scratch.path().join("far/1.jsonl").display());
    assert!(refusal(&scratch, &url, &[]).contains(HELD_OUT));
    // A stream is opened by a path, which means what the system makes of it.
    std::fs::create_dir_all(scratch.path().join("far/below")).unwrap();
    link("far/below", "below");
    link("far/1.jsonl", "mine#1");
    for file in ["below/../1.jsonl", "mine#1"] {
        let at = scratch.path().join(file);
        let sql = format!(
            "CREATE UNBOUNDED EXTERNAL TABLE t (q TEXT) STORED AS JSON LOCATION '{}'; \
             SELECT completion FROM generate(t, model => 'm', prompt => q)",
            at.display()
        );
        let output = scratch.run(&["sql", "-c", &sql]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("t holds held-out rows (split test, says the task catalog"), "{file}: {error}");
    }
    assert_eq!(server.count(), 0);
    // What is held out for one task trains no other, whichever of its names that has.
    task(&scratch, "trains", "dataset_kwargs: {data_files: {train: '../../farther/blob.jsonl'}}\n", "CC0-1.0");
    assert_eq!(scratch.value("SELECT reason FROM tasks WHERE task = 'trains'"), "train_is_scored");
}
