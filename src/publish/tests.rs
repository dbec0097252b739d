//! COPY … STORED AS CURATED from SQL to files and back.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::common::Result;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::*;
use crate::endpoint::ModelIdentity;
use crate::lineage::Target;

/// Rows as a pipeline ends with: two kept, three rejected; Utf8View as the session makes it.
const VERDICTS: &str = "
    SELECT arrow_cast(question, 'Utf8View') AS question,
           CASE WHEN question = 'Q2' THEN NULL ELSE [answer, 'other'] END AS options,
           answer AS answer_text,
           'because' AS reasoning, task, license, 'en' AS language, [question] AS seed_ids,
           [named_struct('call_id', 'c1', 'stage', 'solve')] AS calls,
           named_struct('winner', answer, 'share', 0.8, 'n', 5) AS votes,
           named_struct('style', 0.5, 'length', 3) AS scores,
           CASE WHEN reason IS NULL THEN arrow_cast([], 'List(Utf8View)')
                ELSE [arrow_cast(reason, 'Utf8View'), arrow_cast(reason, 'Utf8View')] END AS reasons
    FROM (VALUES ('Q1', 'A1', 'gsm8k', 'MIT', NULL), ('Q2', 'A2', 'arc', 'CC-BY-SA-4.0', NULL),
                 ('Q3', 'A3', 'arc', 'CC-BY-SA-4.0', 'too short'), ('Q4', NULL, 'arc', NULL, 'no answer'),
                 ('Q5', 'A5', NULL, 'MIT', 'too short')) AS t(question, answer, task, license, reason)";

fn session(folder: &Path, change: impl FnOnce(&mut Run)) -> (SessionContext, Arc<Run>) {
    let mut run = Run::new(folder, Target::Research, config_sha256([("60_publish.sql", "COPY …")]));
    let embedded =
        ModelIdentity { provider: "embedded".into(), model: "SmolLM2-135M-Instruct".into(), revision: "ab".into() };
    run.set_models(vec![ModelRecord::new("local", &embedded)]);
    change(&mut run);
    let run = Arc::new(run);
    let config = SessionConfig::new().with_extension(Arc::clone(&run)).with_batch_size(2);
    let mut state = SessionStateBuilder::new().with_config(config).with_default_features().build();
    register(&mut state).unwrap();
    (SessionContext::new_with_state(state), run)
}

async fn copy(ctx: &SessionContext, select: &str, options: &str) -> Result<u64> {
    let batches = ctx.sql(&format!("COPY ({select}) TO 'runs' STORED AS CURATED {options}")).await?.collect().await?;
    Ok(batches[0].column(0).as_primitive::<datafusion::arrow::datatypes::UInt64Type>().value(0))
}

async fn show(ctx: &SessionContext, sql: &str) -> String {
    let batches: Vec<RecordBatch> = ctx.sql(sql).await.unwrap().collect().await.unwrap();
    pretty_format_batches(&batches).unwrap().to_string()
}

async fn external(ctx: &SessionContext, name: &str, location: &Path) {
    let location = location.display();
    ctx.sql(&format!("CREATE EXTERNAL TABLE {name} STORED AS PARQUET LOCATION '{location}/'")).await.unwrap();
}

