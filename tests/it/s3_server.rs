//! An S3 server on a socket of this machine, over a temporary folder, that can be told to fail.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, IF_NONE_MATCH};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

const KEY: &str = "test-key-id";
const SECRET: &str = "test-secret-hush";

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// An error of the server's.
    Status(u16, &'static str),
    /// The connection ends before the answer; the request is not looked at.
    ResetBefore,
    /// The request is done, and the connection ends before the answer.
    ResetAfter,
    /// The answer ends in the middle of its body.
    Cut,
    /// No answer comes; the request is not looked at.
    Stall,
    /// The request waits until the gate is opened.
    Gate,
}

type Faults = Arc<Mutex<Box<dyn FnMut(&Method, &str) -> Option<Fault> + Send>>>;

pub struct S3Server {
    address: SocketAddr,
    folder: TempDir,
    requests: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    /// The paths that were read, with the bytes of the answers.
    reads: Arc<Mutex<Vec<(String, u64)>>>,
    gate: Arc<Semaphore>,
    faults: Faults,
    _runtime: Runtime,
}

impl S3Server {
    /// A server with one empty bucket, `bucket`.
    pub fn start() -> S3Server {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("bucket")).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = builder.build();
        let (requests, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (gate, reads) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
        let faults: Faults = Arc::new(Mutex::new(Box::new(|_, _| None)));
        let creating = Arc::new(tokio::sync::Mutex::new(()));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let answer = {
            let (requests, failed, faults) = (Arc::clone(&requests), Arc::clone(&failed), Arc::clone(&faults));
            let (gate, reads) = (Arc::clone(&gate), Arc::clone(&reads));
            move |request: Request| {
                let service = service.clone();
                requests.fetch_add(1, Ordering::Relaxed);
                let fault = (faults.lock().unwrap())(request.method(), &request.uri().to_string());
                if fault.is_some() {
                    failed.fetch_add(1, Ordering::Relaxed);
                }
                let (gate, reads, creating) = (Arc::clone(&gate), Arc::clone(&reads), Arc::clone(&creating));
                async move {
                    if fault == Some(Fault::Gate)
                        && let Ok(pass) = gate.acquire().await
                    {
                        pass.forget();
                    }
                    let read = (*request.method() == Method::GET).then(|| request.uri().path().to_owned());
                    let answered = answer(service, request, fault, &creating).await;
                    let bytes =
                        answered.headers().get(CONTENT_LENGTH).and_then(|bytes| bytes.to_str().ok()?.parse().ok());
                    if let (Some(path), Some(bytes)) = (read, bytes) {
                        reads.lock().unwrap().push((path, bytes));
                    }
                    answered
                }
            }
        };
        runtime.spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
        S3Server { address, folder, requests, failed, reads, gate, faults, _runtime: runtime }
    }

    /// What a user sets to use the server.
    pub fn variables(&self) -> Vec<(String, String)> {
        let set = [
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
            ("AWS_ACCESS_KEY_ID", KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            // What waits at the gate waits for other commands, and shall not be sent a second time meanwhile.
            ("AWS_TIMEOUT", "600s".to_owned()),
        ];
        set.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    /// From now on each request is asked about: its method, and its path with the query.
    pub fn fail(&self, faults: impl FnMut(&Method, &str) -> Option<Fault> + Send + 'static) {
        *self.faults.lock().unwrap() = Box::new(faults);
    }

    /// Lets one pass that waits at the gate.
    pub fn let_one_pass(&self) {
        self.gate.add_permits(1);
    }

    /// Lets all pass that wait at the gate.
    pub fn open_gate(&self) {
        self.gate.close();
    }

    /// How many requests have failed as they were told to.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub fn forget_reads(&self) {
        self.reads.lock().unwrap().clear();
    }

    /// The bytes of the answers to reads of objects whose paths have this in them.
    pub fn bytes_read(&self, part: &str) -> u64 {
        self.reads.lock().unwrap().iter().filter(|(path, _)| path.contains(part)).map(|(_, bytes)| bytes).sum()
    }

    /// The bucket as a folder: objects are files.
    pub fn bucket(&self) -> PathBuf {
        self.folder.path().join("bucket")
    }

    /// Puts an object, which is there as a whole or not at all.
    pub fn write(&self, key: &str, bytes: impl AsRef<[u8]>) {
        let (path, written) = (self.bucket().join(key), self.folder.path().join("written.part"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&written, bytes).unwrap();
        std::fs::rename(written, path).unwrap();
    }
}

/// `creating` is held by the one that creates an object where none may be: the service looks whether one is there, and
/// writes then.
async fn answer(
    service: S3Service,
    request: Request,
    fault: Option<Fault>,
    creating: &tokio::sync::Mutex<()>,
) -> Response {
    // A panic of the handler ends its connection; this one prints nothing.
    let reset = || -> Response { std::panic::resume_unwind(Box::new("reset")) };
    match fault {
        Some(Fault::ResetBefore) => return reset(),
        Some(Fault::Stall) => return std::future::pending().await,
        Some(Fault::Status(status, code)) => {
            let body = format!("<Error><Code>{code}</Code><Message>as told</Message></Error>");
            return (StatusCode::from_u16(status).unwrap(), body).into_response();
        }
        Some(Fault::ResetAfter | Fault::Cut | Fault::Gate) | None => {}
    }
    let creates = request.headers().contains_key(IF_NONE_MATCH);
    let answered = {
        let _alone = if creates { Some(creating.lock().await) } else { None };
        service.call(request.map(s3s::Body::http_body_unsync)).await
    };
    let Ok(answered) = answered else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let answered = answered.map(Body::new);
    match fault {
        Some(Fault::ResetAfter) => reset(),
        Some(Fault::Cut) => answered.map(|body| {
            let half = body.into_data_stream().take(1).map(|piece| {
                let piece = piece.map_err(std::io::Error::other)?;
                Ok(piece.slice(..piece.len() / 2))
            });
            let cut = futures::stream::iter([Err(std::io::Error::other("cut"))]);
            Body::from_stream(half.chain(cut))
        }),
        _ => answered,
    }
}
