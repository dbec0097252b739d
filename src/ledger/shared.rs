//! What readers and the writer of an open ledger share: which calls are known, and where their answers lie.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::thread::available_parallelism;

use tokio_util::sync::CancellationToken;

use super::block_cache::BlockCache;
use super::claims::Claims;
use super::distinct::Distinct;
use super::folder::{self, Listing, OwnedLog};
use super::follow::{self, Followed};
use super::hold::Hold;
use super::index::{self, Index, IndexBuilder, Key, Place};
use super::log::LogFile;
use super::objects::Objects;
use super::opened_log::{OpenedLog, open_log};
use super::segment::{self, Footers, Sealed, Segment};
use super::segment_keys::{self, SegmentKeys};
use super::source::Source;
use super::{CallId, LedgerError};

/// Decoded answers kept in memory.
const BLOCK_CACHE_BYTES: usize = 64 << 20;

/// Who seals may get next to nothing of the processor, and is not to keep the index from calls meanwhile.
const KEYS_AT_ONCE: usize = 256;

/// All that is known of a ledger.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) folder: PathBuf,
    /// The folder, to be looked at without a walk through its path; `None` where the system opens no folders.
    pub(super) opened: Option<File>,
    /// Whether the folder's time changes here when another machine changes it.
    pub(super) tells_changes: bool,
    pub(super) index: RwLock<Index>,
    /// By number; `None` once a log has become a segment.
    sources: RwLock<Vec<Option<Source>>>,
    /// The numbers of the segments among the sources: of those at opening and our own, not of those that others have
    /// sealed since.
    segments: RwLock<BTreeMap<String, u32>>,
    pub(super) followed: Followed,
    /// Keeps the segments where they are that the index points to, also when they are merged meanwhile.
    _hold: Hold,
    pub(super) blocks: Arc<BlockCache>,
    pub(super) footers: Footers,
    pub(super) claims: Arc<Claims>,
    /// Where the ledger is on an object store.
    pub(super) objects: Option<Arc<Objects>>,
    /// Why an object store takes no more logs.
    refused: OnceLock<LedgerError>,
}

/// A log to seal some time, and its number among the sources.
#[derive(Debug)]
pub(super) struct NumberedLog {
    pub(super) log: OwnedLog,
    pub(super) source: u32,
}

impl Shared {
    /// Reads a folder: the index of all calls, oldest file first, and the logs whose owners are dead.
    pub(super) fn open(folder: PathBuf) -> Result<(Shared, Vec<NumberedLog>), LedgerError> {
        folder::create(&folder).map_err(LedgerError::io("create", &folder))?;
        if !folder::list(&folder)?.replaced.is_empty()
            && let Some(_alone) = Hold::alone(&folder)?
        {
            folder::remove_replaced(&folder)?;
        }
        let hold = Hold::shared(&folder)?;
        Self::open_held(folder, hold)
    }

    /// Opens a folder, which exists and stays as long as the hold.
    pub(super) fn open_held(folder: PathBuf, hold: Hold) -> Result<(Shared, Vec<NumberedLog>), LedgerError> {
        let listing = folder::list(&folder)?;
        folder::sweep(&folder, &listing)?;

        let mut segments = BTreeMap::new();
        let followed = Followed::default();
        let mut sealed = Vec::new();
        let mut sources = Vec::new();
        let mut places = Vec::new();
        let mut keys = Vec::new();
        let mut adopted = Vec::new();
        for unique in listing.uniques() {
            let source = source_number(sources.len());
            let mut log = None;
            if listing.segments.contains(unique) {
                // The log's owner died between giving the segment its name and deleting the log.
                let path = folder::log_path(&folder, unique);
                if listing.logs.contains(unique)
                    && let Some(_locked) = folder::lock(&path)?
                {
                    folder::ignore_not_found(fs::remove_file(&path)).map_err(LedgerError::io("remove", &path))?;
                }
            } else {
                log = open_log(&folder, unique, source, &mut places)?;
            }
            match log {
                Some(OpenedLog { file, orphan, read }) => {
                    let others = orphan.is_none().then(|| (source, Arc::clone(&file), read));
                    followed.add(unique, others);
                    sources.push(Some(Source::Log(file)));
                    adopted.extend(orphan.map(|log| NumberedLog { log, source }));
                }
                None if folder::segment_path(&folder, unique).exists() => {
                    let (segment, keys_of_it) = Segment::open(&folder, unique)?;
                    segments.insert(unique.to_owned(), source);
                    sealed.push((unique, source, keys_of_it.rows()));
                    keys.push(keys_of_it);
                    sources.push(Some(Source::Segment(Arc::new(segment))));
                }
                None => {} // a log without records, deleted by its owner meanwhile
            }
        }
        let calls = places.len() as u64 + keys.iter().map(SegmentKeys::most).sum::<u64>();
        let mut index = IndexBuilder::with_room_for(calls);
        index.add(places);
        let threads = available_parallelism().map_or(1, NonZero::get);
        segment_keys::read_all(&keys, threads, |segment, first, keys| {
            let source = sealed[segment].1;
            index.add(keys.into_iter().zip(first..).map(|(key, row)| (key, Place::new(source, row))));
        })?;
        let (index, repeats) = index.build(threads);
        write_distinct(&folder, &listing, &sealed, &repeats);
        let shared = Shared {
            claims: Claims::new(folder.join("claims")),
            opened: File::open(&folder).ok(),
            tells_changes: !follow::is_networked(&folder),
            blocks: BlockCache::new(BLOCK_CACHE_BYTES, folder.clone()),
            folder,
            index: RwLock::new(index),
            sources: RwLock::new(sources),
            segments: RwLock::new(segments),
            followed,
            _hold: hold,
            footers: Footers::default(),
            objects: None,
            refused: OnceLock::new(),
        };
        Ok((shared, adopted))
    }

