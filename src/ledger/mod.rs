//! The ledger: every model call ever made, durable before anyone sees its answer, never asked twice.
//!
//! What holds after a crash at any line (of the process, or of the machine where the disk keeps its word on fsync);
//! each has a test of its name in `invariants`:
//!
//! 1. **An append that returned is durable.** [`Ledger::append`] returns after the fsync of its group.
//! 2. **Groups are atomic.** All records of one `append` stand in one frame under one checksum: all or none is read.
//! 3. **A torn tail is cut** at the last good frame. Damage before a good frame is no torn tail: it is stepped over
//!    with a warning, and the damaged log is kept aside when it is sealed.
//! 4. **A segment replaces its log.** Sealing writes `segment-<unique>.tmp/`, syncs it, renames it to
//!    `segment-<unique>/` (the commit point), and deletes `log-<unique>.log`. Before the rename only the log counts,
//!    and the half-written folder is swept; after it only the segment counts, and the log is deleted by the next
//!    opener. No row is lost or shown twice at any step.
//! 5. **A log has one writer**, which holds its file lock. A log whose lock can be had belonged to a dead process.
//! 6. **Readers need no lock**, and see whole groups only.
//!
//! And between processes that write at once: **a call is asked by one of them**, which holds its claim until the
//! answer is durable ([`Ledger::find_or_claim`]); the others read it from that one's log.
//!
//! The names in the folder are told in `folder`, the log's format in `log`, the segments' columns in [`tables`].

mod block;
mod claims;
mod columns;
mod distinct_calls;
mod error;
mod folder;
mod foreign;
mod identity;
mod index;
#[cfg(test)]
mod invariants;
mod log;
mod log_scan;
mod record;
mod segment;
mod store;
mod tables;
mod writer;

pub use claims::Claim;
pub use error::LedgerError;
pub use foreign::Lookup;
pub use identity::{CallId, CallKey, KeyTemplate};
pub use record::{AttemptRecord, CallRecord, Record, UseRecord};
pub use store::{Ledger, Pending, StoredAnswer};
pub use tables::tables;
