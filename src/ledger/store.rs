//! The ledger opened: what is known, where it lies, and the way to the thread that writes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use tokio::sync::{mpsc, oneshot};

use super::block::{Block, BlockCache};
use super::claims::{Claim, Claims};
use super::distinct::Distinct;
use super::folder::{self, Listing, OwnedLog};
use super::follow::Followed;
use super::hold::Hold;
use super::index::{self, Index, Key, Place};
use super::location::Location;
use super::log::LogFile;
use super::objects::{Objects, RELISTS};
use super::opened_log::{OpenedLog, open_log};
use super::segment::{self, Footers, Segment};
use super::source::Source;
use super::unsent::Unsent;
use super::writer::{Command, Writer};
use super::{CallId, LedgerError, Record, object_writer};

/// Decoded answers kept in memory.
const BLOCK_CACHE_BYTES: usize = 64 << 20;
/// Appends that may wait for the writer; more wait at the door.
const QUEUE: usize = 1_024;

/// A log longer than this is sealed, and another begun.
const LOG_BYTES: u64 = 64 << 20;

/// What is stored of an answer: all that a replay needs.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredAnswer {
    /// The raw body.
    pub response: Arc<str>,
    pub cost_usd: f64,
    pub prompt_tokens: Option<u64>,
    pub completion_tokens: Option<u64>,
    pub finish_reason: Option<String>,
}

/// A ledger in a local folder or on an object store, open for reading and writing. Several processes may have one open
/// at once: each writes logs of its own.
#[derive(Debug)]
pub struct Ledger {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

impl Ledger {
    /// Opens a ledger, and creates its folder where there is none. Logs of dead processes are taken over: their
    /// torn tails are cut, and `close` seals them.
    ///
    /// On an object store, what earlier processes of this machine could not send is sent first.
    pub async fn open(location: impl Into<Location>) -> Result<Arc<Ledger>, LedgerError> {
        match location.into() {
            Location::Folder(path) => Self::open_with(&path, LOG_BYTES).await,
            Location::Store { prefix, unsent } => {
                let (objects, unsent) = (Arc::new(Objects::new(prefix.clone())), Unsent::new(unsent));
                unsent.send(&objects).await?;
                let shared = Arc::new(Shared::of_objects(prefix.url().into(), Arc::clone(&objects)));
                shared.add_objects(&objects).await?;
                let (commands, queue) = mpsc::channel(QUEUE);
                object_writer::start(Arc::clone(&shared), objects, unsent, queue)?;
                Ok(Arc::new(Ledger { shared, commands }))
            }
        }
    }

    /// Opens a ledger whose logs are sealed when they are longer than `log_bytes`.
    pub(super) async fn open_with(path: &Path, log_bytes: u64) -> Result<Arc<Ledger>, LedgerError> {
        let path = std::path::absolute(path).map_err(LedgerError::io("find", path))?;
        let folder = path.clone();
        let (shared, adopted) = tokio::task::spawn_blocking(move || Shared::open(folder))
            .await
            .map_err(|e| LedgerError::Cancelled { path: path.clone(), detail: e.to_string() })??;
        let shared = Arc::new(shared);
        let (commands, queue) = mpsc::channel(QUEUE);
        Writer::start(Arc::clone(&shared), adopted, queue, log_bytes)?;
        Ok(Arc::new(Ledger { shared, commands }))
    }

    /// The stored answer to a call: of this process's own appends as soon as they returned, and of all that was
    /// durable at open. What other processes have written since is not looked for.
    pub async fn find(&self, id: &CallId) -> Result<Option<StoredAnswer>, LedgerError> {
        let mut tries = 0..RELISTS;
        loop {
            match self.find_known(id).await {
                Err(e) if e.is_gone() && tries.next().is_some() => self.list_again().await?,
                done => return done,
            }
        }
    }

    /// Another process has merged what was to be read: the index learns where it is now.
    async fn list_again(&self) -> Result<(), LedgerError> {
        match &self.shared.objects {
            Some(objects) => self.shared.add_objects(objects).await,
            None => Ok(()),
        }
    }

