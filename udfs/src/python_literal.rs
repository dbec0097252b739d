//! Reads text as Python's `ast.literal_eval` does: the harness renders lists as text and reads them back. In: the text of
//! one literal (texts in all their quotes, numbers, True, False, None, lists, tuples, sets, dicts). Out: a template value.

use minijinja::Value;

/// Lists in lists are read down to this depth; CPython's parser refuses little more, and the stack stays bounded.
const MAX_DEPTH: usize = 90;

/// The value of a literal; None where Python would raise an error, and for bytes and complex numbers, which no data has.
pub(crate) fn literal(text: &str) -> Option<Value> {
    let mut reader = Reader { rest: text };
    reader.skip_blank();
    let first = reader.value(0)?;
    reader.skip_blank();
    if !reader.rest.starts_with(',') {
        return reader.rest.is_empty().then_some(first);
    }
    // A tuple needs no parentheses.
    let mut items = vec![first];
    while reader.eat(",") {
        reader.skip_blank();
        if reader.rest.is_empty() {
            break;
        }
        items.push(reader.value(0)?);
        reader.skip_blank();
    }
    reader.rest.is_empty().then(|| Value::from(items))
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// White space, line ends and comments, as between the items of a list.
    fn skip_blank(&mut self) {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0c']);
            if self.rest.starts_with('#') {
                self.rest = self.rest.find('\n').map_or("", |end| &self.rest[end..]);
            } else if !self.eat("\\\n") {
                return;
            }
        }
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        match self.rest.chars().next()? {
            '[' => {
                self.rest = &self.rest[1..];
                self.items(']', depth).map(|(items, _)| Value::from(items))
            }
            '(' => {
                self.rest = &self.rest[1..];
                let (items, commas) = self.items(')', depth)?;
                match <[Value; 1]>::try_from(items) {
                    Ok([item]) if !commas => Some(item),
                    Ok(item) => Some(Value::from(item.to_vec())),
                    Err(items) => Some(Value::from(items)),
                }
            }
            '{' => {
                self.rest = &self.rest[1..];
                self.dict_or_set(depth)
            }
            '\'' | '"' => self.texts(),
            '-' | '+' => {
                let negative = self.rest.starts_with('-');
                self.rest = &self.rest[1..];
                self.skip_blank();
                self.number(negative)
            }
            '0'..='9' | '.' => self.number(false),
            _ => self.name(),
        }
    }

    /// The items up to the closing bracket, and whether there was a comma.
    fn items(&mut self, close: char, depth: usize) -> Option<(Vec<Value>, bool)> {
        let mut items = Vec::new();
        let mut commas = false;
        loop {
            self.skip_blank();
            if self.rest.starts_with(close) {
                self.rest = &self.rest[close.len_utf8()..];
                return Some((items, commas));
            }
            items.push(self.value(depth + 1)?);
            self.skip_blank();
            if self.eat(",") {
                commas = true;
            } else if !self.rest.starts_with(close) {
                return None;
            }
        }
    }

    fn dict_or_set(&mut self, depth: usize) -> Option<Value> {
        self.skip_blank();
        if self.eat("}") {
            return Some(Value::from_pairs(std::iter::empty::<(Value, Value)>()));
        }
        let first = self.value(depth + 1)?;
        self.skip_blank();
        if !self.eat(":") {
            let mut items = vec![first];
            if self.eat(",") {
                items.extend(self.items('}', depth)?.0);
                return Some(Value::from(items));
            }
            return self.eat("}").then(|| Value::from(items));
        }
        let mut pairs = Vec::new();
        let mut key = first;
        loop {
            self.skip_blank();
            pairs.push((key, self.value(depth + 1)?));
            self.skip_blank();
            if !self.eat(",") {
                return self.eat("}").then(|| Value::from_pairs(pairs));
            }
            self.skip_blank();
            if self.eat("}") {
                return Some(Value::from_pairs(pairs));
            }
            key = self.value(depth + 1)?;
            self.skip_blank();
            if !self.eat(":") {
                return None;
            }
        }
    }

    /// One text, or several that stand side by side and are one.
    fn texts(&mut self) -> Option<Value> {
        let mut text = String::new();
        loop {
            self.text(&mut text, false)?;
            self.skip_blank();
            let raw = match self.rest.as_bytes() {
                [b'\'' | b'"', ..] => continue,
                [b'r' | b'R', b'\'' | b'"', ..] => true,
                [b'u' | b'U', b'\'' | b'"', ..] => false,
                _ => return Some(Value::from(text)),
            };
            self.rest = &self.rest[1..];
            self.text(&mut text, raw)?;
            self.skip_blank();
            if !self.rest.starts_with(['\'', '"']) {
                return Some(Value::from(text));
            }
        }
    }

    fn text(&mut self, out: &mut String, raw: bool) -> Option<()> {
        let quote = self.rest.chars().next()?;
        let triple = if quote == '"' { "\"\"\"" } else { "'''" };
        let long = self.eat(triple);
        if !long {
            self.rest = &self.rest[1..];
        }
        loop {
            let stop = self.rest.find(|c| c == quote || c == '\\' || (c == '\n' && !long))?;
            out.push_str(&self.rest[..stop]);
            self.rest = &self.rest[stop..];
            if self.eat("\\") {
                let escaped = self.rest.chars().next()?;
                if raw {
                    out.push('\\');
                    out.push(escaped);
                    self.rest = &self.rest[escaped.len_utf8()..];
                } else {
                    self.escape(escaped, out)?;
                }
            } else if long && self.eat(triple) || !long && self.rest.starts_with(quote) {
                if !long {
                    self.rest = &self.rest[1..];
                }
                return Some(());
            } else if long {
                out.push(quote);
                self.rest = &self.rest[1..];
            } else {
                return None;
            }
        }
    }

    fn escape(&mut self, escaped: char, out: &mut String) -> Option<()> {
        self.rest = &self.rest[escaped.len_utf8()..];
        let simple = match escaped {
            '\n' => return Some(()),
            '\\' | '\'' | '"' => escaped,
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            'x' => self.code(2)?,
            'u' => self.code(4)?,
            'U' => self.code(8)?,
            '0'..='7' => {
                let more = self.rest.bytes().take(2).take_while(|b| (b'0'..=b'7').contains(b)).count();
                let digits = format!("{escaped}{}", &self.rest[..more]);
                self.rest = &self.rest[more..];
                char::from_u32(u32::from_str_radix(&digits, 8).ok()?)?
            }
            // Names of characters are not known here.
            'N' => return None,
            other => {
                out.push('\\');
                other
            }
        };
        out.push(simple);
        Some(())
    }

    fn code(&mut self, digits: usize) -> Option<char> {
        let code = self.rest.get(..digits).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))?;
        self.rest = &self.rest[digits..];
        char::from_u32(u32::from_str_radix(code, 16).ok()?)
    }

    fn number(&mut self, negative: bool) -> Option<Value> {
        let mut end = 0;
        let bytes = self.rest.as_bytes();
        while let Some(byte) = bytes.get(end) {
            let sign_of_exponent =
                matches!(byte, b'+' | b'-') && end > 0 && matches!(bytes[end - 1], b'e' | b'E') && !is_hex(bytes);
            if !(byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_') || sign_of_exponent) {
                break;
            }
            end += 1;
        }
        let (digits, rest) = self.rest.split_at(end);
        if digits.starts_with('_') || digits.ends_with('_') || digits.contains("__") {
            return None;
        }
        self.rest = rest;
        let plain = digits.replace('_', "").to_ascii_lowercase();
        let radix = match plain.get(..2) {
            Some("0x") => Some(16),
            Some("0o") => Some(8),
            Some("0b") => Some(2),
            _ => None,
        };
        let integer = match radix {
            Some(radix) => Some(i128::from_str_radix(&plain[2..], radix).ok()?),
            None if plain.bytes().all(|b| b.is_ascii_digit()) => {
                // 007 is a syntax error, 00 is not.
                if plain.len() > 1 && plain.starts_with('0') && plain.bytes().any(|b| b != b'0') {
                    return None;
                }
                Some(plain.parse().ok()?)
            }
            None => None,
        };
        if let Some(integer) = integer {
            return Some(Value::from(if negative { -integer } else { integer }));
        }
        if !plain.starts_with(|c: char| c.is_ascii_digit() || c == '.') || plain.contains(['i', 'n', 'a']) {
            return None;
        }
        let number: f64 = plain.parse().ok()?;
        Some(Value::from(if negative { -number } else { number }))
    }

    fn name(&mut self) -> Option<Value> {
        for (name, value) in [("True", Value::from(true)), ("False", Value::from(false)), ("None", Value::from(()))] {
            let rest = self.rest.strip_prefix(name);
            if let Some(rest) = rest.filter(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_')) {
                self.rest = rest;
                return Some(value);
            }
        }
        let raw = match self.rest.as_bytes() {
            [b'r' | b'R', b'\'' | b'"', ..] => true,
            [b'u' | b'U', b'\'' | b'"', ..] => false,
            _ => return None,
        };
        self.rest = &self.rest[1..];
        let mut text = String::new();
        self.text(&mut text, raw)?;
        self.skip_blank();
        if self.rest.starts_with(['\'', '"']) {
            let more = self.texts()?;
            text.push_str(more.as_str().unwrap_or_default());
        }
        Some(Value::from(text))
    }
}

