//! `seedmill tasks`: the check against renderings of the harness, one task, and what is missing.

use crate::scratch::Scratch;

const HEADER: &str = r#"{"task": "t", "header": true, "features": {"q": "Value('string')"}, "config": {"doc_to_text": "Q: {{q}}", "doc_to_target": "q"}}"#;

fn row(prompt: &str) -> String {
    format!(
        r#"{{"task": "t", "row": 3, "doc": {{"q": "a"}}, "doc_to_text": "{prompt}", "doc_to_target": "a", "errors": {{}}}}"#
    )
}

#[test]
fn the_check_says_each_fields_counts_and_fails_on_a_difference() {
    let scratch = Scratch::new("http://127.0.0.1:1", 1, "");
    scratch.write("same.jsonl", &format!("{HEADER}\n{}\n", row("Q: a")));
    scratch.write("other.jsonl", &format!("{HEADER}\n{}\n", row("Q: b")));
    let out = scratch.ok(&["tasks", "check", "same.jsonl"]);
    assert!(out.contains("same.jsonl: 1 task, 1 row"), "{out}");
    assert!(out.lines().any(|line| line.split_whitespace().eq(["doc_to_text", "1", "0", "0"])), "{out}");
    let output = scratch.run(&["tasks", "check", "same.jsonl", "other.jsonl"]);
    assert_eq!(output.status.code(), Some(1));
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.contains("t row 3 doc_to_text\n  harness:  \"Q: b\"\n  seedmill: \"Q: a\""), "{out}");
    let output = scratch.run(&["tasks", "check", "no.jsonl"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && error.contains("'no.jsonl' cannot be read"), "{error}");
}

#[test]
fn a_task_is_shown_with_its_sql_and_none_is_missing_among_the_example_tasks() {
    let scratch = Scratch::new("http://127.0.0.1:1", 1, "");
    scratch.write("configs/t.yaml", "task: t\ndataset_path: json\ntraining_split: train\ndataset_kwargs: {data_files: {train: t.jsonl}}\ndoc_to_text: q\ndoc_to_target: a\n");
    scratch.write("configs/t.jsonl", "{\"q\": \"1 + 1?\", \"a\": \"2\"}\n");
    for arguments in [&["tasks", "show", "t", "--from", "configs"][..], &["tasks", "t", "--from", "configs"]] {
        let out = scratch.ok(arguments);
        assert!(out.contains("-- norm.t\nWITH rendered AS ("), "{out}");
    }
    let out = scratch.ok(&["tasks", "--missing", "--from", "configs", "--format", "csv"]);
    assert_eq!(out.lines().filter(|line| !line.is_empty()).count(), 1, "{out}");
}
