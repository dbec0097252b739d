//! Files of web servers whose URL has a query: a signature that permits to read one file for some time. Names of tables,
//! plans, errors and logs have the URL without it; here it is put back into the request.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use datafusion::common::{Result as DataFusionResult, plan_datafusion_err};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::http::HttpStore;
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use regex::Regex;
use reqwest::header::{CONTENT_RANGE, ETAG, LAST_MODIFIED, RANGE};
use reqwest::{Client, Response, StatusCode};
use url::Url;

use super::{StoreError, named};

/// Of one request, or of one body without news.
const TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(250);
const SILENCE: Duration = Duration::from_secs(60);

/// Whole URLs by what stands before their queries.
#[derive(Clone, Default)]
pub(super) struct Signatures(Arc<Mutex<HashMap<String, String>>>);

impl Signatures {
    /// Takes the query of an http(s) URL into keeping and gives the URL without it; `None` where there is none.
    pub(super) fn take(&self, location: &str) -> Option<String> {
        let (plain, query) = location.split_once('?')?;
        let is_web = plain.starts_with("https://") || plain.starts_with("http://");
        // A `?` alone is a pattern's.
        if !is_web || !query.contains('=') {
            return None;
        }
        let mut url = Url::parse(location).ok()?;
        url.set_fragment(None);
        let name = name(&super::key(&url), &Path::from_url_path(url.path()).ok()?);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, url.to_string());
        Some(plain.to_owned())
    }

    fn of(&self, name: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

/// A text without the queries of web addresses, each character of which is `*`: places in it stay where they are.
pub fn without_queries(text: &str) -> String {
    static QUERY: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r#"(https?://[^\s'"?]*\?)([^\s'"]*)"#).ok());
    let Some(query) = QUERY.as_ref() else { return text.to_owned() };
    let masked = |found: &regex::Captures<'_>| match found[2].contains('=') {
        true => format!("{}{}", &found[1], "*".repeat(found[2].chars().count())),
        false => found[0].to_owned(),
    };
    query.replace_all(text, masked).into_owned()
}

fn name(base: &str, path: &Path) -> String {
    format!("{base}/{path}")
}

/// The files of a web server.
pub(super) struct Web {
    inner: HttpStore,
    base: String,
    signatures: Signatures,
    client: Client,
}

