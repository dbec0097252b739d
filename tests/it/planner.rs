//! Which calls a plan makes: counted by the server, through a session as any program opens one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::StreamExt;
use seedmill::session::{OpenOptions, Workspace};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::fault_server::{FaultServer, Reply, answer};
use crate::scratch::Scratch;

/// 30 rows, more than any limit here and fewer than are asked at once.
const ROWS: &str = "(SELECT value AS id, 30 - value AS rest, 'row ' || value AS p FROM generate_series(0, 29))";

struct Session {
    server: FaultServer,
    workspace: Workspace,
    _scratch: Scratch,
}

impl Session {
    async fn with(behaviour: impl Fn(&Value, u64) -> Reply + Send + Sync + 'static, in_flight: usize) -> Self {
        let server = FaultServer::start(behaviour);
        let scratch = Scratch::new(server.url(), in_flight, "");
        let options = OpenOptions { root: Some(scratch.path().to_owned()), ..OpenOptions::default() };
        let workspace = Workspace::open(options).await.unwrap();
        Session { server, workspace, _scratch: scratch }
    }

    async fn new() -> Self {
        Self::with(answer, 64).await
    }

    /// No query gets an answer before all of [`ROWS`] are asked, or a minute is over: what has not been sent when the
    /// first rows are out may be sent no more.
    async fn patient() -> Self {
        let all_asked = Arc::new(Semaphore::new(0));
        let behaviour = move |body: &Value, nth: u64| {
            if nth % 30 == 29 {
                all_asked.add_permits(30);
            }
            match answer(body, nth) {
                Reply::Answer(text, _) => Reply::Gated(text, Arc::clone(&all_asked), Duration::from_secs(60)),
                other => other,
            }
        };
        Self::with(behaviour, 64).await
    }

