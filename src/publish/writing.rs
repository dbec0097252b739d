//! Runs that are being written: a file each, `.seedmill/runs/<run_id>.writing` in the workspace, that holds the place that
//! it is published to and is locked by its process. What a run leaves that is never published is taken away by the run
//! itself or, where it was killed or not permitted to, by the next one.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::common::Result;

use super::manifest::MANIFEST;
use super::staging::{Staging, at};
use crate::stores::{Place, StoreError, Stores};

const FOLDER: &str = ".seedmill/runs";
const EXTENSION: &str = "writing";

/// A run that is being written by this process.
#[derive(Debug)]
pub(crate) struct Writing {
    path: PathBuf,
    _locked: File,
}

impl Writing {
    pub(crate) fn begin(root: &Path, run_id: &str, out: &Path) -> Result<Writing> {
        let folder = root.join(FOLDER);
        let path = folder.join(run_id).with_extension(EXTENSION);
        let begin = || {
            fs::create_dir_all(&folder)?;
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
            file.try_lock()?;
            file.write_all(out.to_string_lossy().as_bytes())?;
            Ok(file)
        };
        let locked = begin().map_err(at("cannot write", &path))?;
        Ok(Writing { path, _locked: locked })
    }

    /// Nothing is left that would have to be taken away.
    pub(crate) fn end(self) {
        if let Err(e) = fs::remove_file(&self.path) {
            tracing::debug!("{} cannot be removed: {e}", self.path.display());
        }
    }
}

/// Takes away what runs of this workspace have left whose processes are dead. What cannot be taken away is told, and
/// tried again by the next run.
pub(crate) async fn remove_left(root: &Path, stores: &Arc<Stores>) {
    let entries = fs::read_dir(root.join(FOLDER)).into_iter().flatten().flatten().map(|entry| entry.path());
    for path in entries.filter(|path| path.extension().is_some_and(|extension| extension == EXTENSION)) {
        let Ok(file) = OpenOptions::new().read(true).write(true).open(&path) else { continue };
        if file.try_lock().is_err() {
            continue;
        }
        let (Ok(out), Some(run_id)) = (fs::read_to_string(&path), path.file_stem()) else { continue };
        match remove_unpublished(&stores.place(&out), &run_id.to_string_lossy()).await {
            Ok(()) => Writing { path, _locked: file }.end(),
            Err(e) => tracing::warn!("{e}; an unpublished run has left it"),
        }
    }
}

/// The object that a run puts to see whether it may.
pub(crate) fn probe_name(run_id: &str) -> String {
    format!(".{run_id}.writable")
}

/// Takes away the files of a run, unless it is published.
pub(crate) async fn remove_unpublished(out: &Place, run_id: &str) -> std::result::Result<(), StoreError> {
    let prefix = match out {
        Place::Folder(folder) => {
            Staging::remove(folder, run_id);
            return Ok(());
        }
        Place::Prefix(prefix) => prefix,
    };
    prefix.delete([probe_name(run_id)]).await?;
    let prefix = prefix.join(run_id);
    let files = prefix.tree().await?;
    if files.iter().any(|file| file == MANIFEST) {
        return Ok(());
    }
    prefix.delete(files).await?;
    // A manifest that was given up on and came late names files that are gone.
    if prefix.has(MANIFEST).await? { prefix.delete([MANIFEST.to_owned()]).await } else { Ok(()) }
}