    async fn find_known(&self, id: &CallId) -> Result<Option<StoredAnswer>, LedgerError> {
        let key = index::key(id);
        let mut gone = None;
        while let Some(place) = self.shared.place(&key) {
            let Some(source) = self.shared.source(place.source()) else {
                if gone == Some(place) {
                    return Ok(None); // it could not be read any more when its log was sealed
                }
                gone = Some(place); // sealed in between: the index has its new place already
                continue;
            };
            let at = (place.source(), source.block_position(place.position()));
            return Ok(self.block(at, source).await?.find(id));
        }
        Ok(None)
    }

    /// The right to ask a call that nobody has answered or asks, as one look shows. `None` says nothing: look again with
    /// [`Ledger::find_or_claim`], which may have to read or to wait.
    pub fn claim_at_once(&self, id: &CallId) -> Option<Claim> {
        let key = index::key(id);
        if self.shared.objects.is_some() || self.shared.place(&key).is_some() {
            return None;
        }
        let claim = self.claim(id)?;
        // The last holder let go of its claim only when its answer was durable: look after, not before.
        let nothing_new = matches!(self.shared.others_wrote(), Ok(false)) && self.shared.place(&key).is_none();
        nothing_new.then_some(claim)
    }

    /// An error where no call is asked any more.
    pub(super) fn takes_answers(&self) -> Result<(), LedgerError> {
        self.shared.refused()
    }

    /// The right to ask a call; `None` where another has it.
    pub(super) fn claim(&self, id: &CallId) -> Option<Claim> {
        self.shared.claims.claim(id)
    }

    /// The stored answer to a call that [`Ledger::find`] did not have, if another process has written it since. Where
    /// nobody else writes it costs two looks at the file system.
    pub(super) async fn find_of_others(&self, id: &CallId) -> Result<Option<StoredAnswer>, LedgerError> {
        if let Some(objects) = &self.shared.objects {
            self.shared.follow_objects(objects).await?;
        } else if self.shared.others_wrote()? {
            let shared = Arc::clone(&self.shared);
            let followed = tokio::task::spawn_blocking(move || shared.follow_others()).await;
            followed.map_err(|e| self.cancelled(e.to_string()))??;
        }
        self.find(id).await
    }

    /// Appends records as one atomic group, and returns when they are durable. All that arrives during one fsync (up
    /// to 256 records) shares the next. After an error nothing is promised: the records may or may not be there.
    pub async fn append(&self, records: Vec<Record>) -> Result<(), LedgerError> {
        self.enqueue(records).await?.durable().await
    }

    /// Appends like [`Ledger::append`], and returns as soon as the writer has them in its queue.
    pub async fn enqueue(&self, records: Vec<Record>) -> Result<Pending, LedgerError> {
        let (reply, answer) = oneshot::channel();
        let pending = Pending { answer: (!records.is_empty()).then_some(answer), shared: Arc::clone(&self.shared) };
        if pending.answer.is_some() {
            self.commands.send(Command::Append { records, reply }).await.map_err(|_| self.shared.writer_ended())?;
        }
        Ok(pending)
    }

    /// Which of these calls are stored: one look at the index for all of them.
    pub fn known(&self, ids: &[CallId]) -> Vec<bool> {
        self.shared.places(ids).iter().map(Option::is_some).collect()
    }

    /// The stored answers to many calls, in their order, as [`Ledger::find`] gives them; calls that lie in one
    /// block share its read.
    pub async fn find_all(&self, ids: &[CallId]) -> Result<Vec<Option<StoredAnswer>>, LedgerError> {
        let mut tries = 0..RELISTS;
        loop {
            match self.find_all_known(ids).await {
                Err(e) if e.is_gone() && tries.next().is_some() => self.list_again().await?,
                done => return done,
            }
        }
    }

