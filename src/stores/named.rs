//! A store whose errors are sentences that name the URL, the reason and what to do, and hold no secret.

use std::error::Error as StdError;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use regex::Regex;
use tokio_util::bytes::Bytes;

/// What is wrong with a store, in one sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);

/// The store's sentence somewhere below an error.
pub fn store_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a StoreError> {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(found) = error.downcast_ref::<StoreError>() {
            return Some(found);
        }
        at = error.source();
    }
    None
}

/// An error of a store as a sentence.
pub fn explain(error: &Error) -> String {
    store_error(error).map_or_else(|| plain(error), ToString::to_string)
}

/// What a client says, without the queries of URLs (a shared-access signature stands there), in one line.
pub(super) fn plain(error: &dyn StdError) -> String {
    static QUERY: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r#"([^<\s])\?[^\s"')>]+"#).ok());
    let text = error.to_string();
    let text = QUERY.as_ref().map_or_else(|| "the request failed".into(), |query| query.replace_all(&text, "$1"));
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(400) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// A store and the URL that it stands for, without a path.
#[derive(Debug)]
pub(super) struct Named {
    inner: Arc<dyn ObjectStore>,
    base: Arc<str>,
}

impl Named {
    pub(super) fn new(inner: Arc<dyn ObjectStore>, base: String) -> Named {
        Named { inner, base: base.into() }
    }

    /// For one object, or for a listing where there is none.
    fn told(&self, path: Option<&Path>) -> impl Fn(Error) -> Error + Send + 'static + use<> {
        let base = Arc::clone(&self.base);
        let url = path.map_or_else(|| base.to_string(), |path| format!("{base}/{path}"));
        move |error| told(&base, &url, error)
    }
}

/// Kinds that callers look at stay what they are.
fn told(base: &str, url: &str, error: Error) -> Error {
    let said = plain(&error);
    let because = |sentence: String| Box::new(StoreError(sentence));
    let code = |name: &str| said.contains(name);
    if code("NoSuchBucket") {
        // Not as NotFound, which readers take for an empty folder.
        let source = because(format!("there is no bucket {base}"));
        return Error::Generic { store: "object store", source };
    }
    match error {
        _ if code("InvalidAccessKeyId") => {
            let source = because(format!("{base} does not know the access key that is set"));
            Error::Unauthenticated { path: url.to_owned(), source }
        }
        _ if code("SignatureDoesNotMatch") => {
            let source = because(format!("{base} does not accept the secret key that is set"));
            Error::Unauthenticated { path: url.to_owned(), source }
        }
        Error::PermissionDenied { path, source } => match store_error(&*source) {
            Some(_) => Error::PermissionDenied { path, source },
            None => {
                let sentence = format!("the credentials that are set are wrong or do not permit this on {url} (403)");
                Error::PermissionDenied { path, source: because(sentence) }
            }
        },
        Error::Unauthenticated { path, source } => match store_error(&*source) {
            Some(_) => Error::Unauthenticated { path, source },
            None => {
                let source = because(format!("{url} wants other credentials than are set (401)"));
                Error::Unauthenticated { path, source }
            }
        },
        Error::NotFound { path, source } => match store_error(&*source) {
            Some(_) => Error::NotFound { path, source },
            None => Error::NotFound { path, source: because(format!("{url} is not there")) },
        },
        Error::Generic { source, .. } if code("403 Forbidden") && store_error(&*source).is_none() => {
            told(base, url, Error::PermissionDenied { path: url.to_owned(), source })
        }
        Error::Generic { store, source } => match store_error(&*source) {
            Some(_) => Error::Generic { store, source },
            None => Error::Generic { store, source: because(format!("{url}: {said}")) },
        },
        other => other,
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

#[async_trait]
impl ObjectStore for Named {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        // Who creates an object is of this house, and tells its own errors.
        let is_ours = matches!(opts.mode, PutMode::Create);
        let put = self.inner.put_opts(location, payload, opts).await.map_err(self.told(Some(location)));
        put.inspect_err(|e| {
            if !is_ours {
                warn_unwritten(e)
            }
        })
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let begun = self.inner.put_multipart_opts(location, opts).await.map_err(self.told(Some(location)));
        begun.inspect_err(warn_unwritten)
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut got = self.inner.get_opts(location, options).await.map_err(self.told(Some(location)))?;
        if let GetResultPayload::Stream(stream) = got.payload {
            got.payload = GetResultPayload::Stream(stream.map_err(self.told(Some(location))).boxed());
        }
        Ok(got)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await.map_err(self.told(Some(location)))
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations).map_err(self.told(None)).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let told = self.told(prefix);
        let listing = Listing {
            inner: Arc::clone(&self.inner),
            prefix: prefix.cloned(),
            is_sorted: !self.base.starts_with("http"),
            open: None,
            last: None,
            tries: 0,
        };
        stream::try_unfold(
            listing,
            |mut listing| async move { Ok(listing.next().await?.map(|object| (object, listing))) },
        )
        .map_err(told)
        .boxed()
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset).map_err(self.told(prefix)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut tries = 0;
        loop {
            match self.inner.list_with_delimiter(prefix).await {
                Err(e) if is_cut(&e) && tries < TRIES => tries += 1,
                listed => return listed.map_err(self.told(prefix)),
            }
            tokio::time::sleep(WAIT * tries).await;
        }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await.map_err(self.told(Some(from)))
    }
}

