//! The hidden folder a run is written in, `<out>/.<run_id>.incomplete`, until one rename makes it `<out>/<run_id>`.
//! After a crash at any line a run is either not there or there as a whole.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use datafusion::common::{DataFusionError, Result, exec_err};

/// A staging folder. Dropped before [`Staging::publish`] it removes all that it made.
#[derive(Debug)]
pub(crate) struct Staging {
    out: PathBuf,
    staged: PathBuf,
    last: PathBuf,
    /// The topmost folder that was made for this run, where `out` was not there.
    made: Option<PathBuf>,
    published: bool,
}

impl Staging {
    /// Makes the staging folder with `folders` in it.
    pub(crate) fn create(out: &Path, run_id: &str, folders: &[&str]) -> Result<Staging> {
        let last = out.join(run_id);
        if last.exists() {
            return exec_err!("{} is already there; a run is published once", last.display());
        }
        let made = out.ancestors().take_while(|folder| !folder.exists()).last().map(Path::to_owned);
        let staged = staged(out, run_id);
        let staging = Staging { out: out.to_owned(), staged, last, made, published: false };
        for folder in folders {
            let folder = staging.staged.join(folder);
            fs::create_dir_all(&folder).map_err(at("cannot make the folder", &folder))?;
        }
        Ok(staging)
    }

    /// Removes what a run has staged that ends without dropping its staging folder.
    pub(crate) fn remove(out: &Path, run_id: &str) {
        remove(&staged(out, run_id));
    }

    pub(crate) fn path(&self) -> &Path {
        &self.staged
    }

    /// Writes a small file and makes it durable.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.staged.join(name);
        fs::write(&path, text).and_then(|()| File::open(&path)?.sync_all()).map_err(at("cannot write", &path))
    }

    /// Makes every name durable, then gives the run its own. Files must be durable already.
    pub(crate) fn publish(mut self, folders: &[&str]) -> Result<PathBuf> {
        for folder in folders {
            sync_folder(&self.staged.join(folder))?;
        }
        sync_folder(&self.staged)?;
        fs::rename(&self.staged, &self.last).map_err(at("cannot publish", &self.last))?;
        self.published = true;
        // It has its name and is seen by readers: no error, which would say that it is not there.
        if let Err(e) = sync_folder(&self.out) {
            tracing::warn!("{}; a power cut may take the new run along", e.strip_backtrace());
        }
        Ok(self.last.clone())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        remove(&self.staged);
        // Folders made for this run go too, unless another has begun to use them.
        if let Some(made) = &self.made {
            let mut folder = self.out.as_path();
            while folder.starts_with(made) && fs::remove_dir(folder).is_ok() {
                let Some(parent) = folder.parent() else { break };
                folder = parent;
            }
        }
    }
}

fn staged(out: &Path, run_id: &str) -> PathBuf {
    out.join(format!(".{run_id}.incomplete"))
}

fn remove(staged: &Path) {
    if let Err(e) = fs::remove_dir_all(staged)
        && e.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!("cannot remove {} of an unpublished run ({e}); it can be deleted", staged.display());
    }
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at("cannot make durable", folder))
}

/// An I/O error with what was tried and where.
pub(crate) fn at<'a>(what: &'a str, path: &'a Path) -> impl Fn(io::Error) -> DataFusionError + 'a {
    move |e| DataFusionError::Execution(format!("{what} {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unpublished_run_leaves_nothing_behind_and_touches_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("a/b");
        let staging = Staging::create(&out, "r", &["data"]).unwrap();
        staging.write("manifest.json", "{}").unwrap();
        drop(staging);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

        fs::create_dir_all(&out).unwrap();
        fs::write(out.join("mine"), "").unwrap();
        drop(Staging::create(&out, "r", &["data"]).unwrap());
        assert_eq!(fs::read_dir(&out).unwrap().count(), 1);

        let staging = Staging::create(&out, "r", &["data"]).unwrap();
        assert_eq!(staging.publish(&["data"]).unwrap(), out.join("r"));
        assert!(out.join("r/data").is_dir());
        assert!(Staging::create(&out, "r", &[]).unwrap_err().to_string().contains("already there"));
    }
}
