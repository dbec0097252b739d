//! The licence gate in a session: what a run's target lets through.

use std::collections::BTreeMap;

use super::{OpenOptions, Workspace};
use crate::config::Variable;

async fn open(folder: &tempfile::TempDir, target: &str) -> Workspace {
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        "seedmill.toml",
        "[models.m]\nprovider = \"openai\"\nbase_urls = [\"http://127.0.0.1:9\"]\nmodel = \"m\"\n[tasks]\nfrom = [\"tasks\"]\n",
    );
    for (task, licence) in [
        ("free", "CC0-1.0"),
        ("alike", "CC-BY-SA-4.0"),
        ("closed", "CC-BY-NC-4.0"),
        ("fixed", "CC-BY-ND-4.0"),
        ("mute", ""),
    ] {
        let license = if licence.is_empty() { String::new() } else { format!("  license: {licence}\n") };
        write(
            &format!("tasks/{task}/{task}.yaml"),
            &format!(
                "task: {task}\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    train: train.jsonl\n\
                 output_type: generate_until\ntraining_split: train\ndoc_to_text: \"{{{{q}}}}\"\ndoc_to_target: \"{{{{a}}}}\"\n\
                 metadata:\n{license}  capability: knowledge\n"
            ),
        );
        write(&format!("tasks/{task}/train.jsonl"), &format!("{{\"q\": \"Is {task} free?\", \"a\": \"x\"}}\n"));
    }
    let set = BTreeMap::from([("target".to_owned(), Variable::Text(target.to_owned()))]);
    let options = OpenOptions { root: Some(folder.path().to_owned()), set, ..OpenOptions::default() };
    Workspace::open(options).await.unwrap()
}

/// Plans a call over `input` and runs nothing: the error, or the plan.
async fn call(workspace: &Workspace, input: &str) -> Result<String, String> {
    let sql = format!("SELECT * FROM generate(({input}), model => 'm', prompt => question)");
    let frame = workspace.sql(&sql).await.map_err(|e| e.strip_backtrace())?;
    let plan = frame.into_optimized_plan().map_err(|e| e.strip_backtrace())?;
    Ok(plan.display_indent().to_string())
}

#[tokio::test]
async fn each_target_lets_through_what_the_licence_permits() {
    let folder = tempfile::tempdir().unwrap();
    for (target, permitted) in
        [("commercial", &["free", "alike"][..]), ("research", &["free", "alike", "closed", "mute"])]
    {
        let workspace = open(&folder, target).await;
        for task in ["free", "alike", "closed", "fixed", "mute"] {
            for input in [format!("SELECT question FROM norm.{task}"), format!("SELECT q AS question FROM raw.{task}")]
            {
                let planned = call(&workspace, &input).await;
                assert_eq!(planned.is_ok(), permitted.contains(&task), "{target} {input}: {planned:?}");
                if let Err(error) = planned {
                    assert!(error.contains(&format!("the table raw.{task} stands under the licence")), "{error}");
                    assert!(error.contains(&format!("does not permit a {target} run")), "{error}");
                }
            }
        }
    }
}

#[tokio::test]
async fn seeds_are_narrowed_to_permitted_licences_once() {
    let folder = tempfile::tempdir().unwrap();
    let workspace = open(&folder, "commercial").await;
    let plan = call(&workspace, "SELECT question FROM seeds").await.unwrap();
    assert!(plan.contains("CC0-1.0") && plan.contains("CC-BY-SA-4.0"), "{plan}");
    assert!(!plan.contains("CC-BY-NC") && !plan.contains("unknown"), "{plan}");
}

#[tokio::test]
async fn a_licence_follows_rows_into_tables_and_files_of_the_catalog() {
    let folder = tempfile::tempdir().unwrap();
    let workspace = open(&folder, "commercial").await;
    let tasks = folder.path().join("tasks");
    for (sql, refused) in [
        ("CREATE TABLE t AS SELECT question FROM norm.closed", Some("licence CC-BY-NC-4.0")),
        ("CREATE TABLE t AS SELECT question FROM norm.free", None),
        (
            "CREATE TABLE t AS SELECT question FROM norm.free UNION ALL SELECT question FROM norm.mute",
            Some("licence unknown"),
        ),
        ("CREATE TABLE t AS SELECT question, license FROM seeds", None),
        ("CREATE TABLE t AS SELECT question FROM seeds", Some("keep their column license")),
        ("CREATE TABLE t AS SELECT 'mine' AS question", None),
        // What is said of the task or the licence leaves no others.
        ("CREATE TABLE t AS SELECT question FROM seeds WHERE task = 'closed'", Some("licence CC-BY-NC-4.0")),
        ("CREATE TABLE t AS SELECT question FROM seeds WHERE task IN ('free', 'alike') AND question <> ''", None),
        ("CREATE TABLE t AS SELECT s.question FROM seeds AS s WHERE licence_permits(s.license, @target)", None),
    ] {
        workspace.sql(sql).await.unwrap();
        let planned = call(&workspace, "SELECT question FROM t").await;
        match refused {
            Some(part) => assert!(planned.as_ref().is_err_and(|e| e.contains(part)), "{sql}: {planned:?}"),
            None => assert!(planned.is_ok(), "{sql}: {planned:?}"),
        }
        workspace.sql("DROP TABLE t").await.unwrap();
    }
    // The option is about the split alone.
    for (task, option, allowed) in
        [("free", "", true), ("closed", "", false), ("closed", "OPTIONS ('seedmill.split' 'train')", false)]
    {
        let file = tasks.join(task).join("train.jsonl");
        let sql = format!("CREATE EXTERNAL TABLE t STORED AS JSON LOCATION '{}' {option}", file.display());
        workspace.sql(&sql).await.unwrap();
        let planned = call(&workspace, "SELECT q AS question FROM t").await;
        assert_eq!(planned.is_ok(), allowed, "{sql}: {planned:?}");
        workspace.sql("DROP TABLE t").await.unwrap();
    }
}

