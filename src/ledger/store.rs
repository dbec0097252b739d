//! The ledger opened: what is known, where it lies, and the way to the thread that writes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::block::{Block, StoredAnswer};
use super::claims::Claim;
use super::index;
use super::lines::Lines;
use super::location::Location;
use super::objects::{Objects, RELISTS};
use super::shared::{NumberedLog, Shared};
use super::source::Source;
use super::unsent::Unsent;
use super::writer::{Append, Closing, Command, Writer};
use super::{CallId, LedgerError, Record, object_writer};

/// Appends that may wait for the writer; more wait at the door.
const QUEUE: usize = 1_024;

/// A log longer than this is sealed, and another begun.
const LOG_BYTES: u64 = 128 << 20;

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
                let listing = shared.add_objects(&objects).await?;
                let (commands, queue) = mpsc::channel(QUEUE);
                object_writer::start(Arc::clone(&shared), objects, unsent, queue, &listing)?;
                Ok(Arc::new(Ledger { shared, commands }))
            }
        }
    }

    /// Opens a ledger for one who asks no call. On an object store nothing is written or sent: what this machine could
    /// not send yet is known all the same, and appends fail.
    pub async fn open_to_look(location: impl Into<Location>) -> Result<Arc<Ledger>, LedgerError> {
        match location.into() {
            folder @ Location::Folder(_) => Self::open(folder).await,
            Location::Store { prefix, unsent } => {
                // First: what is sent in between is there twice rather than not at all.
                let unsent = Unsent::new(unsent).logs()?;
                let objects = Arc::new(Objects::new(prefix.clone()));
                let shared = Arc::new(Shared::of_objects(prefix.url().into(), Arc::clone(&objects)));
                let listing = shared.add_objects(&objects).await?;
                shared.add_unsent(unsent, &listing)?;
                let (commands, _) = mpsc::channel(1);
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
        Self::over(shared, adopted, log_bytes)
    }

    /// Over a folder that has been read just now.
    pub(super) fn over(shared: Shared, adopted: Vec<NumberedLog>, log_bytes: u64) -> Result<Arc<Ledger>, LedgerError> {
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
            Some(objects) => self.shared.add_objects(objects).await.map(drop),
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
            let position = source.block_position(place.position());
            let blocks = self.blocks(place.source(), source, &[position]).await?;
            return Ok(blocks.first().and_then(|block| block.find(id)));
        }
        Ok(None)
    }

    /// The right to ask a call that nobody has answered or asks, as one look shows. `None` says nothing: look again with
    /// [`Ledger::find_or_claim`], which may have to read or to wait. Of use where the call was not known a while ago.
    pub fn claim_at_once(&self, id: &CallId) -> Option<Claim> {
        if self.shared.objects.is_some() {
            return None;
        }
        let claim = self.claim(id)?;
        // The last holder let go of its claim only when its answer was durable: look after, not before.
        let nothing_new =
            matches!(self.shared.others_wrote(), Ok(false)) && self.shared.place(&index::key(id)).is_none();
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
            self.shared.follow_others().await?;
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
            let lines = Lines::of(records).map_err(LedgerError::io("encode records for", &self.shared.folder))?;
            let append = Command::Append(Append { lines, reply, runtime: Handle::try_current().ok() });
            self.commands.send(append).await.map_err(|_| self.shared.writer_ended())?;
        }
        Ok(pending)
    }

    /// Which of these calls are stored: one look at the index for all of them.
    pub fn known(&self, ids: &[CallId]) -> Vec<bool> {
        self.shared.places(ids).iter().map(Option::is_some).collect()
    }

    /// The stored answers to many calls, in their order, as [`Ledger::find`] gives them; calls that lie in one
    /// block share its read. One look at the index for all of them.
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
        let mut by_source: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (at, place) in places.iter().enumerate() {
            if let Some(place) = place {
                by_source.entry(place.source()).or_default().push(at);
            }
        }
        let mut answers = vec![None; ids.len()];
        for (number, calls) in by_source {
            let Some(source) = self.shared.source(number) else {
                // Sealed in between.
                for at in calls {
                    answers[at] = self.find_known(&ids[at]).await?;
                }
                continue;
            };
            let position = |at: usize| places[at].map(|place| source.block_position(place.position()));
            let mut positions: Vec<u64> = calls.iter().filter_map(|&at| position(at)).collect();
            positions.sort_unstable();
            positions.dedup();
            let blocks = self.blocks(number, source.clone(), &positions).await?;
            for at in calls {
                let block = position(at).and_then(|position| blocks.get(positions.binary_search(&position).ok()?));
                answers[at] = block.and_then(|block| block.find(&ids[at]));
            }
        }
        Ok(answers)
    }

    /// Blocks of one source, at positions that ascend.
    async fn blocks(&self, number: u32, source: Source, positions: &[u64]) -> Result<Vec<Arc<Block>>, LedgerError> {
        let (shared, neighbours) = (Arc::clone(&self.shared), source.clone());
        let with_neighbours = move |positions| neighbours.with_neighbours(positions);
        let read = move |positions: &[u64]| source.blocks(positions, &shared.footers);
        self.shared.blocks.get(number, positions, with_neighbours, read).await
    }

    /// Seals this process's log, and those taken over from dead processes, into Parquet segments. Not needed for
    /// durability; appending may go on afterwards, in a new log.
    pub async fn close(&self) -> Result<(), LedgerError> {
        self.close_in(CancellationToken::new()).await
    }

    /// The same; once `hurry` is cancelled, a merge on an object store, which another process can make, is not waited for.
    pub async fn close_in(&self, hurry: CancellationToken) -> Result<(), LedgerError> {
        let (reply, answer) = oneshot::channel();
        let close = Command::Close(Closing { reply, hurry });
        self.commands.send(close).await.map_err(|_| self.shared.writer_ended())?;
        answer.await.map_err(|_| self.shared.writer_ended())?
    }

    /// The number of distinct calls known.
    pub fn len(&self) -> usize {
        self.shared.index.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
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
