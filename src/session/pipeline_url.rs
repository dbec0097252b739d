//! A pipeline folder that lies on an object store. In: its URL. Out: a folder of this machine with the same files, which is
//! read as any other.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::common::{Result, exec_datafusion_err, plan_err};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;

use crate::counted::counted;
use crate::stores::{Place, Prefix, Stores};

/// A pipeline holds texts and example rows; what is larger is data.
const MOST_BYTES: u64 = 64 << 20;
const MOST_FILES: usize = 10_000;

/// Files that are read at a time.
const READS: usize = 16;

/// The URL of a pipeline folder that is given by one, without a `/` at its end.
pub(super) fn url(pipeline: &Path) -> Option<&str> {
    pipeline.to_str().filter(|text| text.contains("://")).map(|url| url.trim_end_matches('/'))
}

/// The folder with the files of a URL. They are read once for each content: it is `<state>/pipelines/<hash>`, by the
/// URL and the path, size, tag and time of every file. Files and folders that begin with a dot, and `runs/`, are left out.
pub(super) async fn fetch(url: &str, stores: &Arc<Stores>, state: &Path) -> Result<PathBuf> {
    let prefix = match stores.place(url) {
        Place::Folder(folder) => return Ok(folder),
        Place::Prefix(_) if url.starts_with("http://") || url.starts_with("https://") => {
            return plan_err!(
                "{url} cannot be a pipeline folder: web servers do not say which files they have; s3, gs, az, abfss, hf \
                 and file do"
            );
        }
        Place::Prefix(prefix) => prefix,
    };
    let mut files = prefix.files().await?;
    files.retain(|(path, _)| is_of_pipeline(path));
    files.sort_by(|a, b| a.0.cmp(&b.0));
    if files.is_empty() {
        return plan_err!("the pipeline folder {url} does not exist");
    }
    let bytes: u64 = files.iter().map(|(_, meta)| meta.size).sum();
    if bytes > MOST_BYTES || files.len() > MOST_FILES {
        return plan_err!(
            "{url} holds {} of {} MB together, and a pipeline folder at most {MOST_FILES} of {} MB: put data elsewhere \
             and name its URL in the SQL or in seedmill.toml",
            counted(files.len(), "file"),
            bytes >> 20,
            MOST_BYTES >> 20
        );
    }
    let folder = state.join("pipelines").join(content_hash(url, &files));
    if !folder.is_dir() {
        write(&prefix, files, &folder).await?;
    }
    Ok(folder)
}

fn is_of_pipeline(path: &str) -> bool {
    !path.starts_with("runs/") && path.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
}

