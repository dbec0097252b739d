//! Stores in which what is written gets its names together, when all of it is there: DataFusion's writers end each file
//! that they have begun also where the query has failed. In: the session's stores. Out: the same stores, whose files are
//! uploads that nobody sees until [`HeldStores::name_all`].

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use datafusion::common;
use datafusion::execution::object_store::ObjectStoreRegistry;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use tokio::runtime::Handle;
use tokio_util::bytes::Bytes;
use url::Url;

/// Files that get their names at a time.
const NAMED_AT_ONCE: usize = 8;

/// The stores of one COPY.
#[derive(Debug)]
pub struct HeldStores {
    inner: Arc<dyn ObjectStoreRegistry>,
    held: Arc<Held>,
}

impl HeldStores {
    pub fn new(inner: Arc<dyn ObjectStoreRegistry>) -> Self {
        HeldStores { inner, held: Arc::default() }
    }

    /// Gives all that has been written its names, one file after the other: each is there as a whole or not at all.
    ///
    /// # Errors
    /// The first file that cannot have its name; the others have theirs.
    pub async fn name_all(&self) -> Result<()> {
        let (whole, broken): (Vec<_>, Vec<_>) = self.held.take().into_iter().partition(|upload| upload.is_whole);
        abort(broken).await;
        let named: Vec<Result<()>> = stream::iter(whole)
            .map(|mut upload| async move {
                let named = upload.inner.complete().await.map(drop);
                if named.is_err() {
                    abort(vec![upload]).await;
                }
                named
            })
            .buffer_unordered(NAMED_AT_ONCE)
            .collect()
            .await;
        named.into_iter().collect()
    }

    /// Takes away what has been written.
    pub async fn give_up(&self) {
        abort(self.held.take()).await;
    }
}

impl ObjectStoreRegistry for HeldStores {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.inner.register_store(url, store)
    }

    fn deregister_store(&self, url: &Url) -> common::Result<Arc<dyn ObjectStore>> {
        self.inner.deregister_store(url)
    }

    fn get_store(&self, url: &Url) -> common::Result<Arc<dyn ObjectStore>> {
        let inner = self.inner.get_store(url)?;
        Ok(Arc::new(HeldStore { inner, is_local: url.scheme() == "file", held: Arc::clone(&self.held) }))
    }
}

/// Uploads that have no name yet.
#[derive(Debug, Default)]
struct Held(Mutex<Vec<Unnamed>>);

#[derive(Debug)]
struct Unnamed {
    inner: Box<dyn MultipartUpload>,
    /// A file of this machine, and no object.
    is_local: bool,
    /// Whether its writer has come to its end.
    is_whole: bool,
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, Vec<Unnamed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<Unnamed> {
        std::mem::take(&mut *self.lock())
    }
}

impl Drop for Held {
    /// The query was given up.
    fn drop(&mut self) {
        let (local, objects): (Vec<_>, Vec<_>) = self.take().into_iter().partition(|upload| upload.is_local);
        if !local.is_empty() {
            // object_store leaves the removal to a runtime where there is one, which may be about to end. A thread of its
            // own has none.
            let _ = std::thread::spawn(move || drop(local)).join();
        }
        // What is not ended here is ended by the bucket's rule for unfinished uploads.
        if let Ok(runtime) = Handle::try_current()
            && !objects.is_empty()
        {
            runtime.spawn(abort(objects));
        }
    }
}

/// What cannot be taken away either is as good as not there: it has no name.
async fn abort(uploads: Vec<Unnamed>) {
    stream::iter(uploads)
        .for_each_concurrent(NAMED_AT_ONCE, |mut upload| async move {
            if let Err(e) = upload.inner.abort().await {
                tracing::debug!("an unfinished upload is left: {e}");
            }
        })
        .await;
}

#[derive(Debug)]
struct HeldStore {
    inner: Arc<dyn ObjectStore>,
    is_local: bool,
    held: Arc<Held>,
}

