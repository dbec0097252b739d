//! One row as our SQL renders it, and its comparison with what the harness rendered.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Int64Type};
use datafusion::common::{Result, exec_err};
use serde_json::{Map, Value};

use crate::tasks::harness_config::HarnessConfig;

/// The columns of `norm_sql::rendered_sql`.
#[derive(Debug, Default)]
pub(super) struct RenderedRow {
    description: Option<String>,
    doc_text: Option<String>,
    gen_prefix: Option<String>,
    prompt_text: Option<String>,
    whole_target: Option<String>,
    targets: Option<Vec<Option<String>>>,
    choices: Option<Vec<Option<String>>>,
    gold: Option<i64>,
    target_text: Option<String>,
    chooses_prompt: bool,
}

impl RenderedRow {
    pub(super) fn read(batches: &[RecordBatch]) -> Result<Vec<RenderedRow>> {
        let mut rows = Vec::new();
        for batch in batches {
            let column = |name: &str, data_type: &DataType| -> Result<ArrayRef> {
                match batch.column_by_name(name) {
                    Some(column) => Ok(cast(column, data_type)?),
                    None => exec_err!("the rendering gives no column '{name}'"),
                }
            };
            let list = DataType::List(Field::new_list_field(DataType::Utf8, true).into());
            let text = |name: &str| column(name, &DataType::Utf8);
            let (description, doc_text, gen_prefix) = (text("description")?, text("doc_text")?, text("gen_prefix")?);
            let (prompt_text, whole_target) = (text("prompt_text")?, text("whole_target")?);
            let (targets, choices) = (column("targets", &list)?, column("choices", &list)?);
            let (gold, target_text) = (column("gold", &DataType::Int64)?, text("target_text")?);
            let chooses_prompt = column("chooses_prompt", &DataType::Boolean)?;
            for row in 0..batch.num_rows() {
                rows.push(RenderedRow {
                    description: text_at(&description, row),
                    doc_text: text_at(&doc_text, row),
                    gen_prefix: text_at(&gen_prefix, row),
                    prompt_text: text_at(&prompt_text, row),
                    whole_target: text_at(&whole_target, row),
                    targets: texts_at(&targets, row),
                    choices: texts_at(&choices, row),
                    gold: gold.is_valid(row).then(|| gold.as_primitive::<Int64Type>().value(row)),
                    target_text: text_at(&target_text, row),
                    chooses_prompt: chooses_prompt.as_boolean().value(row),
                });
            }
        }
        Ok(rows)
    }

    /// Calls `add` with field, the harness's row and value, and ours, for each field that the harness has.
    pub(super) fn compare(
        &self,
        expected: &Value,
        config: &HarnessConfig,
        mut add: impl FnMut(&'static str, (&Value, String), Option<String>),
    ) {
        let errors = expected.get("errors").and_then(Value::as_object);
        let mut check = |field: &'static str, found: Option<String>| {
            // Where the harness fails there is nothing to compare.
            if errors.is_some_and(|errors| errors.contains_key(field)) {
                return;
            }
            match expected.get(field) {
                None | Some(Value::Null) => {}
                Some(value) => add(field, (expected, shown(value)), found),
            }
        };
        check("description", Some(self.description.clone().unwrap_or_default()));
        check("gen_prefix", self.gen_prefix.clone());
        let doc_text = match self.chooses_prompt {
            true => self.gold.map(|gold| gold.to_string()),
            false => self.doc_text.clone(),
        };
        check("doc_to_text", doc_text);
        check("doc_to_choice", self.choices.as_ref().map(|choices| list(choices)));
        let target = match &self.targets {
            Some(targets) => Some(list(targets)),
            None => self.whole_target.clone(),
        };
        check("doc_to_target", target);
        let by_index = |index: Option<i64>| {
            let index = usize::try_from(index?).ok()?;
            self.choices.as_ref()?.get(index)?.clone()
        };
        let first_index = match &self.targets {
            Some(targets) if self.choices.is_some() => targets.first().cloned().flatten().and_then(|i| i.parse().ok()),
            _ => self.gold,
        };
        check("gold_index", first_index.map(|gold| gold.to_string()));
        let answer = match self.chooses_prompt || (self.targets.is_some() && self.choices.is_some()) {
            true => by_index(first_index),
            false => self.target_text.clone(),
        };
        let answers = match (&self.targets, &self.choices) {
            (Some(targets), Some(_)) => {
                let places = targets.iter().map(|target| target.as_ref()?.parse().ok());
                Some(list(&places.map(by_index).collect::<Vec<_>>()))
            }
            (Some(targets), None) => Some(list(targets)),
            (None, _) => answer.clone().map(|answer| list(&[Some(answer)])),
        };
        check("answers", answers);
        check("answer_text", answer);
        let contexts = match (&self.choices, self.chooses_prompt) {
            (Some(choices), true) => {
                let start = self.description.clone().unwrap_or_default();
                let context = |choice: &Option<String>| choice.as_ref().map(|choice| format!("{start}{choice}"));
                Some(list(&choices.iter().map(context).collect::<Vec<_>>()))
            }
            _ => self.prompt_text.clone(),
        };
        check("context", contexts);
        check("labeled", self.labeled(config));
    }

