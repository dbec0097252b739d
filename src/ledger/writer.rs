//! The thread that writes. In: appends, over a bounded queue. Out: frames in this process's log, one fsync a
//! group; the answers to all that waited; segments of logs that have grown large.

use std::io::Write;
use std::sync::Arc;
use std::thread;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::lines::Lines;
use super::log::FrameEncoder;
use super::replies::Replies;
use super::sealing::Sealing;
use super::shared::{NumberedLog, Shared};
use super::{LedgerError, crash_points, folder};

/// A group of this many records is full.
const GROUP_RECORDS: usize = 256;
/// So is one with this many bytes: it bounds the writer's memory.
const GROUP_BYTES: usize = 16 << 20;

type Reply = oneshot::Sender<Result<(), LedgerError>>;

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    /// Make these records durable, all or none.
    Append(Append),
    Close(Closing),
}

/// A request to seal all logs.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) reply: Reply,
    /// Cancelled where what can be done another time is to be left.
    pub(super) hurry: CancellationToken,
}

/// One `append` that waits for its group.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) lines: Lines,
    pub(super) reply: Reply,
    /// The runtime of the one who waits, if it has one.
    pub(super) runtime: Option<Handle>,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Command>,
    encoder: FrameEncoder,
    /// Begun with the first append.
    log: Option<NumberedLog>,
    /// Complete logs that `close` seals: of dead processes, and those after a failed write.
    unsealed: Vec<NumberedLog>,
    sealing: Sealing,
    /// A log longer than this is sealed, and another begun.
    log_bytes: u64,
}

impl Writer {
    /// Starts the thread; it ends when the ledger is dropped.
    pub(super) fn start(
        shared: Arc<Shared>,
        adopted: Vec<NumberedLog>,
        queue: mpsc::Receiver<Command>,
        log_bytes: u64,
    ) -> Result<(), LedgerError> {
        let folder = shared.folder.clone();
        let failed = LedgerError::io("start the writer of", folder);
        let start = || {
            let runtime = tokio::runtime::Builder::new_current_thread().build()?;
            let (encoder, sealing) = (FrameEncoder::storing(), Sealing::new(Arc::clone(&shared)));
            let mut writer = Writer { shared, queue, encoder, log: None, unsealed: Vec::new(), sealing, log_bytes };
            thread::Builder::new().name("ledger".into()).spawn(move || {
                runtime.block_on(async {
                    for log in adopted {
                        writer.retire(log);
                    }
                    writer.run().await;
                });
            })
        };
        start().map(drop).map_err(failed)
    }

    async fn run(&mut self) {
        // No timer: what arrives during one fsync is the next group. A lone caller waits for one fsync, many share it.
        while let Some(command) = self.queue.recv().await {
            let mut group = Group::default();
            let mut close = group.add(command);
            while close.is_none() && !group.is_larger_than(GROUP_RECORDS, GROUP_BYTES) {
                match self.queue.try_recv() {
                    Ok(command) => close = group.add(command),
                    Err(_) => break,
                }
            }
            if !group.appends.is_empty() {
                self.commit(group);
            }
            if let Some(close) = close {
                self.seal_all();
                // The one who asked may have been dropped; that is no failure.
                let _ = close.reply.send(Ok(()));
            }
        }
    }

    /// Writes a group and answers all that wait for it.
    fn commit(&mut self, group: Group) {
        let result = self.write(&group);
        if let Ok((source, offset)) = result {
            self.shared.add_calls(group.lines().flat_map(|lines| &lines.calls), source, offset);
        }
        Replies::send(group.appends, result.map(drop));
        if let Some(full) = self.log.take_if(|log| log.log.len > self.log_bytes) {
            self.retire(full);
        }
    }

    /// Makes a group durable as one frame: where it stands then.
    fn write(&mut self, group: &Group) -> Result<(u32, u64), LedgerError> {
        let folder = &self.shared.folder;
        let mut log = match self.log.take() {
            Some(log) => log,
            None => {
                let log = folder::create_log(folder, |unique| self.shared.announce(unique))?;
                let source = self.shared.add_log(&log.unique)?;
                NumberedLog { log, source }
            }
        };
        let path = folder::log_path(folder, &log.log.unique);
        let frame = match self.encoder.encode(group.lines()) {
            Ok(frame) => frame,
            Err(e) => {
                self.log = Some(log);
                return Err(LedgerError::io("encode records for", &path)(e));
            }
        };
        let offset = log.log.len;
        let room = log.log.make_room(frame.len() as u64);
        crash_points::pass_after("group half written", || {
            let _ = log.log.file.write_all(&frame[..frame.len() / 2]);
        });
        match room.and_then(|()| log.log.file.write_all(frame)).and_then(|()| log.log.file.sync_data()) {
            Ok(()) => {
                log.log.len += frame.len() as u64;
                let source = log.source;
                self.log = Some(log);
                Ok((source, offset))
            }
            Err(e) => {
                // What a failed write or fsync has left on the disk is unknown: this log ends at its last good
                // frame, and the next group begins another.
                let _ = log.log.file.set_len(offset);
                self.unsealed.push(log);
                Err(LedgerError::io("write", &path)(e))
            }
        }
    }

    /// Lets go of a log that gets no more records: sealed soon if it is large, else at `close`.
    fn retire(&mut self, log: NumberedLog) {
        if log.log.len > self.log_bytes {
            self.sealing.add(log);
        } else {
            self.unsealed.push(log);
        }
    }

    /// Seals what is left. What was being sealed beside the calls is begun again here: it has waited for the processor
    /// then, and someone waits for it now. What cannot be sealed (a full disk) stays a log, as durable as before.
    fn seal_all(&mut self) {
        let (given_back, is_whole) = self.sealing.give_up();
        self.unsealed.extend(given_back);
        self.unsealed.extend(self.log.take());
        // A younger segment is best sealed when it is known what the older ones hold.
        self.unsealed.sort_by(|one, other| one.log.unique.cmp(&other.log.unique));
        if !is_whole {
            tracing::warn!("sealing panicked; no answer is lost, and a later command seals the log");
        }
        for log in std::mem::take(&mut self.unsealed) {
            if let Err(e) = self.shared.seal(&log, &CancellationToken::new()) {
                tracing::warn!("{e}; no answer is lost, and a later command seals the log");
                self.unsealed.push(log);
            }
        }
    }
}

/// Appends that are made durable together.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) appends: Vec<Append>,
    records: usize,
    bytes: usize,
}

impl Group {
    /// Adds an append; a request to close is given back.
    pub(super) fn add(&mut self, command: Command) -> Option<Closing> {
        match command {
            Command::Append(append) => {
                self.records += append.lines.records;
                self.bytes += append.lines.bytes.len();
                self.appends.push(append);
                None
            }
            Command::Close(closing) => Some(closing),
        }
    }

    pub(super) fn is_larger_than(&self, records: usize, bytes: usize) -> bool {
        self.records >= records || self.bytes >= bytes
    }

    fn lines(&self) -> impl Iterator<Item = &Lines> {
        self.appends.iter().map(|append| &append.lines)
    }
}
