//! Files of the Hugging Face Hub and of a web server as tables and as roots of datasets, over a server on a socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::runtime::Runtime;

use crate::fault_server::FaultServer;
use crate::scratch::Scratch;

const TRAIN: &str = "q,a\nOf France?,Paris\nOf Italy?,Rome\n";
const TEST: &str = "q,a\nOf Spain?,Madrid\n";

/// A Hub with one dataset, `team/capitals`, that is busy at first; any other path below `/plain/` is a file.
struct Hub {
    endpoint: String,
    requests: Arc<AtomicUsize>,
    _runtime: Runtime,
}

fn hub() -> Hub {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let router = {
        let requests = Arc::clone(&requests);
        axum::Router::new().fallback(move |request: Request| {
            let nth = requests.fetch_add(1, Ordering::Relaxed);
            async move { answer(&request, nth) }
        })
    };
    runtime.spawn(async move { axum::serve(listener, router).await });
    Hub { endpoint, requests, _runtime: runtime }
}

fn answer(request: &Request, nth: usize) -> Response {
    if nth == 0 {
        return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "0")], "slow down").into_response();
    }
    let file = |path: &str, text: &str| serde_json::json!({"type": "file", "path": path, "size": text.len(), "oid": format!("{:x}", text.len())});
    match request.uri().path() {
        "/api/datasets/team/capitals/tree/main" => {
            serde_json::json!([file("main/train-00000.csv", TRAIN), file("main/test-00000.csv", TEST)])
                .to_string()
                .into_response()
        }
        "/datasets/team/capitals/resolve/main/main/train-00000.csv" => part(request, TRAIN),
        "/datasets/team/capitals/resolve/main/main/test-00000.csv" => part(request, TEST),
        "/plain/rows.csv" => part(request, TRAIN),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The range that is asked for.
fn part(request: &Request, text: &'static str) -> Response {
    let modified = (header::LAST_MODIFIED, "Tue, 24 Nov 2026 12:00:00 GMT".to_owned());
    if request.method() == Method::HEAD {
        return ([modified, (header::CONTENT_LENGTH, text.len().to_string())], "").into_response();
    }
    let range = request.headers().get(header::RANGE).and_then(|range| range.to_str().ok()?.strip_prefix("bytes="));
    let Some((start, end)) = range.and_then(|range| range.split_once('-')) else {
        return ([modified], text).into_response();
    };
    let start: usize = start.parse().unwrap();
    let end = end.parse().map_or(text.len(), |end: usize| (end + 1).min(text.len()));
    let content = (header::CONTENT_RANGE, format!("bytes {start}-{}/{}", end - 1, text.len()));
    (StatusCode::PARTIAL_CONTENT, [modified, content], &text[start..end]).into_response()
}

fn scratch(model: &FaultServer, hub: &Hub, more: &str) -> Scratch {
    let variables = [("HF_ENDPOINT", hub.endpoint.clone()), ("HF_TOKEN", "hf_hush".to_owned())];
    Scratch::new(model.url(), 4, more).with_variables(&variables.map(|(name, value)| (name.to_owned(), value)))
}

#[test]
fn files_of_a_dataset_and_of_a_web_server_are_tables_and_held_out_ones_never_reach_a_call() {
    let (model, hub) = (FaultServer::start(crate::fault_server::answer), hub());
    let scratch = scratch(&model, &hub, "");
    assert_eq!(scratch.value("SELECT count(*) FROM 'hf://datasets/team/capitals/main/train-*.csv'"), "2");
    assert_eq!(scratch.value("SELECT count(*) FROM 'hf://datasets/team/capitals/*/train-*.csv'"), "2");
    assert_eq!(scratch.value("SELECT a FROM 'hf://datasets/team/capitals@main/main/test-00000.csv'"), "Madrid");
    assert_eq!(scratch.value(&format!("SELECT max(a) FROM '{}/plain/rows.csv'", hub.endpoint)), "Rome");
    let sql =
        "SELECT * FROM generate((SELECT q FROM 'hf://datasets/team/capitals/main/*.csv'), model => 'm', prompt => q)";
    let output = scratch.run(&["sql", "-c", sql]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("holds held-out rows (split test, says its file name)"), "{error}");
    assert_eq!(model.count(), 0);
    let output = scratch.run(&["sql", "-c", "COPY (SELECT 1) TO 'hf://datasets/team/capitals/x.csv'"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("'hf://datasets/team/capitals/x.csv' is read only") && error.lines().count() == 1,
        "{error}"
    );
}

#[test]
fn a_task_finds_its_dataset_on_the_hub_where_that_is_a_root() {
    let (model, hub) = (FaultServer::start(crate::fault_server::answer), hub());
    let more = "[tasks]\nfrom = [\"tasks\"]\n[data]\nroots = [\"hf://datasets\"]\n";
    let scratch = scratch(&model, &hub, more);
    scratch.write(
        "tasks/capitals.yaml",
        "task: capitals\ndataset_path: team/capitals\ndataset_name: main\noutput_type: generate_until\n\
         training_split: train\ntest_split: test\ndoc_to_text: \"{{q}}\"\ndoc_to_target: \"{{a}}\"\n\
         metadata:\n  license: CC0-1.0\n  capability: knowledge\n  format: short_answer\n  language: en\n",
    );
    assert_eq!(
        scratch.value("SELECT string_agg(question, ' ' ORDER BY source_row) FROM seeds"),
        "Of France? Of Italy?"
    );
    assert_eq!(scratch.value("SELECT answer_text FROM heldout.capitals"), "Madrid");
    assert!(hub.requests.load(Ordering::Relaxed) > 0);
}
