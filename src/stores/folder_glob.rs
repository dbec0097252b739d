//! Patterns whose wildcards stand for folders: `data/*/train.jsonl`, `data/**/*.csv`. In: a URL with its pattern. Out: the
//! folder before the first wildcard, and stores that list the pattern's files in it and no others.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::{self, plan_datafusion_err};
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::execution::object_store::ObjectStoreRegistry;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, future};
use glob::{MatchOptions, Pattern};
use object_store::path::{DELIMITER, Path};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use tokio_util::bytes::Bytes;
use url::Url;

/// As in a shell: no wildcard but `**` stands for a `/`, and none for the dot that hides a file or folder (`.git`,
/// `.seedmill`).
const AS_IN_A_SHELL: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// The files of a pattern that names folders.
#[derive(Debug, Clone)]
pub struct FolderGlob {
    folder: ListingTableUrl,
    /// Of paths below the folder.
    pattern: Pattern,
}

impl FolderGlob {
    /// `None` where there is no pattern, or one of names in a single folder, which DataFusion lists by itself.
    pub fn of(url: &ListingTableUrl) -> common::Result<Option<FolderGlob>> {
        let glob = url.get_glob().as_ref().map(Pattern::as_str);
        let Some(glob) = glob.filter(|glob| glob.contains(DELIMITER) || *glob == "**") else { return Ok(None) };
        // A folder is all files in it.
        let glob = if glob.ends_with(DELIMITER) { format!("{glob}*") } else { glob.to_owned() };
        let pattern = Pattern::new(&glob).map_err(|e| plan_datafusion_err!("'{glob}' is no pattern of paths: {e}"))?;
        Ok(Some(FolderGlob { folder: ListingTableUrl::try_new(url.get_url().clone(), None)?, pattern }))
    }

    /// What stands before the part with the first wildcard.
    pub fn folder(&self) -> &ListingTableUrl {
        &self.folder
    }

    /// Whether its folders are partitions, as in `year=*/x.csv`.
    pub fn names_partitions(&self) -> bool {
        self.pattern.as_str().contains('=')
    }

    /// The folder as CREATE EXTERNAL TABLE takes all files in it. Of a folder of this machine DataFusion takes those with the
    /// format's extension (no .jsonl for JSON); a pattern of its own keeps it from that.
    pub fn all_in_folder(&self) -> common::Result<String> {
        if self.folder.scheme() != "file" {
            return Ok(self.folder.as_str().to_owned());
        }
        let path = self.folder.get_url().to_file_path().ok();
        let path = path.as_ref().and_then(|path| path.to_str());
        let path = path.ok_or_else(|| plan_datafusion_err!("{} is no path of this machine", self.folder))?;
        // A `[` of a folder's own name begins no pattern.
        Ok(format!("{}/*", Pattern::escape(path.trim_end_matches('/'))))
    }

    /// The stores with no other file below the folder than the pattern's.
    pub fn stores(&self, inner: &Arc<dyn ObjectStoreRegistry>) -> Arc<dyn ObjectStoreRegistry> {
        Arc::new(MatchingStores { inner: Arc::clone(inner), glob: self.clone() })
    }

    pub(super) fn matches(&self, path: &Path) -> bool {
        let Some(names) = self.folder.strip_prefix(path) else { return false };
        let below = names.collect::<Vec<_>>().join(DELIMITER);
        self.pattern.matches_with(&below, AS_IN_A_SHELL)
    }
}

#[derive(Debug)]
struct MatchingStores {
    inner: Arc<dyn ObjectStoreRegistry>,
    glob: FolderGlob,
}

impl ObjectStoreRegistry for MatchingStores {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.inner.register_store(url, store)
    }

    fn deregister_store(&self, url: &Url) -> common::Result<Arc<dyn ObjectStore>> {
        self.inner.deregister_store(url)
    }

    fn get_store(&self, url: &Url) -> common::Result<Arc<dyn ObjectStore>> {
        Ok(Arc::new(MatchingStore { inner: self.inner.get_store(url)?, glob: self.glob.clone() }))
    }
}

/// A store whose listings have only what matches.
#[derive(Debug)]
struct MatchingStore {
    inner: Arc<dyn ObjectStore>,
    glob: FolderGlob,
}

impl fmt::Display for MatchingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for MatchingStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
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
        let glob = self.glob.clone();
        self.inner.list(prefix).try_filter(move |object| future::ready(glob.matches(&object.location))).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut listed = self.inner.list_with_delimiter(prefix).await?;
        listed.objects.retain(|object| self.glob.matches(&object.location));
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::listing_url;

    const FILES: [&str; 8] = [
        "p/train.jsonl",
        "p/a/train.jsonl",
        "p/a/test.jsonl",
        "p/a/deep/train.jsonl",
        "p/b/train.jsonl",
        "p/y=1/train.jsonl",
        "p/.git/train.jsonl",
        "q/a/train.jsonl",
    ];

    fn glob(location: &str) -> Option<FolderGlob> {
        FolderGlob::of(&listing_url(location).unwrap()).unwrap()
    }

    fn matched(location: &str) -> Vec<&'static str> {
        let glob = glob(location).unwrap();
        FILES.into_iter().filter(|file| glob.matches(&Path::parse(file).unwrap())).collect()
    }

    #[test]
    fn a_wildcard_stands_for_no_slash_and_two_stars_for_any_number_of_folders() {
        assert_eq!(matched("s3://b/p/*/train.jsonl"), [FILES[1], FILES[4], FILES[5]]);
        assert_eq!(matched("s3://b/p/?/t*.jsonl"), [FILES[1], FILES[2], FILES[4]]);
        assert_eq!(matched("s3://b/p/[!a]/train.jsonl"), [FILES[4]]);
        assert_eq!(matched("s3://b/p/y=*/train.jsonl"), [FILES[5]]);
        assert_eq!(matched("s3://b/p/*/*/train.jsonl"), [FILES[3]]);
        assert_eq!(matched("s3://b/*/a/*.jsonl"), [FILES[1], FILES[2], FILES[7]]);
        assert_eq!(matched("s3://b/p/**/train.jsonl"), [FILES[0], FILES[1], FILES[3], FILES[4], FILES[5]]);
        assert_eq!(matched("s3://b/p/a/**"), FILES[1..4]);
        assert_eq!(matched("s3://b/p/*/"), [FILES[1], FILES[2], FILES[4], FILES[5]]);
        assert_eq!(matched("s3://b/p/*/.git/x"), [""; 0]);
        // Only what stands there itself is hidden and meant.
        assert_eq!(matched("s3://b/*/.git/*"), [FILES[6]]);
    }

    #[test]
    fn names_in_one_folder_are_left_to_datafusion() {
        for location in ["s3://b/p/", "s3://b/p/a.csv", "s3://b/p/*.csv", "s3://b/*", "data/a/x-?.csv", "*.csv"] {
            assert!(glob(location).is_none(), "{location}");
        }
        for location in ["s3://b/**", "data/*/x.csv", "*/x.csv", "data/**/*.csv"] {
            assert!(glob(location).is_some(), "{location}");
        }
    }

    #[test]
    fn the_folder_before_the_first_wildcard_is_named_with_all_its_files() {
        let all = |location: &str| glob(location).unwrap().all_in_folder().unwrap();
        assert_eq!(all("s3://b/p/*/x.csv"), "s3://b/p/");
        assert_eq!(all("/nowhere/p/*/x.csv"), "/nowhere/p/*");
        assert_eq!(all("/*/x.csv"), "/*");
    }
}
