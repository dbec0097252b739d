//! One input row on its way: its requests made from the hidden columns, its outcomes read into values.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, StringArray, StructArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{DataFusionError, Result, plan_datafusion_err};
use serde_json::Value;

use super::answer::read_items;
use super::call::{Call, CallShape};
use super::caller::CallOutcome;
use super::embed_vector;
use super::progress::StageProgress;
use super::spec::{CallKind, CallSpec, MessageColumns};
use crate::endpoint::{Completion, Message, ModelIdentity};

/// A batch of input rows, with the hidden columns as plain strings.
#[derive(Debug)]
pub struct InputRows {
    /// The columns that pass through.
    pub passed_through: RecordBatch,
    prompt: Vec<StringArray>,
    system: Vec<StringArray>,
    messages: Vec<ListArray>,
}

impl InputRows {
    pub fn try_new(batch: &RecordBatch, columns: &MessageColumns) -> Result<Self> {
        let column = |name: &String| {
            batch
                .column_by_name(name)
                .ok_or_else(|| plan_datafusion_err!("the column {name} is missing below the call"))
        };
        let strings = |names: &[String]| -> Result<Vec<StringArray>> {
            names.iter().map(|name| Ok(cast(column(name)?, &DataType::Utf8)?.as_string::<i32>().clone())).collect()
        };
        let lists = |names: &[String]| -> Result<Vec<ListArray>> {
            names.iter().map(|name| as_messages(column(name)?)).collect()
        };
        let hidden: Vec<&String> = columns.names().collect();
        let kept: Vec<usize> = batch
            .schema()
            .fields()
            .iter()
            .enumerate()
            .filter(|(_, field)| !hidden.contains(&field.name()))
            .map(|(index, _)| index)
            .collect();
        Ok(Self {
            passed_through: batch.project(&kept)?,
            prompt: strings(&columns.prompt)?,
            system: strings(&columns.system)?,
            messages: lists(&columns.messages)?,
        })
    }

    /// What is sent for one sample of a row; `None` where the prompt, the messages or a text of theirs is NULL: no call.
    pub fn message_list(&self, row: usize, sample: u32) -> Option<Vec<Message>> {
        if let Some(lists) = at(&self.messages, sample) {
            if lists.is_null(row) {
                return None;
            }
            let list = lists.value(row);
            let list = list.as_struct();
            let (roles, contents) = (list.column(0).as_string::<i32>(), list.column(1).as_string::<i32>());
            let message = |i: usize| {
                let is_whole = list.is_valid(i) && roles.is_valid(i) && contents.is_valid(i);
                is_whole.then(|| Message::new(roles.value(i).to_owned(), contents.value(i)))
            };
            return (0..list.len()).map(message).collect();
        }
        let prompt = at(&self.prompt, sample).filter(|prompt| prompt.is_valid(row))?;
        let system = at(&self.system, sample).filter(|system| system.is_valid(row));
        let mut messages = Vec::with_capacity(2);
        messages.extend(system.map(|system| Message::new("system", system.value(row))));
        messages.push(Message::new("user", prompt.value(row)));
        Some(messages)
    }
}

/// The column of a sample: one for each, or one for all.
fn at<T>(columns: &[T], sample: u32) -> Option<&T> {
    if columns.len() <= 1 { columns.first() } else { columns.get(sample as usize) }
}

/// A list of STRUCT(role, content) in that order, as text.
fn as_messages(column: &ArrayRef) -> Result<ListArray> {
    let wrong = || {
        DataFusionError::Plan(format!(
            "messages => … must be a list of STRUCT(role, content), e.g. [{{'role': 'user', 'content': question}}], \
             not {}",
            column.data_type()
        ))
    };
    let DataType::List(element) = column.data_type() else { return Err(wrong()) };
    let DataType::Struct(fields) = element.data_type() else { return Err(wrong()) };
    let position =
        |name: &str| fields.iter().position(|field| field.name().eq_ignore_ascii_case(name)).ok_or_else(wrong);
    let (role, content) = (position("role")?, position("content")?);
    let list = column.as_list::<i32>();
    let values = list.values().as_struct();
    let text =
        Fields::from(vec![Field::new("role", DataType::Utf8, true), Field::new("content", DataType::Utf8, true)]);
    let arrays = vec![cast(values.column(role), &DataType::Utf8)?, cast(values.column(content), &DataType::Utf8)?];
    let values = StructArray::try_new(text.clone(), arrays, values.nulls().cloned())?;
    let element = Arc::new(Field::new_list_field(DataType::Struct(text), true));
    Ok(ListArray::try_new(element, list.offsets().clone(), Arc::new(values), list.nulls().cloned())?)
}

