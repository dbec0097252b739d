//! Views of stages that are planned when they are named.

use super::{OpenOptions, Workspace, table_names};

async fn offered(stages: &[(&str, &str)]) -> (tempfile::TempDir, Workspace) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("seedmill.toml"), "").unwrap();
    std::fs::create_dir(folder.path().join("sql")).unwrap();
    for (name, sql) in stages {
        std::fs::write(folder.path().join("sql").join(name), sql).unwrap();
    }
    let options = OpenOptions { root: Some(folder.path().to_owned()), ..OpenOptions::default() };
    let workspace = Workspace::open(options).await.unwrap();
    workspace.offer_stages().await.unwrap();
    (folder, workspace)
}

async fn number(workspace: &Workspace, sql: &str) -> i64 {
    let batches = workspace.sql(sql).await.unwrap().collect().await.unwrap();
    datafusion::common::ScalarValue::try_from_array(batches[0].column(0), 0).unwrap().to_string().parse().unwrap()
}

const CHAIN: [(&str, &str); 2] = [
    ("10_a.sql", "CREATE VIEW a AS SELECT 1 AS x; CREATE VIEW \"B\" AS SELECT x + 1 AS x FROM a;"),
    ("20_c.sql", "CREATE VIEW c AS SELECT x + 1 AS x FROM \"B\"; CREATE VIEW broken AS SELECT y FROM a;"),
];

#[tokio::test]
async fn a_view_is_planned_with_those_that_it_names_and_no_others() {
    let (_folder, workspace) = offered(&CHAIN).await;
    let waiting = || {
        let mut names = workspace.stage_views.names();
        names.sort();
        names.join(" ")
    };
    assert_eq!(waiting(), "B a broken c");
    let listed = table_names(workspace.ctx());
    assert!(["a", "B", "c", "broken"].iter().all(|name| listed.iter().any(|listed| listed == name)), "{listed:?}");
    let views =
        "SELECT count(*) FROM information_schema.tables WHERE table_type = 'VIEW' AND table_name IN ('a', 'B', 'c')";
    assert_eq!(number(&workspace, views).await, 3);
    assert_eq!(number(&workspace, "SELECT 1").await, 1);
    assert_eq!(waiting(), "B a broken c");
    assert_eq!(number(&workspace, "SELECT x FROM \"B\"").await, 2);
    assert_eq!(waiting(), "broken c");
    assert_eq!(number(&workspace, "SELECT x FROM c").await, 3);
}

#[tokio::test]
async fn a_view_that_cannot_be_planned_says_why_each_time_that_it_is_named() {
    let (_folder, workspace) = offered(&CHAIN).await;
    for _ in 0..2 {
        let error = workspace.sql("SELECT * FROM broken").await.unwrap_err().to_string();
        assert!(error.contains("'y'") || error.contains(" y"), "{error}");
        assert!(error.ends_with(", in the view broken of 20_c.sql"), "{error}");
    }
    assert_eq!(number(&workspace, "SELECT x FROM c").await, 3);
}

#[tokio::test]
async fn a_definition_changes_no_view_that_was_there_before_it() {
    let (_folder, workspace) = offered(&CHAIN).await;
    workspace.sql("CREATE OR REPLACE VIEW a AS SELECT 10 AS x").await.unwrap();
    assert_eq!(number(&workspace, "SELECT x FROM a").await, 10);
    assert_eq!(number(&workspace, "SELECT x FROM c").await, 3);
    let error = workspace.sql("CREATE VIEW c AS SELECT 1").await.unwrap_err().to_string();
    assert!(error.contains("already exists"), "{error}");
}

#[tokio::test]
async fn a_view_that_names_itself_or_is_named_in_a_ring_is_an_error() {
    let ring =
        "CREATE VIEW p AS SELECT * FROM q; CREATE VIEW q AS SELECT * FROM p; CREATE VIEW own AS SELECT * FROM own;";
    let (_folder, workspace) = offered(&[("10_ring.sql", ring)]).await;
    for name in ["p", "q", "own"] {
        let error = workspace.sql(&format!("SELECT * FROM {name}")).await.unwrap_err().to_string();
        assert!(error.contains("not found"), "{error}");
    }
}

#[tokio::test]
async fn stages_that_do_more_than_create_views_are_run_in_order() {
    let stages = [("10_t.sql", "CREATE TABLE t AS SELECT 5 AS x; CREATE VIEW v AS SELECT x FROM t;")];
    let (_folder, workspace) = offered(&stages).await;
    assert!(workspace.stage_views.names().is_empty());
    assert_eq!(number(&workspace, "SELECT x FROM v").await, 5);
}

#[tokio::test]
async fn tables_of_the_configuration_are_opened_when_they_are_named() {
    let (folder, _) = offered(&[]).await;
    let config = "[tables.mine]\nlocation = \"mine.csv\"\n[tables.gone]\nlocation = \"gone.csv\"\n";
    std::fs::write(folder.path().join("seedmill.toml"), config).unwrap();
    let options = OpenOptions { root: Some(folder.path().to_owned()), ..OpenOptions::default() };
    let workspace = Workspace::open(options).await.unwrap();
    assert_eq!(number(&workspace, "SELECT 1").await, 1);
    std::fs::write(folder.path().join("mine.csv"), "n\n7\n").unwrap();
    for _ in 0..2 {
        assert_eq!(number(&workspace, "SELECT n FROM mine").await, 7);
    }
    let error = workspace.sql("SELECT * FROM gone").await.unwrap_err().to_string();
    assert!(error.contains("[tables.gone]"), "{error}");
    let listed = table_names(workspace.ctx());
    assert_eq!(listed.iter().filter(|name| ["mine", "gone"].contains(&name.as_str())).count(), 2, "{listed:?}");
}
