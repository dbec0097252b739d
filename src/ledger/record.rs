//! What the ledger writes down: one record a call, one an attempt, one a use of a call by a run.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use super::CallId;

/// One thing to write down. In a log it is JSON, `{"call": {…}}`, with a call's texts behind it; a field that is added
/// later needs a default, so that older logs stay readable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    Call(CallRecord),
    Attempt(AttemptRecord),
    Use(UseRecord),
}

/// A call with its raw 2xx answer: a row of the table `calls`. Times are milliseconds since 1970 UTC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    pub call_id: CallId,
    #[serde(with = "shared_text")]
    pub provider: Arc<str>,
    /// The model's name as sent.
    #[serde(with = "shared_text")]
    pub model: Arc<str>,
    #[serde(with = "shared_text")]
    pub revision: Arc<str>,
    #[serde(with = "shared_text")]
    pub variant: Arc<str>,
    pub sample: u32,
    /// JSON: a list of {role, content}.
    pub messages: String,
    /// JSON: sampling parameters, `items` and `schema`.
    #[serde(with = "shared_text")]
    pub parameters: Arc<str>,
    /// The raw body.
    pub response: String,
    pub finish_reason: Option<String>,
    pub prompt_tokens: Option<u64>,
    pub completion_tokens: Option<u64>,
    #[serde(with = "exact_number")]
    pub cost_usd: f64,
    pub time_ms: i64,
}

/// One request to an endpoint, whatever became of it: a row of the table `attempts`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptRecord {
    pub call_id: CallId,
    #[serde(with = "shared_text")]
    pub model: Arc<str>,
    pub time_ms: i64,
    pub latency_ms: u64,
    pub status: Option<u16>,
    /// [`crate::endpoint::ErrorKind::name`], or `None` for an answer.
    pub error_kind: Option<String>,
    pub error: Option<String>,
    pub billed: bool,
    #[serde(with = "exact_number")]
    pub cost_usd: f64,
}

/// A run used calls at a stage, by asking or by replay: a row of the table `call_uses` for each. What they have in common
/// is written once, since a run that replays writes little else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UseRecord {
    #[serde(with = "shared_text")]
    pub run_id: Arc<str>,
    #[serde(alias = "call_id", deserialize_with = "one_or_many")]
    pub call_ids: Vec<CallId>,
    #[serde(with = "shared_text")]
    pub stage: Arc<str>,
    pub replayed: bool,
    pub time_ms: i64,
}

/// Older logs have one call a record.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<CallId>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Ids {
        One(CallId),
        Many(Vec<CallId>),
    }
    Ok(match Ids::deserialize(deserializer)? {
        Ids::One(id) => vec![id],
        Ids::Many(ids) => ids,
    })
}

/// `Arc<str>` as a string, without serde's feature `rc`.
mod shared_text {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::ledger::identity::Text;

    pub fn serialize<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
        Text::deserialize(deserializer).map(|Text(text)| Arc::from(text))
    }
}

/// A float as the text of its shortest form: a JSON number comes back from serde_json up to 1 ulp off, and NaN
/// (which must not make its whole group unreadable) not at all.
mod exact_number {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::ledger::identity::Text;

    pub fn serialize<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        let Text(number) = Text::deserialize(deserializer)?;
        number.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_read_as_older_logs_have_them() {
        let id = CallId::from_bytes([7; 32]);
        let old = format!(r#"{{"use":{{"run_id":"r","call_id":"{id}","stage":"s","replayed":true,"time_ms":5}}}}"#);
        let used = Record::Use(UseRecord {
            run_id: "r".into(),
            call_ids: vec![id],
            stage: "s".into(),
            replayed: true,
            time_ms: 5,
        });
        assert_eq!(serde_json::from_str::<Record>(&old).unwrap(), used);
        assert_eq!(serde_json::from_str::<Record>(&serde_json::to_string(&used).unwrap()).unwrap(), used);
    }
}
