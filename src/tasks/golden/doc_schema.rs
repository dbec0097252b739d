//! The Arrow types of golden docs. In: JSON docs, and the features of the raw dataset as Python's `datasets` writes them.
//! Out: a batch with a column for each key and `source_row`.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use datafusion::arrow::json::ReaderBuilder;
use datafusion::common::{DataFusionError, Result, plan_err};
use serde_json::{Map, Value};

use crate::tasks::raw_table::SOURCE_ROW;

/// The docs as one batch. A column has its feature's type where all values fit it, else the type of its values.
///
/// # Errors
/// Values of one column that have no type in common, with the column's name.
pub(super) fn batch_of(docs: &[&Map<String, Value>], features: &Map<String, Value>) -> Result<RecordBatch> {
    let mut fields: Vec<FieldRef> = Vec::new();
    for name in docs.iter().flat_map(|doc| doc.keys()) {
        if fields.iter().any(|field| field.name() == name) {
            continue;
        }
        let values = || docs.iter().filter_map(|doc| doc.get(name));
        let feature = features.get(name).and_then(Value::as_str).and_then(feature_type);
        let data_type = match feature.filter(|feature| values().all(|value| fits(value, feature))) {
            Some(feature) => feature,
            None => match type_of(values()) {
                Some(data_type) => data_type,
                None => return plan_err!("the docs' values of '{name}' have no type in common"),
            },
        };
        fields.push(Arc::new(Field::new(name, without_null(data_type), true)));
    }
    let schema = Arc::new(Schema::new(fields));
    let mut decoder = ReaderBuilder::new(Arc::clone(&schema)).with_batch_size(docs.len()).build_decoder()?;
    decoder.serialize(docs)?;
    let Some(batch) = decoder.flush()? else {
        return Err(DataFusionError::Internal("no docs".into()));
    };
    let mut fields = schema.fields().to_vec();
    fields.push(Arc::new(Field::new(SOURCE_ROW, DataType::Int64, false)));
    let ordinals: ArrayRef = Arc::new(Int64Array::from_iter_values(0..docs.len() as i64));
    let columns = batch.columns().iter().cloned().chain([ordinals]).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Whether a doc has every raw column, with values of its type.
pub(super) fn has_raw_columns(doc: &Map<String, Value>, features: &Map<String, Value>) -> bool {
    features.iter().all(|(name, feature)| {
        let feature = feature.as_str().and_then(feature_type);
        doc.get(name).zip(feature).is_some_and(|(value, feature)| fits(value, &feature))
    })
}

/// The raw columns of a doc.
pub(super) fn raw_features(doc: &Map<String, Value>, features: &Map<String, Value>) -> Map<String, Value> {
    features.keys().filter_map(|name| Some((name.clone(), doc.get(name)?.clone()))).collect()
}

fn fits(value: &Value, data_type: &DataType) -> bool {
    match (value, data_type) {
        (Value::Null, _) => true,
        (Value::String(_), DataType::Utf8) | (Value::Bool(_), DataType::Boolean) => true,
        (Value::Number(number), DataType::Int64) => number.is_i64(),
        (Value::Number(_), DataType::Float64) => true,
        (Value::Array(items), DataType::List(item)) => items.iter().all(|value| fits(value, item.data_type())),
        (Value::Object(entries), DataType::Struct(fields)) => {
            entries.iter().all(|(key, value)| fields.find(key).is_some_and(|(_, field)| fits(value, field.data_type())))
        }
        _ => false,
    }
}

/// The narrowest type of all values; Null where all are null.
fn type_of<'a>(values: impl Iterator<Item = &'a Value>) -> Option<DataType> {
    values.map(value_type).try_fold(DataType::Null, |all, one| common(all, one?))
}

fn value_type(value: &Value) -> Option<DataType> {
    Some(match value {
        Value::Null => DataType::Null,
        Value::Bool(_) => DataType::Boolean,
        Value::Number(number) if number.is_i64() => DataType::Int64,
        Value::Number(_) => DataType::Float64,
        Value::String(_) => DataType::Utf8,
        Value::Array(items) => DataType::new_list(type_of(items.iter())?, true),
        Value::Object(entries) => {
            let field = |(key, value): (&String, &Value)| Some(Field::new(key, value_type(value)?, true));
            DataType::Struct(entries.iter().map(field).collect::<Option<Fields>>()?)
        }
    })
}