impl fmt::Display for HeldStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for HeldStore {
    /// As an upload of one part, which needs no room in memory until it gets its name.
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if opts.mode != PutMode::Overwrite {
            return self.inner.put_opts(location, payload, opts).await;
        }
        let PutOptions { tags, attributes, extensions, .. } = opts;
        let mut upload =
            self.put_multipart_opts(location, PutMultipartOptions { tags, attributes, extensions }).await?;
        if payload.content_length() > 0 {
            upload.put_part(payload).await?;
        }
        upload.complete().await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.inner.put_multipart_opts(location, opts).await?;
        let upload = Unnamed { inner, is_local: self.is_local, is_whole: false };
        Ok(Box::new(HeldUpload { upload: Some(upload), held: Arc::clone(&self.held) }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

/// A file on its way. Its end is no end yet; dropped before that it is taken away with the others.
#[derive(Debug)]
struct HeldUpload {
    upload: Option<Unnamed>,
    held: Arc<Held>,
}

impl HeldUpload {
    fn hand_over(&mut self, is_whole: bool) {
        if let Some(upload) = self.upload.take() {
            self.held.lock().push(Unnamed { is_whole, ..upload });
        }
    }
}

/// What a writer does after the end of its file.
fn ended() -> object_store::Error {
    object_store::Error::Generic { store: "upload", source: "the file has been ended already".into() }
}

#[async_trait]
impl MultipartUpload for HeldUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        match &mut self.upload {
            Some(upload) => upload.inner.put_part(data),
            None => Box::pin(async { Err(ended()) }),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        if self.upload.is_none() {
            return Err(ended());
        }
        self.hand_over(true);
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> Result<()> {
        match self.upload.take() {
            Some(mut upload) => upload.inner.abort().await,
            None => Err(ended()),
        }
    }
}

impl Drop for HeldUpload {
    fn drop(&mut self) {
        self.hand_over(false);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path as FilePath;

    use object_store::ObjectStoreExt;

    use super::*;
    use crate::stores::{Stores, Variables};

    /// A store in which a file has been put, one written in parts, and one left in the middle.
    async fn written(folder: &FilePath) -> HeldStores {
        let stores = HeldStores::new(Stores::new(Variables::of([])));
        let store = stores.get_store(&Url::parse("file:///").unwrap()).unwrap();
        let place = |name: &str| Path::from_absolute_path(folder.join(name)).unwrap();
        store.put(&place("one"), Bytes::from_static(b"new").into()).await.unwrap();
        store.put(&place("none"), PutPayload::default()).await.unwrap();
        let mut parts = store.put_multipart(&place("deep/two")).await.unwrap();
        parts.put_part(Bytes::from_static(b"a").into()).await.unwrap();
        parts.put_part(Bytes::from_static(b"b").into()).await.unwrap();
        parts.complete().await.unwrap();
        let mut broken = store.put_multipart(&place("broken")).await.unwrap();
        broken.put_part(Bytes::from_static(b"a").into()).await.unwrap();
        stores
    }

    fn files(folder: &FilePath) -> BTreeSet<String> {
        let names = |folder: &FilePath| -> Vec<String> {
            let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
            let files = entries.map(|entry| entry.unwrap()).filter(|entry| entry.file_type().unwrap().is_file());
            files.map(|entry| entry.file_name().into_string().unwrap()).collect()
        };
        names(folder).into_iter().chain(names(&folder.join("deep"))).collect()
    }

    #[tokio::test]
    async fn files_get_their_names_together_and_what_is_broken_gets_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = std::fs::canonicalize(folder.path()).unwrap();
        std::fs::write(path.join("one"), "old").unwrap();
        let stores = written(&path).await;
        assert_eq!(std::fs::read_to_string(path.join("one")).unwrap(), "old");
        assert!(!path.join("deep/two").exists());
        stores.name_all().await.unwrap();
        assert_eq!(std::fs::read_to_string(path.join("one")).unwrap(), "new");
        assert_eq!(std::fs::read_to_string(path.join("deep/two")).unwrap(), "ab");
        assert_eq!(files(&path), BTreeSet::from(["none", "one", "two"].map(str::to_owned)));
    }

    #[tokio::test]
    async fn what_is_given_up_leaves_nothing_behind() {
        for drop_only in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let path = std::fs::canonicalize(folder.path()).unwrap();
            std::fs::write(path.join("one"), "old").unwrap();
            let stores = written(&path).await;
            if !drop_only {
                stores.give_up().await;
            }
            drop(stores);
            assert_eq!(std::fs::read_to_string(path.join("one")).unwrap(), "old");
            assert_eq!(files(&path), BTreeSet::from(["one".to_owned()]), "{drop_only}");
        }
    }
}