fn is_hex(digits: &[u8]) -> bool {
    matches!(digits, [b'0', b'x' | b'X', ..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::jinja::python_text::write_str;

    fn read(text: &str) -> Option<String> {
        let mut out = String::new();
        write_str(&mut out, &literal(text)?).unwrap();
        Some(out)
    }

    #[test]
    fn literals_are_read_as_python_reads_them() {
        for (text, expected) in [
            ("['a', \"it's\", 'b' 'c']", "['a', \"it's\", 'bc']"),
            ("['''a\nb''', \"\"\"c\"d\"\"\"]", "['a\\nb', 'c\"d']"),
            (r"['\n\x41\u00e9\101\q', r'\n']", r"['\nAéA\\q', '\\n']"),
            ("[1, -2.5, 1_000, 0x10, 1e3, True, None]", "[1, -2.5, 1000, 16, 1000.0, True, None]"),
            (" [[1], (2,), {'k': 3}, {4}] ", "[[1], [2], {'k': 3}, [4]]"),
            ("(['a'])", "['a']"),
            ("'a', 'b'", "['a', 'b']"),
            ("[\n  'a', # one\n  'b',\n]", "['a', 'b']"),
            ("[]", "[]"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_python_refuses_is_no_literal() {
        for text in ["[a]", "['a'", "['a' 1]", "['a\nb']", "[007]", "[1 + 2]", "[nan]", "", "[1,,2]", "[²]", "b'x'"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_list_of_texts_reads_back_what_was_written(texts in prop::collection::vec(any::<String>(), 0..5)) {
            let value = Value::from(texts);
            let mut written = String::new();
            write_str(&mut written, &value).unwrap();
            prop_assert_eq!(literal(&written), Some(value));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in r#"([\[\](){}'"\\,:#xuUN0-9a-f_.+ -]|'''|\PC){0,30}"#) {
            let _ = literal(&text);
        }
    }
}
