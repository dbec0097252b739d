//! A hold on a ledger's folder: an open ledger and a planned query have one, and while anybody has, no segment that
//! compaction replaced is deleted. It ends with the process, however that ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::LedgerError;
use super::follow::is_networked;

/// On a file system of several machines a lock of a folder holds on this one only (NFS does not send it to the
/// server), and one of a file on all of them: there this file in the folder is locked, too.
const IN_USE: &str = "in_use.lock";

/// A wait for another machine's lock is told after this, and its lock looked at each time after that.
const TELL_AFTER: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A lock of the folder itself, so mostly no file is made for it and readers need no right to write. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Hold {
    /// `None` where folders cannot be locked (or there is none); then nothing that was replaced is deleted either.
    _locked: Option<Arc<File>>,
    /// [`IN_USE`]; `None` on a file system of this machine.
    _on_all_machines: Option<Arc<File>>,
}

impl Hold {
    /// A hold beside others. It waits for one that is alone: while replaced segments are deleted, or gc is at work.
    pub(super) fn shared(folder: &Path) -> Result<Hold, LedgerError> {
        Self::shared_on(folder, is_networked(folder))
    }

    fn shared_on(folder: &Path, is_networked: bool) -> Result<Hold, LedgerError> {
        Ok(Hold {
            _locked: open(folder)?.and_then(|file| lock_shared(file, folder)),
            _on_all_machines: if is_networked {
                in_use(folder).and_then(|file| wait_for_lock(file, folder))
            } else {
                None
            },
        })
    }

    /// Where there is no folder to hold.
    pub(super) fn none() -> Hold {
        Hold { _locked: None, _on_all_machines: None }
    }

    /// The only hold, or `None` where another has one.
    pub(super) fn alone(folder: &Path) -> Result<Option<Hold>, LedgerError> {
        Self::alone_on(folder, is_networked(folder))
    }

    fn alone_on(folder: &Path, is_networked: bool) -> Result<Option<Hold>, LedgerError> {
        let Some(locked) = open(folder)?.and_then(|file| lock_alone(file, folder)) else {
            return Ok(None);
        };
        let hold = |on_all_machines| Hold { _locked: Some(locked), _on_all_machines: on_all_machines };
        if !is_networked {
            return Ok(Some(hold(None)));
        }
        Ok(in_use(folder).and_then(|file| lock_alone(file, folder)).map(|file| hold(Some(file))))
    }
}

fn lock_shared(file: File, folder: &Path) -> Option<Arc<File>> {
    loop {
        match file.lock_shared() {
            Ok(()) => return Some(Arc::new(file)),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => {
                tracing::debug!("{} cannot be locked: {e}", folder.display());
                return None;
            }
        }
    }
}

/// A lock beside others of a file that other machines lock too. One that is gone may have left its own: the wait is told.
fn wait_for_lock(file: File, folder: &Path) -> Option<Arc<File>> {
    let (start, mut is_told) = (Instant::now(), false);
    loop {
        match file.try_lock_shared() {
            Ok(()) => return Some(Arc::new(file)),
            Err(TryLockError::WouldBlock) => {
                if !is_told && start.elapsed() >= TELL_AFTER {
                    let file = folder.join(IN_USE);
                    tracing::warn!(
                        "{} is locked by another machine, which deletes old segments; waiting",
                        file.display()
                    );
                    is_told = true;
                }
                thread::sleep(LOOK_AGAIN);
            }
            Err(TryLockError::Error(e)) => {
                tracing::debug!("{} cannot be locked: {e}", folder.display());
                return None;
            }
        }
    }
}

/// `None` where another has a lock, or where there are none.
fn lock_alone(file: File, folder: &Path) -> Option<Arc<File>> {
    match file.try_lock() {
        Ok(()) => Some(Arc::new(file)),
        Err(TryLockError::WouldBlock) => None,
        Err(TryLockError::Error(e)) => {
            tracing::debug!("{} cannot be locked: {e}", folder.display());
            None
        }
    }
}

/// Opens [`IN_USE`]. Who may not write there locks it beside others if it is there.
fn in_use(folder: &Path) -> Option<File> {
    let path = folder.join(IN_USE);
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    match opened.or_else(|_| File::open(&path)) {
        Ok(file) => Some(file),
        Err(e) => {
            tracing::debug!("{} cannot be opened: {e}", path.display());
            None
        }
    }
}

fn open(folder: &Path) -> Result<Option<File>, LedgerError> {
    // Only Unix opens folders as files.
    if !cfg!(unix) {
        return Ok(None);
    }
    match File::open(folder) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(LedgerError::io("open", folder)(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_hold_a_folder_and_nobody_is_alone_while_one_does() {
        let folder = tempfile::tempdir().unwrap();
        let one = Hold::shared(folder.path()).unwrap();
        let two = Hold::shared(folder.path()).unwrap();
        assert!(Hold::alone(folder.path()).unwrap().is_none());
        drop(one);
        let clone = two.clone();
        drop(two);
        assert!(Hold::alone(folder.path()).unwrap().is_none());
        drop(clone);
        assert!(Hold::alone(folder.path()).unwrap().is_some());
        assert!(Hold::alone(&folder.path().join("not there")).unwrap().is_none());
    }

    #[test]
    fn a_hold_on_a_file_system_of_several_machines_is_seen_by_those_that_do_not_see_the_lock_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let here = Hold::shared_on(folder.path(), true).unwrap();
        let there = in_use(folder.path()).unwrap();
        assert!(matches!(there.try_lock(), Err(TryLockError::WouldBlock)));
        there.try_lock_shared().unwrap();
        drop(here);
        assert!(Hold::alone_on(folder.path(), true).unwrap().is_none());
        drop(there);
        let alone = Hold::alone_on(folder.path(), true).unwrap();
        assert!(alone.is_some());
        let there = in_use(folder.path()).unwrap();
        assert!(matches!(there.try_lock_shared(), Err(TryLockError::WouldBlock)));
        drop(alone);
        there.try_lock_shared().unwrap();
        // Elsewhere the lock of the folder is enough, and no file is made.
        let local = tempfile::tempdir().unwrap();
        let _shared = Hold::shared_on(local.path(), false).unwrap();
        assert!(Hold::alone_on(local.path(), false).unwrap().is_none());
        assert_eq!(std::fs::read_dir(local.path()).unwrap().count(), 0);
    }
}