fn entries(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_copy_publishes_kept_and_rejected_rows_with_their_counts() {
    let folder = tempfile::tempdir().unwrap();
    let (ctx, run) = session(folder.path(), |run| {
        run.note("a | note");
        let evidence = "LICENSE of its repository".to_owned();
        let of = Attribution { dataset: Some("openai/gsm8k:main".to_owned()), license_evidence: Some(evidence) };
        run.attribute("gsm8k", of);
    });
    assert_eq!(copy(&ctx, VERDICTS, "").await.unwrap(), 5);

    let published = run.published().unwrap();
    assert_eq!(published.path, folder.path().join("runs").join(&run.id));
    assert_eq!(entries(&folder.path().join("runs")), [run.id.as_str()]);
    assert_eq!(entries(&published.path), ["README.md", "data", "manifest.json", "rejected"]);
    let manifest = read_manifest(&published.path).unwrap();
    assert_eq!(manifest, published.manifest);
    assert_eq!(manifest.rows, Rows { curated: 2, rejected: 3 });
    assert_eq!(manifest.reasons, [("no answer".to_owned(), 1), ("too short".to_owned(), 2)].into());
    assert_eq!(manifest.tasks["arc"], Rows { curated: 1, rejected: 2 });
    assert_eq!(manifest.tasks["unknown"], Rows { curated: 0, rejected: 1 });
    assert_eq!(manifest.licenses["MIT"], Rows { curated: 1, rejected: 1 });
    for file in &manifest.files {
        let bytes = fs::read(published.path.join(&file.path)).unwrap();
        assert_eq!(file.bytes, bytes.len() as u64);
        assert_eq!(file.sha256, run::hex(&<sha2::Sha256 as sha2::Digest>::digest(&bytes)));
    }

    external(&ctx, "data", &published.path.join("data")).await;
    external(&ctx, "rejected", &published.path.join("rejected")).await;
    insta::assert_snapshot!(
        show(&ctx, "SELECT question, options, votes, scores, calls, split, family FROM data ORDER BY question").await,
        @r#"
        +----------+-------------+---------------------------------------+---------------------------------------------------------+-------------------------------+-------+--------+
        | question | options     | votes                                 | scores                                                  | calls                         | split | family |
        +----------+-------------+---------------------------------------+---------------------------------------------------------+-------------------------------+-------+--------+
        | Q1       | [A1, other] | {winner: A1, share: 0.8, n: 5, tie: } | [{name: style, value: 0.5}, {name: length, value: 3.0}] | [{stage: solve, call_id: c1}] | train |        |
        | Q2       |             | {winner: A2, share: 0.8, n: 5, tie: } | [{name: style, value: 0.5}, {name: length, value: 3.0}] | [{stage: solve, call_id: c1}] | train |        |
        +----------+-------------+---------------------------------------+---------------------------------------------------------+-------------------------------+-------+--------+
        "#
    );
    insta::assert_snapshot!(show(&ctx, "SELECT question, text, reasons FROM rejected ORDER BY question").await, @r#"
        +----------+----------+------------------------+
        | question | text     | reasons                |
        +----------+----------+------------------------+
        | Q3       | Q3       | [too short, too short] |
        |          |          |                        |
        |          | A. A3    |                        |
        |          | B. other |                        |
        |          |          |                        |
        |          | because  |                        |
        |          |          |                        |
        |          | A3       |                        |
        | Q4       |          | [no answer, no answer] |
        | Q5       | Q5       | [too short, too short] |
        |          |          |                        |
        |          | A. A5    |                        |
        |          | B. other |                        |
        |          |          |                        |
        |          | because  |                        |
        |          |          |                        |
        |          | A5       |                        |
        +----------+----------+------------------------+
        "#);
    insta::assert_snapshot!(show(&ctx, "SELECT id, messages, text FROM data ORDER BY question").await, @r#"
        +----------------------------------+----------------------------------------------------------------+----------+
        | id                               | messages                                                       | text     |
        +----------------------------------+----------------------------------------------------------------+----------+
        | aec6ec51b55127c32940c73f72bc06c2 | [{role: user, content: Q1                                      | Q1       |
        |                                  |                                                                |          |
        |                                  | A. A1                                                          | A. A1    |
        |                                  | B. other}, {role: assistant, content: because                  | B. other |
        |                                  |                                                                |          |
        |                                  | A1}]                                                           | because  |
        |                                  |                                                                |          |
        |                                  |                                                                | A1       |
        | 385ef8577f4a9dbcac46229e3e2a9f86 | [{role: user, content: Q2}, {role: assistant, content: because | Q2       |
        |                                  |                                                                |          |
        |                                  | A2}]                                                           | because  |
        |                                  |                                                                |          |
        |                                  |                                                                | A2       |
        +----------------------------------+----------------------------------------------------------------+----------+
        "#);
    let config = show(&ctx, "SELECT DISTINCT config_sha256 FROM data UNION SELECT config_sha256 FROM rejected").await;
    assert_eq!(config.matches(&run.config_sha256).count(), 1, "{config}");

    let card = fs::read_to_string(published.path.join("README.md")).unwrap();
    assert!(!card.contains(&folder.path().display().to_string()));
    let card = card.replace(&run.id, "<run>").replace(&run.config_sha256, "<sha256>");
    insta::assert_snapshot!(card.replace(&manifest.finished, "<time>"), @r#"
        ---
        license: cc-by-sa-4.0
        language:
        - "en"
        task_categories:
        - question-answering
        tags:
        - synthetic
        - seedmill
        size_categories:
        - n<1K
        configs:
        - config_name: default
          data_files:
          - split: train
            path: data/*.parquet
        - config_name: rejected
          data_files:
          - split: train
            path: rejected/*.parquet
        ---

        # Run <run>

        2 question-answer items made with seedmill 0.1.0 from the training splits of public task datasets, and 3 rejected ones with the reasons. Finished <time>. The licence target of the run is research.

        > **Made with a small demonstration model.** Its statements may be false, also those that passed every check. Do not train on them as facts.

        - `data/*.parquet`: the items kept
        - `rejected/*.parquet`: the items rejected; the column `reasons` says why
        - `manifest.json`: counts, models, and the SHA-256 of every file

        ## Sources and licences

        An item stands under the licence of the seeds that it was made from; attribute their authors.

        | task | dataset | license | evidence | kept | rejected |
        |---|---|---|---|---|---|
        | arc |  | CC-BY-SA-4.0 |  | 1 | 1 |
        | arc |  | unknown |  | 0 | 1 |
        | gsm8k | openai/gsm8k:main | MIT | LICENSE of its repository | 1 | 0 |
        | unknown |  | MIT |  | 0 | 1 |

        ## Why items were rejected

        An item with several reasons counts under each.

        | reason | items |
        |---|---|
        | too short | 2 |
        | no answer | 1 |

        ## Models

        Called by the run; the columns `models` and `calls` name each item's own.

        | name | model | revision | provider |
        |---|---|---|---|
        | local | SmolLM2-135M-Instruct | ab | embedded |

        ## Notes

        - a | note

        ## How it was made

        Seeds from training splits → generation by the models → checks → independent solving and a vote → enrichment → verdicts. Every item names its seeds (`seed_ids`), the calls it took (`calls`) and the pipeline's text (`config_sha256` `<sha256>`).
        "#);

    let usage = Usage { calls: 10, cost_usd: 0.5, ..Default::default() };
    let stages = vec![Stage { name: "seeds".into(), rows: 100 }, Stage { name: "verdicts".into(), rows: 5 }];
    let mut report = Report::read(published, stages, usage).await.unwrap();
    report.path = "runs/1".into();
    insta::assert_snapshot!(report.render(60), @r#"
        Funnel
          seeds     100  ████████████████████████████████████████
          verdicts    5  ██

        Why items were rejected
          too short  2  ████████████████████████████████████████
          no answer  1  ████████████████████

        Kept, 2 of 2
          arc · CC-BY-SA-4.0 · 385ef857
            question   Q2
            answer     A2
            reasoning  because
          gsm8k · MIT · aec6ec51
            question   Q1
            options    - A1
                       - other
            answer     A1
            reasoning  because

        Rejected, 3 of 3
          arc · 1ca8f0f5
            question   Q4
            options    -
                       - other
            reasoning  because
            reasons    no answer, no answer
          arc · CC-BY-SA-4.0 · 2ca3d9dd
            question   Q3
            options    - A3
                       - other
            answer     A3
            reasoning  because
            reasons    too short, too short
          MIT · b07d97f5
            question   Q5
            options    - A5
                       - other
            answer     A5
            reasoning  because
            reasons    too short, too short

        A small demonstration model is configured: what it states
        may be false, also in items that passed every check.

        10 calls asked and 0 replayed, 0 + 0 tokens, $0.5000, 0.0 s
        2 kept, 3 rejected
        Published in runs/1
        "#);
}

#[tokio::test]
async fn a_given_conversation_stays_and_a_passage_stands_before_the_question() {
    let folder = tempfile::tempdir().unwrap();
    let (ctx, run) = session(folder.path(), |_| ());
    let rows = "SELECT question, 'A' AS answer_text, 'P' AS passage, question || '-id' AS id, [] AS reasons,
                       CASE WHEN question = 'Q2' THEN [named_struct('content', 'hello', 'role', 'user')] END AS messages
                FROM (VALUES ('Q1'), ('Q2'), (NULL)) AS t(question)";
    copy(&ctx, rows, "").await.unwrap();
    external(&ctx, "data", &run.published().unwrap().path.join("data")).await;
    let shown = show(&ctx, "SELECT id, replace(text, chr(10), '/') AS text, messages[1] AS first FROM data").await;
    insta::assert_snapshot!(shown, @r"
        +----------------------------------+----------+------------------------------+
        | id                               | text     | first                        |
        +----------------------------------+----------+------------------------------+
        | Q1-id                            | P//Q1//A | {role: user, content: P      |
        |                                  |          |                              |
        |                                  |          | Q1}                          |
        | Q2-id                            | hello    | {role: user, content: hello} |
        | 5157c746f41f307c087e87138c68782f |          |                              |
        +----------------------------------+----------+------------------------------+
        ");
}

#[tokio::test]
async fn files_hold_exactly_the_published_schema_and_name_their_split() {
    let folder = tempfile::tempdir().unwrap();
    let (ctx, run) = session(folder.path(), |_| ());
    copy(&ctx, VERDICTS, "").await.unwrap();
    let path = &run.published().unwrap().path;
    for (kind, schema) in [("data", curated_schema()), ("rejected", rejected_schema())] {
        let file = File::open(path.join(kind).join("train-00000.parquet")).unwrap();
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        assert_eq!(builder.schema().fields(), schema.fields());
        let keys = builder.metadata().file_metadata().key_value_metadata().unwrap().clone();
        let value = |key: &str| keys.iter().find(|k| k.key == key).and_then(|k| k.value.clone());
        assert_eq!(value("seedmill.split").as_deref(), Some("train"));
        assert_eq!(value("seedmill.run_id"), Some(run.id.clone()));
    }
}

#[tokio::test]
async fn files_rotate_by_rows_and_an_empty_result_is_a_run_without_rows() {
    let folder = tempfile::tempdir().unwrap();
    let (ctx, run) = session(folder.path(), |run| run.out = Some("elsewhere/deep".into()));
    let rows = "SELECT CAST(value AS TEXT) AS question, arrow_cast([], 'List(Utf8)') AS reasons FROM range(7)";
    assert_eq!(copy(&ctx, rows, "OPTIONS ('max_rows_per_file' '3')").await.unwrap(), 7);
    let published = run.published().unwrap();
    assert!(published.path.starts_with(folder.path().join("elsewhere/deep")));
    let rows: Vec<_> = published.manifest.files.iter().map(|file| (file.path.as_str(), file.rows)).collect();
    let expected = [
        ("data/train-00000.parquet", 3),
        ("data/train-00001.parquet", 3),
        ("data/train-00002.parquet", 1),
        ("rejected/train-00000.parquet", 0),
    ];
    assert_eq!(rows, expected);

    let (ctx, run) = session(folder.path(), |_| ());
    assert_eq!(copy(&ctx, &format!("SELECT * FROM ({VERDICTS}) WHERE false"), "").await.unwrap(), 0);
    let published = run.published().unwrap();
    external(&ctx, "data", &published.path.join("data")).await;
    assert!(show(&ctx, "SELECT count(*) FROM data").await.contains("| 0 "));
    let report = Report::read(published, Vec::new(), Usage::default()).await.unwrap().render(80);
    assert!(report.contains("No item passed; the run is published empty"), "{report}");
}

#[tokio::test]
async fn a_second_run_is_another_folder_and_the_table_runs_shows_both() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("runs");
    let (ctx, first) = session(folder.path(), |_| ());
    ctx.register_table("runs", runs_table(&out, folder.path())).unwrap();
    assert!(show(&ctx, "SELECT count(*) FROM runs").await.contains("| 0 "));
    copy(&ctx, VERDICTS, "").await.unwrap();
    let again = copy(&ctx, VERDICTS, "").await.unwrap_err().to_string();
    assert!(again.contains("already published"), "{again}");
    let (other, second) = session(folder.path(), |_| ());
    copy(&other, VERDICTS, "").await.unwrap();

    // A run being written, a folder that is no run, and a run whose manifest is torn.
    fs::create_dir_all(out.join(".x.incomplete")).unwrap();
    fs::write(out.join(".x.incomplete/manifest.json"), "{}").unwrap();
    fs::create_dir_all(out.join("notes")).unwrap();
    fs::create_dir_all(out.join("torn")).unwrap();
    fs::write(out.join("torn/manifest.json"), "{\"format_version\": 1").unwrap();

    let mut ids = [first.id.as_str(), second.id.as_str()];
    ids.sort();
    let shown = show(
        &ctx,
        "SELECT run_id, target, curated_rows, rejected_rows, models, finished > TIMESTAMP '2020-01-01' AS late FROM runs",
    )
    .await;
    insta::assert_snapshot!(shown.replace(ids[0], "<the first run of the two>").replace(ids[1], "<the other run of the two>"), @r#"
        +----------------------------+----------+--------------+---------------+---------+------+
        | run_id                     | target   | curated_rows | rejected_rows | models  | late |
        +----------------------------+----------+--------------+---------------+---------+------+
        | <the first run of the two> | research | 2            | 3             | [local] | true |
        | <the other run of the two> | research | 2            | 3             | [local] | true |
        | torn                       |          |              |               |         |      |
        +----------------------------+----------+--------------+---------------+---------+------+
        "#);
}

#[tokio::test]
async fn a_failing_or_cancelled_query_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (ctx, run) = session(folder.path(), |_| ());
    let failing = "SELECT CAST(CAST(CASE WHEN value = 90 THEN 'x' ELSE '1' END AS INT) AS TEXT) AS question, \
                   arrow_cast([], 'List(Utf8)') AS reasons FROM range(100)";
    let error = copy(&ctx, failing, "").await.unwrap_err().to_string();
    assert!(error.contains("Cannot cast string 'x'"), "{error}");
    assert!(run.published().is_none());
    assert_eq!(entries(folder.path()), [""; 0]);

    let test = format!("SELECT *, 'test' AS split FROM ({VERDICTS})");
    let error = copy(&ctx, &test, "").await.unwrap_err().to_string();
    assert!(error.contains("comes from the split 'test'"), "{error}");
    assert_eq!(entries(folder.path()), [""; 0]);

    let endless = "SELECT CAST(value AS TEXT) AS question, arrow_cast([], 'List(Utf8)') AS reasons \
                   FROM range(1000000000)";
    let copying = copy(&ctx, endless, "");
    assert!(tokio::time::timeout(std::time::Duration::from_millis(300), copying).await.is_err());
    // The batch that was being written when the query was cancelled takes the folder along.
    for _ in 0..3_000 {
        if entries(folder.path()).is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(entries(folder.path()), [""; 0]);
}

#[tokio::test]
async fn what_cannot_be_published_is_known_before_any_row_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (ctx, _) = session(folder.path(), |_| ());
    let cases = [
        ("SELECT 'q' AS question", "runs", "", "lack the column 'reasons'"),
        ("SELECT 'q' AS questoin, ['r'] AS reasons", "runs", "", "no column 'questoin' (the nearest is 'question')"),
        ("SELECT 'a' AS options, ['r'] AS reasons", "runs", "", "column 'options' of the rows to publish is Utf8, not"),
        ("SELECT {a: 1} AS votes, ['r'] AS reasons", "runs", "", "has a field 'a' where only (winner, share, n, tie)"),
        ("SELECT ['r'] AS reasons", "https://host/runs", "", "not to https://"),
        ("SELECT ['r'] AS reasons", "runs", "OPTIONS ('rows' '3')", "has no option 'rows'"),
        ("SELECT ['r'] AS reasons", "runs", "OPTIONS ('max_rows_per_file' '0')", "whole number from 1, not '0'"),
        ("SELECT ['r'] AS reasons, 'a' AS task", "runs", "PARTITIONED BY (task)", "leave out PARTITIONED BY"),
    ];
    for (select, target, options, expected) in cases {
        let sql = format!("EXPLAIN COPY ({select}) TO '{target}' STORED AS CURATED {options}");
        let error = match ctx.sql(&sql).await.unwrap().collect().await {
            Err(e) => e.to_string(),
            Ok(batches) => pretty_format_batches(&batches).unwrap().to_string(),
        };
        assert!(error.contains(expected), "{sql}\n{error}");
    }
    let plan = show(&ctx, "EXPLAIN FORMAT INDENT COPY (SELECT ['r'] AS reasons) TO 'runs' STORED AS CURATED").await;
    assert!(plan.contains("DataSinkExec: sink=CuratedSink(to=runs, max_rows_per_file=100000"), "{plan}");
    assert_eq!(entries(folder.path()), [""; 0]);
}