/// Says why a write failed: DataFusion's COPY only says that it did.
fn warn_unwritten(error: &Error) {
    if !matches!(error, Error::AlreadyExists { .. } | Error::Precondition { .. }) {
        tracing::warn!("not written: {}", explain(error));
    }
}

/// Answers to listings that end in the middle are asked for again; object_store does that for files only.
const TRIES: u32 = 5;
const WAIT: Duration = Duration::from_millis(100);

/// A listing that goes on behind the last object where its answer was cut.
struct Listing {
    inner: Arc<dyn ObjectStore>,
    prefix: Option<Path>,
    /// Whether it can go on behind an object.
    is_sorted: bool,
    open: Option<BoxStream<'static, Result<ObjectMeta>>>,
    last: Option<Path>,
    /// Without news.
    tries: u32,
}

impl Listing {
    async fn next(&mut self) -> Result<Option<ObjectMeta>> {
        loop {
            let open = self.open.get_or_insert_with(|| match &self.last {
                Some(last) => self.inner.list_with_offset(self.prefix.as_ref(), last),
                None => self.inner.list(self.prefix.as_ref()),
            });
            match open.next().await.transpose() {
                Ok(object) => {
                    self.tries = 0;
                    self.last = object.as_ref().map(|object| object.location.clone()).or(self.last.take());
                    return Ok(object);
                }
                Err(e) if is_cut(&e) && self.tries < TRIES && (self.is_sorted || self.last.is_none()) => {
                    self.tries += 1;
                    self.open = None;
                    tokio::time::sleep(WAIT * self.tries).await;
                }
                Err(e) => return Err(e),
            }
        }
    }
}

/// Whether an error is of the connection, and not an answer.
fn is_cut(error: &Error) -> bool {
    let said = error.to_string();
    matches!(error, Error::Generic { .. })
        && ["list response", "body", "connection", "Connection", "decod"].iter().any(|sign| said.contains(sign))
        && !said.contains("status code")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(said: &str) -> Error {
        Error::Generic { store: "S3", source: said.to_owned().into() }
    }

    #[test]
    fn an_error_is_a_sentence_with_the_url_and_without_signatures() {
        let tell = |error| explain(&told("s3://b", "s3://b/p/x", error));
        assert_eq!(tell(generic("404: <Code>NoSuchBucket</Code>")), "there is no bucket s3://b");
        let denied = Error::PermissionDenied { path: "p/x".into(), source: "<Code>AccessDenied</Code>".into() };
        assert_eq!(tell(denied), "the credentials that are set are wrong or do not permit this on s3://b/p/x (403)");
        let cut = tell(generic("error sending request for url (https://h/x?sig=hush&se=1): reset"));
        assert!(cut.contains("reset") && !cut.contains("hush"), "{cut}");
        assert!(matches!(
            told("b", "u", Error::NotFound { path: "p".into(), source: "".into() }),
            Error::NotFound { .. }
        ));
    }
}
