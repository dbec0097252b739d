//! What several first calls share is run once, with the guards' filters in it, and the calls are the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::dataframe::DataFrame;
use seedmill::model_call::share_inputs;
use seedmill::session::{OpenOptions, Workspace};

use crate::fault_server::{FaultServer, answer};
use crate::scratch::Scratch;

/// Two calls over one view, for which `columns` stand in front.
async fn plan(workspace: &Workspace, rows: u32, columns: &str) -> DataFrame {
    let view = format!(
        "CREATE VIEW chosen AS SELECT {columns}value, row_number() OVER (ORDER BY value DESC) AS place \
         FROM generate_series(1, {rows})"
    );
    workspace.sql(&view).await.unwrap();
    let call = |place: u32| {
        format!(
            "SELECT * FROM generate((SELECT * FROM chosen WHERE place % 2 = {place}), model => 'm', \
             prompt => place || ' of ' || value)"
        )
    };
    workspace.sql(&format!("{} UNION ALL {}", call(0), call(1))).await.unwrap()
}

async fn rows(workspace: &Workspace, frame: DataFrame, sql: &str) -> Vec<String> {
    workspace.ctx().register_table("made", frame.into_view()).unwrap();
    let batches = workspace.sql(sql).await.unwrap().collect().await.unwrap();
    workspace.ctx().deregister_table("made").unwrap();
    let table = datafusion::arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string();
    table.lines().map(str::to_owned).collect()
}

const COLUMNS: &str = "SELECT value, place, completion, generate_call['call_id'] AS call_id FROM made ORDER BY value";

#[test]
fn what_two_calls_share_is_run_once_and_the_calls_are_the_same() {
    let server = FaultServer::start(answer);
    let scratch = Scratch::new(server.url(), 8, "");
    scratch.session(OpenOptions::default(), async |workspace| {
        let written = plan(workspace, 20, "").await;
        let windows = |plan: String| plan.matches("WindowAggr").count();
        assert_eq!(windows(written.logical_plan().display_indent().to_string()), 2);
        let shared = share_inputs(workspace.ctx(), written.logical_plan().clone()).await.unwrap();
        assert_eq!(windows(shared.display_indent().to_string()), 0);
        assert_eq!(server.count(), 0);
        let shared = DataFrame::new(workspace.ctx().state(), shared.clone());
        let made = rows(workspace, shared, COLUMNS).await;
        assert_eq!(server.count(), 20);
        assert_eq!(made, rows(workspace, written, COLUMNS).await);
        assert_eq!(server.count(), 20);
        // One call alone shares nothing, and what only projects is read again.
        for sql in [
            "SELECT * FROM generate((SELECT * FROM chosen), model => 'm', prompt => 'x' || value)",
            "SELECT * FROM generate((SELECT * FROM (SELECT 1 AS a) AS t), model => 'm', prompt => 'x' || a) UNION ALL \
             SELECT * FROM generate((SELECT * FROM (SELECT 1 AS a) AS t), model => 'm', prompt => 'y' || a)",
        ] {
            let plan = workspace.sql(sql).await.unwrap().logical_plan().clone();
            assert_eq!(share_inputs(workspace.ctx(), plan.clone()).await.unwrap(), plan);
        }
    });
}

#[test]
fn a_hundred_megabytes_are_shared() {
    let server = FaultServer::start(answer);
    let scratch = Scratch::new(server.url(), 8, "");
    scratch.session(OpenOptions::default(), async |workspace| {
        let written = plan(workspace, 400, "repeat(chr(CAST(97 + value % 26 AS INT)), 250000) AS text, ").await;
        let shared = share_inputs(workspace.ctx(), written.logical_plan().clone()).await.unwrap();
        assert!(!shared.display_indent().to_string().contains("WindowAggr"));
        let frame = DataFrame::new(workspace.ctx().state(), shared.clone());
        let sql = "SELECT count(*), sum(length(text)), count(DISTINCT substr(text, 1, 1)) FROM made";
        let made = rows(workspace, frame, sql).await;
        assert!(made[3].contains(" 400 ") && made[3].contains(" 100000000 ") && made[3].contains(" 26 "), "{made:?}");
        assert_eq!(server.count(), 400);
    });
}

