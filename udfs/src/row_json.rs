//! `row_json(value) → TEXT`: a value of any type as JSON on one line, structs as objects in the order of their fields. NULL is
//! `null`, never NULL.
//!
//! ```sql
//! SELECT row_json(named_struct('question', 'Why?', 'options', ['a', 'b']));   -- {"question": "Why?", "options": ["a", "b"]}
//! ```
//!
//! For hashing rows: the text is the same on every machine and in every version, and the same as minijinja's own `tojson`
//! writes of a template value: with escapes for `<`, `>`, `&` and `'`. (The templates' filter `tojson` is Python's.) Numbers
//! that JSON lacks are null; bytes are lists of numbers; anything else (times, decimals) is its text in Arrow's display form.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringViewBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion_common::Result;

use crate::arguments::Arguments;
use crate::function::{Definition, Kind};

pub(crate) const ROW_JSON: Definition = Definition {
    name: "row_json",
    parameters: &[("value", Kind::Any)],
    invoke,
    description: "A value of any type as JSON on one line, the same on every machine and in every version.",
    example: "SELECT row_json(named_struct('question', 'Why?', 'options', ['a', 'b']));",
    ..Definition::BLANK
};

fn invoke(arguments: &Arguments) -> Result<ArrayRef> {
    let column = arguments.column(0)?;
    let mut texts = StringViewBuilder::with_capacity(arguments.rows);
    let mut text = String::new();
    for row in 0..arguments.rows {
        let (array, place) = column.at(row);
        text.clear();
        write_value(&mut text, array, place)?;
        texts.append_value(&text);
    }
    Ok(Arc::new(texts.finish()))
}

