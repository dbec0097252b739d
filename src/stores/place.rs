//! Where files are written: a folder of this machine, or a prefix of an object store.

use std::fmt;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use datafusion::common::{Result, plan_datafusion_err};
use futures::{StreamExt, TryStreamExt};
use object_store::buffered::BufWriter;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use tokio_util::bytes::Bytes;
use url::Url;

use super::{StoreError, Stores, explain};

/// The bytes of one part of a multipart upload; a smaller file is one put.
const PART_BYTES: usize = 8 << 20;
/// Parts that travel at once.
const PARTS: usize = 4;

/// A folder or a prefix.
#[derive(Debug, Clone)]
pub enum Place {
    Folder(PathBuf),
    Prefix(Prefix),
}

impl Place {
    /// A path, a `file://` URL (both folders), or any other URL.
    pub(super) fn new(location: &str, stores: &Arc<Stores>) -> Place {
        if !location.contains("://") {
            return Place::Folder(location.into());
        }
        match Url::parse(location).ok().filter(|url| url.scheme() == "file").and_then(|url| url.to_file_path().ok()) {
            Some(folder) => Place::Folder(folder),
            None => {
                Place::Prefix(Prefix { url: location.trim_end_matches('/').to_owned(), stores: Arc::clone(stores) })
            }
        }
    }

    pub fn folder(&self) -> Option<&FilePath> {
        match self {
            Place::Folder(folder) => Some(folder),
            Place::Prefix(_) => None,
        }
    }

    /// A place below this one.
    pub fn join(&self, name: &str) -> Place {
        match self {
            Place::Folder(folder) => Place::Folder(folder.join(name)),
            Place::Prefix(prefix) => Place::Prefix(prefix.join(name)),
        }
    }

    /// The store, and the place's path in it.
    pub fn store(&self) -> Result<(Arc<dyn ObjectStore>, Path)> {
        match self {
            Place::Folder(folder) => {
                let path = Path::from_absolute_path(real(folder)?).map_err(|e| plan_datafusion_err!("{e}"))?;
                Ok((Arc::new(LocalFileSystem::new()), path))
            }
            Place::Prefix(prefix) => prefix.store(),
        }
    }

    /// The store, and the path in it of what lies below the place; `name` has `/` between its parts.
    pub fn object(&self, name: &str) -> Result<(Arc<dyn ObjectStore>, Path)> {
        let (store, path) = self.store()?;
        Ok((store, below(&path, name)?))
    }

    /// As the URL of a folder, with a `/` at its end.
    pub fn folder_url(&self) -> Result<Url> {
        let wrong = |e: String| plan_datafusion_err!("{self} is no place of files: {e}");
        match self {
            Place::Folder(folder) => {
                Url::from_directory_path(real(folder)?).map_err(|()| wrong("it is no path of this machine".into()))
            }
            Place::Prefix(prefix) => Url::parse(&format!("{}/", prefix.url)).map_err(|e| wrong(e.to_string())),
        }
    }

    /// As a path, for records and messages: a URL stays as it is.
    pub fn name(&self) -> PathBuf {
        match self {
            Place::Folder(folder) => folder.clone(),
            Place::Prefix(prefix) => PathBuf::from(&prefix.url),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name().display().fmt(f)
    }
}

impl From<PathBuf> for Place {
    fn from(folder: PathBuf) -> Self {
        Place::Folder(folder)
    }
}

impl From<&PathBuf> for Place {
    fn from(folder: &PathBuf) -> Self {
        Place::Folder(folder.clone())
    }
}

impl From<&FilePath> for Place {
    fn from(folder: &FilePath) -> Self {
        Place::Folder(folder.to_owned())
    }
}

impl From<&Place> for Place {
    fn from(place: &Place) -> Self {
        place.clone()
    }
}

/// A folder by its whole path, without `..`, which paths in stores have not.
fn real(folder: &FilePath) -> std::io::Result<PathBuf> {
    std::fs::canonicalize(folder).or_else(|_| std::path::absolute(folder))
}

/// The path of what lies below a path. Both are taken as they are, as a listing names them: [`Path::from`] would write
/// `~`, `%` or `ü` of the prefix in another way than those who list the prefix.
fn below(path: &Path, name: &str) -> Result<Path, object_store::path::Error> {
    Path::parse(format!("{path}/{name}"))
}

/// A prefix of an object store. Nothing is connected to before the first use.
#[derive(Debug, Clone)]
pub struct Prefix {
    /// Without a `/` at its end.
    url: String,
    stores: Arc<Stores>,
}

impl Prefix {
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A prefix below this one. A `?` or `#` in a name would end the path of the URL.
    pub fn join(&self, name: &str) -> Prefix {
        let name = name.replace('?', "%3F").replace('#', "%23");
        Prefix { url: format!("{}/{name}", self.url), stores: Arc::clone(&self.stores) }
    }