fn content_hash(url: &str, files: &[(String, ObjectMeta)]) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut add = |part: &str| {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    };
    add(url);
    for (path, meta) in files {
        add(path);
        add(&meta.size.to_string());
        add(meta.e_tag.as_deref().unwrap_or_default());
        add(&meta.last_modified.to_rfc3339());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// Writes the files beside the folder first: it is there as a whole or not at all.
async fn write(prefix: &Prefix, files: Vec<(String, ObjectMeta)>, folder: &Path) -> Result<()> {
    let parent = folder.parent().unwrap_or(folder);
    fs::create_dir_all(parent)?;
    let half = tempfile::Builder::new().prefix(".fetching-").tempdir_in(parent)?;
    let reads = files.into_iter().map(|(path, _)| async move {
        let bytes = prefix.get(&path).await?;
        let bytes = bytes.ok_or_else(|| exec_datafusion_err!("{}/{path} was there and is gone", prefix.url()))?;
        Ok::<_, datafusion::common::DataFusionError>((path, bytes))
    });
    let mut reads = futures::stream::iter(reads).buffer_unordered(READS);
    while let Some((path, bytes)) = reads.try_next().await? {
        let path = half.path().join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, bytes)?;
    }
    match fs::rename(half.path(), folder) {
        Ok(()) => Ok(()),
        // Another process was quicker; they are the same.
        Err(_) if folder.is_dir() => Ok(()),
        Err(e) => Err(exec_datafusion_err!("{} cannot be written: {e}", folder.display())),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::object_store::ObjectStoreRegistry;
    use object_store::memory::InMemory;
    use object_store::{ObjectStore, ObjectStoreExt};
    use url::Url;

    use super::*;
    use crate::stores::Variables;

    /// A pipeline folder by URL, and the store that it is in.
    const URLS: [(&str, &str); 6] = [
        ("s3://bucket/team/x", "s3://bucket"),
        ("gs://bucket/team/x/", "gs://bucket"),
        ("az://box/team/x", "az://box"),
        ("azure://box/team/x", "azure://box"),
        ("abfss://box@acc.dfs.core.windows.net/team/x", "abfss://box@acc.dfs.core.windows.net"),
        ("hf://datasets/team/x", "hf://datasets"),
    ];

    #[test]
    fn a_pipeline_by_url_opens_the_store_of_its_bucket_at_its_path_without_a_request() {
        let set = [
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "hush"),
            ("AWS_REGION", "eu-west-1"),
            ("GOOGLE_SKIP_SIGNATURE", "true"),
            ("AZURE_STORAGE_ACCOUNT_NAME", "acc"),
            ("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0"),
        ];
        let stores = Stores::new(Variables::of(set.map(|(name, value)| (name.to_owned(), value.to_owned()))));
        for (pipeline, base) in URLS {
            let pipeline = url(Path::new(pipeline)).unwrap();
            let (store, path) = stores.place(pipeline).store().unwrap();
            let at = if base.starts_with("hf") { "hf://datasets" } else { base };
            assert!(store.to_string().contains(at), "{pipeline}: {store}");
            assert_eq!(path.as_ref(), "team/x", "{pipeline}");
        }
        let none = Stores::new(Variables::of([]));
        let error = stores_error(&none, "az://box/team/x");
        assert!(error.contains("AZURE_STORAGE_ACCOUNT_NAME"), "{error}");
    }

    fn stores_error(stores: &Arc<Stores>, url: &str) -> String {
        stores.place(url).store().unwrap_err().strip_backtrace()
    }

    #[tokio::test]
    async fn a_pipeline_on_a_store_of_each_kind_is_fetched_from_its_own_prefix_alone() {
        for (pipeline, base) in URLS {
            let stores = Stores::new(Variables::of([]));
            let store = Arc::new(InMemory::new());
            for (path, text) in [
                ("team/x/seedmill.toml", "# mine"),
                ("team/x/sql/10_all.sql", "SELECT 1;"),
                ("team/x/runs/old/manifest.json", "published"),
                ("team/x/.seedmill/state", "state"),
                ("team/xy/sql/10_all.sql", "another's"),
            ] {
                store.put(&path.into(), text.into()).await.unwrap();
            }
            stores.register_store(&Url::parse(base).unwrap(), Arc::clone(&store) as Arc<dyn ObjectStore>);
            let state = tempfile::tempdir().unwrap();
            let pipeline = url(Path::new(pipeline)).unwrap();
            let folder = fetch(pipeline, &stores, state.path()).await.unwrap();
            assert_eq!(fs::read_to_string(folder.join("sql/10_all.sql")).unwrap(), "SELECT 1;", "{pipeline}");
            let mut names: Vec<_> =
                fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            assert_eq!(names, ["seedmill.toml", "sql"], "{pipeline}");
            assert_eq!(fetch(pipeline, &stores, state.path()).await.unwrap(), folder);
            let none = format!("{base}/team/none");
            let error = fetch(&none, &stores, state.path()).await.unwrap_err().strip_backtrace();
            assert!(error.contains(&format!("the pipeline folder {none} does not exist")), "{error}");
        }
    }

    #[test]
    fn what_begins_with_a_dot_and_published_runs_are_no_part_of_a_pipeline() {
        for path in [".seedmill/ledger/log-1.log", "sql/.git/x", "runs/r/data/x.parquet", "sql/../x", "sql//x"] {
            assert!(!is_of_pipeline(path), "{path}");
        }
        assert!(is_of_pipeline("seedmill.toml") && is_of_pipeline("sql/prompts/runs.jinja"));
    }
}
