//! JSON out of a text that a model wrote: its objects and lists between prose, with small faults forgiven.
//! In: a text. Out: its pieces of JSON, each with its place, from left to right.

use serde_json::{Error, Value};

/// So many beginnings of objects are let go in one text as prose: each has been sought to the end for its bracket.
const MOST_QUOTED_STARTS: usize = 16;

/// An object or a list in a text.
pub struct Piece {
    pub start: usize,
    /// Behind its last byte. A piece that does not close takes the rest of the text, or what was read of it where prose
    /// goes on.
    pub end: usize,
    /// The error says why it cannot be read.
    pub value: Result<Value, Error>,
}

/// The objects and lists of a text: bare, in a Markdown fence, or in prose. None is inside another, not even inside one
/// that cannot be read: that would take a part of an answer for the whole.
///
/// Every byte is read a few times however many brackets there are, since the next piece is sought behind this one. So
/// the number of pieces needs no bound, and a long proof full of brackets before an answer does not hide it.
pub fn pieces(text: &str) -> impl Iterator<Item = Piece> {
    let (mut from, mut quoted_starts) = (0_usize, 0);
    std::iter::from_fn(move || {
        loop {
            let start = from + text.as_bytes()[from..].iter().position(|byte| matches!(byte, b'{' | b'['))?;
            let rest = &text[start..];
            if !goes_on_as_json(rest) {
                from = start + 1;
                continue;
            }
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
            let error = match values.next()? {
                Ok(value) => {
                    from = start + values.byte_offset();
                    return Some(Piece { start, end: from, value: Ok(value) });
                }
                Err(error) => error,
            };
            let failed = failure(rest, &error);
            if !has_a_key(&rest.as_bytes()[..failed]) {
                // Not from where it failed: a quote of prose may have taken the start of an object for a string.
                from = start + 1;
                continue;
            }
            let (end, value) = match closing(rest) {
                Some(length) => {
                    let forgiven = serde_json::from_str::<Value>(&without_small_faults(&rest[..length]));
                    (start + length, forgiven.map_err(|_| error))
                }
                None if quoted_starts < MOST_QUOTED_STARTS && is_quoted_start(rest, failed) => {
                    quoted_starts += 1;
                    (start + failed, Err(error))
                }
                None => (text.len(), Err(error)),
            };
            from = end;
            return Some(Piece { start, end, value });
        }
    })
}

