//! A store in memory that holds up the first request of a kind until a test lets it go, and whose clock can be behind.

use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chrono::TimeDelta;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::oneshot;

#[derive(Debug, Default)]
pub struct GatedStore {
    inner: Arc<InMemory>,
    gate: Mutex<Option<Gate>>,
    older: Mutex<Option<(&'static str, TimeDelta)>>,
}

#[derive(Debug)]
struct Gate {
    request: &'static str,
    reached: oneshot::Sender<()>,
    go: oneshot::Receiver<()>,
}

impl GatedStore {
    /// Holds up the next request whose text (`list`, `get …`, `put …`) has this in it: told when it is there; it goes on
    /// when it is told to.
    pub fn hold(&self, request: &'static str) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let ((reached, is_there), (go_on, go)) = (oneshot::channel(), oneshot::channel());
        *self.gate.lock().unwrap() = Some(Gate { request, reached, go });
        (is_there, go_on)
    }

    /// From now on objects with this in their paths are listed as so much older than they are by the clock here.
    pub fn list_as_older(&self, name: &'static str, by: TimeDelta) {
        *self.older.lock().unwrap() = Some((name, by));
    }

    fn pass(&self, request: &str) -> impl Future<Output = ()> + Send + 'static {
        let gate = self.gate.lock().unwrap().take_if(|gate| request.contains(gate.request));
        async move {
            if let Some(gate) = gate {
                gate.reached.send(()).unwrap();
                gate.go.await.unwrap();
            }
        }
    }
}

impl fmt::Display for GatedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for GatedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.pass(&format!("put {location}")).await;
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.pass(&format!("get {location}")).await;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (pass, inner, prefix) = (self.pass("list"), Arc::clone(&self.inner), prefix.cloned());
        let older = *self.older.lock().unwrap();
        let stamped = move |mut meta: ObjectMeta| {
            if let Some((name, by)) = older
                && meta.location.to_string().contains(name)
            {
                meta.last_modified -= by;
            }
            meta
        };
        async move {
            pass.await;
            inner.list(prefix.as_ref())
        }
        .flatten_stream()
        .map_ok(stamped)
        .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
