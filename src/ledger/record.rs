//! What the ledger writes down: one record a call, one an attempt, one a use of a call by a run.

use std::sync::Arc;

use super::CallId;

/// A call with its raw 2xx answer: a row of the table `calls`. Times are milliseconds since 1970 UTC.
#[derive(Debug, Clone, PartialEq)]
pub struct CallRecord {
    pub call_id: CallId,
    pub provider: String,
    /// The model's name as sent.
    pub model: String,
    pub revision: String,
    pub variant: String,
    pub sample: u32,
    /// JSON: a list of {role, content}.
    pub messages: String,
    /// JSON: sampling parameters, `items` and `schema`.
    pub parameters: String,
    /// The raw body.
    pub response: Arc<str>,
    pub finish_reason: Option<String>,
    pub prompt_tokens: Option<u64>,
    pub completion_tokens: Option<u64>,
    pub cost_usd: f64,
    pub time_ms: i64,
}

/// One request to an endpoint, whatever became of it: a row of the table `attempts`.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptRecord {
    pub call_id: CallId,
    pub model: String,
    pub time_ms: i64,
    pub latency_ms: u64,
    pub status: Option<u16>,
    /// [`crate::endpoint::ErrorKind::name`], or `None` for an answer.
    pub error_kind: Option<String>,
    pub error: Option<String>,
    pub billed: bool,
    pub cost_usd: f64,
}

/// A run used a call at a stage, by asking or by replay: a row of the table `call_uses`.
#[derive(Debug, Clone, PartialEq)]
pub struct UseRecord {
    pub run_id: String,
    pub call_id: CallId,
    pub stage: String,
    pub replayed: bool,
    pub time_ms: i64,
}
