//! A log that is there when a ledger is opened: its calls, and whether its owner lives. A torn tail of a dead one is cut.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::LedgerError;
use super::Record;
use super::folder::{self, OwnedLog};
use super::index::{self, Key, Place};
use super::log::{LogFile, LogReader};

/// A log as it was found.
pub(super) struct OpenedLog {
    pub(super) file: Arc<LogFile>,
    pub(super) orphan: Option<OwnedLog>,
    /// The end of the last whole group.
    pub(super) read: u64,
}

/// Reads a log's calls. `None` if it is gone: sealed meanwhile, or an orphan without records, which is deleted.
pub(super) fn open_log(
    folder: &Path,
    unique: &str,
    source: u32,
    places: &mut Vec<(Key, Place)>,
) -> Result<Option<OpenedLog>, LedgerError> {
    let path = folder::log_path(folder, unique);
    let locked = folder::lock(&path)?;
    let file = match LogFile::open(path.clone()) {
        Ok(file) => Arc::new(file),
        Err(e) if e.is_not_found() => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut reader = LogReader::new(&file)?;
    let mut any = false;
    while let Some(frame) = reader.next_frame()? {
        any = true;
        for record in &frame.records {
            if let Record::Call(call) = record {
                places.push((index::key(&call.call_id), Place::new(source, frame.offset)));
            }
        }
    }
    let torn = reader.torn_bytes();
    let Some(locked) = locked else {
        let read = reader.end() - torn;
        if any {
            // Its writer may not have come to its own fsync yet, and a row with the answer may be seen right after.
            file.sync()?;
        }
        return Ok(Some(OpenedLog { file, orphan: None, read }));
    };
    let len = reader.end() - torn;
    if torn > 0 {
        tracing::warn!("the last {torn} bytes of {} were torn by a crash and are cut", path.display());
    }
    // With the room that its owner had left for more.
    locked.set_len(len).and_then(|()| locked.sync_all()).map_err(LedgerError::io("cut", &path))?;
    if !any && !reader.is_damaged() {
        folder::ignore_not_found(fs::remove_file(&path)).map_err(LedgerError::io("remove", &path))?;
        return Ok(None);
    }
    let orphan = OwnedLog { unique: unique.to_owned(), file: locked, len, room: len };
    Ok(Some(OpenedLog { file, orphan: Some(orphan), read: len }))
}
