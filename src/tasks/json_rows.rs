//! Splits the bytes of a JSON file into rows, one at a time and in bounded memory for files of lines. A row that cannot
//! be read is an item with its line and what is wrong with it; the rows after it are not lost.

use serde_json::Value;

/// A line longer than this is no row.
const LONGEST_LINE: usize = 64 << 20;

/// A row of a file.
#[derive(Debug)]
pub(crate) enum Row {
    Good(Value),
    Bad(BadRow),
}

/// A row that cannot be read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BadRow {
    /// From 1.
    pub line: u64,
    pub what: String,
}

/// How a file's rows lie in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// One row a line.
    Lines,
    /// One list of rows, or rows that span lines. Such a file is held in memory.
    Values,
}

/// Takes a file's bytes in pieces and gives its rows.
#[derive(Debug)]
pub(crate) struct RowSplitter {
    /// Whether the file may be something else than lines (`.json`).
    any_form: bool,
    form: Option<Form>,
    /// What is not a whole row yet.
    rest: Vec<u8>,
    line: u64,
    /// The bytes of a line that is too long, which are passed over.
    too_long: usize,
}

impl RowSplitter {
    pub(crate) fn new(any_form: bool) -> RowSplitter {
        RowSplitter { any_form, form: None, rest: Vec::new(), line: 1, too_long: 0 }
    }

    /// How rows lie in the file; known after the first piece.
    pub(crate) fn form(&self) -> Option<Form> {
        self.form
    }

    /// The line that is read.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// # Errors
    /// A sentence where the file is no UTF-8 text at all.
    pub(crate) fn push(&mut self, mut piece: &[u8], rows: &mut Vec<Row>) -> Result<(), String> {
        if self.form.is_none() {
            // The first bytes may come one at a time.
            self.rest.extend_from_slice(piece);
            if self.rest.len() < 4 {
                return Ok(());
            }
            let start = std::mem::take(&mut self.rest);
            return self.begin(&start, rows);
        }
        if self.form == Some(Form::Values) {
            self.rest.extend_from_slice(piece);
            return Ok(());
        }
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            self.end_line(&piece[..end], rows);
            piece = &piece[end + 1..];
        }
        if self.too_long > 0 || self.rest.len() + piece.len() > LONGEST_LINE {
            self.too_long += self.rest.len() + piece.len();
            self.rest = Vec::new();
        } else {
            self.rest.extend_from_slice(piece);
        }
        Ok(())
    }

    /// The rows that are left when the file ends.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub(crate) fn finish(&mut self, rows: &mut Vec<Row>) -> Result<(), String> {
        if self.form.is_none() {
            let start = std::mem::take(&mut self.rest);
            self.begin(&start, rows)?;
        }
        match self.form {
            Some(Form::Values) => values(&std::mem::take(&mut self.rest), rows),
            _ => self.end_line(&[], rows),
        }
        Ok(())
    }

    fn begin(&mut self, start: &[u8], rows: &mut Vec<Row>) -> Result<(), String> {
        if start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]) || start.iter().take(4).any(|b| *b == 0)
        {
            return Err("it is UTF-16 text or no text at all; convert it to UTF-8".into());
        }
        let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
        self.form = Some(if self.any_form { form(start) } else { Form::Lines });
        self.push(start, rows)
    }

    fn end_line(&mut self, end: &[u8], rows: &mut Vec<Row>) {
        let line = self.line;
        self.line += 1;
        if self.too_long > 0 {
            let what = format!("the line has {} bytes, more than {LONGEST_LINE}", self.too_long + end.len());
            self.too_long = 0;
            rows.push(Row::Bad(BadRow { line, what }));
            return;
        }
        let row = match self.rest.is_empty() {
            true => row(end, line),
            false => {
                self.rest.extend_from_slice(end);
                let found = row(&self.rest, line);
                self.rest.clear();
                found
            }
        };
        rows.extend(row);
    }
}

