//! The datasets of the Hugging Face Hub as a store that is read only. A dataset whose files are no rows (it has only a
//! script that loads them) is the Parquet that the Hub has converted it to.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use datafusion::common::Result as DataFusionResult;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::OnceCell;

use super::hub_client::{Entry, HubClient};
use super::hub_path::{CONVERTED, Dataset};
use super::{StoreError, Variables};

/// Extensions of files that hold rows.
const ROWS: [&str; 11] = ["parquet", "jsonl", "ndjson", "json", "csv", "tsv", "arrow", "gz", "zst", "zip", "txt"];
/// JSON files that hold none.
const NO_ROWS: [&str; 3] = ["dataset_infos.json", "dataset_info.json", "state.json"];

#[derive(Clone)]
pub(super) struct Hub {
    client: HubClient,
    /// A dataset's files are asked for once: they are the same as long as the store lives.
    trees: Arc<Mutex<HashMap<Dataset, Asked>>>,
}

/// `None` for a dataset that is not there.
type Asked = Arc<OnceCell<Option<Arc<Tree>>>>;

/// The files of a revision, by path.
struct Tree {
    revision: String,
    files: Vec<Entry>,
}

impl Hub {
    pub(super) fn new(variables: &Variables) -> DataFusionResult<Hub> {
        Ok(Hub { client: HubClient::new(variables)?, trees: Arc::default() })
    }

    async fn tree(&self, dataset: &Dataset) -> Result<Option<Arc<Tree>>> {
        let cell =
            Arc::clone(self.trees.lock().unwrap_or_else(PoisonError::into_inner).entry(dataset.clone()).or_default());
        cell.get_or_try_init(|| self.read_tree(dataset)).await.cloned()
    }

    async fn read_tree(&self, dataset: &Dataset) -> Result<Option<Arc<Tree>>> {
        let read = async |revision: &str| {
            let files = self.client.tree(&dataset.id, revision).await?;
            Ok::<_, Error>(files.map(|mut files| {
                files.sort_by(|a, b| a.path.cmp(&b.path));
                Arc::new(Tree { revision: revision.to_owned(), files })
            }))
        };
        if let Some(revision) = &dataset.revision {
            return read(revision).await;
        }
        let main = read("main").await?;
        if main.as_ref().is_some_and(|tree| !tree.files.iter().any(|file| has_rows(&file.path))) {
            return Ok(read(CONVERTED).await?.or(main));
        }
        Ok(main)
    }

    /// The files below a path; of a dataset that is not there, none.
    async fn below(&self, prefix: Option<&Path>) -> Result<Vec<ObjectMeta>> {
        let whole = Path::default();
        let path = prefix.unwrap_or(&whole);
        let Some((dataset, folder)) = Dataset::parse(path) else {
            let sentence = format!("hf://datasets/{path} names no dataset: write hf://datasets/<owner>/<name>/…");
            return Err(Error::Generic { store: "hf", source: Box::new(StoreError(sentence)) });
        };
        let Some(tree) = self.tree(&dataset).await? else { return Ok(Vec::new()) };
        let inside = |file: &&Entry| {
            folder.is_empty() || file.path.strip_prefix(&folder).is_some_and(|rest| rest.starts_with('/'))
        };
        tree.files.iter().filter(inside).map(|file| meta(&dataset, file)).collect()
    }
}

fn has_rows(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    extension.is_some_and(|extension| ROWS.contains(&extension.as_str())) && !NO_ROWS.contains(&name)
}

fn meta(dataset: &Dataset, file: &Entry) -> Result<ObjectMeta> {
    Ok(ObjectMeta {
        location: Path::parse(format!("{}/{}", dataset.prefix, file.path))?,
        // The Hub says no time here; the file's own id tells versions apart.
        last_modified: DateTime::<Utc>::UNIX_EPOCH,
        size: file.size,
        e_tag: Some(file.oid.clone()).filter(|oid| !oid.is_empty()),
        version: None,
    })
}

fn read_only<T>() -> Result<T> {
    let source = Box::new(StoreError("hf:// is read only; write to a folder, or to s3://, gs:// or az://".into()));
    Err(Error::NotSupported { source })
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hub")
    }
}

impl fmt::Display for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hf://datasets")
    }
}

#[async_trait]
impl ObjectStore for Hub {
    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        read_only()
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        read_only()
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let not_there = || {
            let source = Box::new(StoreError(format!("hf://datasets/{location} is not there")));
            Error::NotFound { path: location.to_string(), source }
        };
        let (dataset, path) = Dataset::parse(location).ok_or_else(not_there)?;
        let tree = self.tree(&dataset).await?.ok_or_else(not_there)?;
        let at = tree.files.binary_search_by(|file| file.path.as_str().cmp(&path)).map_err(|_| not_there())?;
        let meta = meta(&dataset, &tree.files[at])?;
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            Some(range) => {
                range.as_range(meta.size).map_err(|e| Error::Generic { store: "hf", source: Box::new(e) })?
            }
            None => 0..meta.size,
        };
        let stream = if options.head {
            futures::stream::empty().boxed()
        } else {
            self.client.bytes(&dataset.id, &tree.revision, &path, range.start, range.end)
        };
        Ok(GetResult { payload: GetResultPayload::Stream(stream), meta, range, attributes: Attributes::default() })
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        futures::stream::once(async { read_only() }).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (hub, prefix) = (self.clone(), prefix.cloned());
        let files = async move { hub.below(prefix.as_ref()).await };
        futures::stream::once(files)
            .map_ok(|files| futures::stream::iter(files.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let depth = prefix.map_or(0, |prefix| prefix.parts().count());
        let (mut objects, mut common_prefixes) = (Vec::new(), Vec::new());
        for file in self.below(prefix).await? {
            if file.location.parts().count() == depth + 1 {
                objects.push(file);
                continue;
            }
            let folder = Path::from_iter(file.location.parts().take(depth + 1));
            if common_prefixes.last() != Some(&folder) {
                common_prefixes.push(folder);
            }
        }
        Ok(ListResult { objects, common_prefixes })
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        read_only()
    }
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
