//! Bodies that are JSON but for what strict readers refuse and servers send all the same: half of a surrogate pair as an
//! escape (a text that was cut inside an emoji), Python's NaN and Infinity, a bare control character in a text. An answer
//! that came whole is paid: it is read, and not asked for again.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

/// Reads a body, mended where it cannot be read as it is. The error is that of the body as it came.
pub(super) fn read<T: DeserializeOwned>(body: &str) -> serde_json::Result<T> {
    serde_json::from_str(body)
        .or_else(|error| mended(body).and_then(|body| serde_json::from_str(&body).ok()).ok_or(error))
}

/// The body with U+FFFD for half a pair, null for what is no number, and escapes for control characters; `None` where it
/// has none of them.
fn mended(body: &str) -> Option<String> {
    let bytes = body.as_bytes();
    let mut mended = String::new();
    let (mut copied, mut at, mut in_text) = (0, 0, false);
    while let Some(&byte) = bytes.get(at) {
        let rest = &bytes[at..];
        let (length, instead): (usize, Option<Cow<str>>) = match byte {
            b'"' => {
                in_text = !in_text;
                (1, None)
            }
            b'\\' if in_text => escape(rest),
            ..b' ' if in_text => (1, Some(format!("\\u{byte:04x}").into())),
            b'N' | b'I' | b'-' if !in_text => {
                match ["NaN", "Infinity", "-Infinity"].iter().find(|word| rest.starts_with(word.as_bytes())) {
                    Some(word) => (word.len(), Some("null".into())),
                    None => (1, None),
                }
            }
            _ => (1, None),
        };
        if let Some(instead) = instead {
            // Both places are beside ASCII.
            mended.push_str(&body[copied..at]);
            mended.push_str(&instead);
            copied = at + length;
        }
        at += length;
    }
    (copied > 0).then(|| mended + &body[copied..])
}

/// The length of an escape, and what stands in its place if it is half of a pair.
fn escape(rest: &[u8]) -> (usize, Option<Cow<'static, str>>) {
    let half = (6, Some("\\ufffd".into()));
    match code_unit(rest) {
        Some(0xd800..=0xdbff) => match code_unit(&rest[6..]) {
            Some(0xdc00..=0xdfff) => (12, None),
            _ => half,
        },
        Some(0xdc00..=0xdfff) => half,
        Some(_) => (6, None),
        None => (2, None),
    }
}

/// The number of an escape such as `\ud83d` at the start of a text.
fn code_unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    let digits = std::str::from_utf8(digits).ok()?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_is_nearly_json_is_read_as_what_it_means() {
        for (body, value) in [
            (r#"{"a": "x\ud83d"}"#, json!({"a": "x\u{fffd}"})),
            (r#"["\ude00\ud83d\ude00\ud83d\n", "é\\ud83d"]"#, json!(["\u{fffd}😀\u{fffd}\n", "é\\ud83d"])),
            (r#"["\ud83d\ud83d\ude00"]"#, json!(["\u{fffd}😀"])),
            (
                r#"{"n": NaN, "i": [Infinity,-Infinity, -1], "t": "NaN \"Infinity"}"#,
                json!({"n": null, "i": [null, null, -1], "t": "NaN \"Infinity"}),
            ),
            ("[\"a\nb\tc\", NaN\n]", json!(["a\nb\tc", null])),
        ] {
            assert_eq!(read::<Value>(body).unwrap(), value, "{body}");
        }
    }

    #[test]
    fn what_is_cut_off_or_no_json_stays_an_error() {
        for body in
            ["", "{", r#"{"a": "\ud83d"#, r#"{"a": "\ud8"#, r#"["\"#, "NaN and more", "<p>NaN</p>", "[Nan]", "[-]"]
        {
            assert_eq!(read::<Value>(body).unwrap_err().to_string(), strict(body), "{body}");
        }
    }

    fn strict(body: &str) -> String {
        serde_json::from_str::<Value>(body).unwrap_err().to_string()
    }

    proptest::proptest! {
        #[test]
        fn no_body_makes_it_panic(body in r#"(\\u|d83d|de00|\\|"|é|😀|NaN|-|Infinity|[\[\]{}:,\n ]|[0-9a-f]){0,24}"#) {
            // What is JSON is read as it is.
            if let (Ok(mended), Ok(strict)) = (read::<Value>(&body), serde_json::from_str::<Value>(&body)) {
                proptest::prop_assert_eq!(mended, strict);
            }
            let _ = mended(&body);
        }
    }
}
