//! Rows that the row guard leaves out of a statement are told, once, with the SQL that shows them.

use std::process::Output;

use crate::fault_server::{FaultServer, answer};
use crate::scratch::Scratch;

/// A task with two training rows that are copies of its test row, and one without an answer, and so without a question in
/// `seeds`.
fn rivers(server: &FaultServer) -> Scratch {
    let scratch = Scratch::new(server.url(), 2, "[tasks]\nfrom = [\"tasks\"]\n");
    scratch.write(
        "tasks/rivers/rivers.yaml",
        "task: rivers\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    train: train.jsonl\n    test: test.jsonl\n\
         output_type: generate_until\ntraining_split: train\ntest_split: test\ndoc_to_text: \"{{question}}\"\n\
         doc_to_target: answer\nmetadata:\n  license: CC0-1.0\n  capability: knowledge\n",
    );
    let row = |question: &str, answer: &str| format!("{{\"question\": \"{question}\", \"answer\": {answer}}}\n");
    let town = |town: &str| row(&format!("Which river runs through {town}?"), "\"a river\"");
    let unanswered = row("Which river runs through Paris?", "null");
    let again = row("which river runs through cairo", "\"the Nile\"");
    let train = [town("Cairo"), unanswered, town("Vienna"), town("Rome"), town("Bonn"), town("Prague"), again];
    scratch.write("tasks/rivers/train.jsonl", &train.concat());
    scratch.write("tasks/rivers/test.jsonl", &town("Cairo"));
    scratch
}

const ALL_COPIES_OF_SEEDS: &str =
    "all such rows: SELECT * FROM seeds WHERE held_out_copy(question, passage, options, answer_text)";
const UNASKED: &str = "note: 1 row of seeds was left out, which has no question to compare; all such rows: SELECT * FROM \
                       seeds WHERE question IS NULL";
const COPIES_OF_RIVERS: &str = "note: 2 rows of raw.rivers were left out, copies of held-out rows; all such rows: SELECT * \
                                FROM raw.rivers WHERE held_out_row('rivers', source_row)";

fn notes(output: &Output) -> Vec<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    said.lines().filter(|line| line.starts_with("note: ") && line.contains(" left out, ")).map(str::to_owned).collect()
}

#[test]
fn what_a_statement_leaves_out_is_told_with_the_sql_that_shows_it() {
    let server = FaultServer::start(answer);
    let scratch = rivers(&server);
    let copies = format!("note: 2 rows of seeds were left out, copies of held-out rows; {ALL_COPIES_OF_SEEDS}");
    let one_copy = format!("note: 1 row of seeds was left out, a copy of a held-out row; {ALL_COPIES_OF_SEEDS}");
    let both = [copies.as_str(), UNASKED];
    for (sql, told) in [
        ("CREATE TABLE t AS SELECT question FROM seeds", &both[..]),
        ("SELECT question AS q INTO t FROM norm.rivers", &[COPIES_OF_RIVERS]),
        // Of the rows that a statement asks for.
        ("CREATE TABLE t AS SELECT question FROM seeds WHERE source_row = 0", &[one_copy.as_str()]),
        ("CREATE TABLE t AS SELECT question FROM seeds WHERE source_row = 2", &[]),
        (
            "CREATE TABLE t AS SELECT question FROM seeds WHERE question IS NOT NULL \
             AND NOT held_out_copy(question, passage, options, answer_text)",
            &[],
        ),
        ("CREATE TABLE t AS SELECT question FROM raw.rivers WHERE NOT held_out_row('rivers', source_row)", &[]),
        // Each time, and a table that is read twice once.
        (
            "CREATE TABLE t AS SELECT a.question FROM raw.rivers a JOIN raw.rivers b ON a.source_row = b.source_row; \
             INSERT INTO t SELECT question FROM raw.rivers",
            &[COPIES_OF_RIVERS; 2],
        ),
        (
            "CREATE TABLE t (q TEXT); EXPLAIN INSERT INTO t SELECT question FROM raw.rivers; \
             EXPLAIN ANALYZE INSERT INTO t SELECT question FROM raw.rivers",
            &[COPIES_OF_RIVERS],
        ),
        ("SELECT completion FROM generate(raw.rivers, model => 'm', prompt => question)", &[COPIES_OF_RIVERS]),
        ("SELECT question FROM seeds; SELECT question FROM raw.rivers", &[]),
    ] {
        assert_eq!(notes(&scratch.run(&["sql", "-c", sql])), told, "{sql}");
        assert_eq!(notes(&scratch.run(&["sql", "--quiet", "-c", sql])), [""; 0], "{sql}");
    }
    for note in [copies.as_str(), UNASKED, COPIES_OF_RIVERS] {
        let (count, sql) = note.split_once("all such rows: ").unwrap();
        let shown = scratch.value(&format!("SELECT count(*) FROM ({sql})"));
        assert!(count.starts_with(&format!("note: {shown} row")), "{note}: {shown}");
    }
    // Limits are kept: the guard stands below them.
    let sql = "CREATE TABLE t AS SELECT question FROM raw.rivers LIMIT 3; SELECT count(*) FROM t";
    assert!(scratch.ok(&["sql", "--format", "csv", "-c", sql]).ends_with("\n3\n"));
}