fn write_value(out: &mut String, array: &dyn Array, row: usize) -> Result<()> {
    if array.is_null(row) {
        out.push_str("null");
        return Ok(());
    }
    match array.data_type() {
        DataType::Null => out.push_str("null"),
        DataType::Boolean => out.push_str(if array.as_boolean().value(row) { "true" } else { "false" }),
        DataType::Utf8 => write_text(out, array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => write_text(out, array.as_string::<i64>().value(row)),
        DataType::Utf8View => write_text(out, array.as_string_view().value(row)),
        DataType::Int64 => write!(out, "{}", array.as_primitive::<Int64Type>().value(row)).unwrap_or_default(),
        DataType::UInt64 => write!(out, "{}", array.as_primitive::<UInt64Type>().value(row)).unwrap_or_default(),
        integer if integer.is_integer() => write_cast(out, array, row, &DataType::Int64)?,
        DataType::Float16 | DataType::Float32 => write_cast(out, array, row, &DataType::Float64)?,
        DataType::Float64 => {
            out.push_str(&serde_json::Value::from(array.as_primitive::<Float64Type>().value(row)).to_string());
        }
        DataType::List(_) => {
            let lists = array.as_list::<i32>();
            let (start, end) = (lists.value_offsets()[row], lists.value_offsets()[row + 1]);
            write_items(out, lists.values().as_ref(), start as usize..end as usize)?;
        }
        DataType::LargeList(_) => write_all(out, array.as_list::<i64>().value(row).as_ref())?,
        DataType::ListView(_) => write_all(out, array.as_list_view::<i32>().value(row).as_ref())?,
        DataType::LargeListView(_) => write_all(out, array.as_list_view::<i64>().value(row).as_ref())?,
        DataType::FixedSizeList(..) => write_all(out, array.as_fixed_size_list().value(row).as_ref())?,
        DataType::Struct(_) => {
            let structs = array.as_struct();
            out.push('{');
            for (place, (field, column)) in structs.fields().iter().zip(structs.columns()).enumerate() {
                if place > 0 {
                    out.push_str(", ");
                }
                write_text(out, field.name());
                out.push_str(": ");
                write_value(out, column.as_ref(), row)?;
            }
            out.push('}');
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            out.push('{');
            for entry in 0..entries.len() {
                if entry > 0 {
                    out.push_str(", ");
                }
                let key = cast(&entries.column(0).slice(entry, 1), &DataType::Utf8)?;
                write_text(out, key.as_string::<i32>().value(0));
                out.push_str(": ");
                write_value(out, entries.column(1).as_ref(), entry)?;
            }
            out.push('}');
        }
        DataType::Binary => write_bytes(out, array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => write_bytes(out, array.as_binary::<i64>().value(row)),
        DataType::BinaryView => write_bytes(out, array.as_binary_view().value(row)),
        DataType::Dictionary(_, values) => write_cast(out, array, row, values)?,
        _ => {
            let text = ArrayFormatter::try_new(array, &FormatOptions::default())?.value(row).to_string();
            write_text(out, &text);
        }
    }
    Ok(())
}

fn write_cast(out: &mut String, array: &dyn Array, row: usize, data_type: &DataType) -> Result<()> {
    write_value(out, cast(&array.slice(row, 1), data_type)?.as_ref(), 0)
}

fn write_all(out: &mut String, items: &dyn Array) -> Result<()> {
    write_items(out, items, 0..items.len())
}

fn write_items(out: &mut String, items: &dyn Array, places: std::ops::Range<usize>) -> Result<()> {
    out.push('[');
    for place in places.clone() {
        if place > places.start {
            out.push_str(", ");
        }
        write_value(out, items, place)?;
    }
    out.push(']');
    Ok(())
}

fn write_bytes(out: &mut String, bytes: &[u8]) {
    out.push('[');
    for (place, byte) in bytes.iter().enumerate() {
        let comma = if place > 0 { ", " } else { "" };
        write!(out, "{comma}{byte}").unwrap_or_default();
    }
    out.push(']');
}

fn write_text(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    let special = |byte: u8| byte < 0x20 || matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&' | b'\'');
    while let Some(at) = rest.bytes().position(special) {
        out.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x08 => out.push_str("\\b"),
            0x0c => out.push_str("\\f"),
            byte => write!(out, "\\u{byte:04x}").unwrap_or_default(),
        }
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use arrow::array::{BinaryArray, Float64Array, Int32Array, ListArray, RecordBatch, StringArray, StructArray};
    use datafusion_expr::ColumnarValue;
    use minijinja::value::Kwargs;
    use proptest::prelude::*;

    use super::*;
    use crate::jinja::row_values::row_value;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> StructArray {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap().into()
    }

    /// The JSON of each row, by the function and by minijinja's filter.
    fn both(values: StructArray) -> (Vec<String>, Vec<String>) {
        let rows = values.len();
        let filter = |row| {
            let none = Kwargs::from_iter(std::iter::empty::<(String, minijinja::Value)>());
            minijinja::filters::tojson(&row_value(&values, row).unwrap(), None, none).unwrap().to_string()
        };
        let filter = (0..rows).map(filter).collect();
        let arguments = vec![ColumnarValue::Array(Arc::new(values.clone()) as ArrayRef)];
        let own = (ROW_JSON.invoke)(&Arguments::new(ROW_JSON.name, arguments, rows).unwrap()).unwrap();
        (own.as_string_view().iter().map(|text| text.unwrap().to_owned()).collect(), filter)
    }

    #[test]
    fn all_types_are_written_as_minijinja_writes_them() {
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None]);
        let inner = batch(vec![("text", Arc::new(StringArray::from(vec![Some("it's <b>"), None])))]);
        let (own, filter) = both(batch(vec![
            ("q \"x\"", Arc::new(StringArray::from(vec![Some("a\n\u{1}é\\"), None])) as ArrayRef),
            ("n", Arc::new(Int32Array::from(vec![7, -8]))),
            ("f", Arc::new(Float64Array::from(vec![0.00001, 1e300]))),
            ("g", Arc::new(Float64Array::from(vec![1.0, f64::NAN]))),
            ("l", Arc::new(lists)),
            ("s", Arc::new(inner)),
            ("b", Arc::new(BinaryArray::from(vec![&[1u8, 255][..], &[]]))),
        ]));
        assert_eq!(own, filter);
        assert_eq!(
            own[0],
            r#"{"q \"x\"": "a\n\u0001é\\", "n": 7, "f": 0.00001, "g": 1.0, "l": [1, null], "s": {"text": "it\u0027s \u003cb\u003e"}, "b": [1, 255]}"#
        );
    }

    proptest! {
        #[test]
        fn any_text_and_number_is_written_as_the_filter_writes_it(text in any::<String>(), float in any::<f64>(), integer in any::<i64>()) {
            let (own, filter) = both(batch(vec![
                ("t", Arc::new(StringArray::from(vec![text])) as ArrayRef),
                ("f", Arc::new(Float64Array::from(vec![float]))),
                ("i", Arc::new(arrow::array::Int64Array::from(vec![integer]))),
            ]));
            prop_assert_eq!(own, filter);
        }
    }
}
