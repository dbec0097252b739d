//! Workspaces and prefixes of stores whose names have characters that URLs, patterns and object stores write otherwise.

use crate::fault_server::{FaultServer, answer};
use crate::s3_server::S3Server;
use crate::scratch::Scratch;

/// Questions for the numbers `n` of a query, those over 2 rejected.
fn publish(numbers: &str, out: &str) -> String {
    format!(
        "COPY (SELECT 's' || n AS id, 'question ' || n AS question, completion AS answer_text, ['s' || n] AS seed_ids,
                      [named_struct('stage', 'generate_call', 'call_id', generate_call['call_id'])] AS calls,
                      reasons('late', n > 2) AS reasons
               FROM generate(({numbers}), model => 'm', prompt => 'question ' || n)) TO '{out}' STORED AS CURATED;"
    )
}

const COUNTS: &str = "SELECT (SELECT count(*) FROM curated) || ' ' || (SELECT count(*) FROM run.rejected) || ' ' || \
                      (SELECT count(*) FROM calls) || ' ' || (SELECT count(*) FROM run.calls)";

fn on_s3(model: &FaultServer, s3: &S3Server, prefix: &str) -> Scratch {
    let at = format!("s3://bucket/{prefix}");
    let more = format!("[ledger]\nurl = \"{at}/ledger\"\n[run]\nout = \"{at}/runs\"\n");
    let scratch = Scratch::new(model.url(), 4, &more).with_variables(&s3.variables());
    scratch.write("sql/10_all.sql", &publish("SELECT value AS n FROM generate_series(1, 20)", &format!("{at}/runs")));
    scratch
}

#[test]
fn a_ledger_and_runs_under_an_odd_prefix_are_found_by_the_next_run_of_another_machine() {
    // As a URL, and as keys.
    for (prefix, key) in [("~me/ü", "~me/ü"), ("{a}^[1]%25/x%23y", "{a}^[1]%/x#y")] {
        let (model, s3) = (FaultServer::start(answer), S3Server::start());
        let (one, two) = (on_s3(&model, &s3, prefix), on_s3(&model, &s3, prefix));
        let said = one.ok(&["run"]);
        assert!(said.contains(&format!("Published in s3://bucket/{prefix}/runs/")), "{said}");
        assert_eq!(model.count(), 20);
        for folder in ["ledger", "runs"] {
            assert!(s3.bucket().join(key).join(folder).is_dir(), "{key}/{folder}");
        }

        two.ok(&["run"]);
        assert_eq!(model.count(), 20, "{prefix}");
        for scratch in [&one, &two] {
            assert_eq!(scratch.value("SELECT count(*) FROM runs WHERE state = 'complete'"), "2");
            assert_eq!(scratch.value(COUNTS), "2 18 20 20");
        }
        let runs = two.ok(&["runs", "--format", "csv"]);
        assert_eq!(runs.matches(",complete,").count(), 2, "{runs}");
        let told = two.ok(&["calls", "gc", "--older-than", "0s", "--dry-run"]);
        assert!(told.contains("kept: 20 unused calls"), "{told}");
    }
}

#[test]
fn a_ledger_under_an_odd_prefix_is_read_when_it_is_compacted() {
    let (model, s3) = (FaultServer::start(answer), S3Server::start());
    let scratch = on_s3(&model, &s3, "~me/ü");
    scratch.ok(&["run"]);
    scratch.ok(&["calls", "compact"]);
    scratch.ok(&["run"]);
    assert_eq!(model.count(), 20);
    assert_eq!(scratch.value(COUNTS), "2 18 20 20");
    assert_eq!(scratch.value("SELECT count(*) FROM attempts"), "20");
}

#[test]
fn a_workspace_in_a_folder_with_an_odd_name_publishes_and_reads_what_it_has() {
    for name in ["ä~#%[1]", "a?*{b}^"] {
        let server = FaultServer::start(answer);
        let more = "[tables.mine]\nlocation = \"in/mine.csv\"\n[tables.several]\nlocation = \"in/*.csv\"\n\
                    [tables.inbox]\nlocation = \"in\"\n";
        let scratch = Scratch::in_folder(name, server.url(), 4, more);
        scratch.write("in/mine.csv", "n\n1\n2\n3\n");
        scratch.write("in/other.csv", "n\n4\n");
        scratch.write("sql/10_all.sql", &publish("SELECT n FROM mine", "runs"));
        // The items it shows are read back from what it has published.
        let said = scratch.ok(&["run"]);
        assert!(said.contains("Published in") && said.contains("question 1"), "{said}");
        assert_eq!(server.count(), 3);
        assert_eq!(scratch.value("SELECT count(*) FROM curated"), "2");
        assert_eq!(scratch.value(COUNTS), "2 1 3 3");
        assert_eq!(scratch.value("SELECT (SELECT sum(n) FROM several) || ' ' || (SELECT sum(n) FROM inbox)"), "10 10");
        let page = scratch.ok(&["report"]);
        let page = std::fs::read_to_string(scratch.path().join(page.trim())).unwrap();
        assert!(page.contains("<svg"), "{page}");
        let told = scratch.ok(&["calls", "gc", "--older-than", "1d", "--dry-run"]);
        assert!(told.starts_with("no call goes"), "{told}");
        let told = scratch.ok(&["calls", "gc", "--older-than", "0s", "--dry-run"]);
        assert!(told.contains("kept: 3 unused calls"), "{told}");
        scratch.ok(&["run"]);
        assert_eq!(server.count(), 3);
    }
}

#[test]
fn runs_are_published_to_a_folder_beside_the_workspace() {
    let server = FaultServer::start(answer);
    let scratch = Scratch::in_folder("ws", server.url(), 4, "[run]\nout = \"../runs\"\n");
    scratch.write("sql/10_all.sql", &publish("SELECT value AS n FROM generate_series(1, 3)", "../runs"));
    let said = scratch.ok(&["run"]);
    assert!(said.contains("question 1"), "{said}");
    assert_eq!(scratch.value(COUNTS), "2 1 3 3");
}
