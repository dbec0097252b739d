//! The columns of JSON rows, found from all of them. Types that differ widen (integer, float, text); what no type holds,
//! such as a field that is a list here and an object there, is a column of JSON text.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Fields};
use serde_json::{Map, Value};

/// An object with more keys than this is a map with free keys, not a struct: it is JSON text.
const MOST_FIELDS: usize = 512;

/// What the values in one place have in common.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    /// Nothing but null so far.
    Null,
    Boolean,
    Integer,
    Float,
    Text,
    List(Box<Shape>),
    /// By key, in the order in which keys were first seen.
    Object(Vec<(String, Shape)>),
    /// Values of any kind, as JSON text; a string is itself.
    Json,
}

impl Shape {
    /// Widens the shape so that it holds `value` too.
    pub(crate) fn take(&mut self, value: &Value) {
        match (&mut *self, value) {
            (_, Value::Null) | (Shape::Json, _) => {}
            (Shape::Null, Value::Array(items)) => {
                *self = Shape::List(Box::new(Shape::Null));
                self.take_items(items);
            }
            (Shape::Null, Value::Object(fields)) => {
                *self = Shape::Object(Vec::new());
                self.take_fields(fields);
            }
            (Shape::List(_), Value::Array(items)) => self.take_items(items),
            (Shape::Object(_), Value::Object(fields)) => self.take_fields(fields),
            (_, Value::Array(_) | Value::Object(_)) | (Shape::List(_) | Shape::Object(_), _) => *self = Shape::Json,
            (_, scalar) => {
                let scalar = match scalar {
                    Value::Bool(_) => Shape::Boolean,
                    Value::Number(n) if n.is_i64() => Shape::Integer,
                    Value::Number(n) if n.is_f64() => Shape::Float,
                    // Integers that no column of ours holds keep all their digits.
                    _ => Shape::Text,
                };
                *self = match (&*self, scalar) {
                    (Shape::Null, other) => other,
                    (own, other) if *own == other => other,
                    (Shape::Integer | Shape::Float, Shape::Integer | Shape::Float) => Shape::Float,
                    _ => Shape::Text,
                };
            }
        }
    }

    fn take_items(&mut self, items: &[Value]) {
        if let Shape::List(item) = self {
            items.iter().for_each(|value| item.take(value));
        }
    }

    fn take_fields(&mut self, values: &Map<String, Value>) {
        let Shape::Object(fields) = self else { return };
        // Rows mostly have the same keys in the same order.
        for (at, (key, value)) in values.iter().enumerate() {
            let found = match fields.get(at) {
                Some((known, _)) if known == key => Some(at),
                _ => fields.iter().position(|(known, _)| known == key),
            };
            match found {
                Some(found) => fields[found].1.take(value),
                None => {
                    let mut shape = Shape::Null;
                    shape.take(value);
                    fields.push((key.clone(), shape));
                }
            }
        }
        if fields.len() > MOST_FIELDS {
            *self = Shape::Json;
        }
    }

    /// The Arrow type that holds the values.
    pub(crate) fn data_type(&self) -> DataType {
        match self {
            Shape::Null | Shape::Text | Shape::Json => DataType::Utf8,
            Shape::Boolean => DataType::Boolean,
            Shape::Integer => DataType::Int64,
            Shape::Float => DataType::Float64,
            Shape::List(item) => DataType::List(Arc::new(Field::new_list_field(item.data_type(), true))),
            Shape::Object(fields) => DataType::Struct(
                fields.iter().map(|(key, shape)| Field::new(key, shape.data_type(), true)).collect::<Fields>(),
            ),
        }
    }

    /// Whether values must be turned into text before Arrow's decoder takes them.
    pub(crate) fn needs_text(&self) -> bool {
        match self {
            Shape::Json => true,
            Shape::List(item) => item.needs_text(),
            Shape::Object(fields) => fields.iter().any(|(_, shape)| shape.needs_text()),
            _ => false,
        }
    }

    /// Turns what is under [`Shape::Json`] into text.
    pub(crate) fn make_text(&self, value: &mut Value) {
        match (self, &mut *value) {
            (Shape::Json, Value::Null | Value::String(_)) => {}
            (Shape::Json, other) => *value = Value::String(other.to_string()),
            (Shape::List(item), Value::Array(items)) if item.needs_text() => {
                items.iter_mut().for_each(|value| item.make_text(value));
            }
            (Shape::Object(fields), Value::Object(values)) => {
                for (key, shape) in fields.iter().filter(|(_, shape)| shape.needs_text()) {
                    if let Some(value) = values.get_mut(key) {
                        shape.make_text(value);
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shape(values: &[Value]) -> Shape {
        let mut shape = Shape::Null;
        values.iter().for_each(|value| shape.take(value));
        shape
    }

    #[test]
    fn types_widen_and_what_no_type_holds_is_json_text() {
        assert_eq!(shape(&[json!(1), json!(null), json!(2.5)]), Shape::Float);
        assert_eq!(shape(&[json!(1), json!("x")]), Shape::Text);
        assert_eq!(shape(&[json!(true), json!(1)]), Shape::Text);
        assert_eq!(shape(&[json!(18446744073709551615u64)]), Shape::Text);
        assert_eq!(shape(&[json!([]), json!([1, null])]), Shape::List(Box::new(Shape::Integer)));
        assert_eq!(shape(&[json!([1]), json!({"a": 1})]), Shape::Json);
        assert_eq!(shape(&[json!("x"), json!(["y"])]), Shape::Json);
        let choices = shape(&[json!({"text": ["a"]}), json!({"label": [], "text": []})]);
        assert_eq!(choices.data_type().to_string(), "Struct(\"text\": List(Utf8), \"label\": List(Utf8))");
        let map: Map<String, Value> = (0..=MOST_FIELDS).map(|n| (n.to_string(), json!(n))).collect();
        assert_eq!(shape(&[Value::Object(map)]), Shape::Json);
    }

    #[test]
    fn json_text_is_made_where_the_shape_says_and_nowhere_else() {
        let rows = [json!({"a": [{"x": 1}], "b": 1}), json!({"a": [{"x": [2]}], "b": 2}), json!({"a": [{"x": "s"}]})];
        let shape = shape(&rows);
        let made = rows.map(|mut row| {
            shape.make_text(&mut row);
            row
        });
        assert_eq!(made[0], json!({"a": [{"x": "1"}], "b": 1}));
        assert_eq!(made[1], json!({"a": [{"x": "[2]"}], "b": 2}));
        assert_eq!(made[2], json!({"a": [{"x": "s"}]}));
    }
}
