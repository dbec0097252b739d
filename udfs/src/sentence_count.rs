//! `sentence_count(text TEXT) → BIGINT`: about how many sentences a text has. NULL for NULL.
//!
//! ```sql
//! SELECT sentence_count('Dr. Li left at 3.30 p.m. yesterday. Why? Nobody knows');   -- 3
//! ```
//!
//! A sentence ends at a run of `. ! ? …` with closing quotes and brackets that is followed by white space or the end, and
//! at `。！？` and the danda anywhere. A full stop ends none after a single letter (as in 'J. S. Bach' or 'p.m.') or a
//! common English abbreviation, if more text follows. What stands after the last end counts if it has a letter or digit.

use std::sync::Arc;

use arrow::array::Int64Array;
use arrow::datatypes::DataType;

use crate::function::{Definition, Kind};

pub(crate) const SENTENCE_COUNT: Definition = Definition {
    name: "sentence_count",
    parameters: &[("text", Kind::Text)],
    returns: || DataType::Int64,
    invoke: |arguments| {
        let texts = arguments.text(0)?;
        let counts = (0..arguments.rows).map(|row| texts.get(row).map(sentence_count));
        Ok(Arc::new(counts.collect::<Int64Array>()))
    },
    description: "About how many sentences a text has, by their closing punctuation.",
    example: "SELECT sentence_count('Dr. Li left. Why? Nobody knows');",
    ..Definition::BLANK
};

const ABBREVIATIONS: &[&str] =
    &["mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "vs", "etc", "no", "fig", "eq", "approx", "dept", "inc", "co"];

fn sentence_count(text: &str) -> i64 {
    let mut sentences = 0;
    let mut rest = text;
    while let Some((sentence, after)) = split_sentence(rest) {
        sentences += i64::from(sentence.contains(char::is_alphanumeric));
        rest = after;
    }
    sentences
}

/// The first sentence and what follows it; None where nothing is left.
fn split_sentence(text: &str) -> Option<(&str, &str)> {
    if text.is_empty() {
        return None;
    }
    let mut word = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        if matches!(char, '。' | '！' | '？' | '।' | '॥' | '۔' | '؟') {
            return Some(text.split_at(at + char.len_utf8()));
        }
        if matches!(char, '.' | '!' | '?' | '…') {
            let mut end = at + char.len_utf8();
            let closing =
                |char: &char| matches!(char, '.' | '!' | '?' | '…' | '"' | '\'' | '”' | '’' | '»' | ')' | ']');
            while let Some((at, char)) = chars.next_if(|(_, char)| closing(char)) {
                end = at + char.len_utf8();
            }
            let closed = chars.peek().is_none_or(|(_, char)| char.is_whitespace());
            let last = text[end..].trim_start().is_empty();
            if closed && (last || !is_abbreviation(&text[word..end])) {
                return Some(text.split_at(end));
            }
        } else if char.is_whitespace() {
            word = at + char.len_utf8();
        }
    }
    Some((text, ""))
}

/// Whether a word with a full stop at its end is an abbreviation: 'Dr.', 'J.', 'p.m.', '(e.g.'.
fn is_abbreviation(word: &str) -> bool {
    let Some(word) = word.strip_suffix('.') else { return false };
    let word = word.trim_start_matches(|char: char| !char.is_alphanumeric()).to_lowercase();
    let mut parts = word.split('.');
    ABBREVIATIONS.contains(&word.as_str())
        || (word != "i" && parts.all(|part| part.chars().count() == 1 && part.chars().all(char::is_alphabetic)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sentences_end_at_their_closing_punctuation() {
        for (text, count) in [
            ("Dr. Li left at 3.30 p.m. yesterday. Why? Nobody knows", 3),
            ("J. S. Bach wrote it.", 1),
            ("\"Really?!\" he said. (Yes.) No...", 4),
            ("東京は？首都です。", 2),
            ("Pi is 3.14", 1),
            ("It was he and I. They left.", 2),
            (" ... ", 0),
            ("", 0),
        ] {
            assert_eq!(sentence_count(text), count, "{text}");
        }
    }

    proptest! {
        #[test]
        fn there_are_no_more_sentences_than_characters(text in "[a.é。?\" ]{0,30}") {
            prop_assert!(sentence_count(&text) <= text.chars().count() as i64);
        }
    }
}
