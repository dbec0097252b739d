//! What a call of `generate`, `enrich` or `embed` is to do, apart from its input: the arguments, checked and typed.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Fields};
use serde_json::{Map, Value, json};

use super::embed_vector::vector_type;
use super::returns::{Returns, arrow_fields};
use crate::config::{ModelConfig, ModelName};
use crate::endpoint::Parameters;

/// Which table function it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd)]
pub enum CallKind {
    /// Any number of rows for a row.
    Generate,
    /// Exactly one row for a row.
    Enrich,
    /// A vector of numbers for a row's text.
    Embed,
}

impl CallKind {
    pub fn as_str(self) -> &'static str {
        match self {
            CallKind::Generate => "generate",
            CallKind::Enrich => "enrich",
            CallKind::Embed => "embed",
        }
    }
}

/// What becomes of a row whose call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Default)]
pub enum OnError {
    /// The row stays, with NULL results and the error in its call column.
    #[default]
    Keep,
    /// The row is left out and counted in the metric `rows_dropped`.
    Drop,
    /// The query fails.
    Fail,
}

impl OnError {
    pub fn as_str(self) -> &'static str {
        match self {
            OnError::Keep => "keep",
            OnError::Drop => "drop",
            OnError::Fail => "fail",
        }
    }
}

/// The names of the input's hidden columns that hold what is sent. Each is a list of one name, or of one a
/// sample where the expression names the ordinal `sample`; empty where the argument is not given.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct MessageColumns {
    /// The prompt; in embed the text.
    pub prompt: Vec<String>,
    pub system: Vec<String>,
    pub messages: Vec<String>,
}

impl MessageColumns {
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.prompt.iter().chain(&self.system).chain(&self.messages)
    }
}

/// The arguments of one `generate`, `enrich` or `embed`.
#[derive(Debug, Clone)]
pub struct CallSpec {
    pub kind: CallKind,
    pub model: ModelName,
    pub columns: MessageColumns,
    /// `None`: free text in one column.
    pub returns: Option<Returns>,
    /// The name of that one column, or of the column of embeddings.
    pub output: String,
    /// The name of the call column.
    pub call_as: String,
    pub items: Option<u32>,
    /// `Some(k)`: k independent calls a row; in enrich every result is then a list of k.
    pub samples: Option<u32>,
    /// How often an answer that does not read as `returns` says is sent back with the error.
    pub repair: u32,
    /// The length of every embedding, where it is known: the column is then FLOAT[n].
    pub dimensions: Option<u32>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub max_tokens: Option<u32>,
    pub seed: Option<i64>,
    pub stop: Vec<String>,
    pub extra: Map<String, Value>,
    pub variant: String,
    pub on_error: OnError,
}

impl CallSpec {
    pub fn sample_count(&self) -> u32 {
        self.samples.unwrap_or(1)
    }

    /// Whether results are lists in sample order.
    pub fn is_list(&self) -> bool {
        self.kind == CallKind::Enrich && self.samples.is_some()
    }

    /// The parameters of one sample. `seed` is sent as a hash of seed and sample, so that samples differ on
    /// servers that honour it.
    pub fn parameters(&self, sample: u32) -> Parameters {
        let seed = self.seed.map(|seed| {
            let mut hasher = blake3::Hasher::new_derive_key("seedmill sample seed v1");
            hasher.update(&seed.to_le_bytes());
            hasher.update(&sample.to_le_bytes());
            let mut bytes = [0; 4];
            hasher.finalize_xof().fill(&mut bytes);
            // 31 bits: some servers read a signed 32-bit seed.
            u32::from_le_bytes(bytes) >> 1
        });
        Parameters {
            temperature: self.temperature,
            top_p: self.top_p,
            max_tokens: self.max_tokens,
            seed,
            stop: self.stop.clone(),
            extra: self.extra.clone(),
        }
    }

    /// How many calls one request carries.
    pub fn calls_a_request(&self, model: &ModelConfig) -> usize {
        if self.kind == CallKind::Embed { model.embed_batch_size } else { 1 }
    }

    /// The JSON schema of an answer, or `None` for free text.
    pub fn json_schema(&self) -> Option<Arc<Value>> {
        if self.kind == CallKind::Embed {
            return Some(Arc::new(embedding_schema()));
        }
        self.returns.as_ref().map(|returns| Arc::new(returns.json_schema(self.items)))
    }

