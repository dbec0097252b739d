//! What a path, a URL or a pattern names: a file, or the files of a folder or pattern. In: the text. Out: the files that
//! are there, and whether a file is among them, both by the rules of a `FROM '…'`.

use datafusion::common::Result;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::execution::object_store::ObjectStoreUrl;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt};
use url::Url;

use super::{FolderGlob, listing_url};

/// One name of files.
#[derive(Debug, Clone)]
pub struct Location {
    store: ObjectStoreUrl,
    url: ListingTableUrl,
    /// Where the pattern names folders.
    glob: Option<FolderGlob>,
}

impl Location {
    /// # Errors
    /// What is no URL, and no pattern of paths.
    pub fn of(location: &str) -> Result<Location> {
        Location::new(listing_url(location)?)
    }

    fn new(url: ListingTableUrl) -> Result<Location> {
        Ok(Location { store: store_of(&url), glob: FolderGlob::of(&url)?, url })
    }

    /// The URL of the file or folder, of a pattern that of what stands before its first wildcard.
    pub fn url(&self) -> &ListingTableUrl {
        &self.url
    }

    pub fn is_pattern(&self) -> bool {
        self.url.get_glob().is_some()
    }

    /// Whether it is known to name whatever files there are: a pattern, or a folder.
    pub fn is_many(&self) -> bool {
        self.is_pattern() || self.url.is_collection()
    }

    /// The one file that is named.
    pub fn file(&self) -> ListedFile {
        ListedFile::new(&self.url, self.url.prefix())
    }

    /// The files that are there, in order of their paths.
    pub async fn list(&self, store: &dyn ObjectStore) -> Result<Vec<ObjectMeta>> {
        if !self.is_many() {
            match store.head(self.url.prefix()).await {
                // A store knows a folder by the files in it alone.
                Err(Error::NotFound { .. }) => {}
                file => return Ok(vec![file?]),
            }
        }
        let mut all = store.list(Some(self.url.prefix()));
        let mut found = Vec::new();
        while let Some(file) = all.try_next().await? {
            if self.has(&file.location) {
                found.push(file);
            }
        }
        found.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(found)
    }

    /// Whether a file is among them, as it is listed or as it really lies.
    pub fn contains(&self, file: &ListedFile) -> bool {
        self.store == file.store && (self.has(&file.path) || self.has(&file.real))
    }

    /// Whether both have the same text, but for links.
    pub(super) fn is_same(&self, other: &Location) -> bool {
        self.url == other.url
    }

    /// Whether it lies above or below the other, so that there may be files that are among both.
    pub(super) fn is_near(&self, other: &Location) -> bool {
        let (here, there) = (self.url.prefix(), other.url.prefix());
        self.store == other.store && (here.prefix_matches(there) || there.prefix_matches(here))
    }

    /// The same with the folder where it really lies, for files that are known by that.
    pub(super) fn past_links(self) -> Location {
        let folder = self.url.get_url().to_file_path().ok().filter(|_| self.is_local());
        let real = folder.and_then(|folder| Url::from_directory_path(std::fs::canonicalize(folder).ok()?).ok());
        let real = real.and_then(|url| ListingTableUrl::try_new(url, self.url.get_glob().clone()).ok());
        real.and_then(|url| Location::new(url).ok()).unwrap_or(self)
    }

    pub(super) fn is_local(&self) -> bool {
        self.url.scheme() == "file"
    }

    pub(super) fn has(&self, path: &Path) -> bool {
        match &self.glob {
            Some(glob) => glob.matches(path),
            // Not what is in folders below, but for those of partitions: the default of DataFusion.
            None => self.url.contains(path, true),
        }
    }
}

/// A file as it was listed. On this machine that may be by way of links.
#[derive(Debug, Clone)]
pub struct ListedFile {
    pub(super) store: ObjectStoreUrl,
    pub(super) path: Path,
    /// Where it really lies.
    pub(super) real: Path,
}

impl ListedFile {
    /// `url`: of its store.
    pub fn new(url: &ListingTableUrl, path: &Path) -> ListedFile {
        let real = if url.scheme() == "file" { real_path(path) } else { None };
        ListedFile { store: store_of(url), path: path.clone(), real: real.unwrap_or_else(|| path.clone()) }
    }

    /// A file of this machine as the system opens it, to which the text is no URL: links come before a `..` behind them,
    /// and a `#1` is part of a name. `None` for one that is not there.
    pub fn opened(path: &str) -> Option<ListedFile> {
        let real = Path::from_absolute_path(std::fs::canonicalize(path).ok()?).ok()?;
        Some(ListedFile { store: ObjectStoreUrl::local_filesystem(), path: real.clone(), real })
    }