    async fn find_all_known(&self, ids: &[CallId]) -> Result<Vec<Option<StoredAnswer>>, LedgerError> {
        let places = self.shared.places(ids);
        let mut wanted: BTreeMap<u32, (Source, BTreeSet<u64>)> = BTreeMap::new();
        let mut blocks = Vec::with_capacity(ids.len());
        for place in &places {
            let source = place.and_then(|place| Some((place, self.shared.source(place.source())?)));
            blocks.push(source.map(|(place, source)| {
                let position = source.block_position(place.position());
                wanted.entry(place.source()).or_insert_with(|| (source, BTreeSet::new())).1.insert(position);
                (place.source(), position)
            }));
        }
        let mut read = HashMap::new();
        for (number, (source, positions)) in wanted {
            read.extend(self.blocks(number, source, positions.into_iter().collect()).await?);
        }
        let mut answers = Vec::with_capacity(ids.len());
        for ((id, place), at) in ids.iter().zip(&places).zip(blocks) {
            answers.push(match (place, at) {
                (None, _) => None,
                (Some(_), Some(at)) => read.get(&at).and_then(|block| block.find(id)),
                (Some(_), None) => self.find_known(id).await?, // sealed in between
            });
        }
        Ok(answers)
    }

    async fn block(&self, at: (u32, u64), source: Source) -> Result<Arc<Block>, LedgerError> {
        let shared = Arc::clone(&self.shared);
        let read = move || {
            let mut blocks = source.blocks(&[at.1], &shared.footers)?;
            Ok(blocks.pop().unwrap_or_default())
        };
        self.shared.blocks.get(at, read, |e| self.cancelled(e)).await
    }

    /// Many blocks of one source; those that are not at hand are read together.
    async fn blocks(
        &self,
        number: u32,
        source: Source,
        positions: Vec<u64>,
    ) -> Result<Vec<((u32, u64), Arc<Block>)>, LedgerError> {
        let cache = &self.shared.blocks;
        let (mut blocks, mut missing) = (Vec::with_capacity(positions.len()), Vec::new());
        for position in positions {
            match cache.at_hand((number, position)) {
                Some(block) => blocks.push(((number, position), block)),
                None => missing.push(position),
            }
        }
        if let [position] = missing[..] {
            blocks.push(((number, position), self.block((number, position), source).await?));
        } else if !missing.is_empty() {
            let shared = Arc::clone(&self.shared);
            let read = tokio::task::spawn_blocking(move || {
                let read = source.blocks(&missing, &shared.footers)?;
                Ok(missing.into_iter().zip(read.into_iter().map(Arc::new)).collect::<Vec<_>>())
            });
            for (position, block) in read.await.map_err(|e| self.cancelled(e.to_string()))?? {
                cache.keep((number, position), &block);
                blocks.push(((number, position), block));
            }
        }
        Ok(blocks)
    }

    /// Seals this process's log, and those taken over from dead processes, into Parquet segments. Not needed for
    /// durability; appending may go on afterwards, in a new log.
    pub async fn close(&self) -> Result<(), LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Close { reply }).await.map_err(|_| self.shared.writer_ended())?;
        answer.await.map_err(|_| self.shared.writer_ended())?
    }

    /// The number of distinct calls known.
    pub fn len(&self) -> usize {
        self.shared.index.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn cancelled(&self, detail: String) -> LedgerError {
        LedgerError::Cancelled { path: self.shared.folder.clone(), detail }
    }
}

/// Records on their way to the disk.
#[derive(Debug)]
pub struct Pending {
    /// `None` where there was nothing to append.
    answer: Option<oneshot::Receiver<Result<(), LedgerError>>>,
    shared: Arc<Shared>,
}

impl Pending {
    /// Returns when the records are durable.
    pub async fn durable(self) -> Result<(), LedgerError> {
        match self.answer {
            Some(answer) => answer.await.map_err(|_| self.shared.writer_ended())?,
            None => Ok(()),
        }
    }
}