fn common(a: DataType, b: DataType) -> Option<DataType> {
    Some(match (a, b) {
        (a, b) if a == b => a,
        (DataType::Null, other) | (other, DataType::Null) => other,
        (DataType::Int64, DataType::Float64) | (DataType::Float64, DataType::Int64) => DataType::Float64,
        (DataType::List(a), DataType::List(b)) => {
            DataType::new_list(common(a.data_type().clone(), b.data_type().clone())?, true)
        }
        (DataType::Struct(a), DataType::Struct(b)) => {
            let mut fields: Vec<FieldRef> = Vec::new();
            for field in a.iter().chain(&b) {
                match fields.iter_mut().find(|known| known.name() == field.name()) {
                    Some(known) => {
                        let data_type = common(known.data_type().clone(), field.data_type().clone())?;
                        *known = Arc::new(Field::new(field.name(), data_type, true));
                    }
                    None => fields.push(Arc::clone(field)),
                }
            }
            DataType::Struct(fields.into())
        }
        _ => return None,
    })
}

/// Columns of nulls only are text, as a reader of Parquet would most often find them.
fn without_null(data_type: DataType) -> DataType {
    match data_type {
        DataType::Null => DataType::Utf8,
        DataType::List(item) => DataType::new_list(without_null(item.data_type().clone()), true),
        DataType::Struct(fields) => {
            let field = |field: &FieldRef| Field::new(field.name(), without_null(field.data_type().clone()), true);
            DataType::Struct(fields.iter().map(field).collect())
        }
        other => other,
    }
}

/// The type of a feature as `datasets` writes it: `Value('string')`, `List(…)`, `{'key': …}`.
fn feature_type(text: &str) -> Option<DataType> {
    let (data_type, rest) = feature(text.trim())?;
    rest.trim().is_empty().then_some(data_type)
}

fn feature(text: &str) -> Option<(DataType, &str)> {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        let mut fields = Vec::new();
        loop {
            rest = rest.trim_start();
            if let Some(rest) = rest.strip_prefix('}') {
                return Some((DataType::Struct(fields.into()), rest));
            }
            let (name, after) = rest.strip_prefix('\'')?.split_once('\'')?;
            let (data_type, after) = feature(after.trim_start().strip_prefix(':')?)?;
            fields.push(Field::new(name, data_type, true));
            rest = after.trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
    }
    if let Some(rest) = text.strip_prefix("Value(") {
        let (arguments, rest) = rest.split_once(')')?;
        let name = arguments.split('\'').nth(1)?;
        let data_type = match name {
            "bool" => DataType::Boolean,
            _ if name.starts_with("int") || name.starts_with("uint") => DataType::Int64,
            _ if name.starts_with("float") => DataType::Float64,
            _ => DataType::Utf8,
        };
        return Some((data_type, rest));
    }
    for list in ["List(", "LargeList(", "Sequence("] {
        if let Some(rest) = text.strip_prefix(list) {
            let (item, rest) = feature(rest.strip_prefix("feature=").unwrap_or(rest))?;
            let (_, rest) = rest.split_once(')')?;
            return Some((DataType::new_list(item, true), rest));
        }
    }
    let rest = text.strip_prefix("ClassLabel(")?;
    Some((DataType::Int64, rest.split_once(')')?.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_read_as_datasets_writes_them() {
        let list = |item| DataType::new_list(item, true);
        let answers = vec![
            Field::new("text", list(DataType::Utf8), true),
            Field::new("answer_start", list(DataType::Int64), true),
        ];
        for (text, expected) in [
            ("Value('string')", DataType::Utf8),
            ("Value(dtype='float32', id=None)", DataType::Float64),
            ("List(List(Value('int64')))", list(list(DataType::Int64))),
            ("{'text': List(Value('string')), 'answer_start': List(Value('int64'))}", DataType::Struct(answers.into())),
            ("Sequence(feature=Value(dtype='string', id=None), length=-1, id=None)", list(DataType::Utf8)),
            ("ClassLabel(names=['a', 'b'])", DataType::Int64),
        ] {
            assert_eq!(feature_type(text), Some(expected), "{text}");
        }
        assert_eq!(feature_type("Image()"), None);
    }
}
