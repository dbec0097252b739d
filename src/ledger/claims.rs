//! The calls that are being asked right now, by any process on this ledger. A claim is a lock on one byte of a file in
//! `claims/`, held from before the first request until the answer is durable. A dead process's locks are gone with it.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::CallId;

/// The kernel keeps the locks of one file in a list; several files keep the lists short (a claim and its release beside
/// 1,024 others take 42 µs with one file and 5 µs with 16; beside 64 others 2 µs: measured).
const FILES: usize = 16;

/// The claims of one open ledger.
#[derive(Debug)]
pub(super) struct Claims {
    folder: PathBuf,
    /// Made with the first claim. Empty where they cannot be made: claims then hold within this process only.
    files: OnceLock<Vec<File>>,
    /// Locks do not tell the tasks of one process apart; this does.
    held: Mutex<HashSet<CallId>>,
}

/// The right to ask one call; given back on drop. Hold it until the answer is durable.
#[derive(Debug)]
pub struct Claim {
    claims: Arc<Claims>,
    id: CallId,
}

impl Claims {
    pub(super) fn new(folder: PathBuf) -> Arc<Claims> {
        Arc::new(Claims { folder, files: OnceLock::new(), held: Mutex::default() })
    }

    /// Claims that hold within this process only.
    pub(super) fn of_this_process() -> Arc<Claims> {
        let claims = Claims { folder: PathBuf::new(), files: OnceLock::new(), held: Mutex::default() };
        let _ = claims.files.set(Vec::new());
        Arc::new(claims)
    }

    /// `None` where another task or process holds it.
    pub(super) fn claim(self: &Arc<Self>, id: &CallId) -> Option<Claim> {
        let held = || self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if !held().insert(*id) {
            return None;
        }
        let (file, at) = self.place(id);
        match file.map_or(Ok(true), |file| byte_lock::take(file, at)) {
            Ok(true) => {}
            Ok(false) => {
                held().remove(id);
                return None;
            }
            // Without locks two processes may pay for one call; that is no reason to ask for none.
            Err(e) => tracing::debug!("no lock on a call in {}: {e}", self.folder.display()),
        }
        Some(Claim { claims: Arc::clone(self), id: *id })
    }

    /// The file and the byte that stand for a call. Two calls that share them wait for each other, no more.
    fn place(&self, id: &CallId) -> (Option<&File>, i64) {
        let files = self.files.get_or_init(|| {
            self.open_files().unwrap_or_else(|e| {
                tracing::warn!(
                    "cannot make {} ({e}): another process on this ledger at the same time may pay for the same calls",
                    self.folder.display()
                );
                Vec::new()
            })
        });
        let [first, .., a, b, c, d, e, f, g, h] = *id.as_bytes();
        let at = i64::from_le_bytes([a, b, c, d, e, f, g, h]) & (i64::MAX >> 1);
        (files.get(usize::from(first) % FILES), at)
    }

    fn open_files(&self) -> io::Result<Vec<File>> {
        fs::create_dir_all(&self.folder)?;
        (0..FILES)
            .map(|n| {
                let path = self.folder.join(format!("{n:x}"));
                OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
            })
            .collect()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let (Some(file), at) = self.claims.place(&self.id)
            && let Err(e) = byte_lock::release(file, at)
        {
            tracing::warn!("cannot unlock a call in {}: {e}", self.claims.folder.display());
        }
        self.claims.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// Locks of the open file, not of the process: two ledgers in one process exclude each other too.
#[cfg(target_os = "linux")]
mod byte_lock {
    use std::fs::File;
    use std::io;

    use nix::errno::Errno;
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc;

    /// `false` where another holds it.
    pub(super) fn take(file: &File, at: i64) -> io::Result<bool> {
        match set(file, at, libc::F_WRLCK) {
            Ok(()) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    pub(super) fn release(file: &File, at: i64) -> io::Result<()> {
        set(file, at, libc::F_UNLCK).map_err(io::Error::from)
    }

    fn set(file: &File, at: i64, kind: libc::c_int) -> Result<(), Errno> {
        let lock =
            libc::flock { l_type: kind as _, l_whence: libc::SEEK_SET as _, l_start: at as _, l_len: 1, l_pid: 0 };
        fcntl(file, FcntlArg::F_OFD_SETLK(&lock)).map(drop)
    }
}

/// Elsewhere there are no such locks: two processes at once may both pay for what is in flight in both.
#[cfg(not(target_os = "linux"))]
mod byte_lock {
    use std::fs::File;
    use std::io;

    pub(super) fn take(_: &File, _: i64) -> io::Result<bool> {
        Ok(true)
    }

    pub(super) fn release(_: &File, _: i64) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> CallId {
        CallId::from_bytes(*blake3::hash(&[n]).as_bytes())
    }

    #[test]
    fn one_of_two_ledgers_and_one_of_two_tasks_has_the_claim_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (Claims::new(folder.path().join("claims")), Claims::new(folder.path().join("claims")));
        let first = one.claim(&id(1)).unwrap();
        assert!(one.claim(&id(1)).is_none());
        assert_eq!(two.claim(&id(1)).is_none(), cfg!(target_os = "linux"));
        let others: Vec<_> = (2..100).map(|n| two.claim(&id(n)).unwrap()).collect();
        drop(first);
        let second = two.claim(&id(1)).unwrap();
        drop(others);
        assert!(two.claim(&id(1)).is_none());
        drop(second);
        assert!((1..100).all(|n| one.claim(&id(n)).is_some()));
    }

    #[test]
    fn where_no_file_can_be_made_a_claim_holds_within_the_process() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let claims = Claims::new(file.path().join("claims"));
        let claim = claims.claim(&id(1)).unwrap();
        assert!(claims.claim(&id(1)).is_none());
        drop(claim);
        assert!(claims.claim(&id(1)).is_some());
    }
}
