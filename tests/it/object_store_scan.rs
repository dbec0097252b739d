//! What queries over a ledger on an object store ask the store for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::fault_server::{FaultServer, Reply, answer};
use crate::s3_server::S3Server;
use crate::scratch::Scratch;

const MORE: &str = "[ledger]\nurl = \"s3://bucket/ledger\"\n[models.n]\nprovider = \"openai\"\nmodel = \"n-1\"\n";

/// Answers of 2 KB of which no two are alike.
fn text(nth: u64) -> String {
    let mut state = nth + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{state:016x}")
    };
    (0..128).map(|_| next()).collect()
}

fn questions(model: &str, first: usize, last: usize) -> String {
    format!(
        "SELECT count(*) FROM generate((SELECT value FROM generate_series({first}, {last})), model => '{model}', \
         prompt => 'question ' || value)"
    )
}

#[test]
fn a_sum_reads_no_texts_and_a_filter_skips_what_statistics_exclude() {
    let count = AtomicU64::new(0);
    let model = FaultServer::start(move |body, nth| match answer(body, nth) {
        Reply::Answer(..) => Reply::Answer(text(count.fetch_add(1, Ordering::Relaxed)), Duration::ZERO),
        other => other,
    });
    let s3 = S3Server::start();
    let more = format!("{MORE}base_urls = [\"{}\"]\n", model.url());
    let scratch = Scratch::new(model.url(), 64, &more).with_variables(&s3.variables());
    for name in ["m", "n"] {
        scratch.ok(&["sql", "-c", &questions(name, 1, 2_000)]);
    }
    scratch.ok(&["calls", "compact"]);
    let name = |kind: &str| {
        let entries = std::fs::read_dir(s3.bucket().join("ledger")).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| path.display().to_string()).find(|path| path.ends_with(kind)).unwrap()
    };
    let size = std::fs::metadata(name("-calls.parquet")).unwrap().len();
    assert!(size > 3_000_000, "{size}");
    let read = |sql: &str| {
        s3.forget_reads();
        let value = scratch.value(sql);
        (value, s3.bytes_read("/ledger/"))
    };
    let (sum, bytes) = read(
        "SELECT string_agg(model || ' ' || n, ', ' ORDER BY model) FROM (SELECT model, count(*) AS n, \
                             sum(cost_usd) FROM calls GROUP BY model)",
    );
    assert_eq!(sum, "\"m-1 2000, n-1 2000\"");
    assert!(bytes > 0 && bytes < size / 15, "{bytes} of {size}");
    // Without any, the text of a quarter of the rows is less than half of all.
    let (_, all) = read("SELECT max(length(response)) FROM calls");
    assert!(all > size / 2, "{all} of {size}");
    let (length, bytes) = read("SELECT max(length(response)) FROM calls WHERE model = 'n-1'");
    assert!(length.parse::<usize>().unwrap() >= 2_048 && bytes < all * 2 / 3, "{bytes}, of all {all}");
    let (number, bytes) = read("SELECT count(response) FROM calls WHERE time < '2001-01-01'");
    assert!(number == "0" && bytes < size / 15, "{number} rows, {bytes} of {size}");
    let id = scratch.value("SELECT max(call_id) FROM calls");
    let (number, bytes) = read(&format!("SELECT count(response) FROM calls WHERE call_id = '{id}'"));
    assert!(number == "1" && bytes < size / 2, "{number} rows, {bytes} of {size}");
    let (_, bytes) = read("SELECT sum(cost_usd), count(*) FILTER (WHERE billed) FROM attempts");
    assert!(bytes < size / 15, "{bytes}");
}
