//! The task that writes to a ledger on an object store. In: appends, over a bounded queue. Out: one object a group, a
//! few seconds of records at most, and the answers to all that waited for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::bytes::Bytes;

use super::log::{FrameEncoder, HEADER_LEN, header};
use super::object_log::{self, ObjectLogs};
use super::source::Source;
use super::store::Shared;
use super::writer::{Command, Group};
use super::{LedgerError, Record};

/// A group waits for more as long as more comes in so quick succession, ...
const QUIET: Duration = Duration::from_millis(150);
/// ... no longer than this, ...
const LONGEST: Duration = Duration::from_secs(2);
/// ... and no more than this.
const RECORDS: usize = 20_000;
const BYTES: usize = 16 << 20;

/// What is put here is sealed no more, and travels.
const COMPRESSION_LEVEL: i32 = 3;

struct ObjectWriter {
    shared: Arc<Shared>,
    logs: Arc<ObjectLogs>,
    queue: mpsc::Receiver<Command>,
    encoder: FrameEncoder,
    unique: String,
    /// Of the next put.
    number: u64,
}

/// Starts the task; it ends when the ledger is dropped.
pub(super) fn start(
    shared: Arc<Shared>,
    logs: Arc<ObjectLogs>,
    queue: mpsc::Receiver<Command>,
) -> Result<(), LedgerError> {
    let encoder =
        FrameEncoder::of_level(COMPRESSION_LEVEL).map_err(LedgerError::io("start the writer of", &shared.folder))?;
    let mut writer = ObjectWriter { shared, logs, queue, encoder, unique: object_log::unique(), number: 0 };
    tokio::spawn(async move { writer.run().await });
    Ok(())
}

impl ObjectWriter {
    async fn run(&mut self) {
        while let Some(command) = self.queue.recv().await {
            let mut group = Group::default();
            let mut close = group.add(command);
            let latest = Instant::now() + LONGEST;
            while close.is_none() && !group.is_larger_than(RECORDS, BYTES) {
                match timeout_at(latest.min(Instant::now() + QUIET), self.queue.recv()).await {
                    Ok(Some(command)) => close = group.add(command),
                    Ok(None) | Err(_) => break,
                }
            }
            if !group.appends.is_empty() {
                let result = self.put(&group).await;
                for append in group.appends {
                    let _ = append.reply.send(result.clone());
                }
            }
            if let Some(reply) = close {
                // Nothing is left to seal. The one who asked may have been dropped; that is no failure.
                let _ = reply.send(Ok(()));
            }
        }
    }

    /// Makes a group durable as one object, and its calls known here.
    async fn put(&mut self, group: &Group) -> Result<(), LedgerError> {
        let frame =
            self.encoder.encode(group.records()).map_err(LedgerError::io("encode records for", &self.shared.folder))?;
        let bytes = Bytes::from([&header()[..], &frame].concat());
        // A number is used once, also where its put has failed: that may have arrived.
        self.number += 1;
        let log = self.logs.put(object_log::name(&self.unique, self.number), bytes).await?;
        let source = self.shared.add_source(Source::Object(log));
        let calls = group.records().filter_map(|record| match record {
            Record::Call(call) => Some(&call.call_id),
            Record::Attempt(_) | Record::Use(_) => None,
        });
        self.shared.add_calls(calls, source, HEADER_LEN);
        Ok(())
    }
}