#[test]
fn explain_analyze_counts_what_the_row_guard_leaves_out() {
    let server = FaultServer::start(answer);
    let sql = "CREATE TABLE t (q TEXT); EXPLAIN ANALYZE INSERT INTO t SELECT question FROM seeds WHERE source_row < 3";
    let shown = rivers(&server).ok(&["sql", "-c", sql]);
    let gate = shown.lines().find(|line| line.contains("left_out_seed(")).unwrap_or_default();
    assert!(gate.contains("FilterExec: ") && gate.contains("output_rows=1,"), "{shown}");
    assert!(gate.contains("held_out_copies=1, ") && gate.contains("without_question=1"), "{shown}");
}

#[test]
fn a_run_tells_what_it_leaves_out_once_however_often_it_is_counted() {
    let server = FaultServer::start(answer);
    let scratch = rivers(&server);
    let publish = |calls: &str| {
        format!(
            "COPY (SELECT question, completion AS answer_text, [seed_id] AS seed_ids, reasons('none', false) AS reasons \
             FROM ({calls})) TO 'runs' STORED AS CURATED"
        )
    };
    let call = |input: &str| format!("SELECT * FROM generate(({input}), model => 'm', prompt => question)");
    let place = |place: u32| call(&format!("SELECT * FROM chosen WHERE place % 2 = {place}"));
    let chosen = "CREATE VIEW chosen AS SELECT *, row_number() OVER (ORDER BY question) AS place FROM norm.rivers \
                  WHERE question IS NOT NULL";
    for stages in [
        publish(&call("SELECT * FROM norm.rivers WHERE question IS NOT NULL")),
        // Filled before the run begins.
        format!(
            "CREATE TABLE mine AS SELECT * FROM norm.rivers;\n{}",
            publish(&call("SELECT * FROM mine WHERE question IS NOT NULL"))
        ),
        // Run once for two calls.
        format!("{chosen};\n{}", publish(&format!("{} UNION ALL {}", place(0), place(1)))),
    ] {
        scratch.write("sql/10.sql", &stages);
        let counted = scratch.ok(&["run", "--dry-run"]);
        assert_eq!(counted.matches(COPIES_OF_RIVERS).count(), 1, "{counted}");
        assert_eq!(notes(&scratch.run(&["run"])), [COPIES_OF_RIVERS], "{stages}");
    }
}

#[test]
fn a_preview_takes_as_many_seeds_as_it_is_told_where_the_first_ones_are_left_out() {
    let server = FaultServer::start(answer);
    let scratch = rivers(&server);
    scratch.write(
        "sql/10.sql",
        "COPY (SELECT question, completion AS answer_text, [seed_id] AS seed_ids, reasons('none', false) AS reasons \
         FROM generate(TABLE seeds, model => 'm', prompt => question)) TO 'runs' STORED AS CURATED",
    );
    let first = scratch.value(
        "SELECT string_agg(seed_id, ' ' ORDER BY seed_id) FROM (SELECT seed_id FROM seeds WHERE question IS NOT NULL \
         AND NOT held_out_copy(question, passage, options, answer_text) ORDER BY seed_id LIMIT 4)",
    );
    // Of the seven ids of the task three are left out, somewhere among the first.
    scratch.ok(&["run", "--limit-seeds", "4"]);
    let taken = "SELECT string_agg(seed_ids[1], ' ' ORDER BY seed_ids[1]) FROM curated";
    assert_eq!(scratch.value(taken), first);
}
