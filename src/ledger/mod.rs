//! The ledger: every model call ever made, durable before anyone sees its answer, never asked twice.

mod identity;
mod record;

pub use identity::{CallId, CallKey};
pub use record::{AttemptRecord, CallRecord, UseRecord};