    /// The row as a few-shot example.
    fn labeled(&self, config: &HarnessConfig) -> Option<String> {
        let question = self.doc_text.clone()?;
        let answer = self.target_text.clone()?;
        let gen_prefix = self.gen_prefix.clone().unwrap_or_default();
        let apart = |before: &str, after: &str| {
            !(before.ends_with(char::is_whitespace) || after.starts_with(char::is_whitespace))
        };
        if answer.is_empty() && self.gold.is_none() {
            return Some(if gen_prefix.is_empty() { question } else { format!("{question}{gen_prefix}") });
        }
        let delimiter = match gen_prefix.is_empty() || (!question.is_empty() && apart(&question, &gen_prefix)) {
            true => config.target_delimiter.as_str(),
            false => "",
        };
        let between =
            if !gen_prefix.is_empty() && !answer.is_empty() && apart(&gen_prefix, &answer) { " " } else { "" };
        Some(format!("{question}{delimiter}{gen_prefix}{between}{answer}{}", config.fewshot_delimiter))
    }
}

/// A list as JSON, its items as text.
fn list(items: &[Option<String>]) -> String {
    Value::from(items.to_vec()).to_string()
}

/// A value of the harness in the form in which ours is compared: texts as they are, numbers and truth values as `str()` has
/// them (a truth value as the index that it is), the items of lists likewise.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<Option<String>> =
                items.iter().map(|item| if item.is_null() { None } else { Some(shown(item)) }).collect();
            list(&items)
        }
        Value::String(text) => text.clone(),
        Value::Bool(truth) => u8::from(*truth).to_string(),
        other => other.to_string(),
    }
}

fn text_at(column: &ArrayRef, row: usize) -> Option<String> {
    column.is_valid(row).then(|| column.as_string::<i32>().value(row).to_owned())
}

fn texts_at(column: &ArrayRef, row: usize) -> Option<Vec<Option<String>>> {
    let items = column.is_valid(row).then(|| column.as_list::<i32>().value(row))?;
    Some((0..items.len()).map(|item| text_at(&items, item)).collect())
}

/// Every row as a JSON object of its columns.
pub(super) fn cells(batches: &[RecordBatch]) -> Result<Vec<Map<String, Value>>> {
    let mut writer = datafusion::arrow::json::WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, datafusion::arrow::json::writer::LineDelimited>(Vec::new());
    writer.write_batches(&batches.iter().collect::<Vec<_>>())?;
    writer.finish()?;
    let text = String::from_utf8(writer.into_inner()).unwrap_or_default();
    let read =
        |line: &str| serde_json::from_str(line).map_err(|e| datafusion::common::DataFusionError::External(e.into()));
    text.lines().map(read).collect()
}