/// Makes the calls of rows: everything that is the same for all of them is made once.
#[derive(Debug)]
pub struct CallTemplate {
    /// By sample.
    shapes: Vec<Arc<CallShape>>,
    pub stage: Arc<StageProgress>,
}

impl CallTemplate {
    pub fn new(spec: &CallSpec, model: &ModelIdentity, stage: Arc<StageProgress>, depth: usize) -> Self {
        let (schema, variant) = (spec.json_schema(), Arc::<str>::from(spec.variant.as_str()));
        let shape = |sample| {
            let parameters = Arc::new(spec.parameters(sample));
            let (schema, variant, stage) = (schema.clone(), Arc::clone(&variant), Arc::clone(&stage));
            Arc::new(CallShape::new(model, parameters, schema, spec.items, variant, sample, stage).at_depth(depth))
        };
        Self { shapes: (0..spec.sample_count()).map(shape).collect(), stage }
    }

    /// The call of each sample of a row; `None` for no call.
    pub fn calls(&self, rows: &InputRows, row: usize) -> Vec<Option<Call>> {
        self.shapes.iter().map(|shape| Some(Call::new(shape, rows.message_list(row, shape.sample)?))).collect()
    }
}

/// What became of one sample of a row.
#[derive(Debug)]
pub struct SampleResult {
    /// Of the last call, whose answer counts.
    pub outcome: CallOutcome,
    /// The calls whose answers did not read and were sent back, the first of them first.
    pub repaired: Vec<CallOutcome>,
    /// Empty where the call failed.
    pub completion: Arc<Completion>,
    /// One object an item with the returned columns as keys, or the row's error. Without `returns` one NULL: the text is
    /// the completion's.
    pub items: Result<Vec<Value>, String>,
}

impl SampleResult {
    /// Reads an outcome: parsing comes after durability and can be repeated at any time.
    pub fn read(outcome: CallOutcome, spec: &CallSpec) -> Self {
        let completion = match &outcome.answer {
            Ok(answered) => answered.completion.clone().map_err(|error| error.to_string()),
            Err(error) => Err(error.clone()),
        };
        let items = completion.as_ref().map_err(String::clone).and_then(|read| read_completion(read, spec));
        Self { outcome, repaired: Vec::new(), completion: completion.unwrap_or_default(), items }
    }

    /// What to tell the model, where a whole answer came that does not read. A refusal stays one, and what was cut off
    /// would be cut off again.
    pub fn repairable(&self) -> Option<&str> {
        let cut = matches!(self.completion.finish_reason.as_deref(), Some("length" | "content_filter"));
        let whole = self.outcome.answer.is_ok() && self.completion.refusal.is_none() && !cut;
        self.items.as_ref().err().filter(|_| whole).map(String::as_str)
    }

    /// Every call that was made for this sample, in order.
    pub fn outcomes(&self) -> impl Iterator<Item = &CallOutcome> {
        self.repaired.iter().chain([&self.outcome])
    }

    /// How many of the items that were asked for an answer that reads did not bring.
    pub fn items_short(&self, spec: &CallSpec) -> u64 {
        match (&self.items, spec.items) {
            (Ok(items), Some(asked)) => u64::from(asked).saturating_sub(items.len() as u64),
            _ => 0,
        }
    }

    /// Whether an answer is there that does not read as `returns` says.
    pub fn is_unparsed(&self) -> bool {
        self.outcome.answer.is_ok() && self.items.is_err()
    }
}

fn read_completion(completion: &Completion, spec: &CallSpec) -> Result<Vec<Value>, String> {
    if let Some(refusal) = &completion.refusal {
        return Err(format!("the model refused: {refusal}"));
    }
    let read = match &spec.returns {
        None if spec.kind == CallKind::Embed => {
            embed_vector::read(&completion.text, spec.dimensions).map(|_| vec![Value::Null])
        }
        None => Ok(vec![Value::Null]),
        Some(returns) => read_items(&completion.text, returns, spec.items),
    };
    let read = read.map_err(|error| match completion.finish_reason.as_deref() {
        Some("length") => format!("the answer was cut off at max_tokens: {error}"),
        Some("content_filter") => format!("the answer was cut off by a content filter: {error}"),
        _ => error,
    })?;
    if read.is_empty() { Err("the answer lists 0 items".to_owned()) } else { Ok(read) }
}
