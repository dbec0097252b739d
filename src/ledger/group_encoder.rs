//! The thread that encodes. In: appends, over the ledger's bounded queue. Out: their groups as frames, for the writer, which
//! makes one durable while the next is encoded here.

use std::thread;

use tokio::sync::mpsc;

use super::log::FrameEncoder;
use super::writer::{Command, Group, Reply};
use super::{CallId, LedgerError, Record};

/// Groups that wait for the writer. They hold their records' texts, so there are few.
const ENCODED: usize = 2;

/// What the writer gets.
#[derive(Debug)]
pub(super) enum Step {
    Write(EncodedGroup),
    /// Seal all logs.
    Close {
        reply: Reply,
    },
}

/// A group that is to be made durable as one frame.
#[derive(Debug)]
pub(super) struct EncodedGroup {
    pub(super) frame: Vec<u8>,
    /// The calls that are in it.
    pub(super) calls: Vec<CallId>,
    /// Of all who wait for it.
    pub(super) replies: Vec<Reply>,
}

/// Starts the thread; it ends when the ledger is dropped.
pub(super) fn start(
    mut queue: mpsc::Receiver<Command>,
    mut encoder: FrameEncoder,
    failed: impl Fn(std::io::Error) -> LedgerError + Send + 'static,
) -> std::io::Result<mpsc::Receiver<Step>> {
    let (steps, encoded) = mpsc::channel(ENCODED);
    thread::Builder::new().name("ledger-encoder".into()).spawn(move || {
        // No timer: what arrives while one group is encoded, or waits for the writer, is the next.
        while let Some(command) = queue.blocking_recv() {
            let mut group = Group::default();
            let mut close = group.add(command);
            while close.is_none() && !group.is_full() {
                match queue.try_recv() {
                    Ok(command) => close = group.add(command),
                    Err(_) => break,
                }
            }
            let written = group.encode(&mut encoder, &failed).is_none_or(|group| send(&steps, Step::Write(group)));
            let closed = close.is_none_or(|reply| send(&steps, Step::Close { reply }));
            if !(written && closed) {
                return; // the writer has ended; who waits learns it from a reply that never comes
            }
        }
    })?;
    Ok(encoded)
}

fn send(steps: &mpsc::Sender<Step>, step: Step) -> bool {
    steps.blocking_send(step).is_ok()
}

impl Group {
    /// `None` where there is nothing to write, or where it cannot be encoded: then all who wait are told.
    fn encode(
        self,
        encoder: &mut FrameEncoder,
        failed: impl Fn(std::io::Error) -> LedgerError,
    ) -> Option<EncodedGroup> {
        if self.appends.is_empty() {
            return None;
        }
        let encoded = encoder.encode(self.records());
        let calls = self.records().filter_map(|record| match record {
            Record::Call(call) => Some(call.call_id),
            Record::Attempt(_) | Record::Use(_) => None,
        });
        let calls = calls.collect();
        let replies = self.appends.into_iter().map(|append| append.reply);
        match encoded {
            Ok(frame) => Some(EncodedGroup { frame, calls, replies: replies.collect() }),
            Err(error) => {
                let error = failed(error);
                for reply in replies {
                    let _ = reply.send(Err(error.clone()));
                }
                None
            }
        }
    }
}
