//! Runs that are being written: a file each, `.seedmill/runs/<run_id>.writing` in the workspace, that holds the place that
//! it is published to and is locked by its process. What a run leaves that is never published is taken away by the run
//! itself or, where it was killed or not permitted to, by the next one.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::{Result, exec_err};
use tokio::sync::watch;

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

/// How far a run of this process has come, for who would stop it. What has begun to be published is published: its
/// files are taken away by nobody but its writer.
#[derive(Debug, Default)]
pub(crate) struct Course(watch::Sender<State>);

#[derive(Debug, Default)]
struct State {
    /// Writers that are there. Their work off the executor's threads goes on when their query is dropped.
    writers: usize,
    step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Step {
    #[default]
    Open,
    /// It is never published.
    Stopped,
    /// It cannot be stopped any more.
    Publishing,
    Published,
}

impl Course {
    /// Counts a writer until it is dropped. A run that has been stopped gets none.
    pub(crate) fn writer(self: &Arc<Self>) -> Result<AtWork> {
        let is_open = self.0.send_if_modified(|state| {
            let is_open = state.step != Step::Stopped;
            state.writers += usize::from(is_open);
            is_open
        });
        if !is_open {
            return exec_err!("the run was stopped");
        }
        Ok(AtWork { course: Arc::clone(self), is_publishing: false })
    }

    /// Nothing is published from now on. `false` where that comes too late.
    pub(crate) fn stop(&self) -> bool {
        let mut is_stopped = false;
        self.0.send_modify(|state| {
            if state.step == Step::Open {
                state.step = Step::Stopped;
            }
            is_stopped = state.step == Step::Stopped;
        });
        is_stopped
    }

    pub(crate) fn published(&self) {
        self.0.send_modify(|state| state.step = Step::Published);
    }

    pub(crate) fn is_publishing(&self) -> bool {
        self.0.borrow().step == Step::Publishing
    }

    pub(crate) fn is_at_work(&self) -> bool {
        self.0.borrow().writers > 0
    }

    /// Waits until no writer is there. `false` where one still is after `grace`.
    pub(crate) async fn ended(&self, grace: Duration) -> bool {
        let mut state = self.0.subscribe();
        let ended = async {
            // The sender lives as long as this.
            let _ = state.wait_for(|state| state.writers == 0).await;
        };
        tokio::time::timeout(grace, ended).await.is_ok()
    }
}

/// A writer of a run, until it is dropped.
#[derive(Debug)]
pub(crate) struct AtWork {
    course: Arc<Course>,
    is_publishing: bool,
}

impl AtWork {
    /// To be called before the first step that others could see. An error where the run has been stopped; from here on
    /// it cannot be.
    pub(crate) fn publish(&mut self) -> Result<()> {
        self.is_publishing = self.course.0.send_if_modified(|state| {
            let goes_on = state.step != Step::Stopped;
            if goes_on {
                state.step = Step::Publishing;
            }
            goes_on
        });
        if self.is_publishing { Ok(()) } else { exec_err!("the run was stopped before it was published") }
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let failed = self.is_publishing;
        self.course.0.send_modify(|state| {
            state.writers = state.writers.saturating_sub(1);
            if failed && state.step == Step::Publishing {
                state.step = Step::Open;
            }
        });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_run_is_stopped_before_it_is_being_published_or_not_at_all() {
        let moment = Duration::from_millis(20);
        let course = Arc::<Course>::default();
        assert!(course.ended(moment).await);
        let mut writer = course.writer().unwrap();
        writer.publish().unwrap();
        assert!(!course.stop() && course.is_publishing());
        assert!(!course.ended(moment).await);
        // It fails.
        drop(writer);
        assert!(course.ended(moment).await);
        assert!(!course.is_publishing() && course.stop());
        assert!(course.writer().is_err());

        let course = Arc::<Course>::default();
        let (mut writer, other) = (course.writer().unwrap(), course.writer().unwrap());
        writer.publish().unwrap();
        drop(other);
        assert!(course.is_publishing());
        course.published();
        assert!(!course.stop() && course.is_at_work());
        let waiting = Arc::clone(&course);
        let waiting = tokio::spawn(async move { waiting.ended(Duration::from_secs(60)).await });
        drop(writer);
        assert!(waiting.await.unwrap() && !course.stop());

        let course = Arc::<Course>::default();
        let mut writer = course.writer().unwrap();
        assert!(course.stop());
        assert!(writer.publish().is_err() && !course.is_publishing());
    }
}