    /// The store, and the prefix's path in it.
    pub fn store(&self) -> Result<(Arc<dyn ObjectStore>, Path)> {
        let wrong = |e: String| plan_datafusion_err!("{} is no URL of a place to write to: {e}", self.url);
        let url = Url::parse(&self.url).map_err(|e| wrong(e.to_string()))?;
        // What is joined to the URL would stand behind the mark, and all of it would be one object.
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("a '?' in a name is written %3F, and a '#' %23".into()));
        }
        let path = Path::from_url_path(url.path()).map_err(|e| wrong(e.to_string()))?;
        Ok((self.stores.store(&url)?, path))
    }

    /// The store, and the path in it of an object below the prefix; `name` has `/` between its parts.
    pub fn object(&self, name: &str) -> Result<(Arc<dyn ObjectStore>, Path), StoreError> {
        let (store, path) = self.store().map_err(|e| StoreError(e.strip_backtrace()))?;
        let path = below(&path, name).map_err(|e| StoreError(e.to_string()))?;
        Ok((store, path))
    }

    /// Writes an object whose name nobody else uses, as a whole or not at all.
    pub async fn put_new(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        match self.create(name, bytes).await? {
            true => Ok(()),
            false => Err(StoreError(format!("{}/{name} is already there and says something else", self.url))),
        }
    }

    /// Writes an object where none is, as a whole or not at all; `false` where another is. That it is there already with
    /// the same bytes means that the answer to an earlier attempt was lost.
    pub async fn create(&self, name: &str, bytes: Bytes) -> Result<bool, StoreError> {
        let (store, path) = self.object(name)?;
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match store.put_opts(&path, bytes.clone().into(), create).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                let there = async { store.get(&path).await?.bytes().await }.await;
                match there {
                    Ok(there) => Ok(there == bytes),
                    Err(e) => Err(StoreError(explain(&e))),
                }
            }
            Err(e) => Err(StoreError(format!("{}/{name} cannot be written: {}", self.url, explain(&e)))),
        }
    }

    /// Puts an object and takes it away again, where that is permitted.
    pub async fn try_write(&self, name: &str) -> Result<(), StoreError> {
        let (store, path) = self.object(name)?;
        store.put(&path, Bytes::new().into()).await.map_err(|e| StoreError(explain(&e)))?;
        if let Err(e) = store.delete(&path).await {
            tracing::warn!("{}/{name} cannot be removed: {}", self.url, explain(&e));
        }
        Ok(())
    }

    /// The bytes of an object; `None` where it is not there.
    pub async fn get(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        let (store, path) = self.object(name)?;
        match async { store.get(&path).await?.bytes().await }.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(StoreError(explain(&e))),
        }
    }

    /// A part of an object, up to its end; `None` where the object is not there.
    pub async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Option<Bytes>, StoreError> {
        let (store, path) = self.object(name)?;
        match store.get_range(&path, range).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(StoreError(explain(&e))),
        }
    }

    /// Begins an object that is there as a whole when the writer is shut down.
    pub fn writer(&self, name: &str) -> Result<BufWriter, StoreError> {
        let (store, path) = self.object(name)?;
        Ok(BufWriter::with_capacity(store, path, PART_BYTES).with_max_concurrency(PARTS))
    }

    /// Deletes objects below the prefix; one that is not there is none too many.
    pub async fn delete(&self, names: impl IntoIterator<Item = String>) -> Result<(), StoreError> {
        let (store, path) = self.store().map_err(|e| StoreError(e.strip_backtrace()))?;
        let paths: Vec<_> = names.into_iter().map(|name| below(&path, &name).map_err(Error::from)).collect();
        let mut deleted = store.delete_stream(futures::stream::iter(paths).boxed());
        while let Some(done) = deleted.next().await {
            match done {
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(e) => return Err(StoreError(format!("{} cannot be deleted: {}", self.url, explain(&e)))),
            }
        }
        Ok(())
    }

    /// Copies an object within the store, over what has the other name; `false` where it is not there.
    pub async fn copy(&self, from: &str, to: &str) -> Result<bool, StoreError> {
        let ((store, from), (_, target)) = (self.object(from)?, self.object(to)?);
        match store.copy(&from, &target).await {
            Ok(()) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(StoreError(format!("{}/{to} cannot be written: {}", self.url, explain(&e)))),
        }
    }

    /// Whether an object is there.
    pub async fn has(&self, name: &str) -> Result<bool, StoreError> {
        let (store, path) = self.object(name)?;
        match store.head(&path).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(StoreError(explain(&e))),
        }
    }

    /// All objects right below the prefix, with their names.
    pub async fn list(&self) -> Result<Vec<(String, ObjectMeta)>, StoreError> {
        let (store, path) = self.store().map_err(|e| StoreError(e.strip_backtrace()))?;
        let all: Vec<ObjectMeta> = store.list(Some(&path)).try_collect().await.map_err(|e| StoreError(explain(&e)))?;
        let depth = path.parts().count() + 1;
        let here = all.into_iter().filter(|meta| meta.location.parts().count() == depth);
        Ok(here.filter_map(|meta| Some((meta.location.filename()?.to_owned(), meta))).collect())
    }

    /// The paths of all objects below the prefix.
    pub async fn tree(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.files().await?.into_iter().map(|(path, _)| path).collect())
    }

    /// All objects below the prefix, by their paths from it.
    pub async fn files(&self) -> Result<Vec<(String, ObjectMeta)>, StoreError> {
        let (store, path) = self.store().map_err(|e| StoreError(e.strip_backtrace()))?;
        let all: Vec<ObjectMeta> = store.list(Some(&path)).try_collect().await.map_err(|e| StoreError(explain(&e)))?;
        let depth = path.parts().count();
        let relative = |meta: ObjectMeta| {
            let parts: Vec<String> = meta.location.parts().skip(depth).map(|part| part.as_ref().to_owned()).collect();
            (parts.join("/"), meta)
        };
        Ok(all.into_iter().map(relative).collect())
    }

    /// The names of files and folders right below the prefix.
    pub async fn here(&self) -> Result<(Vec<String>, Vec<String>), StoreError> {
        let (store, path) = self.store().map_err(|e| StoreError(e.strip_backtrace()))?;
        let listed = match store.list_with_delimiter(Some(&path)).await {
            Err(Error::NotFound { .. }) => return Ok((Vec::new(), Vec::new())),
            listed => listed.map_err(|e| StoreError(explain(&e)))?,
        };
        let name = |path: &Path| path.filename().map(str::to_owned);
        let files = listed.objects.iter().filter_map(|object| name(&object.location)).collect();
        Ok((files, listed.common_prefixes.iter().filter_map(name).collect()))
    }

    /// The names of the folders right below the prefix, sorted.
    pub async fn folders(&self) -> Result<Vec<String>, StoreError> {
        let (store, path) = self.store().map_err(|e| StoreError(e.strip_backtrace()))?;
        let listed = store.list_with_delimiter(Some(&path)).await.map_err(|e| StoreError(explain(&e)))?;
        let mut names: Vec<String> =
            listed.common_prefixes.iter().filter_map(|folder| folder.filename().map(str::to_owned)).collect();
        names.sort();
        Ok(names)
    }
}

