//! Splits the bytes of a CSV file into rows, in bounded memory. A row that cannot be read (another number of fields than the
//! header, no UTF-8, too long) is an item with its line and what is wrong with it; the rows after it are not lost, nor those
//! that an opened quote would swallow. Quotes are as in RFC 4180, and as lenient as in the `csv` crate: one inside a field
//! that does not begin with it is a sign like others.

use super::json_rows::BadRow;

/// A row longer than this is none.
const LONGEST_ROW: usize = 64 << 20;

/// So many lines of a row that has swallowed others are tried as the place where rows begin again.
const TRIED: usize = 32;

/// Quotes that are never closed, after which the rest of a file is not looked through again.
const UNCLOSED: usize = 1000;

/// The rows in some pieces of a file.
#[derive(Debug, Default)]
pub(crate) struct CsvRows {
    /// The good ones, each with a line feed behind it.
    pub text: Vec<u8>,
    /// Of each good one its ordinal in the file, from 0; bad ones have theirs too.
    pub places: Vec<u64>,
    pub bad: Vec<BadRow>,
    /// The columns' names, and how many rows there are until here.
    pub header: Vec<String>,
    pub next: u64,
}

/// Takes a file's bytes in pieces and gives its rows.
#[derive(Debug)]
pub(crate) struct CsvSplitter {
    delimiter: u8,
    /// The columns' names, known after the first row.
    header: Option<Vec<String>>,
    begun: bool,
    /// The bytes from the beginning of the row that is read.
    rest: Vec<u8>,
    /// Where that row begins in them, and where reading is.
    start: usize,
    at: usize,
    scan: Scan,
    /// Where the first line of the row ends, if it has several.
    first_end: Option<usize>,
    line: u64,
    /// The line of the row's beginning.
    row_line: u64,
    after_cr: bool,
    /// The bytes of a line that is too long, which are passed over.
    too_long: usize,
    next: u64,
    unclosed: usize,
}

/// Where reading is in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a row, where ends of lines mean nothing.
    Between,
    FieldStart,
    Unquoted,
    Quoted,
    /// After a quote in a quoted field: its end, or half of a doubled one.
    AfterQuote,
}

#[derive(Debug, Clone, Copy)]
struct Scan {
    state: State,
    fields: usize,
    /// Whether something stands between a quoted field's end and the next delimiter.
    odd: bool,
}

impl Scan {
    const BETWEEN: Scan = Scan { state: State::Between, fields: 0, odd: false };

    /// Whether the byte ends the row.
    fn step(&mut self, byte: u8, delimiter: u8) -> bool {
        use State::{AfterQuote, Between, FieldStart, Quoted, Unquoted};
        let ends = matches!(byte, b'\n' | b'\r');
        if self.state == Between {
            if ends {
                return false;
            }
            *self = Scan { state: FieldStart, fields: 1, odd: false };
        }
        match (self.state, byte) {
            (Quoted, b'"') => self.state = AfterQuote,
            (Quoted, _) => {}
            (AfterQuote, b'"') => self.state = Quoted,
            (FieldStart, b'"') => self.state = Quoted,
            (_, byte) if byte == delimiter => {
                self.fields += 1;
                self.state = FieldStart;
            }
            _ if ends => return true,
            (AfterQuote, _) => {
                self.odd = true;
                self.state = Unquoted;
            }
            _ => self.state = Unquoted,
        }
        false
    }
}

impl CsvSplitter {
    pub(crate) fn new(delimiter: u8) -> CsvSplitter {
        CsvSplitter {
            delimiter,
            header: None,
            begun: false,
            rest: Vec::new(),
            start: 0,
            at: 0,
            scan: Scan::BETWEEN,
            first_end: None,
            line: 1,
            row_line: 1,
            after_cr: false,
            too_long: 0,
            next: 0,
            unclosed: 0,
        }
    }

    pub(crate) fn header(&self) -> Option<&[String]> {
        self.header.as_deref()
    }