    /// A ledger on an object store, of which nothing is known yet.
    pub(super) fn of_objects(url: PathBuf, objects: Arc<Objects>) -> Shared {
        Shared {
            blocks: BlockCache::new(BLOCK_CACHE_BYTES, url.clone()),
            folder: url,
            opened: None,
            tells_changes: false,
            index: RwLock::new(Index::empty()),
            sources: RwLock::default(),
            segments: RwLock::default(),
            followed: Followed::default(),
            _hold: Hold::none(),
            footers: Footers::default(),
            claims: Claims::of_this_process(),
            objects: Some(objects),
            refused: OnceLock::new(),
        }
    }

    /// From now on no call is asked: its answer could not be kept where it belongs.
    pub(super) fn refuse(&self, error: LedgerError) {
        let _ = self.refused.set(error);
    }

    /// Whether the store takes logs.
    pub(super) fn refused(&self) -> Result<(), LedgerError> {
        self.refused.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    pub(super) fn writer_ended(&self) -> LedgerError {
        LedgerError::WriterEnded { path: self.folder.clone() }
    }

    pub(super) fn place(&self, key: &Key) -> Option<Place> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).get(key)
    }

    /// One look at the index for all of them.
    pub(super) fn places(&self, ids: &[CallId]) -> Vec<Option<Place>> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        ids.iter().map(|id| index.get(&index::key(id))).collect()
    }

    pub(super) fn source(&self, number: u32) -> Option<Source> {
        let sources = self.sources.read().unwrap_or_else(PoisonError::into_inner);
        sources.get(number as usize).cloned().flatten()
    }

    pub(super) fn add_source(&self, source: Source) -> u32 {
        let mut sources = self.sources.write().unwrap_or_else(PoisonError::into_inner);
        sources.push(Some(source));
        source_number(sources.len() - 1)
    }

    /// A log of this name is about to appear, and is our own: it is not followed.
    pub(super) fn announce(&self, unique: &str) {
        self.followed.add(unique, None);
    }

    /// Makes a log that this process has begun known to readers.
    pub(super) fn add_log(&self, unique: &str) -> Result<u32, LedgerError> {
        let log = LogFile::open(folder::log_path(&self.folder, unique))?;
        Ok(self.add_source(Source::Log(Arc::new(log))))
    }

    /// Makes calls known that are durable in a log's frame.
    pub(super) fn add_calls<'a>(&self, calls: impl Iterator<Item = &'a CallId>, source: u32, offset: u64) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        for call in calls {
            index.insert(index::key(call), Place::new(source, offset));
        }
    }

    /// Makes calls of another process known where none of an older file is.
    pub(super) fn add_places(&self, places: &[(Key, Place)]) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        for &(key, place) in places {
            index.insert(key, place);
        }
    }

    /// Moves calls that stand in these sources into a segment that holds them by now, in the order of its rows; those
    /// that are not known yet are added.
    pub(super) fn move_calls(&self, keys: &[Key], from: &BTreeSet<u32>, to: u32) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        for (key, row) in keys.iter().zip(0..) {
            index.take_over(*key, from, Place::new(to, row));
        }
    }

    /// Takes sources away that are no more, with the calls that still stand there.
    pub(super) fn forget(&self, gone: &BTreeSet<u32>) {
        self.index.write().unwrap_or_else(PoisonError::into_inner).forget(gone);
        self.remove_sources(gone);
    }

    /// Takes a log away whose calls have moved into its segment; of a damaged one not all have.
    pub(super) fn end_log(&self, source: u32, is_damaged: bool) {
        let gone = BTreeSet::from([source]);
        if is_damaged {
            // Calls of groups that could not be read are asked again, and shall be found then.
            self.forget(&gone);
        } else {
            self.remove_sources(&gone);
        }
    }

    fn remove_sources(&self, gone: &BTreeSet<u32>) {
        let mut sources = self.sources.write().unwrap_or_else(PoisonError::into_inner);
        for number in gone {
            if let Some(source) = sources.get_mut(*number as usize) {
                *source = None;
            }
        }
    }

    /// Makes a segment of another process known.
    pub(super) fn add_segment(&self, segment: Segment, keys: &[Key]) {
        let source = self.add_source(Source::Segment(Arc::new(segment)));
        let places: Vec<_> = keys.iter().zip(0..).map(|(key, row)| (*key, Place::new(source, row))).collect();
        self.add_places(&places);
    }

    /// Seals a log and moves its answers' places into the segment. `false` where `given_up` was cancelled on the way: the
    /// log is as it was.
    pub(super) fn seal(&self, log: &NumberedLog, given_up: &CancellationToken) -> Result<bool, LedgerError> {
        let unique = &log.log.unique;
        let Some(Sealed { keys, is_damaged }) = segment::seal(&self.folder, &log.log, given_up)? else {
            return Ok(false);
        };
        // From here on the segment counts, and the log is no more: nothing may fail but what can be done another time.
        if let Err(e) = self.write_distinct(log, &keys) {
            tracing::debug!("{e}; what repeats older calls is written down by the next who opens the ledger");
        }
        let to = self.add_source(Source::Segment(Arc::new(Segment::new(&self.folder, unique, keys.len()))));
        self.segments.write().unwrap_or_else(PoisonError::into_inner).insert(unique.clone(), to);
        let mut rows = keys.iter().zip(0..).peekable();
        while rows.peek().is_some() {
            let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
            for (key, row) in rows.by_ref().take(KEYS_AT_ONCE) {
                index.relocate(key, log.source, Place::new(to, row));
            }
        }
        self.end_log(log.source, is_damaged);
        Ok(true)
    }

    /// Writes down which rows of a new segment repeat an older call, if all older files are known here.
    fn write_distinct(&self, log: &NumberedLog, keys: &[Key]) -> Result<(), LedgerError> {
        let unique = &log.log.unique;
        let listing = folder::list(&self.folder)?;
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let known = listing.segments.range(..unique.clone()).all(|older| segments.contains_key(older));
        if !known || listing.has_log_before(unique) || !listing.segments.contains(unique) {
            return Ok(());
        }
        // What others have written since is younger: it repeats this segment, not this segment it.
        let older: BTreeSet<u32> = segments.values().copied().collect();
        drop(segments);
        let mut repeats = Vec::new();
        for (keys, first) in keys.chunks(KEYS_AT_ONCE).zip((0..).step_by(KEYS_AT_ONCE)) {
            let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
            let repeated = |key: &Key| index.get(key).is_some_and(|place| older.contains(&place.source()));
            repeats.extend(keys.iter().zip(first..).filter(|(key, _)| repeated(key)).map(|(_, row)| row));
        }
        Distinct { rows: keys.len() as u64, repeats }.write(&folder::segment_path(&self.folder, unique));
        Ok(())
    }

    /// The number of a segment that is known here.
    pub(super) fn segment_number(&self, unique: &str) -> Option<u32> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).get(unique).copied()
    }

    /// Whether a row of a segment is the first record of its call among all segments.
    pub(super) fn is_first(&self, key: &Key, at: Place) -> bool {
        match self.place(key) {
            Some(first) => first == at || matches!(self.source(first.source()), Some(Source::Log(_))),
            None => true,
        }
    }

    /// Whether a call that a source holds stands in a segment of a store, too, that is none of these.
    pub(super) fn is_in_segment_besides(&self, key: &Key, source: u32, these: &BTreeSet<u32>) -> bool {
        self.place(key).is_some_and(|place| {
            let at = place.source();
            at != source && !these.contains(&at) && matches!(self.source(at), Some(Source::Merged(_)))
        })
    }

    /// The numbers of the sources that hold answers to such calls.
    pub(super) fn sources_with(&self, calls: &dyn Fn(&Key) -> bool) -> BTreeSet<u32> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        index.iter().filter(|(key, _)| calls(key)).map(|(_, place)| place.source()).collect()
    }
}

/// Writes down for each segment which rows repeat an older call, where that is not done yet and cannot change.
fn write_distinct(folder: &Path, listing: &Listing, sealed: &[(&str, u32, u64)], repeats: &[Place]) {
    for &(unique, source, rows) in sealed {
        let segment = folder::segment_path(folder, unique);
        if listing.has_log_before(unique) || Distinct::read(folder, unique).is_some() {
            continue;
        }
        let of_segment = repeats.iter().filter(|place| place.source() == source);
        let mut repeats: Vec<u64> = of_segment.map(|place| place.position()).collect();
        repeats.sort_unstable();
        Distinct { rows, repeats }.write(&segment);
    }
}

fn source_number(position: usize) -> u32 {
    // 16 million files would be 1 PB of logs.
    u32::try_from(position).unwrap_or(u32::MAX)
}
