//! Logs on their way to an object store. In: a log, as it will be put. Out: the same in a folder of this machine, under
//! the name that it has there, until the store has it. What a process could not send, the next one sends.
//!
//! `log-<unique>-<number>.log`: a whole log, locked by its process while that lives; `log-….log.new`: one half written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::bytes::Bytes;

use super::folder::{self, ignore_not_found};
use super::generation::is_log;
use super::log::LogFile;
use super::objects::Objects;
use super::{LedgerError, crash_points};

/// The folder of one URL's unsent logs; made when there is one.
#[derive(Debug, Clone)]
pub(super) struct Unsent {
    folder: PathBuf,
}

/// A log that is durable on this machine.
#[derive(Debug)]
pub(super) struct UnsentLog {
    path: PathBuf,
    _locked: File,
}

impl Unsent {
    pub(super) fn new(folder: PathBuf) -> Unsent {
        Unsent { folder }
    }

    /// Makes a log durable here.
    pub(super) async fn keep(&self, name: &str, bytes: &Bytes) -> Result<UnsentLog, LedgerError> {
        let (unsent, name, bytes) = (self.clone(), name.to_owned(), bytes.clone());
        let folder = self.folder.clone();
        let kept = tokio::task::spawn_blocking(move || unsent.write(&name, &bytes)).await;
        kept.map_err(|e| LedgerError::Cancelled { path: folder, detail: e.to_string() })?
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<UnsentLog, LedgerError> {
        let path = self.folder.join(name);
        let new = self.folder.join(format!("{name}.new"));
        let create = || {
            folder::create(&self.folder)?;
            OpenOptions::new().write(true).create_new(true).open(&new)
        };
        // The folder goes when its last log has been sent, maybe by another process and right now.
        let created = create().or_else(|e| if e.kind() == io::ErrorKind::NotFound { create() } else { Err(e) });
        let mut file = created.map_err(LedgerError::io("create", &new))?;
        let write = |file: &mut File| {
            file.try_lock().map_err(io::Error::from)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        write(&mut file).map_err(LedgerError::io("write", &path))?;
        folder::sync_folder(&self.folder)?;
        crash_points::pass("unsent log written");
        Ok(UnsentLog { path, _locked: file })
    }

    /// The logs that lie here, of living processes too, opened: they stay readable when they are sent meanwhile.
    pub(super) fn logs(&self) -> Result<Vec<(String, Arc<LogFile>)>, LedgerError> {
        let mut logs = Vec::new();
        for name in self.names()?.into_iter().filter(|name| is_log(name)) {
            match LogFile::open(self.folder.join(&name)) {
                Ok(log) => logs.push((name, Arc::new(log))),
                Err(e) if e.is_not_found() => {} // sent since
                Err(e) => return Err(e),
            }
        }
        Ok(logs)
    }

    /// Sends the logs of dead processes. Who comes meanwhile waits until they are there.
    pub(super) async fn send(&self, objects: &Objects) -> Result<(), LedgerError> {
        if self.names()?.is_empty() {
            return Ok(());
        }
        let generation = objects.list().await?.generation;
        let folder = self.folder.clone();
        let locked = tokio::task::spawn_blocking(move || lock_folder(&folder)).await;
        let _sending =
            locked.map_err(|e| LedgerError::Cancelled { path: self.folder.clone(), detail: e.to_string() })??;
        let mut sent = 0;
        for name in self.names()? {
            // What somebody else has put here is not ours to send or to delete.
            if !is_log(name.strip_suffix(".new").unwrap_or(&name)) {
                continue;
            }
            let path = self.folder.join(&name);
            let Some(locked) = folder::lock(&path)? else { continue };
            // One that arrived all the same may have been merged.
            if is_log(&name) && !generation.has_merged(&name) {
                let bytes = fs::read(&path).map_err(LedgerError::io("read", &path))?;
                objects.send(&name, bytes.into()).await.map_err(|e| self.refused(e))?;
                sent += 1;
            }
            UnsentLog { path, _locked: locked }.sent()?;
        }
        if sent > 0 {
            tracing::info!("{sent} groups of answers that lay in {} are in the ledger now", self.folder.display());
        }
        self.tidy();
        Ok(())
    }

    /// Takes the folder away where nothing lies in it.
    pub(super) fn tidy(&self) {
        // Another process may have begun to use it; that is no failure.
        if fs::remove_dir(&self.folder).is_ok()
            && let Some(all) = self.folder.parent()
        {
            let _ = fs::remove_dir(all);
        }
    }

    /// The store does not take what lies here.
    pub(super) fn refused(&self, error: LedgerError) -> LedgerError {
        match error {
            LedgerError::Store { url, detail } => {
                LedgerError::Unsent { url: url.into(), folder: self.folder.as_path().into(), detail: detail.into() }
            }
            other => other,
        }
    }

    fn names(&self) -> Result<Vec<String>, LedgerError> {
        let mut names = match folder::names(&self.folder) {
            // What stands in the way is told when something is to be written there.
            Err(LedgerError::Io { source, .. }) if source.kind() == io::ErrorKind::NotADirectory => Vec::new(),
            names => names?,
        };
        names.sort();
        Ok(names)
    }
}

impl UnsentLog {
    /// The store has it.
    pub(super) fn sent(self) -> Result<(), LedgerError> {
        ignore_not_found(fs::remove_file(&self.path)).map_err(LedgerError::io("remove", &self.path))
    }

    /// To be read from here.
    pub(super) fn log(&self) -> Result<Arc<LogFile>, LedgerError> {
        LogFile::open(self.path.clone()).map(Arc::new)
    }
}

/// One process at a time sends what others have left.
fn lock_folder(folder: &Path) -> Result<Option<File>, LedgerError> {
    // Only Unix opens folders as files.
    if !cfg!(unix) {
        return Ok(None);
    }
    match File::open(folder).and_then(|file| file.lock().map(|()| file)) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(LedgerError::io("lock", folder)(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_lies_there_under_its_name_until_it_is_sent_and_the_folder_goes_with_the_last() {
        let root = tempfile::tempdir().unwrap();
        let unsent = Unsent::new(root.path().join("unsent/s3-b-l"));
        assert!(unsent.logs().unwrap().is_empty());
        let one = unsent.write("log-1-00000001.log", &super::super::log::header()).unwrap();
        let two = unsent.write("log-1-00000002.log", b"").unwrap();
        fs::write(unsent.folder.join("log-1-00000003.log.new"), "half").unwrap();
        let names: Vec<_> = unsent.logs().unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["log-1-00000001.log", "log-1-00000002.log"]);
        // Its process lives, so nobody else sends it.
        assert!(folder::lock(&unsent.folder.join("log-1-00000001.log")).unwrap().is_none());
        one.sent().unwrap();
        unsent.tidy();
        assert!(unsent.folder.exists());
        two.sent().unwrap();
        fs::remove_file(unsent.folder.join("log-1-00000003.log.new")).unwrap();
        unsent.tidy();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