    async fn batches(&self, sql: &str) -> Vec<RecordBatch> {
        let frame = self.workspace.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        frame.collect().await.unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    /// Each row as its values with spaces between.
    async fn rows(&self, sql: &str) -> Vec<String> {
        let options = FormatOptions::default().with_null("NULL");
        let mut rows = Vec::new();
        for batch in self.batches(sql).await {
            let formatters: Vec<_> =
                batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
            for row in 0..batch.num_rows() {
                let values: Vec<String> = formatters.iter().map(|f| f.value(row).to_string()).collect();
                rows.push(values.join(" "));
            }
        }
        rows
    }

    /// How many requests the query makes, and how many rows it gives.
    async fn asks(&self, sql: &str) -> (usize, usize) {
        let before = self.server.count();
        let rows = self.batches(sql).await.iter().map(RecordBatch::num_rows).sum();
        (self.server.count() - before, rows)
    }
}

/// A call over [`ROWS`] with a variant of its own, so that no answer is in the ledger already: of `generate` and
/// `enrich`, whatever becomes of errors, the same request is the same call.
fn call(function: &str, variant: &str, more: &str) -> String {
    let variant = format!("{function} {variant}");
    format!("{function}({ROWS}, model => 'm', prompt => p, returns => 'q TEXT', variant => '{variant}'{more})")
}

/// A second call over the answers of the first.
fn second_call(input: &str, variant: &str) -> String {
    format!(
        "enrich((SELECT * FROM {input}), model => 'm', prompt => q, returns => 'r TEXT', call_as => 'c2',
                variant => '{variant}')"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_on_a_passed_through_column_saves_its_calls_and_one_on_an_answer_does_not() {
    let session = Session::new().await;
    for function in ["generate", "enrich"] {
        for on_error in ["keep", "drop", "fail"] {
            let from = call(function, on_error, &format!(", on_error => '{on_error}'"));
            let sql = format!("SELECT id, q FROM (SELECT id + 1 AS id, q FROM {from}) AS t WHERE t.id <= 4");
            assert_eq!(session.asks(&sql).await, (4, 4), "{sql}");
            let sql = format!("SELECT id, q FROM {from} WHERE q <> 'x' AND id < 6");
            assert_eq!(session.asks(&sql).await, (2, 6), "{sql}");
            let sql = format!("SELECT id, q FROM {from} WHERE q <> 'x' OR id < 6");
            assert_eq!(session.asks(&sql).await, (24, 30), "{sql}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drawn_filter_stays_above_the_call_so_that_it_draws_among_the_answers() {
    let session = Session::new().await;
    for function in ["generate", "enrich"] {
        let from = call(function, "v", "");
        let (asked, rows) = session.asks(&format!("SELECT q FROM {from} WHERE random() < 0.5 AND id < 20")).await;
        assert!(asked == 20 && rows < 20, "{asked} calls, {rows} rows");
        let all = session.asks(&format!("SELECT q FROM (SELECT * FROM {from} WHERE random() > 2) WHERE id < 25")).await;
        assert_eq!(all, (5, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_and_exists_over_passed_through_columns_save_calls_and_over_answers_do_not() {
    let session = Session::new().await;
    session.batches("CREATE TABLE few AS VALUES (3), (4), (40)").await;
    session.batches("CREATE TABLE gone AS VALUES (0, 'row 0'), (1, 'row 1')").await;
    for (function, on_error) in [("generate", "keep"), ("enrich", "keep"), ("enrich", "drop"), ("enrich", "fail")] {
        let from =
            |variant: &str| call(function, &format!("{variant} {on_error}"), &format!(", on_error => '{on_error}'"));
        for (variant, sql, expected) in [
            ("in", "SELECT id, q FROM {} WHERE id IN (SELECT column1 FROM few)", (2, 2)),
            ("not in", "SELECT id, q FROM {} WHERE id NOT IN (SELECT column1 FROM gone)", (28, 28)),
            (
                "exists",
                "SELECT q FROM (SELECT id + 1 AS next, q FROM {}) AS e
                        WHERE EXISTS (SELECT 1 FROM few WHERE few.column1 = e.next) AND e.q <> 'x'",
                (2, 2),
            ),
            (
                "anti",
                "SELECT id, q FROM {} AS e
                      WHERE NOT EXISTS (SELECT 1 FROM gone WHERE gone.column2 = e.p AND gone.column1 < e.rest)",
                (28, 28),
            ),
            ("answer", "SELECT id, q FROM {} WHERE q NOT IN (SELECT column2 FROM gone)", (30, 30)),
            (
                "both",
                "SELECT id, q FROM {} AS e
                      WHERE NOT EXISTS (SELECT 1 FROM gone WHERE gone.column1 = e.id AND gone.column2 <> e.q)",
                (30, 28),
            ),
        ] {
            assert_eq!(
                session.asks(&sql.replace("{}", &from(variant))).await,
                expected,
                "{function} {on_error}: {sql}"
            );
        }
    }
    let chain = second_call(&format!("{} WHERE q <> 'x'", call("enrich", "chain in", "")), "chain in");
    assert_eq!(session.asks(&format!("SELECT r FROM {chain} WHERE rest IN (SELECT column1 FROM few)")).await, (4, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_goes_below_enrich_with_keep_and_below_nothing_else() {
    let session = Session::new().await;
    let keep = call("enrich", "limit", "");
    assert_eq!(session.asks(&format!("SELECT * FROM {keep} LIMIT 5")).await, (5, 5));
    let sql = format!("SELECT id, q || '!' FROM (SELECT * FROM {}) AS t LIMIT 5 OFFSET 3", call("enrich", "skip", ""));
    assert_eq!(session.asks(&sql).await, (8, 5));
    let session = Session::patient().await;
    let above = call("enrich", "above", "");
    assert_eq!(session.asks(&format!("SELECT * FROM {above} WHERE q <> 'x' LIMIT 5")).await, (30, 5));
    for (function, on_error) in [("enrich", "drop"), ("enrich", "fail"), ("generate", "keep")] {
        let from = call(function, on_error, &format!(", on_error => '{on_error}'"));
        assert_eq!(session.asks(&format!("SELECT * FROM {from} LIMIT 5")).await, (30, 5), "{from}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_five_of_a_thousand_by_id_are_five_calls() {
    let session = Session::new().await;
    let rows = "(SELECT value AS id, 'row ' || value AS p FROM generate_series(0, 999))";
    let sql = format!(
        "SELECT id, q IS NOT NULL FROM enrich({rows}, model => 'm', prompt => p, returns => 'q TEXT') ORDER BY id LIMIT 5"
    );
    assert_eq!(session.rows(&sql).await, ["0 true", "1 true", "2 true", "3 true", "4 true"]);
    assert_eq!(session.server.count(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn top_rows_are_chosen_below_enrich_through_names_expressions_and_other_calls() {
    let session = Session::new().await;
    // Another name, an expression, an offset, NULLs last, two keys.
    let sql = format!(
        "SELECT t.place, t.q FROM (SELECT id % 10 AS place, rest, q FROM {}) AS t
         ORDER BY t.place DESC NULLS LAST, t.rest + 1 LIMIT 4 OFFSET 1",
        call("enrich", "names", "")
    );
    assert_eq!(session.asks(&sql).await, (5, 4));
    let chosen: Vec<String> = session.rows(&sql).await.iter().map(|row| row[..1].to_owned()).collect();
    assert_eq!(chosen, ["9", "9", "8", "8"]);

    // A chain: the rows are chosen below both calls.
    let chain = second_call(&call("enrich", "chain", ""), "chain");
    let chain = format!("SELECT id, q, r FROM {chain} ORDER BY rest LIMIT 3");
    assert_eq!(session.asks(&chain).await, (6, 3));
    // A filter on the first answer stands between: only the second call is saved.
    let between = second_call(&format!("{} WHERE q <> 'x'", call("enrich", "between", "")), "between");
    let between = format!("SELECT id, r FROM {between} ORDER BY rest LIMIT 3");
    assert_eq!(session.asks(&between).await, (33, 3));
    // With the filter on a column of the input everything goes below.
    let filtered = format!("SELECT id, q FROM {} WHERE id > 9 ORDER BY id LIMIT 2", call("enrich", "filtered", ""));
    assert_eq!(session.rows(&filtered).await.iter().map(|row| &row[..2]).collect::<Vec<_>>(), ["10", "11"]);
    assert_eq!(session.asks(&filtered).await, (0, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn top_rows_are_not_chosen_below_drop_fail_and_generate_nor_by_an_answer_or_a_drawn_order() {
    // The first rows by id fail: with drop others must take their places.
    let failing = |body: &Value, nth: u64| match body["messages"][0]["content"].as_str() {
        Some("row 0" | "row 1") => Reply::Status(400, None, "no".into()),
        _ => answer(body, nth),
    };
    let session = Session::with(failing, 64).await;
    let drop = call("enrich", "drop", ", on_error => 'drop'");
    assert_eq!(session.rows(&format!("SELECT id FROM {drop} ORDER BY id LIMIT 3")).await, ["2", "3", "4"]);
    assert_eq!(session.server.count(), 30);

    let session = Session::new().await;
    for (from, order) in [
        (call("enrich", "1", ", on_error => 'fail'"), "id"),
        (call("generate", "2", ""), "id"),
        (call("enrich", "3", ""), "q"),
        (call("enrich", "4", ""), "id % 2, q"),
        (call("enrich", "5", ""), "enrich_call['prompt_tokens']"),
        (call("enrich", "6", ""), "random()"),
    ] {
        assert_eq!(
            session.asks(&format!("SELECT id, q FROM {from} ORDER BY {order} LIMIT 3")).await,
            (30, 3),
            "{order}"
        );
    }
    // A drawn column is drawn once, above the call.
    let drawn = format!("SELECT id, q, random() AS r FROM {} ORDER BY r LIMIT 3", call("enrich", "7", ""));
    assert_eq!(session.asks(&drawn).await, (30, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enrich_that_nobody_reads_is_not_made() {
    let session = Session::new().await;
    let keep = call("enrich", "keep", "");
    for (sql, rows) in [
        (format!("SELECT id, p FROM {keep}"), 30),
        (format!("SELECT count(*) FROM {keep}"), 1),
        (format!("SELECT sum(id) FROM {keep} GROUP BY rest % 3"), 3),
        (format!("SELECT 1 WHERE EXISTS (SELECT 1 FROM {keep})"), 1),
        (format!("SELECT v.id FROM (VALUES (3), (40)) AS v(id) WHERE v.id IN (SELECT id FROM {keep})"), 1),
        (
            format!(
                "SELECT v.id FROM (VALUES (3), (40)) AS v(id) WHERE NOT EXISTS (SELECT 1 FROM {keep} AS e WHERE e.id = v.id)"
            ),
            1,
        ),
        (format!("SELECT id FROM {keep} UNION ALL SELECT rest FROM {keep} ORDER BY 1"), 60),
        // A chain of which nothing is read, and one of which only the first is.
        (
            format!(
                "SELECT id FROM enrich((SELECT * FROM {keep}), model => 'm', prompt => q, returns => 'r TEXT', call_as => 'c2')"
            ),
            30,
        ),
    ] {
        assert_eq!(session.asks(&sql).await, (0, rows), "{sql}");
    }
    assert_eq!(session.rows(&format!("SELECT count(*) FROM {keep}")).await, ["30"]);
    let first = format!("SELECT id, q FROM {}", second_call(&keep, "unread"));
    assert_eq!(session.asks(&first).await, (30, 30));
    // A filter, a join and an order are readers too.
    for (variant, sql) in [
        ("where", "SELECT id FROM {} WHERE q <> 'x'"),
        ("join", "SELECT a.id FROM {} AS a JOIN (SELECT DISTINCT 'x' AS x) AS b ON a.q <> b.x"),
        ("order", "SELECT id FROM {} ORDER BY q LIMIT 30"),
        ("distinct", "SELECT DISTINCT id, q FROM {}"),
        ("struct", "SELECT enrich_call['error'] FROM {}"),
    ] {
        assert_eq!(session.asks(&sql.replace("{}", &call("enrich", variant, ""))).await, (30, 30), "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_decides_about_rows_is_made_even_if_nobody_reads_it() {
    let session = Session::new().await;
    for (function, variant, more) in [
        ("enrich", "1", ", on_error => 'drop'"),
        ("enrich", "2", ", on_error => 'fail'"),
        ("generate", "3", ""),
        ("generate", "4", ", on_error => 'drop'"),
    ] {
        let from = call(function, variant, more);
        assert_eq!(session.asks(&format!("SELECT count(*) FROM {from}")).await, (30, 1), "{from}");
        assert_eq!(session.asks(&format!("SELECT id FROM {from}")).await, (0, 30), "{from}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_used_twice_is_paid_once() {
    let session = Session::new().await;
    session.batches(&format!("CREATE VIEW answered AS SELECT * FROM {}", call("generate", "view", ""))).await;
    let join = "SELECT a.id, a.q, b.q FROM answered AS a JOIN answered AS b ON a.id = b.id WHERE a.q = b.q";
    assert_eq!(session.asks(join).await, (30, 30));
    session.batches(&format!("CREATE VIEW again AS SELECT * FROM {}", call("generate", "union", ""))).await;
    assert_eq!(session.asks("SELECT q FROM again UNION ALL SELECT q FROM again").await, (30, 60));
    let distinct: BTreeSet<String> = session.rows("SELECT q FROM again").await.into_iter().collect();
    assert_eq!(distinct.len(), 30);
}

/// DataFusion pushes what a top-k or a join has learned so far into scans; below a call that would take away rows
/// that the answer decides about.
#[tokio::test(flavor = "multi_thread")]
async fn filters_that_joins_and_top_k_learn_at_run_time_stay_above_calls() {
    let session = Session::new().await;
    let from = call("enrich", "dynamic", "");
    let mut all = session.rows(&format!("SELECT q FROM {from}")).await;
    all.sort();
    assert_eq!(session.rows(&format!("SELECT q FROM {from} ORDER BY q LIMIT 3")).await, all[..3]);
    let joined =
        format!("SELECT a.id FROM (VALUES (1), (2)) AS a(id) JOIN {from} AS b ON a.id = b.id WHERE b.q <> 'x'");
    let mut ids = session.rows(&joined).await;
    ids.sort();
    assert_eq!(ids, ["1", "2"]);
    let plan = session.rows(&format!("EXPLAIN FORMAT INDENT SELECT q FROM {from} ORDER BY q LIMIT 3")).await.concat();
    assert!(plan.contains("EnrichExec") && !plan.contains("DynamicFilter"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_row_through_a_filter_arrives_long_before_the_last_call() {
    let slow = |body: &Value, nth| match answer(body, nth) {
        Reply::Answer(text, _) => Reply::Answer(text, Duration::from_millis(20)),
        other => other,
    };
    for partitions in [1, 3] {
        let session = Session::with(slow, 4).await;
        session.batches(&format!("SET datafusion.execution.target_partitions = {partitions}")).await;
        // About one in ten answers begins with such a letter; a join and a repartitioning are in the way too.
        let sql = "SELECT e.q
                   FROM (VALUES (0), (1), (2), (3), (4), (5), (6)) AS v(id)
                   JOIN enrich((SELECT value % 7 AS id, 'row ' || value AS p FROM generate_series(1, 300)),
                               model => 'm', prompt => p, returns => 'q TEXT') AS e ON e.id = v.id
                   WHERE substr(e.q, 1, 1) IN ('1', 'a')";
        let mut stream = session.workspace.sql(sql).await.unwrap().execute_stream().await.unwrap();
        let first = loop {
            let batch = stream.next().await.expect("a row").unwrap();
            if batch.num_rows() > 0 {
                break batch;
            }
        };
        let asked = session.server.count();
        assert!(asked < 150, "{} rows after {asked} of 300 calls in {partitions} partitions", first.num_rows());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_an_order_and_has_none_below_a_call_is_said_once() {
    let session = Session::new().await;
    for (input, warning) in [
        ("SELECT p FROM t LIMIT 3", Some("LIMIT without ORDER BY")),
        ("SELECT p FROM (SELECT DISTINCT p FROM t) LIMIT 3", Some("LIMIT without ORDER BY")),
        // DataFusion itself drops the order of a subquery without a limit.
        ("SELECT p FROM (SELECT p, id FROM t ORDER BY id) AS s LIMIT 3", Some("LIMIT without ORDER BY")),
        ("SELECT p FROM t ORDER BY id LIMIT 3", None),
        ("SELECT p FROM t ORDER BY id", None),
        ("SELECT max(p) AS p FROM t LIMIT 1", None),
        ("SELECT * FROM (VALUES ('a'), ('b')) AS v(p) LIMIT 1", None),
        ("SELECT array_to_string(array_agg(p), ' ') AS p FROM t GROUP BY id % 3", Some("array_agg() without ORDER BY")),
        ("SELECT array_to_string(array_agg(p ORDER BY id), ' ') AS p FROM t GROUP BY id % 3", None),
        ("SELECT first_value(p) AS p FROM t", Some("first_value() without ORDER BY")),
        ("SELECT last_value(p ORDER BY id) AS p FROM t", None),
        ("SELECT p || row_number() OVER () AS p FROM t", Some("row_number() OVER without ORDER BY")),
        ("SELECT p || row_number() OVER (PARTITION BY id % 2 ORDER BY id) AS p FROM t", None),
        ("SELECT DISTINCT ON (id % 3) p FROM t", Some("DISTINCT ON without ORDER BY")),
        ("SELECT DISTINCT ON (id % 3) p FROM t ORDER BY id % 3, id", None),
        ("SELECT p FROM t WHERE id IN (SELECT id FROM t LIMIT 2)", Some("LIMIT without ORDER BY")),
    ] {
        let session = Session::new().await;
        session.batches("CREATE TABLE t AS SELECT value AS id, 'row ' || value AS p FROM generate_series(0, 9)").await;
        let plan = format!("EXPLAIN SELECT * FROM generate(({input}), model => 'm', prompt => p, call_as => 'c')");
        session.batches(&plan).await;
        session.batches(&plan).await;
        let said = session.workspace.warnings().list();
        assert_eq!(said.len(), usize::from(warning.is_some()), "{input}: {said:?}");
        if let Some(warning) = warning {
            assert!(said[0].starts_with(warning), "{input}: {said:?}");
            assert!(said[0].contains(" stands below a call of generate (model m, c): "), "{said:?}");
        }
    }
    // Above the call it makes no other call.
    session.batches(&format!("EXPLAIN SELECT array_agg(q) FROM {} LIMIT 3", call("generate", "above", ""))).await;
    assert_eq!(session.workspace.warnings().list(), Vec::<String>::new());
}

/// A pipeline of two stages whose first is half answered already.
fn counted(server: &FaultServer) -> Scratch {
    let scratch = Scratch::new(server.url(), 8, "price_per_million = { input = 1.0, output = 2.0 }\n");
    scratch.write(
        "sql/10_all.sql",
        "CREATE VIEW seeds_here AS
            SELECT value % 10 AS id, CASE WHEN value < 18 THEN 'row ' || (value % 10) END AS p FROM generate_series(0, 19);
         CREATE VIEW made AS SELECT * FROM generate(TABLE seeds_here, model => 'm', prompt => p, returns => 'q TEXT',
                                                    samples => 2, seed => 1, max_tokens => 100);
         CREATE VIEW read AS SELECT * FROM enrich(TABLE made, model => 'm', prompt => q, returns => 'r TEXT', max_tokens => 50);
         COPY (SELECT q AS question, r AS answer_text, CAST([] AS TEXT[]) AS reasons FROM read)
             TO 'runs' STORED AS CURATED;",
    );
    scratch
}

#[test]
fn explain_count_says_how_many_calls_the_ledger_has_and_how_many_are_to_be_asked() {
    let server = FaultServer::start(answer);
    let scratch = counted(&server);
    let line = |text: &str| {
        let line = text
            .lines()
            .find(|line| line.trim_start().starts_with("generate_call  "))
            .unwrap_or_else(|| panic!("{text}"));
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    // 20 rows, two without a prompt; 10 prompts × 2 samples are distinct.
    let before = scratch.ok(&["explain", "--count"]);
    assert_eq!(line(&before)[..7], ["generate_call", "m", "20", "36", "16", "0", "20"], "{before}");
    assert!(before.contains("20 calls are to be asked"), "{before}");
    // The counted rows are what the stage above is estimated from: 20 × 2.
    assert!(before.contains("call=enrich_call [rows~40, calls~40, tokens<=2000 out"), "{before}");
    // 5 bytes a prompt: 100 bytes, 25 tokens; at most 100 tokens an answer.
    assert_eq!(line(&before)[7..], ["~25", "in", "<=2000", "out", "<=$0.0040"], "{before}");
    assert_eq!(server.count(), 0);

    let half = "SELECT q FROM generate((SELECT * FROM seeds_here WHERE id < 5), model => 'm', prompt => p, returns => 'q TEXT',
                                       samples => 2, seed => 1, max_tokens => 100)";
    scratch.ok(&["sql", "-c", half]);
    assert_eq!(server.count(), 10);
    let after = scratch.ok(&["explain", "--count"]);
    assert_eq!(line(&after)[..7], ["generate_call", "m", "20", "36", "16", "10", "10"], "{after}");
    // An answer of the test server has 8 words, and a word is a token there.
    assert_eq!(line(&after)[8..], ["in", "~80", "out", "~$0.0002"], "{after}");
    assert_eq!(server.count(), 10);
}

#[test]
fn explain_shows_what_each_call_would_cost_and_what_that_rests_on() {
    let server = FaultServer::start(answer);
    let scratch = counted(&server);
    let before = scratch.ok(&["explain"]);
    assert!(before.contains("[rows unknown, calls unknown, tokens<=100 out a call, cost unknown"), "{before}");
    assert!(before.contains("(max_tokens; no call to go by yet)"), "{before}");
    assert!(before.contains("$0 at least, since a part is unknown"), "{before}");
    scratch.ok(&["sql", "-c", "SELECT q FROM made"]);
    let asked = server.count();
    let after = scratch.ok(&["explain"]);
    assert!(after.contains("(the average of 20 calls of this stage)"), "{after}");
    assert!(after.contains("(the average of 20 calls of this model)"), "{after}");
    assert_eq!(server.count(), asked);
    // Plain EXPLAIN says it too: 3 rows, 2 samples, 8 tokens an answer.
    let sql = "EXPLAIN FORMAT INDENT SELECT q FROM generate((SELECT * FROM (VALUES ('a'), ('b'), ('c')) AS v(p)),
                                              model => 'm', prompt => p, returns => 'q TEXT', samples => 2)";
    let plan = scratch.ok(&["sql", "--format", "ndjson", "-c", sql]);
    assert!(plan.contains("[rows=3, calls=6, tokens~") && plan.contains(" in + 48 out, cost~$0.0"), "{plan}");
}
