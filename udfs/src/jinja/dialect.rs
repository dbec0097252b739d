//! The one Jinja engine of the process, set up as lm-evaluation-harness sets up Python's jinja2, with those methods and
//! filters of Python's that minijinja lacks.

use std::fmt::Write;
use std::sync::LazyLock;

use minijinja::filters;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Rest, ValueKind, ValueOrKwargs, from_args};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, Value};
use minijinja_contrib::pycompat;
use regex::{Captures, Regex};

use crate::gold_index::is_digit;
use crate::jinja::python_json::tojson;
use crate::jinja::python_text::write_str;
use crate::jinja::python_title::{title_filter, title_method};

/// Work allowed for one rendering: about this many instructions, or 64 bytes of text for each (128 MB).
const FUEL: u64 = 2_000_000;

pub(super) static ENGINE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut engine = Environment::new();
    let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
    engine.set_syntax(syntax.expect("the default delimiters are valid"));
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_auto_escape_callback(|_| AutoEscape::None);
    engine.set_fuel(Some(FUEL));
    engine.set_formatter(|out, _, value| write_str(out, value).map_err(Error::from));
    engine.set_unknown_method_callback(python_method);
    engine.add_filter("string", string);
    engine.add_filter("regex_replace", regex_replace);
    engine.add_filter("json", json);
    engine.add_filter("tojson", tojson);
    engine.add_filter("title", title);
    engine.add_filter("format", format_filter);
    engine.remove_global("debug");
    engine
});

/// Methods of Python's str and list, first those that minijinja-contrib lacks.
fn python_method(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    match (value.kind(), method) {
        (ValueKind::Seq, "index") => {
            let (item,): (&Value,) = from_args(args)?;
            match value.try_iter()?.position(|other| other == *item) {
                Some(index) => Ok(Value::from(index)),
                None => Err(Error::new(ErrorKind::InvalidOperation, format!("{item:?} is not in the list {value}"))),
            }
        }
        (ValueKind::String, "index") => {
            let (part,): (&str,) = from_args(args)?;
            let text = value.as_str().unwrap_or_default();
            match text.find(part) {
                Some(offset) => Ok(Value::from(text[..offset].chars().count())),
                None => Err(Error::new(ErrorKind::InvalidOperation, format!("{part:?} is not in the text"))),
            }
        }
        (ValueKind::String, "removeprefix") => {
            let (prefix,): (&str,) = from_args(args)?;
            let text = value.as_str().unwrap_or_default();
            Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)))
        }
        (ValueKind::String, "removesuffix") => {
            let (suffix,): (&str,) = from_args(args)?;
            let text = value.as_str().unwrap_or_default();
            Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)))
        }
        (ValueKind::String, "isdigit") => {
            let () = from_args(args)?;
            Ok(Value::from(is_digit(value.as_str().unwrap_or_default())))
        }
        (ValueKind::String, "title") => {
            let () = from_args(args)?;
            title_method(state, value.as_str().unwrap_or_default()).map(Value::from)
        }
        (ValueKind::String, "format") => {
            check_format(value, &STR_FORMAT_FAULT)?;
            pycompat::unknown_method_callback(state, value, method, args)
        }
        // `','.join([1.0])` is an error in Python, so only texts come here, and they need no other formatting.
        _ => pycompat::unknown_method_callback(state, value, method, args),
    }
}

/// What minijinja 3.1 panics on in a text for `str.format`, after `{{`, which stands for a brace: a letter beyond ASCII in
/// a key (`{row[naïve]}`: it goes through keys by bytes) and a width or precision above `u16::MAX` (Rust's own limit).
static STR_FORMAT_FAULT: LazyLock<Regex> = LazyLock::new(|| {
    let key = r"\{(?:[0-9A-Za-z_.]|\[[\x00-\x5C\x5E-\x7F]*\])*\[[\x00-\x5C\x5E-\x7F]*(?<key>[^\x00-\x7F])";
    let width = r"\{[^{}:]*:[^{}]*?(?<width>[0-9]{5,})";
    Regex::new(&format!(r"\{{\{{|{key}|{width}")).expect("a constant pattern")
});