    /// Its name, and that of what it leads to.
    pub fn names(&self) -> [Option<&str>; 2] {
        [self.path.filename(), self.real.filename()]
    }
}

/// The store by one of its names. Files of this machine are what they are under any host.
fn store_of(url: &ListingTableUrl) -> ObjectStoreUrl {
    let store = url.object_store();
    let scheme = match url.scheme() {
        "file" => return ObjectStoreUrl::local_filesystem(),
        "s3a" => "s3",
        "gcs" => "gs",
        "azure" | "adl" | "abfs" | "abfss" => "az",
        _ => return store,
    };
    let rest = store.as_str().strip_prefix(url.scheme()).unwrap_or_default();
    ObjectStoreUrl::parse(format!("{scheme}{rest}")).unwrap_or(store)
}

/// Past all links; `None` for a file that is not there.
fn real_path(path: &Path) -> Option<Path> {
    // Not by way of a URL, in which `#`, `?` and `%41` of a name mean something else.
    let file = LocalFileSystem::new().path_to_filesystem(path).ok()?;
    Path::from_absolute_path(std::fs::canonicalize(file).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(url: &str) -> ListedFile {
        Location::of(url).unwrap().file()
    }

    #[test]
    fn a_file_is_among_those_of_a_folder_or_a_pattern_in_its_own_store_alone() {
        let among = |location: &str, url: &str| Location::of(location).unwrap().contains(&file(url));
        assert!(among("s3://b/exam/*.jsonl", "s3://b/exam/1.jsonl"));
        assert!(among("s3://b/exam/*.jsonl", "s3://b/exam/year=2025/1.jsonl"));
        assert!(among("s3://b/exam/", "s3://b/exam/1.jsonl"));
        assert!(among("s3://b/exam.parquet", "s3://b/exam.parquet/part-0.parquet"));
        assert!(among("s3://b/*/test/*/*.json", "s3://b/maths/test/algebra/1.json"));
        assert!(among("s3://b/**/1.jsonl", "s3://b/a/b/1.jsonl"));
        assert!(among("s3://b/exam/*.jsonl", "s3a://b/exam/1.jsonl"));
        assert!(among("gcs://b/exam/", "gs://b/exam/1.jsonl"));
        assert!(among("abfss://b@a.dfs.core.windows.net/*.csv", "az://b@a.dfs.core.windows.net/1.csv"));
        assert!(among("file:///nowhere/exam/", "file://other/nowhere/exam/1.jsonl"));
        assert!(!among("s3://b/exam/*.jsonl", "s3://c/exam/1.jsonl"));
        assert!(!among("s3://b/exam/*.jsonl", "s3://b/exam/deep/1.jsonl"));
        assert!(!among("s3://b/exam/*.jsonl", "s3://b/exams/1.jsonl"));
        assert!(!among("s3://b/exam/", "s3://b/exam/deep/1.jsonl"));
        assert!(!among("s3://b/*/test/*/*.json", "s3://b/maths/train/algebra/1.json"));
        assert!(!among("s3://b/test/*/*.json", "s3://b/test/1.json"));
    }

    #[tokio::test]
    async fn what_is_listed_is_what_is_among_them() {
        let root = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(root.path()).unwrap();
        for file in ["b.jsonl", "a.jsonl", "c.csv", "deep/d.jsonl", "deep/er/e.jsonl", "y=1/f.jsonl"] {
            std::fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            std::fs::write(root.join(file), "").unwrap();
        }
        let root = root.to_string_lossy().into_owned();
        for (below, expected) in [
            ("/a.jsonl", &["a.jsonl"][..]),
            ("", &["a.jsonl", "b.jsonl", "c.csv", "y=1/f.jsonl"]),
            ("/*.jsonl", &["a.jsonl", "b.jsonl", "y=1/f.jsonl"]),
            ("/[a-b].*", &["a.jsonl", "b.jsonl"]),
            ("/*/*.jsonl", &["deep/d.jsonl", "y=1/f.jsonl"]),
            ("/**/[d-e].jsonl", &["deep/d.jsonl", "deep/er/e.jsonl"]),
            ("/none/*/*.jsonl", &[]),
            ("/none.jsonl", &[]),
        ] {
            let location = Location::of(&format!("{root}{below}")).unwrap();
            let listed = location.list(&LocalFileSystem::new()).await.unwrap();
            let names: Vec<_> =
                listed.iter().map(|file| format!("/{}", file.location)[root.len() + 1..].to_owned()).collect();
            assert_eq!(names, expected, "{below}");
            assert!(listed.iter().all(|file| location.contains(&ListedFile::new(location.url(), &file.location))));
        }
    }
}
