use proptest::prelude::*;

use super::*;

/// The rows of a text that comes in pieces of `size` bytes: good ones as they are, bad ones with their line.
fn split(text: &[u8], size: usize) -> Result<(Vec<String>, Vec<String>), String> {
    let mut splitter = CsvSplitter::new(b',');
    let mut rows = CsvRows::default();
    for piece in text.chunks(size) {
        splitter.push(piece, &mut rows)?;
    }
    splitter.finish(&mut rows)?;
    let mut good = Vec::new();
    let mut scan = Scan::BETWEEN;
    let mut start = 0;
    for (at, byte) in rows.text.iter().enumerate() {
        if scan.step(*byte, b',') {
            good.push(String::from_utf8(rows.text[start..at].to_vec()).unwrap());
            (start, scan) = (at + 1, Scan::BETWEEN);
        }
    }
    assert_eq!(good.len(), rows.places.len());
    assert!(rows.places.is_sorted());
    Ok((good, rows.bad.into_iter().map(|bad| format!("line {}: {}", bad.line, bad.what)).collect()))
}

#[test]
fn rows_with_other_numbers_of_fields_or_no_text_are_counted_with_their_lines_and_the_others_stay() {
    let text = b"\xef\xbb\xbfa,b\r\n1,2\r\n\r\n3\r\n4,5,6\r\n\"x, y\",\"two\r\nlines\"\r\ncaf\xe9,7\r\n8,\"9\"\"\"";
    for size in [1, 3, 1000] {
        let (good, bad) = split(text, size).unwrap();
        assert_eq!(good, ["1,2", "\"x, y\",\"two\r\nlines\"", "8,\"9\"\"\""]);
        assert_eq!(
            bad,
            [
                "line 4: it has 1 fields where the header has 2",
                "line 5: it has 3 fields where the header has 2",
                "line 8: it is not UTF-8 text",
            ]
        );
    }
}

#[test]
fn a_quote_that_is_opened_by_mistake_costs_its_own_line() {
    let lines = |stray: &str| format!("q,a\none,1\n{stray}\ntwo,2\n\"three, 3\",3\nfour,4\n");
    for (stray, what) in [("\"bad,0", "not closed"), ("bad,\"0", "not closed"), ("bad,0\"", "")] {
        let (good, bad) = split(lines(stray).as_bytes(), 7).unwrap();
        let kept: Vec<&str> = good.iter().map(String::as_str).filter(|row| !row.starts_with("bad")).collect();
        assert_eq!(kept, ["one,1", "two,2", "\"three, 3\",3", "four,4"], "{stray}");
        assert_eq!(bad.len(), usize::from(!what.is_empty()), "{bad:?}");
        assert!(bad.iter().all(|bad| bad.starts_with("line 3: ") && bad.contains(what)), "{bad:?}");
    }
    // Without any other quote it is open until the file ends.
    let (good, bad) = split(b"q,a\none,1\ntwo,\"2\nthree,3\nfour,4", 5).unwrap();
    assert_eq!(good, ["one,1", "three,3", "four,4"]);
    assert_eq!(bad, ["line 3: a quote that is opened in it is not closed"]);
}

#[test]
fn utf_16_no_header_and_lines_without_end_are_sentences() {
    assert!(split(b"\xff\xfea\0,\0", 1).unwrap_err().contains("convert it to UTF-8"));
    assert_eq!(split(b"", 1).unwrap_err(), "it is empty");
    assert_eq!(split(b"a\xe9,b\n1,2\n", 1).unwrap_err(), "its header is not UTF-8 text");
    let mut text = b"a,b\n1,2\n".to_vec();
    text.resize(text.len() + LONGEST_ROW / 4 * 5, b'x');
    text.extend(b"\n3,4\n\"");
    text.resize(text.len() + LONGEST_ROW / 4 * 5, b'y');
    text.extend(b"\n5,6\n");
    let mut splitter = CsvSplitter::new(b',');
    let mut rows = CsvRows::default();
    for piece in text.chunks(1 << 20) {
        splitter.push(piece, &mut rows).unwrap();
        assert!(splitter.rest.capacity() <= 3 * LONGEST_ROW);
    }
    splitter.finish(&mut rows).unwrap();
    assert_eq!(String::from_utf8_lossy(&rows.text), "1,2\n3,4\n5,6\n");
    assert_eq!(rows.places, [0, 2, 4]);
    let lines: Vec<(u64, bool)> = rows.bad.iter().map(|bad| (bad.line, bad.what.contains("bytes, more"))).collect();
    assert_eq!(lines, [(3, true), (5, true)]);
}

#[test]
fn names_of_columns_are_unquoted_and_no_two_are_the_same() {
    assert_eq!(names("\"a \"\"b\"\"\",b,,b,\"c,d\"", b','), ["a \"b\"", "b", "", "b.1", "c,d"]);
}

proptest! {
    #[test]
    fn a_changed_byte_costs_no_other_line(
        words in proptest::collection::vec(("[a-z ]{1,6}", "[a-z,\"]{0,6}"), 1..20),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
        size in 1usize..40,
    ) {
        let quoted = |word: &str| match word.contains([',', '"']) {
            true => format!("\"{}\"", word.replace('"', "\"\"")),
            false => word.to_owned(),
        };
        let lines: Vec<String> = words.iter().map(|(a, b)| format!("{a},{}", quoted(b))).collect();
        let text = format!("q,a\n{}\n", lines.join("\n"));
        let (good, bad) = split(text.as_bytes(), size).unwrap();
        prop_assert_eq!(&good, &lines);
        prop_assert_eq!(bad.len(), 0);
        let mut changed = text.clone().into_bytes();
        let place = 4 + at.index(changed.len() - 4);
        changed[place] = byte;
        let (good, _) = split(&changed, size).unwrap();
        let touched = text[..place].matches('\n').count() - 1;
        // A quote that it opens, or no longer closes, is closed by the next one: the lines until there are its.
        let until = lines.iter().skip(touched + 1).position(|line| line.contains('"')).map_or(0, |n| n + 1);
        let opens = byte == b'"' || text.as_bytes()[place] == b'"' || lines[touched.min(lines.len() - 1)].contains('"');
        let lost = if opens { touched + 1 + until } else { touched + 1 };
        // What joins two lines touches both.
        let lost = if text.as_bytes()[place] == b'\n' { lost.max(touched + 2) } else { lost };
        for (n, line) in lines.iter().enumerate().filter(|(n, _)| *n < touched || *n >= lost) {
            prop_assert!(good.contains(line), "line {n} {line:?} of {:?} is lost", String::from_utf8_lossy(&changed));
        }
    }

    #[test]
    fn no_bytes_make_the_splitter_panic(bytes in proptest::collection::vec(prop_oneof![Just(b'"'), Just(b','), Just(b'\n'), Just(b'\r'), any::<u8>()], 0..300), size in 1usize..50) {
        let mut text = b"a,b\n".to_vec();
        text.extend(&bytes);
        let whole = split(&text, usize::MAX).unwrap();
        prop_assert_eq!(split(&text, size).unwrap(), whole);
        let _ = split(&bytes, size);
    }
}