/// The row of a line; `None` for an empty one.
fn row(line: &[u8], number: u64) -> Option<Row> {
    let line = line.trim_ascii();
    if line.is_empty() {
        return None;
    }
    let bad = |what: String| Some(Row::Bad(BadRow { line: number, what }));
    match serde_json::from_slice::<Value>(line) {
        Ok(value @ Value::Object(_)) => Some(Row::Good(value)),
        Ok(_) => bad("it is no JSON object".into()),
        Err(_) if std::str::from_utf8(line).is_err() => bad("it is not UTF-8 text".into()),
        Err(e) => bad(sentence(&e)),
    }
}

/// serde_json's words without the place inside the row's own text, but for the column.
fn sentence(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    match error.column() {
        0 => what.to_owned(),
        column => format!("{what} (column {column})"),
    }
}

/// `[` begins a list. `{` begins a row a line where the first line is a whole one.
fn form(start: &[u8]) -> Form {
    let start = start.trim_ascii_start();
    match start.first() {
        Some(b'{') => match start.iter().position(|byte| *byte == b'\n') {
            Some(end) if serde_json::from_slice::<serde::de::IgnoredAny>(&start[..end]).is_ok() => Form::Lines,
            _ => Form::Values,
        },
        _ => Form::Values,
    }
}

