//! Runs as one looks at them afterwards: `seedmill runs`, the schemas of runs, previews.

use crate::fault_server::{FaultServer, answer};
use crate::scratch::Scratch;

/// Questions from `first` on, those over 20 rejected.
fn publish(first: usize) -> String {
    format!(
        "COPY (SELECT 's' || value AS id, 'question ' || value AS question, completion AS answer_text,
                      ['s' || value] AS seed_ids, reasons('late', value > 20) AS reasons
               FROM generate((SELECT value FROM generate_series({first}, 24)), model => 'm',
                             prompt => 'question ' || value)) TO 'runs' STORED AS CURATED;"
    )
}

fn run_ids(scratch: &Scratch) -> Vec<String> {
    let out = scratch.ok(&["sql", "--format", "csv", "-c", "SELECT run_id FROM runs ORDER BY run_id"]);
    out.lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn every_run_is_a_schema_and_two_of_them_can_be_compared() {
    let server = FaultServer::start(answer);
    let scratch = Scratch::new(server.url(), 4, "");
    scratch.write("sql/60_publish.sql", &publish(1));
    scratch.ok(&["run", "--quiet"]);
    scratch.write("sql/60_publish.sql", &publish(11));
    scratch.ok(&["run", "--quiet"]);
    assert_eq!(server.count(), 24);

    let runs = run_ids(&scratch);
    let old = format!("\"run-{}\"", runs[0]);
    let count = |table: &str| scratch.value(&format!("SELECT count(*) FROM {table}"));
    assert_eq!((count("run.curated"), count("run.rejected")), ("10".into(), "4".into()));
    assert_eq!((count(&format!("{old}.curated")), count(&format!("{old}.rejected"))), ("20".into(), "4".into()));
    // The calls of a run with their stage, replayed or not.
    assert_eq!(
        scratch.value("SELECT count(*), min(stage), bool_and(replayed), sum(length(response)) > 0 FROM run.calls"),
        "14,generate_call,true,true"
    );
    assert_eq!(count("run.seeds"), "0");
    // What the newer run no longer has.
    let gone = format!(
        "SELECT count(*) FROM {old}.curated AS o WHERE NOT EXISTS \
                        (SELECT 1 FROM run.curated AS n WHERE n.question = o.question)"
    );
    assert_eq!(scratch.value(&gone), "10");
    // A published row to its call and raw answer.
    let lineage = "SELECT count(*) FROM run.curated AS i JOIN run.calls AS c \
                   ON c.messages LIKE '%\"' || i.question || '\"%'";
    assert_eq!(scratch.value(lineage), "10");

    let listed = scratch.ok(&["runs", "--format", "csv"]);
    let newest = listed.lines().nth(1).unwrap();
    assert!(newest.starts_with(&runs[1]) && newest.contains(",complete,"), "{listed}");
    assert!(scratch.ok(&["runs"]).contains("kept"));
    let missing = scratch.run(&["sql", "-c", "SELECT 1 FROM \"run-none\".curated"]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("there is no table 'run-none.curated'"));
}

#[test]
fn a_dry_run_makes_no_call_and_a_preview_only_some() {
    let server = FaultServer::start(answer);
    let scratch = Scratch::new(server.url(), 4, "");
    scratch.write("sql/60_publish.sql", &publish(1));
    let said = scratch.ok(&["run", "--dry-run"]);
    assert!(said.contains("24 calls are to be asked"), "{said}");
    let said = scratch.ok(&["run", "--dry-run", "--limit-seeds", "5"]);
    assert!(said.contains("5 calls are to be asked"), "{said}");
    assert_eq!((server.count(), run_ids(&scratch).len()), (0, 0));
    scratch.ok(&["run", "--quiet", "--limit-seeds", "5"]);
    assert_eq!(server.count(), 5);
    assert_eq!(scratch.value("SELECT count(*), max(question) FROM run.curated"), "5,question 5");
    scratch.ok(&["run", "--quiet"]);
    assert_eq!(server.count(), 24);
}