    /// The ordinal of the row that follows.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The line that is read.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// # Errors
    /// A sentence where the file has no header that can be read.
    pub(crate) fn push(&mut self, piece: &[u8], rows: &mut CsvRows) -> Result<(), String> {
        self.rest.extend_from_slice(piece);
        if !self.begun {
            // The first bytes may come one at a time.
            if self.rest.len() < 4 {
                return Ok(());
            }
            self.begin()?;
        }
        self.read(rows)
    }

    /// The rows that are left when the file ends.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub(crate) fn finish(&mut self, rows: &mut CsvRows) -> Result<(), String> {
        if !self.begun {
            self.begin()?;
            self.read(rows)?;
        }
        if self.too_long > 0 {
            self.end_long_line(rows);
        }
        while self.scan.state != State::Between {
            let end = self.rest.len();
            match self.scan.state {
                State::Quoted if self.unclosed < UNCLOSED => self.close(end, rows)?,
                State::Quoted => {
                    self.bad("a quote that is opened in it is not closed; the rest of the file is not read", rows);
                    self.begin_row_at(end);
                }
                _ => self.end_row(end, rows)?,
            }
            self.read(rows)?;
        }
        match self.header {
            Some(_) => Ok(()),
            None => Err("it is empty".into()),
        }
    }

    fn begin(&mut self) -> Result<(), String> {
        self.begun = true;
        let start = &self.rest;
        if start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]) || start.iter().take(4).any(|b| *b == 0)
        {
            return Err("it is UTF-16 text or no text at all; convert it to UTF-8".into());
        }
        if start.starts_with(b"\xef\xbb\xbf") {
            self.rest.drain(..3);
        }
        Ok(())
    }

    fn read(&mut self, rows: &mut CsvRows) -> Result<(), String> {
        while let Some(&byte) = self.rest.get(self.at) {
            if self.too_long > 0 {
                let ends = self.rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                self.too_long += ends.unwrap_or(self.rest.len());
                self.rest.drain(..ends.unwrap_or(self.rest.len()));
                if ends.is_some() {
                    self.end_long_line(rows);
                }
                continue;
            }
            if self.scan.state == State::Between {
                (self.start, self.row_line, self.first_end) = (self.at, self.line, None);
            }
            let ends_row = self.scan.step(byte, self.delimiter);
            let ends_line = matches!(byte, b'\n' | b'\r');
            if ends_line && self.scan.state == State::Quoted && self.first_end.is_none() {
                self.first_end = Some(self.at);
            }
            if ends_line && !(byte == b'\n' && self.after_cr) {
                self.line += 1;
            }
            self.after_cr = byte == b'\r';
            self.at += 1;
            if ends_row {
                self.end_row(self.at - 1, rows)?;
            } else if self.at - self.start > LONGEST_ROW && self.scan.state != State::Between {
                match self.first_end {
                    Some(_) if self.unclosed < UNCLOSED => self.close(self.at, rows)?,
                    _ => {
                        self.too_long = self.at - self.start;
                        self.rest.drain(..self.at);
                        (self.start, self.at) = (0, 0);
                    }
                }
            }
        }
        let done = if self.scan.state == State::Between { self.at } else { self.start };
        self.rest.drain(..done);
        self.at -= done;
        self.start = 0;
        self.first_end = self.first_end.map(|end| end.saturating_sub(done));
        Ok(())
    }

    fn end_long_line(&mut self, rows: &mut CsvRows) {
        let what = format!("the line has {} bytes, more than {LONGEST_ROW}", self.too_long);
        self.too_long = 0;
        self.bad(&what, rows);
        self.begin_row_at(0);
    }

    /// The next row begins at a place, the end of what is known or of a line.
    fn begin_row_at(&mut self, at: usize) {
        (self.start, self.at, self.scan, self.first_end) = (at, at, Scan::BETWEEN, None);
    }

    fn bad(&mut self, what: &str, rows: &mut CsvRows) {
        rows.bad.push(BadRow { line: self.row_line, what: what.to_owned() });
        self.next += 1;
    }

    /// A row that a quote keeps open: only its first line is lost.
    fn close(&mut self, end: usize, rows: &mut CsvRows) -> Result<(), String> {
        if self.header.is_none() {
            return Err("a quote that is opened in its header is not closed".into());
        }
        self.unclosed += 1;
        self.bad("a quote that is opened in it is not closed", rows);
        self.again_from(self.first_end.unwrap_or(end));
        Ok(())
    }

    /// Goes back to the end of a line of the row.
    fn again_from(&mut self, at: usize) {
        let lines = self.rest[self.start..at].iter().zip(self.rest[self.start..at].iter().skip(1).chain([&b' ']));
        let ends = lines.filter(|(byte, next)| **byte == b'\n' || **byte == b'\r' && **next != b'\n').count();
        self.line = self.row_line + ends as u64;
        self.after_cr = at > self.start && self.rest[at - 1] == b'\r';
        self.begin_row_at(at);
    }

    fn end_row(&mut self, end: usize, rows: &mut CsvRows) -> Result<(), String> {
        let row = &self.rest[self.start..end];
        let Some(header) = &self.header else {
            let Ok(text) = std::str::from_utf8(row) else { return Err("its header is not UTF-8 text".into()) };
            self.header = Some(names(text, self.delimiter));
            self.scan = Scan::BETWEEN;
            return Ok(());
        };
        let wanted = header.len();
        let (fields, text) = (self.scan.fields, std::str::from_utf8(row).is_ok());
        let fits = fields == wanted && text;
        if self.first_end.is_some()
            && (!fits || self.scan.odd)
            && let Some(at) = self.begins_again(end, wanted)
        {
            self.bad("a quote that is opened in it is not closed", rows);
            self.again_from(at);
            return Ok(());
        }
        if fits {
            rows.text.extend_from_slice(row);
            rows.text.push(b'\n');
            rows.places.push(self.next);
            self.next += 1;
        } else if text {
            self.bad(&format!("it has {fields} fields where the header has {wanted}"), rows);
        } else {
            self.bad("it is not UTF-8 text", rows);
        }
        self.scan = Scan::BETWEEN;
        Ok(())
    }

    /// The end of the first line of the row after which there is nothing but good rows, the last of which may go on behind
    /// it. Where a row has one field any line would be one.
    fn begins_again(&self, end: usize, wanted: usize) -> Option<usize> {
        let row = &self.rest[self.start..end];
        let ends = row.iter().enumerate().filter(|(_, byte)| matches!(byte, b'\n' | b'\r')).map(|(at, _)| at);
        let found = ends.take(TRIED).find(|at| wanted > 1 && self.all_good(&row[*at..], wanted));
        found.map(|at| self.start + at)
    }

    fn all_good(&self, text: &[u8], wanted: usize) -> bool {
        let mut scan = Scan::BETWEEN;
        let (mut start, mut rows) = (0, 0);
        for (at, byte) in text.iter().copied().chain([b'\n']).enumerate() {
            if scan.state == State::Between {
                start = at;
            }
            if scan.step(byte, self.delimiter) {
                let good = scan.fields == wanted && !scan.odd && std::str::from_utf8(&text[start..at]).is_ok();
                if !good {
                    return false;
                }
                rows += 1;
                scan = Scan::BETWEEN;
            }
        }
        match scan.state {
            State::Between => rows > 0,
            _ => scan.state == State::Quoted && scan.fields <= wanted && !scan.odd,
        }
    }
}

/// The fields of a header; a name that stands there twice gets a number, as pandas gives it.
fn names(row: &str, delimiter: u8) -> Vec<String> {
    let mut scan = Scan::BETWEEN;
    let mut fields: Vec<Vec<u8>> = vec![Vec::new()];
    for byte in row.bytes() {
        let before = scan.state;
        scan.step(byte, delimiter);
        if scan.fields > fields.len() {
            fields.push(Vec::new());
            continue;
        }
        let opens = byte == b'"' && matches!(before, State::Between | State::FieldStart);
        let closes = before == State::Quoted && scan.state == State::AfterQuote;
        if !opens && !closes {
            fields[scan.fields - 1].push(byte);
        }
    }
    let mut names: Vec<String> = Vec::new();
    for field in fields {
        let name = String::from_utf8_lossy(&field).into_owned();
        let numbered = (1..).map(|n| format!("{name}.{n}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|name| !names.contains(name));
        names.push(free.unwrap_or(name));
    }
    names
}

#[cfg(test)]
#[path = "csv_rows_tests.rs"]
mod tests;