/// The place behind the bracket of a list that stands at the start of a text, or under this key of the object there.
/// The text may be cut off.
pub fn list_start(text: &str, key: &str) -> Option<usize> {
    if text.starts_with('[') {
        return Some(1);
    }
    let key = format!("\"{key}\"");
    let behind_key = |before: &str| {
        before.trim_end().strip_suffix(':').is_some_and(|before| before.trim_end().ends_with(key.as_str()))
    };
    let mut depth = 0_usize;
    for (at, byte) in outside_strings(text.as_bytes()) {
        match byte {
            b'[' if depth == 1 && behind_key(&text[..at]) => return Some(at + 1),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// The bytes of a JSON text outside its strings, each with its place; of a string only the quote that opens it.
fn outside_strings(text: &[u8]) -> impl Iterator<Item = (usize, u8)> {
    let (mut in_string, mut escaped) = (false, false);
    text.iter().copied().enumerate().filter(move |&(_, byte)| {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            false
        } else {
            in_string = byte == b'"';
            true
        }
    })
}

/// Whether JSON can go on as the text does behind its first bracket. Most brackets of prose are told by that, and cost
/// nothing more.
fn goes_on_as_json(text: &str) -> bool {
    let mut bytes = text.bytes();
    let bracket = bytes.next();
    let next = bytes.find(|byte| !byte.is_ascii_whitespace());
    match bracket {
        Some(b'{') => matches!(next, Some(b'"' | b'}')),
        _ => matches!(next, Some(b'{' | b'[' | b']' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n')),
    }
}

/// The place of the byte at which reading a text failed.
fn failure(text: &str, error: &Error) -> usize {
    let lines_before = error.line().saturating_sub(1);
    let line_start: usize = text.split_inclusive('\n').take(lines_before).map(str::len).sum();
    (line_start + error.column()).saturating_sub(1).min(text.len())
}

/// Whether what was read before it failed came as far as an object's key. Less, as `[1, 2)` or `["']`, is prose.
fn has_a_key(read: &[u8]) -> bool {
    let mut bytes = outside_strings(read).map(|(_, byte)| byte);
    bytes.any(|byte| byte == b'{') && bytes.any(|byte| byte == b'"')
}

/// Whether what was read of a text before it failed is a first key, and prose goes on behind it: `{"name" or so`. That is
/// how a text speaks of JSON. An answer that is cut off ends there, and one that is broken has some sign there; what
/// stands later in these may be inside them, so they take the rest. So they do where more than a key was read.
fn is_quoted_start(text: &str, failed: usize) -> bool {
    let Some((read, left)) = text.split_at_checked(failed) else { return false };
    let key = read.trim_start_matches(|c: char| matches!(c, '{' | '[') || c.is_whitespace());
    let is_key = serde_json::from_str::<String>(key).is_ok();
    is_key && left.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | ';' | '!' | '?' | ')' | '…'))
}

/// The length of what the bracket at the start of a text encloses.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in outside_strings(text.as_bytes()) {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return Some(at + 1),
            b'}' | b']' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The same text without a comma before `}` or `]`, and with the control characters in its strings escaped: models
/// write a line break in a string as it is.
fn without_small_faults(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in text.chars() {
        if in_string {
            // Behind a backslash it is another fault, which stays one.
            if c < ' ' && !escaped {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
                continue;
            }
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if c == '"' {
            in_string = true;
        } else if matches!(c, '}' | ']') {
            let kept = out.trim_end().len();
            if out[..kept].ends_with(',') {
                out.truncate(kept - 1);
            }
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The values of the pieces; null stands for one that cannot be read.
    fn values(text: &str) -> Vec<Value> {
        pieces(text).map(|piece| piece.value.unwrap_or_default()).collect()
    }

    #[test]
    fn pieces_are_found_in_prose_and_none_inside_another() {
        for (text, found) in [
            ("no {hard} thought [it] {", vec![]),
            ("on [1, 2) and [0;1] it is {\"a\": [1]} [2]", vec![json!({"a": [1]}), json!([2])]),
            ("{{\"a\": {\"b\": 1}}}", vec![json!({"a": {"b": 1}})]),
            ("quotes match [\"'] {\"a\": 1}", vec![json!({"a": 1})]),
            ("{\"a\": 1}{\"b\": 2}\n", vec![json!({"a": 1}), json!({"b": 2})]),
            // What cannot be read ends with its bracket, or not at all.
            ("as {\"a\": ..., \"b\": {\"b\": 1}} {\"c\": \"}\"}", vec![json!(null), json!({"c": "}"})]),
            ("{\"a\": {\"b\": 1}", vec![json!(null)]),
            ("```json\n{\"a\": {\"b\": 1}\n```\n", vec![json!(null)]),
            ("{\"a\": 1 \"b\": {\"c\": 1}", vec![json!(null)]),
            ("[{\"a\": 1}, {\"b\": \"é", vec![json!(null)]),
            // Prose goes on behind a key.
            ("use {\"a\" or so. Then: {\"a\": 1}", vec![json!(null), json!({"a": 1})]),
            ("use [ {\"a\"). Then: {\"a\": 1}", vec![json!(null), json!({"a": 1})]),
            ("用 {\"a\" 等。 {\"a\": 1}", vec![json!(null), json!({"a": 1})]),
            // An answer that is cut off, or broken and cut off, does not: what comes later may be inside it.
            ("{\"a\"", vec![json!(null)]),
            ("```\n{\"a\"\n```\n{\"a\": 1}", vec![json!(null)]),
            ("{\"a\" \"x\", \"b\": {\"a\": 1}", vec![json!(null)]),
            ("{\"a\" = \"x\", \"b\": {\"a\": 1}", vec![json!(null)]),
            ("{\"a\"：\"x\", \"b\": {\"a\": 1}", vec![json!(null)]),
            ("{\"a\", {\"a\": 1}", vec![json!(null)]),
            ("{\"a\" {\"a\": 1}", vec![json!(null)]),
            ("{\"a\": true, b: {\"a\": 1}", vec![json!(null)]),
            ("{\"a\": True, \"b\": {\"a\": 1}", vec![json!(null)]),
            ("{\"b\": {\"c\" or so, \"d\": {\"a\": 1}", vec![json!(null)]),
        ] {
            assert_eq!(values(text), found, "{text}");
        }
        let whole: Vec<(usize, usize)> = pieces("é{\"a\": 1} [2").map(|piece| (piece.start, piece.end)).collect();
        assert_eq!(whole, [(2, 10)]);
    }

    #[test]
    fn a_list_is_found_under_its_key_and_no_deeper() {
        for (text, start) in [
            ("[[1", Some(1)),
            ("{\"a\": [1], \"items\" :\n[2", Some(22)),
            ("{\"a\": \"\\\"items\\\": [\", \"items\": [2", Some(32)),
            ("{\"a\": {\"items\": [1]}, \"b\": [1]", None),
            ("{\"items\": 1, \"b\": [1", None),
        ] {
            assert_eq!(list_start(text, "items"), start, "{text}");
        }
    }

    #[test]
    fn small_faults_are_forgiven_and_others_are_not() {
        assert_eq!(values("{\"a\": [1, 2, ],\n}"), [json!({"a": [1, 2]})]);
        assert_eq!(values("{\"a\": \"x,]\ny\tz\r\n\"}"), [json!({"a": "x,]\ny\tz\r\n"})]);
        assert_eq!(values("{\"a\": \"\\\\\n\"}"), [json!({"a": "\\\n"})]);
        assert_eq!(values("{\"a\": \"x\\\ny\"}"), [json!(null)]);
        assert_eq!(values("{\"a\": 1,, \"b\": 2}"), [json!(null)]);
    }

    /// With a time that grows with the square of the length this test would not end.
    #[test]
    fn a_long_text_of_brackets_is_read_in_one_go() {
        for part in [
            "{",
            "[",
            "{\"",
            "[\"",
            "{\"a\" ",
            "{\"a\" } ",
            "[{\"a\":1} ",
            "{\"a\":[",
            "[1 ",
            "{} ",
            "[{\"a\"]] ",
            "{\"a\" or ",
        ] {
            let text = part.repeat((1 << 19) / part.len());
            assert!(pieces(&text).count() <= text.len(), "{part}");
        }
    }
}
