//! `generate` beside the limit: a bare reqwest loop with the same concurrency against the same server, which answers
//! at once. The difference is what the plan, the ledger and its fsyncs cost.
//!
//!     cargo bench --bench generate

#[path = "server/mod.rs"]
mod server;

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use criterion::{Criterion, Throughput};
use futures::{StreamExt, stream};
use seedmill::session::{OpenOptions, Workspace};
use serde_json::json;
use server::Server;

const CALLS: u64 = 10_000;
const IN_FLIGHT: usize = 64;

fn main() {
    server::serve_if_asked();
    let mut criterion = Criterion::default().configure_from_args();
    generate_beside_a_bare_loop(&mut criterion);
    criterion.final_summary();
}

fn generate_beside_a_bare_loop(criterion: &mut Criterion) {
    let server = Server::start(Duration::ZERO);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut group = criterion.benchmark_group(format!("{CALLS} calls, {IN_FLIGHT} in flight"));
    group.sample_size(10).throughput(Throughput::Elements(CALLS)).measurement_time(Duration::from_secs(10));
    // Each pass asks what was never asked before, so that nothing is replayed.
    let pass = AtomicU64::new(0);

    let client = reqwest::Client::new();
    group.bench_function("bare reqwest loop", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            let pass = pass.fetch_add(1, Ordering::Relaxed);
            let answers = stream::iter(0..CALLS).map(|n| {
                let body = json!({"model": "m-1", "messages": [{"role": "user", "content": format!("pass {pass} question {n}")}]});
                let request = client.post(format!("{}/chat/completions", server.url)).json(&body);
                async move { request.send().await.expect("an answer").text().await.expect("a body").len() }
            });
            answers.buffer_unordered(IN_FLIGHT).collect::<Vec<_>>().await.len()
        });
    });

    let folder = tempfile::tempdir().expect("a folder");
    let workspace = runtime.block_on(workspace(folder.path(), &server.url));
    group.bench_function("generate over Parquet, ledger on", |bencher| {
        bencher.to_async(&runtime).iter(|| rows(&workspace, pass.fetch_add(1, Ordering::Relaxed)));
    });
    let asked = pass.load(Ordering::Relaxed) - 1;
    group.bench_function("the same, replayed from the ledger", |bencher| {
        bencher.to_async(&runtime).iter(|| rows(&workspace, asked));
    });
    group.finish();
}

/// A workspace with the model `m` and the table `questions` over a Parquet file.
async fn workspace(folder: &Path, url: &str) -> Workspace {
    let settings = format!(
        "[models.m]\nprovider = \"openai\"\nbase_urls = [\"{url}\"]\nmodel = \"m-1\"\nmax_in_flight = {IN_FLIGHT}\n\
         [tables.questions]\nlocation = \"questions.parquet\"\n"
    );
    std::fs::write(folder.join("seedmill.toml"), settings).expect("a configuration");
    let context = datafusion::prelude::SessionContext::new();
    let copy = format!(
        "COPY (SELECT value FROM generate_series(1, {CALLS})) TO '{}'",
        folder.join("questions.parquet").display()
    );
    context.sql(&copy).await.expect("a plan").collect().await.expect("a file");
    let options = OpenOptions { root: Some(folder.to_owned()), ..OpenOptions::default() };
    Workspace::open(options).await.expect("a workspace")
}

async fn rows(workspace: &Workspace, pass: u64) -> usize {
    let sql = format!(
        "SELECT completion FROM generate(TABLE questions, model => 'm', prompt => 'pass {pass} question ' || value)"
    );
    let frame = workspace.sql(&sql).await.expect("a plan");
    let mut stream = frame.execute_stream().await.expect("a stream");
    let mut rows = 0;
    while let Some(batch) = stream.next().await {
        rows += batch.expect("rows").num_rows();
    }
    rows
}
