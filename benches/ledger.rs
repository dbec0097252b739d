//! The ledger with a million calls: opening it, sums over it beside a plain Parquet scan of the same columns (the
//! limit), attempts by kind of error, and answers found and not found.
//!
//!     cargo bench --bench ledger

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use seedmill::ledger::{AttemptRecord, CallId, CallRecord, Ledger, Record, UseRecord, compact, tables};
use tokio::runtime::Runtime;

const CALLS: u64 = 1_000_000;
/// Calls written at once, and as many in a frame of the log.
const GROUP: u64 = 200;
const SUM: &str = "SELECT model, sum(cost_usd) FROM calls GROUP BY model";
const TIMEOUTS: &str = "SELECT model, count(*) FROM attempts WHERE error_kind = 'timeout' GROUP BY model";

fn id(n: u64) -> CallId {
    CallId::from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

fn records(n: u64) -> [Record; 3] {
    let (model, time_ms) = (Arc::<str>::from(format!("model-{}", n % 3)), 1_700_000_000_000 + n as i64);
    // Text that compresses about as prose does.
    let text: String = (0..8).map(|part| format!("{} and the {} follow; ", id(n + part), n % (part + 7))).collect();
    let failed = n.is_multiple_of(50);
    let call = CallRecord {
        call_id: id(n),
        provider: "openai".into(),
        model: Arc::clone(&model),
        revision: "".into(),
        variant: "".into(),
        sample: 0,
        messages: format!(r#"[{{"role":"user","content":"question {n}: {}"}}]"#, &text[..200]),
        parameters: r#"{"parameters":{"temperature":0.7},"items":null,"schema":null}"#.into(),
        response: text,
        finish_reason: Some("stop".into()),
        prompt_tokens: Some(100 + n % 50),
        completion_tokens: Some(200 + n % 90),
        cost_usd: (n % 1000) as f64 * 1e-6,
        time_ms,
    };
    let attempt = AttemptRecord {
        call_id: id(n),
        model,
        time_ms,
        latency_ms: 200 + n % 800,
        status: (!failed).then_some(200),
        error_kind: failed.then(|| "timeout".to_owned()),
        error: failed.then(|| "no answer within 60 s".to_owned()),
        billed: true,
        cost_usd: (n % 1000) as f64 * 1e-6,
    };
    let used = UseRecord {
        run_id: "r1".into(),
        call_ids: vec![id(n)],
        stage: "generate_call".into(),
        replayed: false,
        time_ms,
    };
    [Record::Attempt(attempt), Record::Call(call), Record::Use(used)]
}

async fn build(folder: &Path) {
    let ledger = Ledger::open(folder).await.expect("a ledger");
    for group in 0..CALLS / GROUP {
        let records = (group * GROUP..(group + 1) * GROUP).flat_map(records).collect();
        ledger.append(records).await.expect("records on disk");
    }
    ledger.close().await.expect("sealed logs");
    drop(ledger);
    let done = compact(folder).await.expect("a compaction");
    eprintln!("{done:?}");
}

async fn rows(session: &SessionContext, sql: &str) -> usize {
    let frame = session.sql(sql).await.expect("a plan");
    frame.collect().await.expect("rows").iter().map(|batch| batch.num_rows()).sum()
}

/// The Parquet files of a table that count, as any reader of Parquet would be given them.
async fn plain(folder: &Path, file: &str) -> SessionContext {
    let session = SessionContext::new();
    let segments = std::fs::read_dir(folder).expect("the ledger").map(|entry| entry.expect("a name").path());
    let paths: Vec<PathBuf> = segments.map(|path| path.join(file)).filter(|path| path.exists()).collect();
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let frame = session.read_parquet(paths, ParquetReadOptions::default()).await.expect("Parquet");
    session.register_table(file.split('.').next().expect("a name"), frame.into_view()).expect("a table");
    session
}

fn a_million_calls(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let scratch = tempfile::tempdir().expect("a folder");
    let folder = scratch.path();
    runtime.block_on(build(folder));
    let session = SessionContext::new();
    for (name, table) in tables(folder) {
        session.register_table(name, table).expect("a table");
    }

    let mut group = criterion.benchmark_group("ledger of 1M calls");
    group.sample_size(10).throughput(Throughput::Elements(CALLS));
    group.bench_function("open", |bencher| {
        bencher.to_async(&runtime).iter(|| async { Ledger::open(folder).await.expect("a ledger").len() });
    });
    for (name, file, sql) in [("sum by model", "calls.parquet", SUM), ("timeouts", "attempts.parquet", TIMEOUTS)] {
        let limit = runtime.block_on(plain(folder, file));
        group.bench_function(format!("{name}, plain Parquet"), |bencher| {
            bencher.to_async(&runtime).iter(|| rows(&limit, sql));
        });
        group.bench_function(name, |bencher| bencher.to_async(&runtime).iter(|| rows(&session, sql)));
    }
    group.bench_function("count", |bencher| {
        bencher.to_async(&runtime).iter(|| rows(&session, "SELECT count(*) FROM calls"));
    });
    group.finish();

    let mut group = criterion.benchmark_group("one call of 1M");
    let ledger: Arc<Ledger> = runtime.block_on(Ledger::open(folder)).expect("a ledger");
    let next = AtomicU64::new(0);
    for (name, first) in [("find, in order", 0), ("find, missed", CALLS)] {
        next.store(first, Ordering::Relaxed);
        group.bench_function(name, |bencher| {
            bencher.to_async(&runtime).iter(|| async {
                let n = first + next.fetch_add(1, Ordering::Relaxed) % CALLS;
                ledger.find(&id(n)).await.expect("a readable ledger").is_some()
            });
        });
    }
    group.bench_function("find, anywhere", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            let n = next.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15) % CALLS;
            ledger.find(&id(n)).await.expect("a readable ledger").is_some()
        });
    });
    group.finish();
}

criterion_group!(benches, a_million_calls);
criterion_main!(benches);