#[tokio::test]
async fn an_insert_takes_no_rows_whose_licence_the_table_does_not_say() {
    let folder = tempfile::tempdir().unwrap();
    let workspace = open(&folder, "commercial").await;
    workspace.sql("CREATE TABLE t (question TEXT)").await.unwrap();
    workspace.sql("CREATE TABLE closed AS SELECT question FROM norm.closed").await.unwrap();
    workspace.sql("CREATE TABLE said AS SELECT question, license FROM seeds").await.unwrap();
    workspace.sql("PREPARE pour AS INSERT INTO t SELECT question FROM norm.closed").await.unwrap();
    for (sql, refused) in [
        ("INSERT INTO t SELECT question FROM norm.closed", Some("under the licence CC-BY-NC-4.0")),
        ("INSERT INTO t SELECT question FROM seeds WHERE task = 'closed'", Some("INSERT INTO t would bring rows")),
        ("INSERT INTO t SELECT question FROM closed", Some("does not permit a commercial run")),
        ("EXPLAIN ANALYZE INSERT INTO t SELECT question FROM norm.closed", Some("CREATE TABLE … AS SELECT")),
        ("EXECUTE pour", Some("under the licence CC-BY-NC-4.0")),
        ("INSERT INTO said SELECT question, license FROM norm.closed", Some("under the licence CC-BY-NC-4.0")),
        ("INSERT INTO t SELECT question FROM seeds", Some("INSERT INTO t would bring rows")),
        ("INSERT INTO t SELECT question FROM seeds WHERE license <> 'CC0-1.0'", Some("INSERT INTO t would bring rows")),
        ("UPDATE t SET question = (SELECT max(question) FROM norm.closed)", Some("UPDATE t would bring rows under")),
        ("INSERT INTO t SELECT question FROM seeds WHERE task = 'free'", None),
        ("INSERT INTO t SELECT question FROM seeds WHERE license IN ('CC0-1.0', 'CC-BY-SA-4.0')", None),
        ("INSERT INTO t SELECT question FROM seeds WHERE licence_permits(license, 'commercial')", None),
        ("INSERT INTO t SELECT question FROM norm.free", None),
        ("INSERT INTO t SELECT 'mine'", None),
        ("INSERT INTO closed SELECT question FROM norm.closed", None),
        ("INSERT INTO said SELECT question, license FROM seeds", None),
    ] {
        let planned = workspace.sql(sql).await.map(|_| ()).map_err(|e| e.strip_backtrace());
        match refused {
            Some(part) => assert!(planned.as_ref().is_err_and(|e| e.contains(part)), "{sql}: {planned:?}"),
            None => assert!(planned.is_ok(), "{sql}: {planned:?}"),
        }
    }
    assert!(call(&workspace, "SELECT question FROM t").await.is_ok());
    assert!(call(&workspace, "SELECT question FROM closed").await.is_err());
    // Rows that only take others away reach no call.
    for task in ["closed", "free"] {
        let input = format!("SELECT question FROM t WHERE question NOT IN (SELECT question FROM norm.{task})");
        let planned = call(&workspace, &input).await;
        assert!(planned.is_ok(), "{input}: {planned:?}");
    }
    // A research run may use what is not free for commerce.
    let workspace = open(&folder, "research").await;
    workspace.sql("CREATE TABLE t (question TEXT)").await.unwrap();
    workspace.sql("INSERT INTO t SELECT question FROM norm.closed").await.unwrap();
    assert!(workspace.sql("INSERT INTO t SELECT question FROM norm.fixed").await.is_err());
}

#[tokio::test]
async fn the_card_names_a_split_that_a_user_declared_and_whom_to_attribute() {
    let folder = tempfile::tempdir().unwrap();
    let workspace = open(&folder, "research").await;
    std::fs::write(folder.path().join("exam.test.jsonl"), "{\"q\": \"Is it?\"}\n").unwrap();
    let file = folder.path().join("exam.test.jsonl");
    let sql = format!(
        "CREATE EXTERNAL TABLE exam STORED AS JSON LOCATION '{}' OPTIONS ('seedmill.split' 'train')",
        file.display()
    );
    workspace.sql(&sql).await.unwrap();
    let copy = "COPY (SELECT q AS question, 'yes' AS answer_text, 'closed' AS task, 'CC-BY-NC-4.0' AS license, \
                arrow_cast([], 'List(Utf8View)') AS reasons FROM exam) TO 'runs' STORED AS CURATED";
    workspace.sql(copy).await.unwrap().collect().await.unwrap();
    let published = workspace.run.published().unwrap();
    let card = std::fs::read_to_string(published.path.join("README.md")).unwrap();
    assert!(card.contains("- The table exam was declared as train by its user; its files say test."), "{card}");
    assert!(card.contains("| closed |  | CC-BY-NC-4.0 | metadata of closed.yaml | 1 | 0 |"), "{card}");
}
