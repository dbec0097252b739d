//! The names in a ledger's folder, and the order of steps that makes them safe.
//!
//! `log-<unique>.log`: a log, locked by its owner while it lives. `log-<unique>.log.new`: a log about to begin.
//! `segment-<unique>/{calls,attempts,call_uses}.parquet`: a sealed log; it replaces the log of the same name.
//! `segment-<unique>.tmp/`: a segment half written. `log-<unique>.damaged`: a sealed log of which a part could not
//! be read. `claims/`: empty files whose bytes are locked by who asks a call. `<unique>` begins with the time in
//! hexadecimal, so names sort by age, and is never used again.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::LedgerError;
use super::log;

pub(super) fn log_path(folder: &Path, unique: &str) -> PathBuf {
    folder.join(format!("log-{unique}.log"))
}

pub(super) fn damaged_path(folder: &Path, unique: &str) -> PathBuf {
    folder.join(format!("log-{unique}.damaged"))
}

pub(super) fn segment_path(folder: &Path, unique: &str) -> PathBuf {
    folder.join(format!("segment-{unique}"))
}

pub(super) fn unfinished_segment_path(folder: &Path, unique: &str) -> PathBuf {
    folder.join(format!("segment-{unique}.tmp"))
}

fn new_log_path(folder: &Path, unique: &str) -> PathBuf {
    folder.join(format!("log-{unique}.log.new"))
}

/// What a folder holds: the `<unique>` parts, sorted.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) logs: BTreeSet<String>,
    pub(super) segments: BTreeSet<String>,
    unfinished_segments: BTreeSet<String>,
    new_logs: BTreeSet<String>,
}

impl Listing {
    /// All logs and segments, oldest first; a log that is also a segment stands once.
    pub(super) fn uniques(&self) -> impl Iterator<Item = &str> {
        self.logs.union(&self.segments).map(String::as_str)
    }
}

/// Lists a folder; empty where there is none.
///
/// Logs are listed before segments: a log that vanishes meanwhile was renamed into a segment before, so the second
/// pass sees it.
pub(super) fn list(folder: &Path) -> Result<Listing, LedgerError> {
    let mut listing = Listing::default();
    for name in names(folder)? {
        if let Some(unique) = name.strip_prefix("log-").and_then(|n| n.strip_suffix(".log")) {
            listing.logs.insert(unique.to_owned());
        } else if let Some(unique) = name.strip_prefix("log-").and_then(|n| n.strip_suffix(".log.new")) {
            listing.new_logs.insert(unique.to_owned());
        }
    }
    for name in names(folder)? {
        match name.strip_prefix("segment-") {
            Some(rest) => match rest.strip_suffix(".tmp") {
                Some(unique) => listing.unfinished_segments.insert(unique.to_owned()),
                None => listing.segments.insert(rest.to_owned()),
            },
            None => continue,
        };
    }
    Ok(listing)
}

fn names(folder: &Path) -> Result<Vec<String>, LedgerError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(LedgerError::io("list", folder)(e)),
    };
    entries
        .map(|entry| entry.map(|e| e.file_name()))
        .filter_map(|name| name.map(|n| n.into_string().ok()).transpose()) // foreign files are none of ours
        .collect::<io::Result<_>>()
        .map_err(LedgerError::io("list", folder))
}

/// Removes what dead processes left half done: segments never renamed, logs never begun.
pub(super) fn sweep(folder: &Path, listing: &Listing) -> Result<(), LedgerError> {
    for unique in &listing.unfinished_segments {
        // Who seals a log holds its lock until the log is deleted. Without a log nobody is at work here.
        if !log_path(folder, unique).exists() {
            let path = unfinished_segment_path(folder, unique);
            ignore_not_found(fs::remove_dir_all(&path)).map_err(LedgerError::io("remove", &path))?;
        }
    }
    for unique in &listing.new_logs {
        let path = new_log_path(folder, unique);
        if let Some(_locked) = lock(&path)? {
            ignore_not_found(fs::remove_file(&path)).map_err(LedgerError::io("remove", &path))?;
        }
    }
    Ok(())
}

pub(super) fn ignore_not_found(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Opens a file and takes its lock; `None` where another holds it, or where the file is gone.
pub(super) fn lock(path: &Path) -> Result<Option<File>, LedgerError> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(LedgerError::io("open", path)(e)),
    };
    match file.try_lock() {
        // The last owner may have sealed and deleted it between our opening and our locking.
        Ok(()) => Ok(path.exists().then_some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(LedgerError::io("lock", path)(e)),
    }
}

/// A log that this process holds the lock of.
#[derive(Debug)]
pub(super) struct OwnedLog {
    pub(super) unique: String,
    pub(super) file: File,
    /// Bytes that are written and durable.
    pub(super) len: u64,
}

/// Begins a log: its name appears only when its header is durable and its lock is held, so nobody can take it
/// for a dead process's.
pub(super) fn create_log(folder: &Path) -> Result<OwnedLog, LedgerError> {
    loop {
        let unique = unique();
        let new = new_log_path(folder, &unique);
        let mut file = match OpenOptions::new().read(true).write(true).create_new(true).open(&new) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(e) => return Err(LedgerError::io("create", &new)(e)),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => continue, // another process's sweep was quicker
            Err(TryLockError::Error(e)) => return Err(LedgerError::io("lock", &new)(e)),
        }
        file.write_all(&log::header()).and_then(|()| file.sync_all()).map_err(LedgerError::io("write", &new))?;
        match fs::rename(&new, log_path(folder, &unique)) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue, // swept
            Err(e) => return Err(LedgerError::io("rename", &new)(e)),
        }
        sync_folder(folder)?;
        return Ok(OwnedLog { unique, file, len: log::HEADER_LEN });
    }
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), LedgerError> {
    // Only Unix opens folders as files; elsewhere the file system keeps the order of renames itself.
    if cfg!(unix) {
        File::open(folder).and_then(|f| f.sync_all()).map_err(LedgerError::io("sync", folder))?;
    }
    Ok(())
}

fn unique() -> String {
    let millis = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_millis());
    format!("{millis:012x}-{:016x}", RandomState::new().hash_one(std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_was_never_begun_is_swept_unless_its_owner_lives() {
        let folder = tempfile::tempdir().unwrap();
        let dead = new_log_path(folder.path(), "1");
        let alive = new_log_path(folder.path(), "2");
        File::create(&dead).unwrap();
        let owner = File::create(&alive).unwrap();
        owner.try_lock().unwrap();
        sweep(folder.path(), &list(folder.path()).unwrap()).unwrap();
        assert!(!dead.exists() && alive.exists());
    }

    #[test]
    fn later_names_sort_after_earlier_ones() {
        let early = unique();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(early < unique());
    }
}
