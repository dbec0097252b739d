//! Requests to the Hugging Face Hub: trees and files of datasets. Busy answers and broken connections are tried again,
//! `Retry-After` obeyed; a body that ends early goes on where it was cut.

use std::time::Duration;

use datafusion::common::{Result as DataFusionResult, plan_datafusion_err};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::{Error, Result};
use reqwest::header::{LINK, RANGE, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use tokio_util::bytes::Bytes;

use super::{StoreError, Variables, named};

const HUB: &str = "https://huggingface.co";
/// Of one request, or of one body without news.
const TRIES: u32 = 6;
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const SILENCE: Duration = Duration::from_secs(60);

/// A file or folder of a tree.
#[derive(Debug, Deserialize)]
pub(super) struct Entry {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) path: String,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default)]
    pub(super) oid: String,
}

#[derive(Clone)]
pub(super) struct HubClient {
    endpoint: String,
    /// Sent to the endpoint only: a redirect to another host goes without.
    token: Option<String>,
    client: Client,
}

impl HubClient {
    /// `HF_ENDPOINT`, `HF_TOKEN`, or the token that `huggingface-cli login` keeps.
    pub(super) fn new(variables: &Variables) -> DataFusionResult<HubClient> {
        let client = Client::builder()
            .user_agent(concat!("seedmill/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(20))
            .read_timeout(SILENCE)
            .build()
            .map_err(|e| plan_datafusion_err!("hf:// cannot be opened: {e}"))?;
        let endpoint = variables.get("HF_ENDPOINT").unwrap_or(HUB).trim_end_matches('/').to_owned();
        let told = variables.get("HF_TOKEN").or_else(|| variables.get("HUGGING_FACE_HUB_TOKEN")).map(str::to_owned);
        let kept = || {
            let home = variables.get("HF_HOME").map(std::path::PathBuf::from);
            let home =
                home.or_else(|| Some(std::path::Path::new(variables.get("HOME")?).join(".cache/huggingface")))?;
            std::fs::read_to_string(home.join("token")).ok()
        };
        let token = told.or_else(kept).map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        Ok(HubClient { endpoint, token, client })
    }

    /// All files of a dataset's revision; `None` where there is no such dataset or revision.
    pub(super) async fn tree(&self, id: &str, revision: &str) -> Result<Option<Vec<Entry>>> {
        let revision = revision.replace('/', "%2F");
        let mut next = Some(format!("{}/api/datasets/{id}/tree/{revision}?recursive=true", self.endpoint));
        let mut files = Vec::new();
        while let Some(url) = next.take() {
            let response = match self.get(&url, id, None).await {
                Err(Error::NotFound { .. }) => return Ok(None),
                response => response?,
            };
            // Only where it leads to the same place, which gets the token too.
            next = next_page(&response).filter(|next| next.starts_with(&self.endpoint));
            let page: Vec<Entry> = match response.json().await {
                Ok(page) => page,
                Err(e) => {
                    return Err(failed(format!("the tree of hf://datasets/{id} cannot be read: {}", named::plain(&e))));
                }
            };
            files.extend(page.into_iter().filter(|entry| entry.kind == "file"));
        }
        Ok(Some(files))
    }

    /// The bytes of a file from `start` to `end`.
    pub(super) fn bytes(
        &self,
        id: &str,
        revision: &str,
        path: &str,
        start: u64,
        end: u64,
    ) -> BoxStream<'static, Result<Bytes>> {
        let path: Vec<String> = path.split('/').map(encode).collect();
        let revision = revision.replace('/', "%2F");
        let url = format!("{}/datasets/{id}/resolve/{revision}/{}", self.endpoint, path.join("/"));
        let body = Body { client: self.clone(), url, id: id.to_owned(), at: start, end, open: None, tries: 0 };
        stream::try_unfold(body, |mut body| async move {
            let piece = body.next().await?;
            Ok(piece.map(|piece| (piece, body)))
        })
        .boxed()
    }

    async fn get(&self, url: &str, id: &str, range: Option<(u64, u64)>) -> Result<Response> {
        let mut tries = 0;
        loop {
            let mut request = self.client.get(url);
            if let Some(token) = &self.token {
                request = request.bearer_auth(token);
            }
            if let Some((start, end)) = range {
                request = request.header(RANGE, format!("bytes={start}-{}", end.saturating_sub(1)));
            }
            tries += 1;
            let (told, asked_wait) = match request.send().await {
                Ok(response) => match self.judge(response, id)? {
                    Judged::Good(response) => return Ok(response),
                    Judged::Busy(status, wait) => (status.to_string(), wait),
                },
                Err(e) => (named::plain(&e), None),
            };
            if tries == TRIES {
                return Err(failed(format!("hf://datasets/{id}: {told}, {TRIES} times")));
            }
            tokio::time::sleep(asked_wait.unwrap_or_else(|| wait_before(tries)).min(LONGEST_WAIT)).await;
        }
    }

    fn judge(&self, response: Response, id: &str) -> Result<Judged> {
        let status = response.status();
        let code = response.headers().get("x-error-code").and_then(|code| code.to_str().ok()).unwrap_or_default();
        let path = id.to_owned();
        match status {
            _ if status.is_success() => Ok(Judged::Good(response)),
            StatusCode::TOO_MANY_REQUESTS => Ok(Judged::Busy(status, retry_after(&response))),
            _ if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => {
                Ok(Judged::Busy(status, retry_after(&response)))
            }
            StatusCode::NOT_FOUND => {
                let source = Box::new(StoreError(format!("hf://datasets/{id}: what is asked for is not there")));
                Err(Error::NotFound { path, source })
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let what = match (code, &self.token) {
                    ("GatedRepo", None) => "is gated: accept its terms on its page and set HF_TOKEN",
                    ("GatedRepo", Some(_)) => {
                        "is gated, and the account of the token that is set has no access: ask for it on its page"
                    }
                    (_, None) => "is not there, or is private: check its name, and set HF_TOKEN if it is private",
                    (_, Some(_)) => "is not there, or the token that is set may not read it",
                };
                let source = Box::new(StoreError(format!("hf://datasets/{id} {what} ({})", status.as_u16())));
                Err(Error::PermissionDenied { path, source })
            }
            _ => Err(failed(format!("hf://datasets/{id}: the Hub answers {status}"))),
        }
    }
}

enum Judged {
    Good(Response),
    /// With the wait that the server asks for.
    Busy(StatusCode, Option<Duration>),
}

/// A body being read.
struct Body {
    client: HubClient,
    url: String,
    id: String,
    at: u64,
    end: u64,
    open: Option<Response>,
    /// Without news.
    tries: u32,
}

impl Body {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        while self.at < self.end {
            let response = match &mut self.open {
                Some(open) => open,
                None => {
                    let response = self.client.get(&self.url, &self.id, Some((self.at, self.end))).await?;
                    let whole = self.at == 0 && response.content_length() == Some(self.end);
                    if response.status() != StatusCode::PARTIAL_CONTENT && !whole {
                        return Err(failed(format!("{} gives no part of a file", self.client.endpoint)));
                    }
                    self.open.insert(response)
                }
            };
            let told = match response.chunk().await {
                Ok(Some(piece)) if !piece.is_empty() => {
                    let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
                    let piece = piece.slice(..piece.len().min(left));
                    self.at += piece.len() as u64;
                    self.tries = 0;
                    return Ok(Some(piece));
                }
                Ok(Some(_)) => continue,
                Ok(None) => "the answer ended too early".to_owned(),
                Err(e) => named::plain(&e),
            };
            self.open = None;
            self.tries += 1;
            if self.tries == TRIES {
                return Err(failed(format!("hf://datasets/{}: {told}, {TRIES} times", self.id)));
            }
            tokio::time::sleep(wait_before(self.tries)).await;
        }
        Ok(None)
    }
}

fn failed(sentence: String) -> Error {
    Error::Generic { store: "hf", source: Box::new(StoreError(sentence)) }
}

fn wait_before(tries: u32) -> Duration {
    FIRST_WAIT * 2u32.saturating_pow(tries.saturating_sub(1)).min(240)
}

fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    value.parse().ok().map(Duration::from_secs)
}

/// `Link: <…>; rel="next"`.
fn next_page(response: &Response) -> Option<String> {
    let links = response.headers().get(LINK)?.to_str().ok()?;
    let next = links.split(',').find(|link| link.contains("rel=\"next\""))?;
    Some(next.split('<').nth(1)?.split('>').next()?.to_owned())
}

/// One part of a path.
fn encode(part: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte);
    part.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
