//! A server of OpenAI's protocol in a process of its own, so that its work is not counted as ours. It answers every
//! request after a fixed time with 2 KB that compress as text does. In: a delay. Out: an address.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::post;

/// The variable by which the bench's own program is told to be the server; its value is the delay in milliseconds.
const ROLE: &str = "SEEDMILL_BENCH_SERVER_MS";

/// A running server; gone when dropped.
pub struct Server {
    child: Child,
    pub url: String,
}

impl Server {
    pub fn start(delay: Duration) -> Server {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .env(ROLE, delay.as_millis().to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a second process");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("its address");
        Server { child, url: line.trim().to_owned() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first line of a bench's `main`: does not return in the server's process.
pub fn serve_if_asked() {
    let Some(delay) = std::env::var(ROLE).ok().and_then(|ms| ms.parse().ok()).map(Duration::from_millis) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("http://{}/v1", listener.local_addr().expect("its address"));
        std::io::stdout().flush().expect("a pipe");
        let state = Arc::new((delay, AtomicU64::new(1)));
        let app = Router::new()
            .route("/v1/chat/completions", post(answer))
            .layer(DefaultBodyLimit::disable())
            .with_state(state);
        axum::serve(listener, app).await.expect("a server");
    });
    std::process::exit(0);
}

async fn answer(State(state): State<Arc<(Duration, AtomicU64)>>, _body: axum::body::Bytes) -> impl IntoResponse {
    if !state.0.is_zero() {
        tokio::time::sleep(state.0).await;
    }
    let text = text(state.1.fetch_add(1, Ordering::Relaxed));
    let body = format!(
        r#"{{"id":"c","object":"chat.completion","created":0,"model":"m-1","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":20,"completion_tokens":400,"total_tokens":420}}}}"#
    );
    ([(header::CONTENT_TYPE, "application/json")], body)
}

const WORDS: [&str; 32] = [
    "water", "stone", "river", "the", "of", "and", "because", "grows", "under", "light", "leaf", "cell", "heat",
    "moves", "through", "a", "small", "number", "energy", "when", "air", "cold", "is", "larger", "than", "surface",
    "mass", "force", "which", "changes", "plant", "slowly",
];

/// About 2 KB of words, others for each `nth`.
fn text(nth: u64) -> String {
    let mut text = String::with_capacity(2100);
    let mut state = nth.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while text.len() < 2000 {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push_str(WORDS[(state >> 59) as usize]);
        text.push(' ');
    }
    text
}
