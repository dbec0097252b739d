//! Records as they lie in a log, one line of JSON each. Made by whoever appends, on its own thread: the one that writes
//! has only bytes to copy, and frees nothing that others have allocated.

use std::io;

use super::{CallId, Record};

/// The records of one append.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) bytes: Vec<u8>,
    pub(super) records: usize,
    /// The calls among them.
    pub(super) calls: Vec<CallId>,
}

impl Lines {
    /// # Errors
    /// None that are known: records have no value that JSON lacks.
    pub(super) fn of(records: &[Record]) -> io::Result<Lines> {
        let mut lines = Lines { records: records.len(), ..Lines::default() };
        for record in records {
            lines.bytes.reserve(room(record));
            serde_json::to_writer(&mut lines.bytes, record)?;
            lines.bytes.push(b'\n');
            if let Record::Call(call) = record {
                lines.calls.push(call.call_id);
            }
        }
        Ok(lines)
    }
}

/// About the length of a record's line: long texts, some of whose characters are escaped, and some short fields.
fn room(record: &Record) -> usize {
    let texts = match record {
        Record::Call(call) => call.messages.len() + call.parameters.len() + call.response.len(),
        Record::Attempt(attempt) => attempt.error.as_ref().map_or(0, String::len),
        Record::Use(used) => used.call_ids.len() * 67,
    };
    texts + texts / 16 + 512
}