impl From<StoreError> for datafusion::common::DataFusionError {
    fn from(error: StoreError) -> Self {
        datafusion::common::DataFusionError::External(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::Variables;

    #[test]
    fn an_object_lies_below_its_prefix_as_the_prefix_is_listed() {
        let aws = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "key")];
        let stores = Stores::new(Variables::of(aws.map(|(name, value)| (name.to_owned(), value.to_owned()))));
        let key = |url: &str| -> Result<String> {
            let (place, name) = (stores.place(url), "data/train-00000.parquet");
            let (below, prefix) = (place.object(name)?.1.to_string(), place.store()?.1.to_string());
            assert_eq!(below, if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") });
            Ok(prefix)
        };
        assert_eq!(key("s3://bucket").unwrap(), "");
        assert_eq!(key("s3://bucket/a/b-1_c.d/").unwrap(), "a/b-1_c.d");
        assert_eq!(key("s3://bucket/~me/ü").unwrap(), "~me/ü");
        assert_eq!(key("s3://bucket/{a}^[1]/%25%23").unwrap(), "{a}^[1]/%#");
        for mark in ["s3://bucket/a#b", "s3://bucket/a?b"] {
            let error = key(mark).unwrap_err().strip_backtrace();
            assert!(error.contains("%3F") && error.contains("%23"), "{error}");
        }
        let joined = stores.place("s3://bucket/a").join("b#c");
        assert_eq!(joined.to_string(), "s3://bucket/a/b%23c");
        assert_eq!(joined.store().unwrap().1.to_string(), "a/b#c");
    }

    #[tokio::test]
    async fn a_file_is_found_in_a_folder_of_any_name_and_past_a_parent() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("ä~#%[1]?*{}^");
        std::fs::create_dir_all(folder.join("data")).unwrap();
        std::fs::write(folder.join("data/x"), "1").unwrap();
        for folder in [folder.clone(), folder.join("data/..")] {
            let place = Place::Folder(folder);
            let (store, path) = place.object("data/x").unwrap();
            assert_eq!(store.head(&path).await.unwrap().size, 1);
            let url = place.join("data").folder_url().unwrap();
            assert!(url.path().ends_with('/') && url.to_file_path().unwrap().join("x").is_file(), "{url}");
        }
    }
}