/// What readers and the writer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) folder: PathBuf,
    index: RwLock<Index>,
    /// By number; `None` once a log has become a segment.
    sources: RwLock<Vec<Option<Source>>>,
    /// The numbers of the segments among the sources: of those at opening and our own, not of those that others have
    /// sealed since.
    segments: RwLock<BTreeMap<String, u32>>,
    pub(super) followed: Followed,
    /// Keeps the segments where they are that the index points to, also when they are merged meanwhile.
    _hold: Hold,
    blocks: BlockCache,
    footers: Footers,
    claims: Arc<Claims>,
    /// Where the ledger is on an object store.
    objects: Option<Arc<Objects>>,
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
    fn open(folder: PathBuf) -> Result<(Shared, Vec<NumberedLog>), LedgerError> {
        fs::create_dir_all(&folder).map_err(LedgerError::io("create", &folder))?;
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
                    let segment = Segment::new(&folder, unique);
                    let keys = segment.keys()?;
                    segments.insert(unique.to_owned(), source);
                    sealed.push((unique, source, keys.len() as u64));
                    places.extend(keys.into_iter().zip(0..).map(|(key, row)| (key, Place::new(source, row))));
                    sources.push(Some(Source::Segment(Arc::new(segment))));
                }
                None => {} // a log without records, deleted by its owner meanwhile
            }
        }
        let (index, repeats) = Index::build(places);
        write_distinct(&folder, &listing, &sealed, &repeats);
        let shared = Shared {
            claims: Claims::new(folder.join("claims")),
            folder,
            index: RwLock::new(index),
            sources: RwLock::new(sources),
            segments: RwLock::new(segments),
            followed,
            _hold: hold,
            blocks: BlockCache::new(BLOCK_CACHE_BYTES),
            footers: Footers::default(),
            objects: None,
            refused: OnceLock::new(),
        };
        Ok((shared, adopted))
    }

    /// A ledger on an object store, of which nothing is known yet.
    pub(super) fn of_objects(url: PathBuf, objects: Arc<Objects>) -> Shared {
        Shared {
            folder: url,
            index: RwLock::new(Index::build([]).0),
            sources: RwLock::default(),
            segments: RwLock::default(),
            followed: Followed::default(),
            _hold: Hold::none(),
            blocks: BlockCache::new(BLOCK_CACHE_BYTES),
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

    fn writer_ended(&self) -> LedgerError {
        LedgerError::WriterEnded { path: self.folder.clone() }
    }

    fn place(&self, key: &Key) -> Option<Place> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).get(key)
    }

    /// One look at the index for all of them.
    fn places(&self, ids: &[CallId]) -> Vec<Option<Place>> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        ids.iter().map(|id| index.get(&index::key(id))).collect()
    }

    fn source(&self, number: u32) -> Option<Source> {
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

    /// Seals a log and moves its answers' places into the segment.
    pub(super) fn seal(&self, log: &NumberedLog) -> Result<(), LedgerError> {
        let unique = &log.log.unique;
        let keys = segment::seal(&self.folder, &log.log)?;
        self.write_distinct(log, &keys)?;
        let to = self.add_source(Source::Segment(Arc::new(Segment::new(&self.folder, unique))));
        self.segments.write().unwrap_or_else(PoisonError::into_inner).insert(unique.clone(), to);
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        for (key, row) in keys.iter().zip(0..) {
            index.relocate(key, log.source, Place::new(to, row));
        }
        drop(index);
        let mut sources = self.sources.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(sealed) = sources.get_mut(log.source as usize) {
            *sealed = None;
        }
        Ok(())
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
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let repeated = |key: &Key| index.get(key).is_some_and(|place| older.contains(&place.source()));
        let repeats = keys.iter().zip(0..).filter(|(key, _)| repeated(key)).map(|(_, row)| row).collect();
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

    /// Whether the first record of a call is in a source.
    pub(super) fn holds_first(&self, key: &Key, source: u32) -> bool {
        self.place(key).is_none_or(|place| place.source() == source)
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
