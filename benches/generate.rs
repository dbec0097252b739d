//! `generate` beside the limit: a bare reqwest loop with the same concurrency against the same server, which answers
//! at once. The difference is what the plan, the ledger and its fsyncs cost.
//!
//!     cargo bench --bench generate

#[path = "../tests/it/fault_server.rs"]
#[allow(dead_code)]
mod fault_server;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fault_server::{FaultServer, Reply};
use futures::{StreamExt, stream};
use seedmill::session::{OpenOptions, Workspace};
use serde_json::json;

const CALLS: u64 = 2000;
const IN_FLIGHT: usize = 64;

fn generate_beside_a_bare_loop(criterion: &mut Criterion) {
    let server = FaultServer::start(|_, _| Reply::Answer("an answer of a few words".into(), Duration::ZERO));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut group = criterion.benchmark_group("2000 calls, 64 in flight");
    group.sample_size(10).throughput(Throughput::Elements(CALLS));
    // Each pass asks what was never asked before, so that nothing is replayed.
    let pass = AtomicU64::new(0);

    let client = reqwest::Client::new();
    group.bench_function("bare reqwest loop", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            let pass = pass.fetch_add(1, Ordering::Relaxed);
            let answers = stream::iter(0..CALLS).map(|n| {
                let body = json!({"model": "m-1", "messages": [{"role": "user", "content": format!("pass {pass} question {n}")}]});
                let request = client.post(format!("{}/chat/completions", server.url())).json(&body);
                async move { request.send().await.expect("an answer").text().await.expect("a body").len() }
            });
            answers.buffer_unordered(IN_FLIGHT).collect::<Vec<_>>().await.len()
        });
    });

    let folder = tempfile::tempdir().expect("a folder");
    let settings = format!(
        "[models.m]\nprovider = \"openai\"\nbase_urls = [\"{}\"]\nmodel = \"m-1\"\nmax_in_flight = {IN_FLIGHT}\n",
        server.url()
    );
    std::fs::write(folder.path().join("seedmill.toml"), settings).expect("a configuration");
    let options = OpenOptions { root: Some(folder.path().to_owned()), ..OpenOptions::default() };
    let workspace = runtime.block_on(Workspace::open(options)).expect("a workspace");
    group.bench_function("generate, ledger on", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            let pass = pass.fetch_add(1, Ordering::Relaxed);
            let sql = format!(
                "SELECT completion FROM generate((SELECT value FROM generate_series(1, {CALLS})), model => 'm', \
                 prompt => 'pass {pass} question ' || value)"
            );
            let frame = workspace.sql(&sql).await.expect("a plan");
            frame.collect().await.expect("rows").iter().map(|batch| batch.num_rows()).sum::<usize>()
        });
    });

    let asked = pass.load(Ordering::Relaxed);
    let sql = format!(
        "SELECT completion FROM generate((SELECT value FROM generate_series(1, {CALLS})), model => 'm', \
         prompt => 'pass {} question ' || value)",
        asked - 1
    );
    group.bench_function("generate, replayed", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            let frame = workspace.sql(&sql).await.expect("a plan");
            frame.collect().await.expect("rows").iter().map(|batch| batch.num_rows()).sum::<usize>()
        });
    });
    group.finish();
}

criterion_group!(benches, generate_beside_a_bare_loop);
criterion_main!(benches);
