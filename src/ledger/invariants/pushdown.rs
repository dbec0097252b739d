//! What queries over the ledger read: no texts where none are asked for, no ids where no call stands twice.

use super::*;

/// The scans of a query's plan: of what, which columns, and the filter that goes along.
async fn scans(folder: &Path, sql: &str) -> Vec<String> {
    let plan = query(folder, &format!("EXPLAIN FORMAT INDENT {sql}")).await;
    let after = |scan: &str, key: &str, end: &str| {
        let text = scan.split_once(key).map_or("", |(_, rest)| rest.split(end).next().unwrap_or_default());
        // A column's number is left out: it says nothing that its name does not.
        let parts = text.split('@').map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()));
        parts.collect::<String>()
    };
    let mut scans = Vec::new();
    for scan in plan.lines() {
        if scan.contains("LogScanExec") {
            scans.push("log".to_owned());
        } else if scan.contains("DataSourceExec") {
            let (columns, filter) = (after(scan, "projection=[", "], "), after(scan, "predicate=", ", "));
            scans.push(format!("[{columns}] {filter}").trim_end().to_owned());
        }
    }
    scans
}

/// Ids are needed only to compare what is not known to be free of repeats; a filter on a column in which two records
/// of one call can differ must not choose between them there.
#[tokio::test]
async fn a_sum_over_calls_reads_no_texts_and_of_sealed_calls_no_ids() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of(folder.path(), 1).await;
    ledger.close().await.unwrap();
    let sum = "SELECT model, sum(cost_usd) AS s FROM calls WHERE model = 'writer' AND cost_usd >= 0 GROUP BY model";
    let known = "[model, cost_usd] model = writer AND cost_usd >= 0";
    assert_eq!(scans(folder.path(), sum).await, [known]);
    ledger.append(whole(1)).await.unwrap();
    assert_eq!(scans(folder.path(), sum).await, [known, "[call_id] model = writer", "log"]);
    assert_eq!(query(folder.path(), sum).await, "| writer | 0.001 |");
    ledger.close().await.unwrap();
    assert_eq!(scans(folder.path(), sum).await, [known]);
    // Their number is known without any file.
    assert!(scans(folder.path(), "SELECT count(*) FROM calls").await.is_empty());
    assert_eq!(query(folder.path(), "SELECT count(*) AS n FROM calls").await, "| 2 |");

    let failed = "SELECT count(*) FROM attempts WHERE error_kind = 'timeout'";
    assert_eq!(scans(folder.path(), failed).await, ["[] error_kind = timeout"]);
}

/// What EXPLAIN ANALYZE counts: the texts of these calls are 2 KB each, and no two alike.
#[tokio::test]
async fn a_sum_over_calls_reads_a_small_part_of_the_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path()).await.unwrap();
    let text = |n: u32| (0..32).map(|part| id(n * 32 + part).to_hex()).collect::<String>();
    ledger.append((0..2_000).map(|n| call_answered(n, &text(n))).collect()).await.unwrap();
    ledger.close().await.unwrap();
    let size = fs::metadata(files(folder.path(), "")[0].join("calls.parquet")).unwrap().len();
    let plan = query(folder.path(), "EXPLAIN ANALYZE SELECT model, sum(cost_usd) FROM calls GROUP BY model").await;
    let scan = plan.lines().find(|l| l.contains("DataSourceExec")).unwrap();
    assert!(scan.contains("projection=[model, cost_usd]"), "{scan}");
    let scanned = scan.split_once("bytes_scanned=").unwrap().1.split(',').next().unwrap();
    let (number, unit) = scanned.split_once(' ').unwrap_or((scanned, "B"));
    let factor = match unit.trim() {
        "B" => 1.0,
        "K" | "KB" => 1e3,
        "KiB" => 1024.0,
        other => panic!("{scanned}: {other}"),
    };
    let scanned = number.parse::<f64>().unwrap() * factor;
    assert!(scanned > 0.0 && scanned < size as f64 / 10.0, "{scanned} of {size} bytes");
}

/// One call in two segments: the younger one's row is left out by its number.
#[tokio::test]
async fn a_call_that_two_processes_paid_for_is_left_out_without_its_id() {
    let folder = tempfile::tempdir().unwrap();
    let one = Ledger::open(folder.path()).await.unwrap();
    let two = Ledger::open(folder.path()).await.unwrap();
    one.append(whole(0)).await.unwrap();
    two.append((1..10).flat_map(whole).collect()).await.unwrap();
    two.append([vec![call_answered(0, "paid again")], (10..20).flat_map(whole).collect()].concat()).await.unwrap();
    one.close().await.unwrap();
    two.close().await.unwrap();
    drop((one, two));
    let count = "SELECT count(*) AS n FROM calls";
    let answers = "SELECT response FROM calls WHERE prompt_tokens IN (0, 19) AND cost_usd < 5 ORDER BY prompt_tokens";
    let expected = "| answer 0  |\n| answer 19 |";
    assert_eq!(
        (query(folder.path(), count).await, query(folder.path(), answers).await),
        ("| 20 |".into(), expected.into())
    );
    assert!(scans(folder.path(), answers).await.len() > 1, "not known to be free of repeats yet");
    drop(Ledger::open(folder.path()).await.unwrap());
    assert_eq!(scans(folder.path(), answers).await.len(), 1);
    assert_eq!(
        (query(folder.path(), count).await, query(folder.path(), answers).await),
        ("| 20 |".into(), expected.into())
    );
}
