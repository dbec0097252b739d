//! The task that writes to a ledger on an object store. In: appends, over a bounded queue. Out: one object a group, a
//! few seconds of records at most, and the answers to all that waited for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::bytes::Bytes;

use super::background_merge::BackgroundMerge;
use super::log::{FrameEncoder, header};
use super::object_log;
use super::objects::{Listing, Objects};
use super::replies::Replies;
use super::shared::Shared;
use super::source::Source;
use super::unsent::Unsent;
use super::writer::{Append, Command, Group};
use super::{CallId, LedgerError};

/// A group waits for more as long as more comes in so quick succession, ...
const QUIET: Duration = Duration::from_millis(150);
/// ... no longer than this, ...
const LONGEST: Duration = Duration::from_secs(2);
/// ... and no more than this.
const RECORDS: usize = 20_000;
const BYTES: usize = 16 << 20;

/// A frame is what is read back at once.
const FRAME_RECORDS: usize = 256;
const FRAME_BYTES: usize = 1 << 20;

/// What is put here is sealed no more, and travels.
const COMPRESSION_LEVEL: i32 = 3;

struct ObjectWriter {
    shared: Arc<Shared>,
    objects: Arc<Objects>,
    unsent: Unsent,
    /// Whether a failure to keep a log on this machine has been told.
    is_warned: bool,
    queue: mpsc::Receiver<Command>,
    encoder: FrameEncoder,
    unique: String,
    /// Of the last put.
    number: u64,
    merging: BackgroundMerge,
}

/// Starts the task, for a ledger that has just been listed; it ends when the ledger is dropped.
pub(super) fn start(
    shared: Arc<Shared>,
    objects: Arc<Objects>,
    unsent: Unsent,
    queue: mpsc::Receiver<Command>,
    listing: &Listing,
) -> Result<(), LedgerError> {
    let encoder =
        FrameEncoder::compressing(COMPRESSION_LEVEL).map_err(LedgerError::io("start the writer of", &shared.folder))?;
    let unique = object_log::unique();
    let merging = BackgroundMerge::new(Arc::clone(&shared), Arc::clone(&objects), &unique, listing);
    let mut writer =
        ObjectWriter { shared, objects, unsent, is_warned: false, queue, encoder, unique, number: 0, merging };
    tokio::spawn(async move { writer.run().await });
    Ok(())
}

impl ObjectWriter {
    async fn run(&mut self) {
        self.merging.look();
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
                Replies::send(group.appends, result);
                self.merging.look();
            }
            if let Some(close) = close {
                self.unsent.tidy();
                self.merging.finish(&close.hurry).await;
                // Nothing is left to seal. The one who asked may have been dropped; that is no failure.
                let _ = close.reply.send(self.shared.refused());
            }
        }
    }

    /// Makes a group durable as one object, or on this machine where the store does not take it, and its calls known
    /// here.
    async fn put(&mut self, group: &Group) -> Result<(), LedgerError> {
        let mut bytes = header().to_vec();
        let mut calls: Vec<(u64, Vec<CallId>)> = Vec::new();
        let mut left = group.appends.as_slice();
        while !left.is_empty() {
            let frame;
            (frame, left) = left.split_at(appends_of_a_frame(left));
            let lines = || frame.iter().map(|append| &append.lines);
            calls.push((bytes.len() as u64, lines().flat_map(|lines| &lines.calls).copied().collect()));
            let encoded = self.encoder.encode(lines());
            bytes.extend(encoded.map_err(LedgerError::io("encode records for", &self.shared.folder))?);
        }
        // A number is used once, also where its put has failed: that may have arrived.
        self.number += 1;
        let name = object_log::name(&self.unique, self.number);
        let source = self.send(name.clone(), Bytes::from(bytes)).await?;
        let is_there = matches!(source, Source::Object(_));
        let source = self.shared.add_source(source);
        if is_there {
            self.objects.known().logs.insert(name, Some(source));
        }
        for (offset, calls) in calls {
            self.shared.add_calls(calls.iter(), source, offset);
        }
        Ok(())
    }

    /// Puts a log, which lies on this machine until then: a crash meanwhile costs nothing of it. Once the store has
    /// refused a log for good, all that follow stay here.
    async fn send(&mut self, name: String, bytes: Bytes) -> Result<Source, LedgerError> {
        let kept = match self.unsent.keep(&name, &bytes).await {
            Ok(kept) => kept,
            Err(e) => {
                if !std::mem::replace(&mut self.is_warned, true) {
                    tracing::warn!("{e}; answers that the store does not take would be lost");
                }
                self.shared.refused()?;
                return self.objects.put(name, bytes).await.map(Source::Object);
            }
        };
        if self.shared.refused().is_ok() {
            match self.objects.put(name, bytes).await {
                Ok(log) => {
                    kept.sent()?;
                    return Ok(Source::Object(log));
                }
                Err(e) => {
                    let refused = self.unsent.refused(e);
                    tracing::warn!("{refused}");
                    self.shared.refuse(refused);
                }
            }
        }
        kept.log().map(Source::Log)
    }
}

/// How many appends make up a frame: what is read back at once. An append is in one frame as a whole.
fn appends_of_a_frame(appends: &[Append]) -> usize {
    let (mut records, mut bytes) = (0, 0);
    let is_full = |append: &Append| {
        records += append.lines.records;
        bytes += append.lines.bytes.len();
        records >= FRAME_RECORDS || bytes >= FRAME_BYTES
    };
    appends.iter().position(is_full).map_or(appends.len(), |at| at + 1)
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::ledger::lines::Lines;

    #[test]
    fn a_frame_ends_with_the_append_that_fills_it() {
        let append = |records: usize| {
            let lines = Lines { bytes: vec![b'x'; 100 * records], records, calls: Vec::new() };
            Append { lines, reply: oneshot::channel().0, runtime: None }
        };
        assert_eq!(appends_of_a_frame(&[append(3), append(3)]), 2);
        assert_eq!(appends_of_a_frame(&[append(3), append(FRAME_RECORDS), append(1)]), 2);
        assert_eq!(appends_of_a_frame(&[append(2 * FRAME_RECORDS), append(1)]), 1);
    }
}
