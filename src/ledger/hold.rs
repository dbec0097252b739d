//! A hold on a ledger's folder: an open ledger and a planned query have one, and while anybody has, no segment that
//! compaction replaced is deleted. It ends with the process, however that ends.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::LedgerError;

/// A lock of the folder itself, so no file is made for it and readers need no right to write. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Hold {
    /// `None` where folders cannot be locked (or there is none); then nothing that was replaced is deleted either.
    _locked: Option<Arc<File>>,
}

impl Hold {
    /// A hold beside others. It waits for one that is alone: while replaced segments are deleted, or gc is at work.
    pub(super) fn shared(folder: &Path) -> Result<Hold, LedgerError> {
        let Some(file) = open(folder)? else {
            return Ok(Hold { _locked: None });
        };
        match file.lock_shared() {
            Ok(()) => Ok(Hold { _locked: Some(Arc::new(file)) }),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Hold::shared(folder),
            Err(e) => {
                tracing::debug!("{} cannot be locked: {e}", folder.display());
                Ok(Hold { _locked: None })
            }
        }
    }

    /// Where there is no folder to hold.
    pub(super) fn none() -> Hold {
        Hold { _locked: None }
    }

    /// The only hold, or `None` where another has one.
    pub(super) fn alone(folder: &Path) -> Result<Option<Hold>, LedgerError> {
        let Some(file) = open(folder)? else {
            return Ok(None);
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(Hold { _locked: Some(Arc::new(file)) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => {
                tracing::debug!("{} cannot be locked: {e}", folder.display());
                Ok(None)
            }
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
}
