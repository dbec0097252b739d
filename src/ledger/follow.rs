//! What other processes write into the same ledger after it was opened here. In: the folder, looked at again. Out:
//! their new calls in the index, so that what they have paid for is not asked here.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::index::{self, Place};
use super::log::{HEADER_LEN, LogFile, LogReader};
use super::segment::Segment;
use super::shared::Shared;
use super::source::Source;
use super::{LedgerError, Record, folder};

/// File systems keep a folder's time in steps of a few milliseconds: within this time of a change another one may
/// have the same time.
const TIME_STEP: Duration = Duration::from_millis(50);

/// How far others' files are read.
#[derive(Debug, Default)]
pub(super) struct Followed {
    state: Mutex<State>,
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
    source: u32,
    file: Arc<LogFile>,
    /// The end of the last whole group that was read.
    read: u64,
}

impl Followed {
    /// Takes a log as known: our own, or another process's that has been read so far.
    pub(super) fn add(&self, unique: &str, others: Option<(u32, Arc<LogFile>, u64)>) {
        let mut state = self.lock();
        state.known.insert(unique.to_owned());
        state.logs.extend(others.map(|(source, file, read)| FollowedLog { source, file, read }));
    }

    /// Whether there may be something new: two looks at the file system, and one at each log that is followed.
    fn has_news(&self, shared: &Shared) -> Result<bool, LedgerError> {
        // Who has the lock is reading the news; these may be ours too.
        let Ok(state) = self.state.try_lock() else {
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
        let mut state = self.lock();
        let changed = changed(shared)?;
        if state.listed != Some(changed) {
            state.list(shared)?;
            let settled = changed.elapsed().is_ok_and(|age| age > TIME_STEP);
            state.listed = settled.then_some(changed);
        }
        for log in &mut state.logs {
            log.read_news(shared)?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn changed(shared: &Shared) -> Result<SystemTime, LedgerError> {
    let metadata = match &shared.opened {
        Some(folder) => folder.metadata(),
        None => fs::metadata(&shared.folder),
    };
    metadata.and_then(|m| m.modified()).map_err(LedgerError::io("read", &shared.folder))
}

impl State {
    /// Looks for logs and segments that are not known yet.
    fn list(&mut self, shared: &Shared) -> Result<(), LedgerError> {
        let listing = folder::list(&shared.folder)?;
        for unique in listing.uniques() {
            if self.known.contains(unique) || shared.segment_number(unique).is_some() {
                continue;
            }
            if !listing.segments.contains(unique) {
                match LogFile::open(folder::log_path(&shared.folder, unique)) {
                    Ok(file) => {
                        let file = Arc::new(file);
                        let source = shared.add_source(Source::Log(Arc::clone(&file)));
                        self.logs.push(FollowedLog { source, file, read: HEADER_LEN });
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
            shared.add_segment(segment, &keys);
            self.known.insert(unique.to_owned());
        }
        Ok(())
    }
}

impl FollowedLog {
    fn read_news(&mut self, shared: &Shared) -> Result<(), LedgerError> {
        let len = self.file.end(self.read)?;
        if len <= self.read {
            // Nothing new, or a write that failed was taken back.
            self.read = len;
            return Ok(());
        }
        let mut reader = LogReader::from(&self.file, self.read, len);
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

    /// Makes what other processes have written known here.
    pub(super) fn follow_others(&self) -> Result<(), LedgerError> {
        self.followed.read_news(self)
    }
}
