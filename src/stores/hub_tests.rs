//! The store against a server on a socket that speaks the Hub's endpoints, and fails as it does.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use object_store::ObjectStoreExt;
use url::Url;

use super::super::{Stores, explain};
use super::*;

const ROWS: &str = "0123456789abcdefghijklmnopqrstuvwxyz";

/// How many requests of each kind came.
#[derive(Default)]
struct Counts {
    trees: AtomicUsize,
    files: AtomicUsize,
    busy: AtomicUsize,
}

async fn serve(counts: Arc<Counts>) -> (Arc<dyn ObjectStore>, String) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let router = {
        let endpoint = endpoint.clone();
        axum::Router::new().fallback(move |request: Request| {
            let (counts, endpoint) = (Arc::clone(&counts), endpoint.clone());
            async move { answer(&request, &counts, &endpoint) }
        })
    };
    tokio::spawn(async move { axum::serve(listener, router).await });
    let set = [("HF_ENDPOINT", endpoint.as_str()), ("HF_TOKEN", "hf_hush")];
    let variables = Variables::of(set.map(|(name, value)| (name.to_owned(), value.to_owned())));
    (Stores::new(variables).store(&Url::parse("hf://datasets/").unwrap()).unwrap(), endpoint)
}

fn answer(request: &Request, counts: &Counts, endpoint: &str) -> Response {
    let uri = request.uri().to_string();
    let token = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    assert_eq!(token, Some("Bearer hf_hush"));
    let file = |path: &str| serde_json::json!({"type": "file", "path": path, "size": ROWS.len(), "oid": "0f"});
    let folder = serde_json::json!({"type": "directory", "path": "main", "size": 0, "oid": "1f"});
    if uri.starts_with("/api/") {
        counts.trees.fetch_add(1, Ordering::Relaxed);
    }
    match uri.as_str() {
        "/api/datasets/team/data/tree/main?recursive=true" => {
            let link = format!("<{endpoint}/api/datasets/team/data/tree/main?recursive=true&cursor=2>; rel=\"next\"");
            let page = serde_json::json!([folder, file("main/train-0.csv"), file("README.md")]);
            ([(header::LINK, link)], page.to_string()).into_response()
        }
        "/api/datasets/team/data/tree/main?recursive=true&cursor=2" => {
            if counts.busy.fetch_add(1, Ordering::Relaxed) == 0 {
                return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "0")], "slow down").into_response();
            }
            serde_json::json!([file("main/test-0.csv")]).to_string().into_response()
        }
        "/api/datasets/team/script/tree/main?recursive=true" => {
            serde_json::json!([file("script.py"), file("dataset_infos.json")]).to_string().into_response()
        }
        "/api/datasets/team/script/tree/refs%2Fconvert%2Fparquet?recursive=true" => {
            serde_json::json!([file("default/train/0000.parquet")]).to_string().into_response()
        }
        "/api/datasets/team/gated/tree/main?recursive=true" => {
            (StatusCode::FORBIDDEN, [("x-error-code", "GatedRepo")], "no").into_response()
        }
        "/datasets/team/data/resolve/main/main/train-0.csv"
        | "/datasets/team/script/resolve/refs%2Fconvert%2Fparquet/default/train/0000.parquet" => {
            let range = request.headers()[header::RANGE].to_str().unwrap().trim_start_matches("bytes=").to_owned();
            let (start, end) = range.split_once('-').unwrap();
            let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse::<usize>().unwrap() + 1);
            let length = (end - start).to_string();
            // The first answer ends after 5 bytes, with an error or in silence.
            let cut = counts.files.fetch_add(1, Ordering::Relaxed) == 0;
            let pieces: Vec<Result<&'static str, std::io::Error>> = match cut {
                true => vec![Ok(&ROWS[start..(start + 5).min(end)]), Err(std::io::Error::other("cut"))],
                false => vec![Ok(&ROWS[start..end])],
            };
            let body = Body::from_stream(futures::stream::iter(pieces));
            (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_LENGTH, length)], body).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn names(store: &Arc<dyn ObjectStore>, prefix: &str) -> Vec<String> {
    let listed: Vec<ObjectMeta> = store.list(Some(&Path::from(prefix))).try_collect().await.unwrap();
    listed.into_iter().map(|meta| meta.location.to_string()).collect()
}

#[tokio::test]
async fn a_dataset_is_listed_over_pages_once_and_its_files_are_read_in_ranges_though_bodies_are_cut() {
    let counts = Arc::new(Counts::default());
    let (store, _) = serve(Arc::clone(&counts)).await;
    assert_eq!(names(&store, "team/data/main").await, ["team/data/main/test-0.csv", "team/data/main/train-0.csv"]);
    let here = store.list_with_delimiter(Some(&Path::from("team/data"))).await.unwrap();
    assert_eq!(here.common_prefixes, [Path::from("team/data/main")]);
    assert_eq!(here.objects[0].location, Path::from("team/data/README.md"));
    let train = Path::from("team/data/main/train-0.csv");
    assert_eq!(store.head(&train).await.unwrap().size, ROWS.len() as u64);
    assert_eq!(store.get(&train).await.unwrap().bytes().await.unwrap(), ROWS);
    assert_eq!(store.get_range(&train, 10..20).await.unwrap(), &ROWS[10..20]);
    // Two pages, one of them asked again; the first body twice.
    assert_eq!((counts.trees.load(Ordering::Relaxed), counts.files.load(Ordering::Relaxed)), (3, 3));
    assert!(matches!(store.head(&Path::from("team/data/none")).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn a_dataset_that_is_only_a_script_is_the_parquet_that_the_hub_made_of_it() {
    let (store, _) = serve(Arc::default()).await;
    assert_eq!(names(&store, "team/script").await, ["team/script/default/train/0000.parquet"]);
    let file = Path::from("team/script/default/train/0000.parquet");
    assert_eq!(store.get(&file).await.unwrap().bytes().await.unwrap(), ROWS);
    let told = names(&store, "team/script@refs/convert/parquet").await;
    assert_eq!(told, ["team/script@refs/convert/parquet/default/train/0000.parquet"]);
}

#[tokio::test]
async fn what_is_gated_or_missing_or_written_to_is_said_in_a_sentence() {
    let (store, _) = serve(Arc::default()).await;
    let gated = store.head(&Path::from("team/gated/x.csv")).await.unwrap_err();
    let said = explain(&gated);
    assert!(said.starts_with("hf://datasets/team/gated is gated") && !said.contains("hush"), "{said}");
    assert_eq!(names(&store, "team/none").await, Vec::<String>::new());
    let missing = store.head(&Path::from("team/none/x.csv")).await.unwrap_err();
    assert!(matches!(&missing, Error::NotFound { .. }) && explain(&missing).contains("is not there"));
    let written = store.put(&Path::from("team/data/x.csv"), "x".into()).await.unwrap_err();
    assert!(explain(&written).contains("hf:// is read only"));
    let unnamed = store.list(Some(&Path::from("team"))).try_collect::<Vec<_>>().await.unwrap_err();
    assert!(explain(&unnamed).contains("names no dataset"));
}
