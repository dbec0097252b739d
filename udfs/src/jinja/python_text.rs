//! Writes template values as Python's `str()` and `repr()` do, because the harness renders its templates in Python:
//! a minijinja value comes in, its text is appended to a `fmt::Write`.

use std::fmt::{self, Write};
use std::sync::LazyLock;

use minijinja::Value;
use minijinja::value::ValueKind;
use regex::Regex;

/// Lists in lists are written down to this depth; no data is deeper, and the stack stays bounded.
pub(crate) const MAX_DEPTH: usize = 128;

/// Characters that Python's `str.isprintable` refuses: the categories Other and Separator, but for the space.
static UNPRINTABLE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[\p{C}\p{Z}--[ ]]").expect("a constant pattern is valid"));

/// `str(value)`.
pub(crate) fn write_str(out: &mut dyn Write, value: &Value) -> fmt::Result {
    match value.kind() {
        ValueKind::String => out.write_str(value.as_str().unwrap_or_default()),
        ValueKind::Undefined => Ok(()),
        _ => write_repr(out, value, 0),
    }
}

fn write_repr(out: &mut dyn Write, value: &Value, depth: usize) -> fmt::Result {
    if depth > MAX_DEPTH {
        return out.write_str("...");
    }
    match value.kind() {
        ValueKind::String => write_quoted(out, value.as_str().unwrap_or_default()),
        ValueKind::Number if !value.is_integer() => match f64::try_from(value.clone()) {
            Ok(number) => write_float(out, number),
            Err(_) => write!(out, "{value}"),
        },
        ValueKind::Seq if value.is_tuple() => {
            write_items(out, value, depth, "(", if value.len() == Some(1) { ",)" } else { ")" })
        }
        ValueKind::Seq => write_items(out, value, depth, "[", "]"),
        ValueKind::Iterable if value.len().is_some() => write_items(out, value, depth, "[", "]"),
        ValueKind::Map => {
            out.write_char('{')?;
            for (index, key) in value.try_iter().into_iter().flatten().enumerate() {
                if index > 0 {
                    out.write_str(", ")?;
                }
                write_repr(out, &key, depth + 1)?;
                out.write_str(": ")?;
                write_repr(out, &value.get_item(&key).unwrap_or_default(), depth + 1)?;
            }
            out.write_char('}')
        }
        _ => write!(out, "{value}"),
    }
}

fn write_items(out: &mut dyn Write, value: &Value, depth: usize, open: &str, close: &str) -> fmt::Result {
    out.write_str(open)?;
    for (index, item) in value.try_iter().into_iter().flatten().enumerate() {
        if index > 0 {
            out.write_str(", ")?;
        }
        write_repr(out, &item, depth + 1)?;
    }
    out.write_str(close)
}

/// `repr(float)`: the shortest digits that read back as the same number, with an exponent below 1e-4 and from 1e16.
pub(crate) fn write_float(out: &mut dyn Write, number: f64) -> fmt::Result {
    if number.is_nan() {
        return out.write_str("nan");
    }
    if number.is_infinite() {
        return out.write_str(if number > 0.0 { "inf" } else { "-inf" });
    }
    // Rust's Debug has the same thresholds; only the exponent's sign and its two digits are missing.
    let text = format!("{number:?}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            write!(out, "{digits}e{sign}{exponent:0>2}")
        }
        None => out.write_str(&text),
    }
}

/// `repr(str)`: single quotes unless the text has some and no double ones.
fn write_quoted(out: &mut dyn Write, text: &str) -> fmt::Result {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.write_char(quote)?;
    let mut bytes = [0; 4];
    for char in text.chars() {
        match char {
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            '\\' => out.write_str("\\\\")?,
            _ if char == quote => write!(out, "\\{char}")?,
            ' '..='~' => out.write_char(char)?,
            _ if !UNPRINTABLE.is_match(char.encode_utf8(&mut bytes)) => out.write_char(char)?,
            _ => match u32::from(char) {
                code @ ..=0xff => write!(out, "\\x{code:02x}")?,
                code @ ..=0xffff => write!(out, "\\u{code:04x}")?,
                code => write!(out, "\\U{code:08x}")?,
            },
        }
    }
    out.write_char(quote)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn str(value: impl Into<Value>) -> String {
        let mut out = String::new();
        write_str(&mut out, &value.into()).unwrap();
        out
    }

    #[test]
    fn floats_are_written_as_python_writes_them() {
        let written: Vec<_> = [1.0, 0.1, 1e16, 1.5e-7, 123456789012345680.0, 0.0001, -0.0, f64::NAN, f64::NEG_INFINITY]
            .into_iter()
            .map(str)
            .collect();
        assert_eq!(
            written,
            ["1.0", "0.1", "1e+16", "1.5e-07", "1.2345678901234568e+17", "0.0001", "-0.0", "nan", "-inf"]
        );
    }

    #[test]
    fn texts_stand_bare_and_are_quoted_within_lists() {
        assert_eq!(str("it's\n"), "it's\n");
        assert_eq!(
            str(vec!["plain", "it's", "\"it's\"", "a\nb\\", "é\u{a0}\u{200b}\u{7f}🙂"]),
            r#"['plain', "it's", '"it\'s"', 'a\nb\\', 'é\xa0\u200b\x7f🙂']"#
        );
    }

    #[test]
    fn none_booleans_and_dicts_are_python_literals() {
        assert_eq!(str(()), "None");
        let value =
            Value::from_pairs([("b", Value::from(true)), ("a", Value::from(vec![Value::from(()), 2.5.into()]))]);
        assert_eq!(str(value), "{'b': True, 'a': [None, 2.5]}");
    }
}
