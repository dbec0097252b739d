//! What other processes write into the same ledger after it was opened here. In: the folder, looked at again. Out:
//! their new calls in the index, so that what they have paid for is not asked here.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

use super::folder::{self, Listing};
use super::index::{self, Place};
use super::log::{HEADER_LEN, LogFile, LogReader};
use super::segment::Segment;
use super::shared::Shared;
use super::source::Source;
use super::{LedgerError, Record};

/// File systems keep a folder's time in steps of a few milliseconds: within this time of a change another one may
/// have the same time.
const TIME_STEP: Duration = Duration::from_millis(50);
/// Of those that keep whole seconds, FAT has the longest steps.
const LONG_TIME_STEP: Duration = Duration::from_secs(2);

/// How far others' files are read.
#[derive(Debug, Default)]
pub(super) struct Followed {
    state: RwLock<State>,
    turn: tokio::sync::Mutex<()>,
    /// How many looks have begun …
    begun: AtomicU64,
    /// … and the number of the last one that came to its end.
    done: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// When the folder had changed last as it was listed; `None` before the first look, or if it had just changed.
    listed: Option<SystemTime>,
    /// Logs that are our own or are followed, and merged segments with nothing new in them.
    known: BTreeSet<String>,
    logs: Vec<FollowedLog>,
}

/// A log of a living process.
#[derive(Debug)]
struct FollowedLog {
    unique: String,
    source: u32,
    file: Arc<LogFile>,
    /// The end of the last whole group that was read.
    read: u64,
}

impl Followed {
    /// Takes a log as known: our own, or another process's that has been read so far.
    pub(super) fn add(&self, unique: &str, others: Option<(u32, Arc<LogFile>, u64)>) {
        let mut state = self.write();
        state.known.insert(unique.to_owned());
        state.logs.extend(others.map(|(source, file, read)| FollowedLog {
            unique: unique.to_owned(),
            source,
            file,
            read,
        }));
    }

