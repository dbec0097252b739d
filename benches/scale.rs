//! What changes with size: calls a second against 200 ms latency beside a bare reqwest loop, the peak memory of 10,000,
//! 100,000 and 1,000,000 calls, and the replay of a million calls beside a plain scan of the same Parquet files. Each
//! part in a process of its own; the server in another.
//!
//!     cargo bench --bench scale [-- latency | memory]

#[path = "server/mod.rs"]
mod server;

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use seedmill::session::{OpenOptions, Workspace};
use serde_json::json;
use server::Server;

/// The variables by which this program is told to measure one thing: what, where, how many.
const PART: &str = "SEEDMILL_BENCH_PART";
const FOLDER: &str = "SEEDMILL_BENCH_FOLDER";
const CALLS: &str = "SEEDMILL_BENCH_CALLS";

fn main() {
    server::serve_if_asked();
    if let Ok(part) = std::env::var(PART) {
        let folder = PathBuf::from(std::env::var(FOLDER).expect("a folder"));
        let calls = std::env::var(CALLS).expect("a number").parse().expect("a number");
        runtime().block_on(measure(&part, &folder, calls));
        return;
    }
    let chosen: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let runs = |part: &str| chosen.is_empty() || chosen.iter().any(|name| name == part);
    if runs("latency") {
        let server = Server::start(Duration::from_millis(200));
        let folder = tempfile::tempdir().expect("a folder");
        println!("200 ms latency, 512 in flight; the limit is 512 / 0.2 s = 2560 calls/s");
        runtime().block_on(bare_loop(&server.url, 512, 20 * 2560));
        in_a_process("calls", &workspace(folder.path(), &server.url, 512), 20 * 2560);
    }
    if runs("memory") {
        let server = Server::start(Duration::ZERO);
        let folder = tempfile::tempdir().expect("a folder");
        println!("2 KB answers, a server that answers at once, 64 in flight");
        for calls in [10_000, 100_000, 1_000_000] {
            let at = folder.path().join(calls.to_string());
            std::fs::create_dir(&at).expect("a folder");
            in_a_process("calls", &workspace(&at, &server.url, 64), calls);
        }
        println!("the last ledger again, in new processes");
        let last = folder.path().join("1000000");
        in_a_process("replay", &last, 1_000_000);
        in_a_process("scan", &last, 1_000_000);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

/// What reqwest alone gets out of the server, timers and sockets of this machine.
async fn bare_loop(url: &str, in_flight: usize, calls: u64) {
    let client = reqwest::Client::new();
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let mut answers = stream::iter(0..calls)
        .map(|n| {
            let body = json!({"model": "m-1", "messages": [{"role": "user", "content": format!("question {n}")}]});
            let request = client.post(format!("{url}/chat/completions")).json(&body);
            async move { request.send().await.expect("an answer").bytes().await.expect("a body") }
        })
        .buffer_unordered(in_flight);
    let (mut rows, mut ramped) = (0, start);
    while answers.next().await.is_some() {
        rows += 1;
        if rows == calls / 10 {
            ramped = Instant::now();
        }
    }
    println!(
        "    bare {rows:>9} rows: {:>7.0}/s in all, {:>7.0}/s after the first tenth, {:>24.1} µs CPU a row",
        rows as f64 / start.elapsed().as_secs_f64(),
        (rows - calls / 10) as f64 / ramped.elapsed().as_secs_f64(),
        (cpu_seconds() - cpu) * 1e6 / rows as f64,
    );
}

/// A folder with the model `m`.
fn workspace(folder: &Path, url: &str, in_flight: usize) -> PathBuf {
    let settings = format!(
        "[models.m]\nprovider = \"openai\"\nbase_urls = [\"{url}\"]\nmodel = \"m-1\"\nmax_in_flight = {in_flight}\n\
         price_per_million = {{ input = 0.2, output = 0.6 }}\n\
         [tables.questions]\nlocation = \"questions.parquet\"\n"
    );
    std::fs::write(folder.join("seedmill.toml"), settings).expect("a configuration");
    folder.to_owned()
}

fn in_a_process(part: &str, folder: &Path, calls: u64) {
    let status = Command::new(std::env::current_exe().expect("this program"))
        .envs([(PART, part), (FOLDER, folder.to_str().expect("a path")), (CALLS, &calls.to_string())])
        .status()
        .expect("a process");
    assert!(status.success(), "{part} failed");
}

async fn measure(part: &str, folder: &Path, calls: u64) {
    let questions = folder.join("questions.parquet");
    if !questions.exists() {
        let context = datafusion::prelude::SessionContext::new();
        let copy = format!("COPY (SELECT value FROM generate_series(1, {calls})) TO '{}'", questions.display());
        context.sql(&copy).await.expect("a plan").collect().await.expect("a file");
    }
    let options = OpenOptions { root: Some(folder.to_owned()), ..OpenOptions::default() };
    let workspace = Workspace::open(options).await.expect("a workspace");
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let sql = match part {
        "calls" | "replay" => {
            "SELECT value, completion FROM generate(TABLE questions, model => 'm', prompt => 'question ' || value)"
        }
        _ => {
            let files = format!("{}/.seedmill/ledger/segment-*/calls.parquet", folder.display());
            let create = format!("CREATE EXTERNAL TABLE files STORED AS PARQUET LOCATION '{files}'");
            workspace.sql(&create).await.expect("a table");
            "SELECT call_id, response FROM files"
        }
    };
    let mut stream = workspace.sql(sql).await.expect("a plan").execute_stream().await.expect("a stream");
    let (mut rows, mut first) = (0, None);
    // Rows by second, for the rate once ramped.
    let mut ramped: Option<(Instant, u64)> = None;
    while let Some(batch) = stream.next().await {
        rows += batch.expect("rows").num_rows() as u64;
        first.get_or_insert(start.elapsed());
        if ramped.is_none() && rows >= calls / 10 {
            ramped = Some((Instant::now(), rows));
        }
    }
    let took = start.elapsed();
    let steady = ramped.map_or(0.0, |(at, before)| (rows - before) as f64 / at.elapsed().as_secs_f64());
    let cpu = cpu_seconds() - cpu;
    workspace.runtime.finish(Duration::from_secs(60)).await.expect("a sealed ledger");
    println!(
        "  {part:>6} {rows:>9} rows: {:>7.0}/s in all, {steady:>7.0}/s after the first tenth, first after {:>5.2} s, \
         {:>5.1} µs CPU a row, peak memory {:>5} MB",
        rows as f64 / took.as_secs_f64(),
        first.unwrap_or_default().as_secs_f64(),
        cpu * 1e6 / rows.max(1) as f64,
        peak_memory_kb() / 1000,
    );
}

/// Of this process, all threads.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) / 100.0
}

fn peak_memory_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).unwrap_or_default()
}