#[test]
fn the_guards_see_what_is_shared() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let server = FaultServer::start(move |body, n| {
        count.fetch_add(usize::from(body["messages"].to_string().contains("Cairo")), Ordering::SeqCst);
        answer(body, n)
    });
    let scratch = Scratch::new(server.url(), 8, "[tasks]\nfrom = [\"tasks\"]\n");
    scratch.write(
        "tasks/rivers/rivers.yaml",
        "task: rivers\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    train: train.jsonl\n    test: test.jsonl\n\
         output_type: generate_until\ntraining_split: train\ntest_split: test\ndoc_to_text: \"{{q}}\"\n\
         doc_to_target: \"{{a}}\"\nmetadata:\n  license: CC0-1.0\n  capability: knowledge\n",
    );
    let row = |q: &str| format!("{{\"q\": \"{q}\", \"a\": \"the river\"}}\n");
    let held_out = row("Which river runs through the middle of Cairo?");
    let train: String = (0..20).map(|n| row(&format!("Which river runs through the town number {n}?"))).collect();
    scratch.write("tasks/rivers/train.jsonl", &(train + &held_out));
    scratch.write("tasks/rivers/test.jsonl", &held_out);
    scratch.write(
        "sql/10.sql",
        "CREATE VIEW chosen AS SELECT *, row_number() OVER (ORDER BY question) AS place FROM seeds;\n\
         COPY (SELECT question, completion AS answer_text, [seed_id] AS seed_ids, reasons('none', false) AS reasons FROM (\
         SELECT * FROM generate((SELECT * FROM chosen WHERE place % 2 = 0), model => 'm', prompt => question) UNION ALL \
         SELECT * FROM generate((SELECT * FROM chosen WHERE place % 2 = 1), model => 'm', prompt => question))) \
         TO 'runs' STORED AS CURATED",
    );
    assert!(scratch.ok(&["run", "--dry-run"]).contains("20 calls are to be asked"));
    scratch.ok(&["run", "--quiet"]);
    assert_eq!((server.count(), seen.load(Ordering::SeqCst)), (20, 0));
    // The held-out rows themselves are refused as they are without it.
    scratch.write(
        "sql/10.sql",
        "CREATE VIEW chosen AS SELECT *, row_number() OVER (ORDER BY question) AS place FROM heldout;\n\
         COPY (SELECT * FROM (\
         SELECT * FROM generate((SELECT * FROM chosen WHERE place % 2 = 0), model => 'm', prompt => question) UNION ALL \
         SELECT * FROM generate((SELECT * FROM chosen WHERE place % 2 = 1), model => 'm', prompt => question))) \
         TO 'runs' STORED AS CURATED",
    );
    for arguments in [&["run"][..], &["run", "--dry-run"]] {
        let output = scratch.run(arguments);
        assert!(String::from_utf8_lossy(&output.stderr).contains("holds held-out rows"), "{output:?}");
    }
    assert_eq!(server.count(), 20);
}

/// All calls of a table function have one name in a plan, and so do a table and the one that was dropped before it.
#[test]
fn inputs_over_other_tables_of_one_name_are_not_shared() {
    let server = FaultServer::start(answer);
    let scratch = Scratch::new(server.url(), 8, "");
    scratch.session(OpenOptions::default(), async |workspace| {
        let of_series = |word: &str, first: u32| {
            format!(
                "SELECT * FROM generate((SELECT '{word} ' || value AS p FROM (SELECT DISTINCT value FROM \
                 generate_series({first}, {first} + 2)) AS s), model => 'm', prompt => p)"
            )
        };
        workspace.sql("CREATE TABLE t AS SELECT 'third' AS p").await.unwrap();
        workspace.sql("CREATE VIEW third AS SELECT DISTINCT p FROM t").await.unwrap();
        workspace.sql("DROP TABLE t").await.unwrap();
        workspace.sql("CREATE TABLE t AS SELECT 'fourth' AS p").await.unwrap();
        workspace.sql("CREATE VIEW fourth AS SELECT DISTINCT p FROM t").await.unwrap();
        let of_view =
            |view: &str| format!("SELECT * FROM generate((SELECT p FROM {view} AS s), model => 'm', prompt => p)");
        let calls = [of_series("first", 1), of_series("second", 100), of_view("third"), of_view("fourth")];
        let written = workspace.sql(&calls.join(" UNION ALL ")).await.unwrap();
        let shared = share_inputs(workspace.ctx(), written.logical_plan().clone()).await.unwrap();
        let frame = DataFrame::new(workspace.ctx().state(), shared);
        let made = rows(workspace, frame, "SELECT string_agg(p, ', ' ORDER BY p) FROM made").await;
        assert!(
            made[3].contains(" first 1, first 2, first 3, fourth, second 100, second 101, second 102, third "),
            "{made:?}"
        );
    });
}
