//! Records as they lie in a log. Each is a line of JSON; of a call the texts that are JSON themselves stand behind it as
//! they are: `{"call": {…}}[<bytes of messages>,<bytes of parameters>,<bytes of response>]`, line feed, messages,
//! parameters, response, line feed. As strings they would be escaped once and read back twice, which takes longer than
//! all else here.
//!
//! Made by whoever appends, on its own thread: the one that writes has only bytes to copy, and frees nothing that others
//! have allocated.

use std::io;
use std::mem::take;

use serde_json::Deserializer;

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
    pub(super) fn of(records: Vec<Record>) -> io::Result<Lines> {
        let mut lines = Lines { records: records.len(), ..Lines::default() };
        for record in records {
            lines.add(record)?;
        }
        Ok(lines)
    }

    fn add(&mut self, mut record: Record) -> io::Result<()> {
        let bytes = &mut self.bytes;
        bytes.reserve(room(&record));
        let texts = match &mut record {
            Record::Call(call) => {
                self.calls.push(call.call_id);
                Some((take(&mut call.messages), take(&mut call.parameters), take(&mut call.response)))
            }
            Record::Attempt(_) | Record::Use(_) => None,
        };
        serde_json::to_writer(&mut *bytes, &record)?;
        if let Some((messages, parameters, response)) = &texts {
            let texts = [messages, &**parameters, response];
            serde_json::to_writer(&mut *bytes, &texts.map(str::len))?;
            bytes.push(b'\n');
            texts.iter().for_each(|text| bytes.extend_from_slice(text.as_bytes()));
        }
        bytes.push(b'\n');
        Ok(())
    }

    /// Reads records back; the error says what is wrong. Older logs have a call's texts in its line.
    pub(super) fn read(bytes: &[u8]) -> Result<Vec<Record>, String> {
        let mut records = Vec::new();
        let mut rest = bytes;
        while let Some(mut record) = read_json::<Record>(&mut rest)? {
            if let (Record::Call(call), [b'[', ..]) = (&mut record, rest)
                && let Some([messages, parameters, response]) = read_json::<[usize; 3]>(&mut rest)?
            {
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
                call.messages = read_text(&mut rest, messages)?.to_owned();
                call.parameters = read_text(&mut rest, parameters)?.into();
                call.response = read_text(&mut rest, response)?.to_owned();
            }
            records.push(record);
        }
        Ok(records)
    }
}

/// The value at the beginning of these bytes, which are left behind it; `None` where only white space is left.
fn read_json<'a, T: serde::Deserialize<'a>>(rest: &mut &'a [u8]) -> Result<Option<T>, String> {
    let mut values = Deserializer::from_slice(rest).into_iter();
    let value = values.next().transpose().map_err(|e| e.to_string())?;
    *rest = &rest[values.byte_offset()..];
    Ok(value)
}

fn read_text<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a str, String> {
    let (text, behind) = rest.split_at_checked(len).ok_or("a text of a call is cut off")?;
    *rest = behind;
    str::from_utf8(text).map_err(|e| format!("a text of a call is not UTF-8: {e}"))
}

/// About the length of a record's line: texts, and some short fields.
fn room(record: &Record) -> usize {
    let texts = match record {
        Record::Call(call) => call.messages.len() + call.parameters.len() + call.response.len(),
        Record::Attempt(attempt) => attempt.error.as_ref().map_or(0, String::len),
        Record::Use(used) => used.call_ids.len() * 67,
    };
    texts + 512
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::{AttemptRecord, CallRecord};

    fn call(n: u8, messages: String, response: String) -> Record {
        Record::Call(CallRecord {
            call_id: CallId::from_bytes([n; 32]),
            provider: "openai".into(),
            model: "m".into(),
            revision: "".into(),
            variant: "".into(),
            sample: 0,
            messages,
            parameters: "{\"a\": [1,2]}".into(),
            response,
            finish_reason: None,
            prompt_tokens: Some(1),
            completion_tokens: None,
            cost_usd: 0.1,
            time_ms: 5,
        })
    }

    fn attempt(n: u8, error: String) -> Record {
        Record::Attempt(AttemptRecord {
            call_id: CallId::from_bytes([n; 32]),
            model: "m".into(),
            time_ms: 1,
            latency_ms: 2,
            status: None,
            error_kind: None,
            error: Some(error),
            billed: false,
            cost_usd: 0.0,
        })
    }

    proptest! {
        /// Whatever the texts look like: lines, lengths, JSON, nothing.
        #[test]
        fn records_come_back_as_they_were(
            texts in prop::collection::vec(("(\\PC|\n|\\[1,2\\]|\\{\"call\"){0,12}", "(\\PC|\n|\\[|\"){0,40}"), 0..6),
        ) {
            let records: Vec<Record> = texts
                .into_iter()
                .zip(0u8..)
                .flat_map(|((one, two), n)| [attempt(n, one.clone()), call(n, one, two)])
                .collect();
            let lines = Lines::of(records.clone()).unwrap();
            prop_assert_eq!(lines.records, records.len());
            prop_assert_eq!(lines.calls.len() * 2, records.len());
            prop_assert_eq!(Lines::read(&lines.bytes).unwrap(), records);
        }

        #[test]
        fn what_is_damaged_is_an_error_or_fewer_records_and_no_panic(at in 0usize..900, byte in any::<u8>()) {
            let mut bytes = Lines::of(vec![call(1, "[]".into(), "é".repeat(9)), call(2, "q".into(), "a".into())]).unwrap().bytes;
            let at = at % bytes.len();
            let _ = Lines::read(&bytes[..at]);
            bytes[at] = byte;
            let _ = Lines::read(&bytes);
        }
    }

    #[test]
    fn calls_are_read_as_older_logs_have_them() {
        let older = call(3, "[{\"role\":\"user\"}]".into(), "{\"choices\":[]}\n".into());
        let mut bytes = serde_json::to_vec(&older).unwrap();
        bytes.push(b'\n');
        bytes.extend(Lines::of(vec![call(4, String::new(), "new".into())]).unwrap().bytes);
        let read = Lines::read(&bytes).unwrap();
        assert_eq!(read, [older, call(4, String::new(), "new".into())]);
    }
}