impl Web {
    pub(super) fn new(inner: HttpStore, base: String, signatures: Signatures) -> DataFusionResult<Web> {
        let client = Client::builder()
            .user_agent(concat!("seedmill/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(20))
            .read_timeout(SILENCE)
            .build()
            .map_err(|e| plan_datafusion_err!("{base} cannot be opened: {e}"))?;
        Ok(Web { inner, base, signatures, client })
    }

    /// A signature is for one method: a size is asked for with the first byte.
    async fn get_signed(&self, url: String, path: &Path, options: GetOptions) -> Result<GetResult> {
        let file = SignedFile { client: self.client.clone(), url, name: name(&self.base, path) };
        let range = match (&options.range, options.head) {
            (_, true) => "bytes=0-0".to_owned(),
            (None, false) => "bytes=0-".to_owned(),
            (Some(GetRange::Bounded(range)), false) => format!("bytes={}-{}", range.start, range.end.max(1) - 1),
            (Some(GetRange::Offset(start)), false) => format!("bytes={start}-"),
            (Some(GetRange::Suffix(length)), false) => format!("bytes=-{length}"),
        };
        let response = file.get(&range).await?;
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        // `bytes 0-0/1234`; a server that gives no parts gives all.
        let part = header(CONTENT_RANGE).and_then(|part| {
            let (range, size) = part.strip_prefix("bytes ")?.split_once('/')?;
            let (start, last) = range.split_once('-')?;
            Some((start.parse::<u64>().ok()?, last.parse::<u64>().ok()? + 1, size.parse::<u64>().ok()?))
        });
        let (start, end, size) = match (part, response.content_length()) {
            (Some(part), _) => part,
            // Empty files have no first byte.
            (None, _) if response.status() == StatusCode::RANGE_NOT_SATISFIABLE => (0, 0, 0),
            (None, Some(size)) if options.head || options.range.is_none() => (0, size, size),
            _ => return Err(file.failed(format!("{} gives no parts of a file", self.base))),
        };
        let modified = header(LAST_MODIFIED).and_then(|time| DateTime::parse_from_rfc2822(time).ok());
        let meta = ObjectMeta {
            location: path.clone(),
            last_modified: modified.map_or(DateTime::<Utc>::UNIX_EPOCH, |time| time.to_utc()),
            size,
            e_tag: header(ETAG).map(str::to_owned),
            version: None,
        };
        options.check_preconditions(&meta)?;
        let (range, stream) = match options.head || start == end {
            true => (0..size, stream::empty().boxed()),
            false => (start..end, file.body(response, start, end)),
        };
        Ok(GetResult { payload: GetResultPayload::Stream(stream), meta, range, attributes: Attributes::default() })
    }
}

/// A file behind a signature.
struct SignedFile {
    client: Client,
    url: String,
    /// Without the signature.
    name: String,
}

impl SignedFile {
    async fn get(&self, range: &str) -> Result<Response> {
        let mut tries = 0;
        loop {
            tries += 1;
            let told = match self.client.get(&self.url).header(RANGE, range).send().await {
                Ok(response) => match response.status() {
                    status if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE => {
                        return Ok(response);
                    }
                    StatusCode::NOT_FOUND => {
                        let source = Box::new(StoreError(format!("{} is not there", self.name)));
                        return Err(Error::NotFound { path: self.name.clone(), source });
                    }
                    status @ (StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST) => {
                        let sentence = format!(
                            "{} does not accept the query of its URL, whose time may be over ({})",
                            self.name,
                            status.as_u16()
                        );
                        let source = Box::new(StoreError(sentence));
                        return Err(Error::PermissionDenied { path: self.name.clone(), source });
                    }
                    status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => status.to_string(),
                    status => return Err(self.failed(format!("{} answers {status}", self.name))),
                },
                Err(e) => named::plain(&e.without_url()),
            };
            if tries == TRIES {
                return Err(self.failed(format!("{}: {told}, {TRIES} times", self.name)));
            }
            tokio::time::sleep(FIRST_WAIT * 2u32.pow(tries)).await;
        }
    }

    /// The bytes from `at` to `end`; where the answer is cut it goes on.
    fn body(self, open: Response, at: u64, end: u64) -> BoxStream<'static, Result<tokio_util::bytes::Bytes>> {
        let state = (self, Some(open), at, 0);
        stream::try_unfold(state, move |(file, mut open, at, mut tries)| async move {
            if at >= end {
                return Ok(None);
            }
            loop {
                let response = match &mut open {
                    Some(open) => open,
                    None => open.insert(file.get(&format!("bytes={at}-{}", end - 1)).await?),
                };
                let told = match response.chunk().await {
                    Ok(Some(piece)) if piece.is_empty() => continue,
                    Ok(Some(piece)) => {
                        let next = at + piece.len() as u64;
                        return Ok(Some((piece, (file, open, next, 0))));
                    }
                    Ok(None) => "the answer ended too early".to_owned(),
                    Err(e) => named::plain(&e.without_url()),
                };
                open = None;
                tries += 1;
                if tries == TRIES {
                    return Err(file.failed(format!("{}: {told}, {TRIES} times", file.name)));
                }
            }
        })
        .boxed()
    }

    fn failed(&self, sentence: String) -> Error {
        Error::Generic { store: "http", source: Box::new(StoreError(sentence)) }
    }
}

impl fmt::Debug for Web {
    /// Without the signatures.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Web({})", self.base)
    }
}

impl fmt::Display for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

#[async_trait]
impl ObjectStore for Web {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.signatures.of(&name(&self.base, location)) {
            Some(url) => self.get_signed(url, location, options).await,
            None => self.inner.get_opts(location, options).await,
        }
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_taken_off_a_web_address_and_a_pattern_stays() {
        let signatures = Signatures::default();
        let signed = "https://host:8443/a%20b/x.parquet?X-Amz-Signature=hush&X-Amz-Date=1";
        assert_eq!(signatures.take(signed).unwrap(), "https://host:8443/a%20b/x.parquet");
        assert_eq!(signatures.of("https://host:8443/a b/x.parquet").unwrap(), signed);
        for other in ["https://host/x-?.parquet", "s3://b/x.parquet?a=1", "https://host/x.parquet", "x?a=1"] {
            assert_eq!(signatures.take(other), None, "{other}");
        }
    }

    #[test]
    fn a_text_is_as_long_without_its_queries() {
        let sql = "SELECT * FROM 'https://h/x.csv?sig=hush&x=1' WHERE a = '?' AND b LIKE 'https://h/?'";
        let shown = without_queries(sql);
        assert_eq!(shown, "SELECT * FROM 'https://h/x.csv?************' WHERE a = '?' AND b LIKE 'https://h/?'");
        assert_eq!(without_queries("no address; did you mean 'x'?"), "no address; did you mean 'x'?");
    }
}
