//! The ledger: every model call ever made, durable before anyone sees its answer, never asked twice.
//!
//! What holds after a crash at any line (of the process, or of the machine where the disk keeps its word on fsync);
//! each has a test of its name in `invariants`:
//!
//! 1. **An append that returned is durable.** [`Ledger::append`] returns after the fsync of its group.
//! 2. **Groups are atomic.** All records of one `append` stand in one frame under one checksum: all or none is read.
//! 3. **A torn tail is cut** at the last good frame. Damage before a good frame is no torn tail: it is stepped over
//!    with a warning, and the damaged log is kept aside when it is sealed or merged. A whole group of a kind that is not
//!    known here is an error: a newer program has paid for it.
//! 4. **A segment replaces its log.** Sealing writes `segment-<unique>.tmp/`, syncs it, renames it to
//!    `segment-<unique>/` (the commit point), and deletes `log-<unique>.log`. Before the rename only the log counts,
//!    and the half-written folder is swept; after it only the segment counts, and the log is deleted by the next
//!    opener. No row is lost or shown twice at any step.
//! 5. **A log has one writer**, which holds its file lock. A log whose lock can be had belonged to a dead process.
//! 6. **Readers wait for no writer**, and see whole groups only. They share a lock of the folder (`hold`), and so does
//!    an open ledger: it keeps replaced segments in place, no more. (Only gc, which needs the ledger for itself, lets
//!    readers wait.)
//! 7. **A merged segment replaces its inputs at once.** Compaction (1) takes `compaction.lock`, (2) writes
//!    `compaction-<unique>.tmp/` with the list `replaces.json` of its inputs, (3) syncs it, (4) renames it to
//!    `segment-<unique>/` (the commit point), and (5) deletes the inputs when nobody has a hold on the folder: at its
//!    end, or at the next compaction or opening. Before (4) only the inputs count and the half-written folder is swept;
//!    after it what `replaces.json` names counts no more, there or not. The merged segment stands at the age of its
//!    oldest input, and only neighbours in age are merged, so the oldest answer to a call stays the one that is shown.
//! 8. **gc drops whole calls only, and nothing that is in use.** It is a compaction that leaves out calls, alone on
//!    the folder from its decision to its last commit; their attempts and uses stay.
//!
//! And between processes that write at once: **a call is asked by one of them**, which holds its claim until the
//! answer is durable ([`Ledger::find_or_claim`]); the others read it from that one's log.
//!
//! On an object store (`object_log`) there are no locks, no names that are given later and no files that grow: each
//! process puts logs of its own, a group an object, and (1), (2) and (6) hold by that. Until the store has a log it lies
//! on this machine (`unsent`). What was merged there (`object_merge`: by `calls compact`, and by every process that writes
//! where many logs are) is named by the next `generation`, in place of (7); who finds an object gone lists again. Two
//! processes there can both pay for what is in flight in both.
//!
//! The names in the folder are told in `folder`, the log's format in `log`, the segments' columns in [`tables`].

mod background_merge;
mod backlog;
mod block;
mod block_cache;
mod claims;
mod columns;
mod compact;
mod crash_points;
mod distinct;
mod distinct_calls;
mod error;
mod find_or_claim;
mod folder;
mod follow;
mod gc;
mod generation;
mod hold;
mod identity;
mod index;
#[cfg(test)]
mod invariants;
mod lines;
mod location;
mod log;
mod log_scan;
mod object_compact;
mod object_follow;
mod object_log;
mod object_merge;
mod object_rewrite;
mod object_scan;
mod object_segment;
mod object_segments_exec;
mod object_writer;
mod objects;
mod opened_log;
mod priority;
mod record;
mod replies;
mod rewrite;
mod sealing;
mod segment;
mod segment_keys;
mod segments_scan;
mod shared;
mod source;
mod store;
mod table_scan;
mod tables;
mod unsent;
mod writer;

pub use background_merge::MANY_LOGS;
pub use backlog::{Backlog, backlog};
pub use block::StoredAnswer;
pub use claims::Claim;
pub use compact::{Compacted, Totals, compact};
pub use error::LedgerError;
pub use find_or_claim::Lookup;
pub use gc::{GarbageCollector, Share, Unused};
pub use identity::{CallId, CallKey, KeyTemplate};
pub use location::Location;
pub use record::{AttemptRecord, CallRecord, Record, UseRecord};
pub use store::{Ledger, Pending};
pub use tables::tables;
