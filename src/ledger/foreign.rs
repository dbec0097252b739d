//! What other processes have written since this one last looked: the tails of their logs, and new files in the folder.
//! In: a call that the index does not have. Out: its answer, or the right to ask it, which one process has at a time.

use std::collections::HashSet;
use std::fs;
use std::sync::{Arc, Mutex as BlockingMutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;

use super::claims::Claim;
use super::folder;
use super::index::{self, Key, Place};
use super::log::{HEADER_LEN, LogFile, LogReader};
use super::segment::Segment;
use super::store::{Shared, Source};
use super::{CallId, Ledger, LedgerError, Record, StoredAnswer};

/// Between two looks at a call that another process asks; doubled up to the longest.
const SHORTEST_WAIT: Duration = Duration::from_millis(5);
const LONGEST_WAIT: Duration = Duration::from_millis(80);

/// A folder's time of change says that nothing is new only when it is older than a clock tick of any file system.
const CLOCK_TICK: Duration = Duration::from_millis(100);

/// What the ledger has to say to one who wants a call's answer.
#[derive(Debug)]
pub enum Lookup {
    Found(StoredAnswer),
    /// Nobody has the answer, and nobody else asks for it while the claim is held.
    Claimed(Claim),
}

impl Ledger {
    /// The stored answer to a call, of any process; else the right to ask it. Waits while another process (or another
    /// task of this one) asks the same call. Cancel-safe.
    pub async fn find_or_claim(&self, id: &CallId) -> Result<Lookup, LedgerError> {
        let mut wait = SHORTEST_WAIT;
        loop {
            if let Some(answer) = self.find(id).await? {
                return Ok(Lookup::Found(answer));
            }
            let claim = self.shared.claims.claim(id);
            // The last holder let go of its claim only when its answer was durable: look after, not before.
            refresh(&self.shared).await?;
            if let Some(answer) = self.find(id).await? {
                return Ok(Lookup::Found(answer));
            }
            if let Some(claim) = claim {
                return Ok(Lookup::Claimed(claim));
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}

/// What is known of the files in the folder.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    seen: Arc<Mutex<Seen>>,
    /// The names of this process's own logs.
    own: BlockingMutex<HashSet<String>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Every log and segment whose calls are in the index, or in whose tail they are looked for.
    known: HashSet<String>,
    tails: Vec<Tail>,
    /// The folder's time of change when it was last listed, once it can be trusted.
    listed: Option<SystemTime>,
}

/// A log that another process may still be writing.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) unique: String,
    pub(super) file: Arc<LogFile>,
    pub(super) source: u32,
    /// Read up to here.
    pub(super) read: u64,
}

impl Foreign {
    pub(super) fn new(known: impl Iterator<Item = String>, tails: Vec<Tail>) -> Foreign {
        let seen = Seen { known: known.collect(), tails, listed: None };
        Foreign { seen: Arc::new(Mutex::new(seen)), own: BlockingMutex::default() }
    }

    /// A log that this process has begun: what is in it is in the index already.
    pub(super) fn begun(&self, unique: &str) {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).insert(unique.to_owned());
    }
}

/// Puts into the index what other processes have made durable since the last time. Costs a `stat` of the folder and
/// one of each living log of another process where there is nothing new.
async fn refresh(shared: &Arc<Shared>) -> Result<(), LedgerError> {
    let mut seen = Arc::clone(&shared.foreign.seen).lock_owned().await;
    let (changed, list) = seen.look(shared)?;
    if !list && !seen.grown()? {
        return Ok(());
    }
    let (path, shared) = (shared.folder.clone(), Arc::clone(shared));
    let read = move || {
        if list {
            seen.list(&shared)?;
            seen.listed = changed;
        }
        seen.drain(&shared)
    };
    tokio::task::spawn_blocking(read).await.map_err(|e| LedgerError::Cancelled { path, detail: e.to_string() })?
}

impl Seen {
    /// The folder's time of change where it can be trusted, and whether files may have come or gone.
    fn look(&self, shared: &Shared) -> Result<(Option<SystemTime>, bool), LedgerError> {
        let changed = fs::metadata(&shared.folder)
            .and_then(|metadata| metadata.modified())
            .map_err(LedgerError::io("read", &shared.folder))?;
        let settled = changed.elapsed().is_ok_and(|age| age > CLOCK_TICK);
        Ok((settled.then_some(changed), self.listed != Some(changed)))
    }

    fn grown(&self) -> Result<bool, LedgerError> {
        for tail in &self.tails {
            if tail.file.len()? > tail.read {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Finds new files, and reads to their ends the logs that are gone.
    fn list(&mut self, shared: &Shared) -> Result<(), LedgerError> {
        let listing = folder::list(&shared.folder)?;
        for unique in listing.uniques() {
            if self.known.contains(unique)
                || shared.foreign.own.lock().unwrap_or_else(PoisonError::into_inner).contains(unique)
            {
                continue;
            }
            if !listing.segments.contains(unique) {
                match LogFile::open(folder::log_path(&shared.folder, unique)) {
                    Ok(file) => {
                        let file = Arc::new(file);
                        let source = shared.add_source(Source::Log(Arc::clone(&file)));
                        self.tails.push(Tail { unique: unique.to_owned(), file, source, read: HEADER_LEN });
                        self.known.insert(unique.to_owned());
                        continue;
                    }
                    Err(e) if e.is_not_found() => {} // sealed since
                    Err(e) => return Err(e),
                }
            }
            let segment = Segment::new(&shared.folder, unique);
            match segment.keys() {
                Ok(keys) => {
                    let source = shared.add_source(Source::Segment(Arc::new(segment)));
                    shared.add_places(keys.into_iter().zip(0..).map(|(key, row)| (key, Place::new(source, row))));
                    self.known.insert(unique.to_owned());
                }
                Err(e) if e.is_not_found() => {} // gone as well: a log without records, or a segment replaced
                Err(e) => return Err(e),
            }
        }
        let (living, gone) =
            std::mem::take(&mut self.tails).into_iter().partition(|tail| listing.logs.contains(&tail.unique));
        self.tails = gone;
        self.drain(shared)?;
        self.tails = living;
        Ok(())
    }

    /// Reads what the logs have grown by. A group half written is read the next time.
    fn drain(&mut self, shared: &Shared) -> Result<(), LedgerError> {
        for tail in &mut self.tails {
            if tail.file.len()? <= tail.read {
                continue;
            }
            let mut reader = LogReader::from(&tail.file, tail.read)?;
            let mut places: Vec<(Key, Place)> = Vec::new();
            while let Some(frame) = reader.next_frame()? {
                places.extend(frame.records.iter().filter_map(|record| match record {
                    Record::Call(call) => Some((index::key(&call.call_id), Place::new(tail.source, frame.offset))),
                    Record::Attempt(_) | Record::Use(_) => None,
                }));
            }
            tail.read = reader.position();
            shared.add_places(places.into_iter());
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "foreign_tests.rs"]
mod tests;
