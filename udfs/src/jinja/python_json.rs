//! The filter `tojson` as Python's jinja2 has it: `json.dumps` with sorted keys and nothing but ASCII, and with `<`, `>`, `&`
//! and `'` as escapes. In: a template value. Out: its text.

use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use crate::jinja::python_text::{MAX_DEPTH, write_float};

/// Spaces of one level; more would be a mistake, and much room.
const MAX_INDENT: i64 = 100;

/// `{{ value | tojson }}`, `{{ value | tojson(indent=2) }}`.
pub(crate) fn tojson(value: &Value, indent: Option<Value>, options: Kwargs) -> Result<String, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get("indent")?,
    };
    options.assert_all_used()?;
    let indent = match indent.filter(|indent| !indent.is_none()) {
        None => None,
        Some(indent) => Some(indentation(&indent)?),
    };
    let mut out = String::new();
    write_json(&mut out, value, indent.as_deref(), 0)?;
    Ok(out)
}

/// A text, or so many spaces.
fn indentation(indent: &Value) -> Result<String, Error> {
    let spaces = match indent.kind() {
        ValueKind::String => return Ok(indent.as_str().unwrap_or_default().to_owned()),
        ValueKind::Bool => i64::from(indent.is_true()),
        _ => i64::try_from(indent.clone())?,
    };
    if spaces > MAX_INDENT {
        return Err(wrong(format!("an indent is at most {MAX_INDENT} spaces, not {spaces}")));
    }
    Ok(" ".repeat(usize::try_from(spaces).unwrap_or(0)))
}

fn wrong(what: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("tojson: {what}"))
}

fn write_json(out: &mut String, value: &Value, indent: Option<&str>, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(wrong(format!("the value is more than {MAX_DEPTH} levels deep")));
    }
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => write_number(out, value)?,
        ValueKind::String => write_text(out, value.as_str().unwrap_or_default()),
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter()?.collect();
            keys.sort();
            let is_empty = keys.is_empty();
            out.push('{');
            for (place, key) in keys.iter().enumerate() {
                begin_item(out, indent, depth + 1, place);
                write_key(out, key)?;
                out.push_str(": ");
                write_json(out, &value.get_item(key)?, indent, depth + 1)?;
            }
            end_items(out, indent, depth, is_empty);
            out.push('}');
        }
        // Bytes are a list of numbers, which Python would refuse; so are the results of filters that are lazy there.
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Bytes => {
            out.push('[');
            let mut is_empty = true;
            for (place, item) in value.try_iter()?.enumerate() {
                is_empty = false;
                begin_item(out, indent, depth + 1, place);
                write_json(out, &item, indent, depth + 1)?;
            }
            end_items(out, indent, depth, is_empty);
            out.push(']');
        }
        ValueKind::Undefined => return Err(Error::from(ErrorKind::UndefinedError)),
        other => return Err(wrong(format!("{other} is no JSON"))),
    }
    Ok(())
}

fn begin_item(out: &mut String, indent: Option<&str>, depth: usize, place: usize) {
    match indent {
        Some(indent) => {
            out.push_str(if place == 0 { "\n" } else { ",\n" });
            out.push_str(&indent.repeat(depth));
        }
        None if place == 0 => {}
        None => out.push_str(", "),
    }
}

fn end_items(out: &mut String, indent: Option<&str>, depth: usize, is_empty: bool) {
    if let Some(indent) = indent.filter(|_| !is_empty) {
        out.push('\n');
        out.push_str(&indent.repeat(depth));
    }
}

/// Python writes NaN and Infinity, which JSON does not have.
fn write_number(out: &mut String, value: &Value) -> Result<(), Error> {
    let number = if value.is_integer() { None } else { f64::try_from(value.clone()).ok() };
    match number {
        None => write!(out, "{value}")?,
        Some(number) if number.is_nan() => out.push_str("NaN"),
        Some(number) if number.is_infinite() => out.push_str(if number > 0.0 { "Infinity" } else { "-Infinity" }),
        Some(number) => write_float(out, number)?,
    }
    Ok(())
}

fn write_key(out: &mut String, key: &Value) -> Result<(), Error> {
    match key.kind() {
        ValueKind::String => write_text(out, key.as_str().unwrap_or_default()),
        ValueKind::None | ValueKind::Bool | ValueKind::Number => {
            out.push('"');
            write_json(out, key, None, 0)?;
            out.push('"');
        }
        other => return Err(wrong(format!("a key is a text or a number, not {other}"))),
    }
    Ok(())
}

fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' if !matches!(char, '<' | '>' | '&' | '\'') => out.push(char),
            _ => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    // Writing to a String cannot fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: impl Into<Value>, indent: Option<i64>) -> Result<String, Error> {
        let none = Kwargs::from_iter(std::iter::empty::<(String, Value)>());
        tojson(&value.into(), indent.map(Value::from), none)
    }

    fn map() -> Value {
        let list = vec![Value::from(1), Value::from(()), Value::from(true), Value::from(2.5)];
        Value::from_pairs([("é", Value::from("<b>it's & \"x\"\\\n\u{1}\u{7f}😀")), ("a", Value::from(list))])
    }

    /// As Python 3.12 and jinja2 3.1.6 write it.
    #[test]
    fn values_are_written_as_python_writes_them() {
        assert_eq!(
            json(map(), None).unwrap(),
            r#"{"a": [1, null, true, 2.5], "\u00e9": "\u003cb\u003eit\u0027s \u0026 \"x\"\\\n\u0001\u007f\ud83d\ude00"}"#
        );
        let numbers = vec![1.0, 1e16, 1.5e-7, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        assert_eq!(json(numbers, None).unwrap(), "[1.0, 1e+16, 1.5e-07, -0.0, NaN, Infinity, -Infinity]");
        let keys = Value::from_pairs([(Value::from(10), 1), (Value::from(9), 2)]);
        assert_eq!(json(keys, None).unwrap(), r#"{"9": 2, "10": 1}"#);
    }

    #[test]
    fn an_indent_puts_each_item_on_its_line() {
        let value = Value::from_pairs([("b", Value::from(vec![1, 2])), ("a", Value::from(Vec::<Value>::new()))]);
        assert_eq!(json(value.clone(), Some(2)).unwrap(), "{\n  \"a\": [],\n  \"b\": [\n    1,\n    2\n  ]\n}");
        assert_eq!(json(value, Some(0)).unwrap(), "{\n\"a\": [],\n\"b\": [\n1,\n2\n]\n}");
        assert!(json(1, Some(1_000_000_000)).unwrap_err().to_string().contains("at most 100"));
    }

    #[test]
    fn what_is_undefined_is_an_error() {
        assert!(json(Value::UNDEFINED, None).is_err());
    }
}