    /// The columns that the call adds, in order: the results, then the call column.
    pub fn output_fields(&self) -> Vec<Field> {
        let results = match &self.returns {
            Some(returns) => arrow_fields(returns.columns()),
            None if self.kind == CallKind::Embed => {
                Fields::from(vec![Field::new(&self.output, vector_type(self.dimensions), true)])
            }
            None => Fields::from(vec![Field::new(&self.output, DataType::Utf8, true)]),
        };
        let call = Arc::new(Field::new(&self.call_as, DataType::Struct(call_fields(self.kind)), true));
        results.iter().chain(std::iter::once(&call)).map(|field| self.listed(field)).collect()
    }

    fn listed(&self, field: &Field) -> Field {
        if self.is_list() {
            let element = Field::new_list_field(field.data_type().clone(), true);
            Field::new(field.name(), DataType::List(Arc::new(element)), true)
        } else {
            field.clone()
        }
    }
}

/// The schema of an embedding, which is never sent: it makes the call of a text another call than the same text as a
/// prompt.
pub fn embedding_schema() -> Value {
    json!({"type": "embedding"})
}

/// The fields of `generate_call`, `embed_call` and `enrich_call`: what became of the call behind a row. Where an answer was
/// sent back for repair, `call_id`, `model`, `error`, `finish_reason` and `reasoning` are of the last call; tokens, cost and
/// latency are of all of them together, and `replayed` says that all were.
pub fn call_fields(kind: CallKind) -> Fields {
    let mut fields = vec![
        Field::new("call_id", DataType::Utf8, true),
        Field::new("model", DataType::Utf8, true),
        Field::new("error", DataType::Utf8, true),
        Field::new("finish_reason", DataType::Utf8, true),
        Field::new("reasoning", DataType::Utf8, true),
        Field::new("prompt_tokens", DataType::Int64, true),
        Field::new("completion_tokens", DataType::Int64, true),
        Field::new("cost_usd", DataType::Float64, true),
        Field::new("latency_ms", DataType::Int64, true),
        Field::new("replayed", DataType::Boolean, true),
    ];
    if kind == CallKind::Embed {
        fields.retain(|field| !["finish_reason", "reasoning", "completion_tokens"].contains(&field.name().as_str()));
    }
    if kind == CallKind::Generate {
        fields.push(Field::new("item", DataType::Int64, true));
        fields.push(Field::new("sample", DataType::Int64, true));
    }
    Fields::from(fields)
}

/// As EXPLAIN shows it: `model=writer, samples=2, …, returns=[question TEXT]`.
impl fmt::Display for CallSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "model={}", self.model)?;
        let mut show = |name: &str, value: Option<String>| value.map_or(Ok(()), |value| write!(f, ", {name}={value}"));
        show("items", self.items.map(|n| n.to_string()))?;
        show("samples", self.samples.map(|n| n.to_string()))?;
        show("repair", (self.repair > 0).then(|| self.repair.to_string()))?;
        show("temperature", self.temperature.map(|n| n.to_string()))?;
        show("top_p", self.top_p.map(|n| n.to_string()))?;
        show("max_tokens", self.max_tokens.map(|n| n.to_string()))?;
        show("seed", self.seed.map(|n| n.to_string()))?;
        show("stop", (!self.stop.is_empty()).then(|| format!("{:?}", self.stop)))?;
        show("extra", (!self.extra.is_empty()).then(|| Value::Object(self.extra.clone()).to_string()))?;
        show("variant", (!self.variant.is_empty()).then(|| self.variant.clone()))?;
        show("on_error", (self.on_error != OnError::Keep).then(|| self.on_error.as_str().to_owned()))?;
        match &self.returns {
            Some(returns) => write!(f, ", returns=[{returns}]")?,
            None if self.kind == CallKind::Embed => {
                let n = self.dimensions.map_or_else(String::new, |n| n.to_string());
                write!(f, ", returns=[{} FLOAT[{n}]]", self.output)?;
            }
            None => write!(f, ", returns=[{} TEXT]", self.output)?,
        }
        write!(f, ", call={}", self.call_as)
    }
}

impl CallSpec {
    /// Display leaves out the hidden columns; together they tell two specs apart.
    fn identity(&self) -> (CallKind, String, String) {
        (self.kind, self.to_string(), self.columns.names().cloned().collect::<Vec<_>>().join(","))
    }
}

impl PartialEq for CallSpec {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for CallSpec {}

impl Hash for CallSpec {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl PartialOrd for CallSpec {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.identity().partial_cmp(&other.identity())
    }
}