    /// Whether there may be something new: two looks at the file system, and one at each log that is followed.
    fn has_news(&self, shared: &Shared) -> Result<bool, LedgerError> {
        // Who writes is reading the news; these may be ours too.
        let Ok(state) = self.state.try_read() else {
            return Ok(true);
        };
        if state.listed.is_none() || state.listed != Some(changed(shared)?) {
            return Ok(true);
        }
        for log in &state.logs {
            if log.file.has_frame(log.read)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads what is new into the index.
    fn read_news(&self, shared: &Shared) -> Result<(), LedgerError> {
        let mut state = self.write();
        let changed = changed(shared)?;
        if state.listed != Some(changed) {
            state.list(shared)?;
            let settled = changed.elapsed().is_ok_and(|age| age > time_step(changed));
            state.listed = (settled && shared.tells_changes).then_some(changed);
        }
        for log in &mut state.logs {
            log.read_news(shared)?;
        }
        Ok(())
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn changed(shared: &Shared) -> Result<SystemTime, LedgerError> {
    let metadata = match &shared.opened {
        Some(folder) => folder.metadata(),
        None => fs::metadata(&shared.folder),
    };
    metadata.and_then(|m| m.modified()).map_err(LedgerError::io("read", &shared.folder))
}

/// File systems that keep what they know of a folder for a while: NFS, SMB, 9P, Ceph, and what is behind FUSE. There every
/// look lists it.
#[cfg(target_os = "linux")]
pub(super) fn is_networked(folder: &Path) -> bool {
    const MAGIC_NUMBERS: [u32; 7] = [0x6969, 0x517b, 0xfe53_4d42, 0xff53_4d42, 0x0102_1997, 0x00c3_6400, 0x6573_5546];
    // The numbers have 32 bits; some systems give them with a sign.
    nix::sys::statfs::statfs(folder).is_ok_and(|stat| MAGIC_NUMBERS.contains(&(stat.filesystem_type().0 as u32)))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn is_networked(_: &Path) -> bool {
    false
}

/// How long a folder may change after a time that it has without getting another time.
fn time_step(changed: SystemTime) -> Duration {
    let has_parts = changed.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|since| since.subsec_nanos() > 0);
    if has_parts { TIME_STEP } else { LONG_TIME_STEP }
}

impl State {
    /// Lets go of logs that their owners have sealed: an open file keeps its room on the disk.
    fn leave_sealed(&mut self, shared: &Shared, listing: &Listing) -> Result<(), LedgerError> {
        // One that was merged since is read as the log that it was: it is open here.
        let is_sealed = |unique: &String| !listing.logs.contains(unique) && listing.segments.contains(unique);
        let mut ended = BTreeSet::new();
        for log in self.logs.iter().filter(|log| is_sealed(&log.unique)) {
            let (segment, keys) = Segment::open(&shared.folder, &log.unique)?;
            let to = shared.add_source(Source::Segment(Arc::new(segment)));
            // With those that were not read here before the log was sealed.
            shared.move_calls(&keys.read()?, &BTreeSet::from([log.source]), to);
            shared.end_log(log.source, folder::damaged_path(&shared.folder, &log.unique).exists());
            ended.insert(log.source);
        }
        self.logs.retain(|log| !ended.contains(&log.source));
        Ok(())
    }

    /// Looks for logs and segments that are not known yet.
    fn list(&mut self, shared: &Shared) -> Result<(), LedgerError> {
        let listing = folder::list(&shared.folder)?;
        self.leave_sealed(shared, &listing)?;
        for unique in listing.uniques() {
            if self.known.contains(unique) || shared.segment_number(unique).is_some() {
                continue;
            }
            if !listing.segments.contains(unique) {
                match LogFile::open(folder::log_path(&shared.folder, unique)) {
                    Ok(file) => {
                        let file = Arc::new(file);
                        let source = shared.add_source(Source::Log(Arc::clone(&file)));
                        self.logs.push(FollowedLog { unique: unique.to_owned(), source, file, read: HEADER_LEN });
                        self.known.insert(unique.to_owned());
                        continue;
                    }
                    // Sealed since it was listed: who looks here is about to pay, so not the next look finds it.
                    Err(e) if e.is_not_found() && folder::segment_path(&shared.folder, unique).exists() => {}
                    Err(e) if e.is_not_found() => continue, // it had no records, or is merged: the folder has changed again
                    Err(e) => return Err(e),
                }
            }
            let merged = folder::replaces(&shared.folder, unique)?;
            let is_known = |input: &String| self.known.contains(input) || shared.segment_number(input).is_some();
            if merged.as_ref().is_some_and(|inputs| inputs.iter().all(is_known)) {
                self.known.insert(unique.to_owned());
                continue;
            }
            // Its log was begun and sealed between two looks.
            let (segment, keys) = Segment::open(&shared.folder, unique)?;
            shared.add_segment(segment, &keys.read()?);
            self.known.insert(unique.to_owned());
        }
        Ok(())
    }
}

impl FollowedLog {
    fn read_news(&mut self, shared: &Shared) -> Result<(), LedgerError> {
        if !shared.tells_changes {
            // Of a file that is open such a file system believes for seconds what it last heard, and asks again when it is
            // opened (nfs(5), "close-to-open cache consistency"): in these seconds calls would be paid for twice.
            drop(fs::File::open(&self.file.path));
        }
        let len = self.file.end(self.read)?;
        if len <= self.read {
            // Nothing new, or a write that failed was taken back.
            self.read = len;
            return Ok(());
        }
        let mut reader = match self.read {
            // With a look at the version: who cannot read a newer format must not pay for what is in it.
            HEADER_LEN => LogReader::up_to(&self.file, len)?,
            read => LogReader::from(&self.file, read, len),
        };
        let mut places = Vec::new();
        while let Some(frame) = reader.next_frame()? {
            for record in &frame.records {
                if let Record::Call(call) = record {
                    places.push((index::key(&call.call_id), Place::new(self.source, frame.offset)));
                }
            }
        }
        if !places.is_empty() {
            // Its writer may not have come to its own fsync yet, and a row with the answer may be seen right after.
            self.file.sync()?;
        }
        shared.add_places(&places);
        self.read = len - reader.torn_bytes();
        Ok(())
    }
}

impl Shared {
    /// Whether other processes may have written since the last look.
    pub(super) fn others_wrote(&self) -> Result<bool, LedgerError> {
        self.followed.has_news(self)
    }

    /// Makes known here what other processes have written before this was called. Calls by the dozen want that at once
    /// whenever the folder has changed: one looks at a time, and for all that came before it began.
    pub(super) async fn follow_others(self: &Arc<Self>) -> Result<(), LedgerError> {
        let followed = &self.followed;
        let before = followed.begun.load(Ordering::SeqCst);
        let _turn = followed.turn.lock().await;
        if followed.done.load(Ordering::SeqCst) > before {
            return Ok(());
        }
        let look = followed.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let shared = Arc::clone(self);
        let looked = tokio::task::spawn_blocking(move || {
            shared.followed.read_news(&shared)?;
            shared.followed.done.fetch_max(look, Ordering::SeqCst);
            Ok(())
        });
        looked.await.map_err(|e| LedgerError::Cancelled { path: self.folder.clone(), detail: e.to_string() })?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{CallId, Ledger};

    #[tokio::test]
    async fn many_who_look_at_once_share_a_look_that_began_after_they_came() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(folder.path()).await.unwrap();
        let followed = &ledger.shared().followed;
        let looks = || followed.begun.load(Ordering::SeqCst);
        for round in 1..=5 {
            let before = looks();
            // By its time the folder has not settled: whoever comes finds that it may have changed again.
            fs::write(folder.path().join("changed"), round.to_string()).unwrap();
            fs::remove_file(folder.path().join("changed")).unwrap();
            let in_an_hour = SystemTime::now() + Duration::from_secs(3600);
            fs::File::open(folder.path()).unwrap().set_modified(in_an_hour).unwrap();
            let turn = followed.turn.lock().await;
            let finds = (0..64).map(|_| {
                let (ledger, id) = (Arc::clone(&ledger), CallId::from_bytes([round; 32]));
                tokio::spawn(async move { ledger.find_of_others(&id).await.unwrap().is_none() })
            });
            let finds: Vec<_> = finds.collect();
            // All of them come to wait for their turn.
            for _ in 0..200 {
                tokio::task::yield_now().await;
            }
            assert_eq!(looks(), before);
            drop(turn);
            assert!(futures::future::try_join_all(finds).await.unwrap().into_iter().all(|none| none));
            assert_eq!(looks() - before, 1);
            // Who comes later does not make do with it.
            assert!(ledger.find_of_others(&CallId::from_bytes([round; 32])).await.unwrap().is_none());
            assert_eq!(looks() - before, 2);
        }
    }
}