/// The rows of a list, or of values one after another. What cannot be read ends the file: nothing says where the next
/// row begins.
fn values(text: &[u8], rows: &mut Vec<Row>) {
    let line_at = |at: usize| text[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
    let mut at = 0;
    let skip = |at: &mut usize, also: Option<u8>| {
        while text.get(*at).is_some_and(|byte| byte.is_ascii_whitespace() || Some(*byte) == also) {
            *at += 1;
        }
    };
    skip(&mut at, None);
    let list = text.get(at) == Some(&b'[');
    if list {
        at += 1;
    }
    loop {
        skip(&mut at, list.then_some(b','));
        match text.get(at) {
            None if list => {
                let what = "the list of rows is cut off: its end is missing".into();
                return rows.push(Row::Bad(BadRow { line: line_at(at), what }));
            }
            None => return,
            Some(b']') if list => return,
            Some(_) => {}
        }
        let mut parsed = serde_json::Deserializer::from_slice(&text[at..]).into_iter::<Value>();
        let line = line_at(at);
        match parsed.next() {
            None => return,
            Some(Ok(value)) => {
                at += parsed.byte_offset();
                rows.push(match value {
                    Value::Object(_) => Row::Good(value),
                    _ => Row::Bad(BadRow { line, what: "it is no JSON object".into() }),
                });
            }
            Some(Err(e)) => {
                let line = line + e.line().saturating_sub(1) as u64;
                let what = format!("{}; the rest of the file is not read", sentence(&e));
                return rows.push(Row::Bad(BadRow { line, what }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The rows of a text that comes in pieces of `size` bytes.
    fn split(text: &[u8], any_form: bool, size: usize) -> Result<Vec<String>, String> {
        let mut splitter = RowSplitter::new(any_form);
        let mut rows = Vec::new();
        for piece in text.chunks(size) {
            splitter.push(piece, &mut rows)?;
        }
        splitter.finish(&mut rows)?;
        let show = |row| match row {
            Row::Good(value) => format!("{value}"),
            Row::Bad(BadRow { line, what }) => format!("line {line}: {what}"),
        };
        Ok(rows.into_iter().map(show).collect())
    }

    #[test]
    fn a_broken_line_is_counted_with_its_place_and_the_others_are_read() {
        let text = b"\xef\xbb\xbf{\"a\": 1}\n\n{\"a\": \n[1]\n{\"a\": \"caf\xe9\"}\r\n{\"a\": 2}";
        for size in [1, 3, 1000] {
            assert_eq!(
                split(text, false, size).unwrap(),
                [
                    "{\"a\":1}",
                    "line 3: EOF while parsing a value (column 5)",
                    "line 4: it is no JSON object",
                    "line 5: it is not UTF-8 text",
                    "{\"a\":2}"
                ]
            );
        }
    }

    #[test]
    fn a_json_file_may_be_a_list_or_rows_over_lines_or_rows_of_lines() {
        let split = |text: &str| split(text.as_bytes(), true, 7).unwrap();
        assert_eq!(split(" [{\"a\": 1},\n {\"a\": 2}]\n"), ["{\"a\":1}", "{\"a\":2}"]);
        assert_eq!(split("{\"a\": 1}\n{\"a\": 2}\n"), ["{\"a\":1}", "{\"a\":2}"]);
        assert_eq!(split("{\n \"a\": 1\n}\n{\"a\": 2}"), ["{\"a\":1}", "{\"a\":2}"]);
        assert_eq!(split("[]"), Vec::<String>::new());
        assert_eq!(split(""), Vec::<String>::new());
        let cut = split("[{\"a\": 1},\n {\"a\": 2},\n {\"a\"");
        assert_eq!(cut[..2], ["{\"a\":1}", "{\"a\":2}"]);
        assert!(cut[2].starts_with("line 3: EOF while parsing an object"), "{}", cut[2]);
        assert_eq!(split("[{\"a\": 1}")[1], "line 1: the list of rows is cut off: its end is missing");
    }

    #[test]
    fn utf_16_is_a_sentence_and_a_line_without_end_is_one_bad_row() {
        assert!(split(b"\xff\xfe{\0}\0", false, 1).unwrap_err().contains("convert it to UTF-8"));
        let long = vec![b'x'; LONGEST_LINE / 4 * 5];
        let mut text = b"{\"a\": 1}\n".to_vec();
        text.extend(&long);
        text.extend(b"\n{\"a\": 2}\n");
        let mut splitter = RowSplitter::new(false);
        let mut rows = Vec::new();
        for piece in text.chunks(1 << 20) {
            splitter.push(piece, &mut rows).unwrap();
            assert!(splitter.rest.capacity() <= 2 * LONGEST_LINE);
        }
        splitter.finish(&mut rows).unwrap();
        assert!(matches!(&rows[1], Row::Bad(bad) if bad.line == 2 && bad.what.contains("the line has 83886080 bytes")));
        assert_eq!(rows.len(), 3);
    }

    proptest! {
        #[test]
        fn rows_do_not_depend_on_the_pieces_and_good_ones_are_never_lost(
            lines in proptest::collection::vec((any::<bool>(), "[ -~\\u{e9}]{0,12}"), 0..20),
            size in 1usize..40,
        ) {
            let good = lines.iter().filter(|(good, _)| *good).count();
            let text: String = lines
                .iter()
                .map(|(good, word)| match good {
                    true => format!("{}\n", serde_json::json!({ "a": word })),
                    false => format!("{{{word}\n"),
                })
                .collect();
            let whole = split(text.as_bytes(), false, usize::MAX).unwrap();
            prop_assert_eq!(&split(text.as_bytes(), false, size).unwrap(), &whole);
            let read = whole.iter().filter(|row| row.starts_with("{\"a\"")).count();
            prop_assert!(read >= good);
        }

        #[test]
        fn no_bytes_make_the_splitter_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), size in 1usize..50) {
            let _ = split(&bytes, true, size);
            let _ = split(&bytes, false, size);
        }

        #[test]
        fn a_list_cut_anywhere_keeps_its_whole_rows(count in 1usize..8, cut in 0usize..200) {
            let rows: Vec<Value> = (0..count).map(|n| serde_json::json!({"n": n, "text": "a, [b] {c}"})).collect();
            let text = serde_json::to_string(&rows).unwrap();
            let cut = cut.min(text.len());
            let found = split(&text.as_bytes()[..cut], true, 11).unwrap();
            let whole = text[..cut].matches('}').count() - text[..cut].matches("{c}").count();
            prop_assert_eq!(found.iter().filter(|row| row.starts_with("{\"n\"")).count(), whole);
        }
    }
}