/// The same in a text for the filter `format`, after `%%`.
static PRINTF_FAULT: LazyLock<Regex> = LazyLock::new(|| {
    let key = r"%\([\x00-\x28\x2A-\x7F]*(?<key>[^\x00-\x7F])";
    let width = r"%(?:\([^)]*\))?[-#0 +.0-9]*?(?<width>[0-9]{5,})";
    Regex::new(&format!("%%|{key}|{width}")).expect("a constant pattern")
});

fn check_format(text: &Value, fault: &Regex) -> Result<(), Error> {
    for found in fault.captures_iter(text.as_str().unwrap_or_default()) {
        let what = if found.name("key").is_some() {
            "a key with letters beyond ASCII"
        } else if found.name("width").is_some() {
            "a width or precision above 9,999"
        } else {
            continue;
        };
        return Err(Error::new(ErrorKind::InvalidOperation, format!("the format text holds {what}")));
    }
    Ok(())
}

/// The filter `format`: Python's `%`.
fn format_filter(state: &mut State, text: &Value, values: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    check_format(text, &PRINTF_FAULT)?;
    filters::format(state, text, values)
}

/// The filter `string`: Python's `str()`.
fn string(value: Value) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    if value.kind() == ValueKind::String {
        return Ok(value);
    }
    let mut text = String::new();
    write_str(&mut text, &value)?;
    Ok(Value::from(text))
}

/// The filter `title`, of whatever has a `str()`.
fn title(value: Value) -> Result<String, Error> {
    Ok(title_filter(string(value)?.as_str().unwrap_or_default()))
}

/// The harness's filter `regex_replace(pattern, repl, count=0)`: Python's `re.sub`, but without look-around.
fn regex_replace(text: &str, pattern: &str, replacement: &str, count: Option<usize>) -> Result<String, Error> {
    let regex = Regex::new(pattern).map_err(|error| {
        Error::new(ErrorKind::InvalidOperation, format!("regex_replace cannot use the pattern {pattern:?}"))
            .with_source(error)
    })?;
    let replaced = regex.replacen(text, count.unwrap_or(0), |captures: &Captures| expand(replacement, captures));
    Ok(replaced.into_owned())
}

/// Puts groups into a replacement in Python's notation: `\1`, `\g<1>` and `\g<name>`.
fn expand(replacement: &str, captures: &Captures) -> String {
    let mut out = String::with_capacity(replacement.len());
    let mut rest = replacement;
    while let Some(offset) = rest.find('\\') {
        out.push_str(&rest[..offset]);
        let escape = &rest[offset + 1..];
        let digits = escape.len() - escape.trim_start_matches(|char: char| char.is_ascii_digit()).len();
        if let Some((name, after)) = escape.strip_prefix("g<").and_then(|name| name.split_once('>')) {
            let group = name.parse().map_or_else(|_| captures.name(name), |number: usize| captures.get(number));
            out.push_str(group.map_or("", |group| group.as_str()));
            rest = after;
        } else if digits > 0 {
            let group = escape[..digits].parse().ok().and_then(|number: usize| captures.get(number));
            out.push_str(group.map_or("", |group| group.as_str()));
            rest = &escape[digits..];
        } else if let Some(after) = escape.strip_prefix('n') {
            out.push('\n');
            rest = after;
        } else if let Some(after) = escape.strip_prefix('\\') {
            out.push('\\');
            rest = after;
        } else {
            let _ = out.write_char('\\');
            rest = escape;
        }
    }
    out.push_str(rest);
    out
}

/// `{{ value | json }}`: compact JSON for prompts. Unlike `tojson` it escapes nothing for HTML and nothing beyond ASCII,
/// which models would copy, and keeps the order of keys: an apostrophe stays an apostrophe.
fn json(value: &Value) -> Result<String, Error> {
    let text = minijinja::filters::tojson(
        value,
        None,
        minijinja::value::Kwargs::from_iter(std::iter::empty::<(String, Value)>()),
    )?
    .to_string();
    // minijinja's `tojson` writes exactly these four characters as escapes, and a literal backslash as two.
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let (plain, length) = match escape.get(..6) {
            Some("\\u003c") => ("<", 6),
            Some("\\u003e") => (">", 6),
            Some("\\u0026") => ("&", 6),
            Some("\\u0027") => ("'", 6),
            _ => (escape.get(..2).unwrap_or(escape), 2.min(escape.len())),
        };
        out.push_str(plain);
        rest = &escape[length..];
    }
    out.push_str(rest);
    Ok(out)
}
