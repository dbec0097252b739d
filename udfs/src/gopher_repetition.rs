//! `gopher_repetition(text TEXT) → TEXT`: by which of Gopher's rules a text repeats itself too much; the first of them, or
//! NULL. NULL for NULL.
//!
//! ```sql
//! SELECT gopher_repetition(repeat('so it goes on and on ', 20));   -- top_2_gram
//! ```
//!
//! The rules and limits of MassiveText (Rae et al. 2021, table A1), in its order, of characters but for the first: lines
//! that were there before over 0.30 of the lines and 0.20 of the characters; the most frequent 2-, 3- and 4-gram of words
//! over 0.20, 0.18 and 0.16; words in 5- to 10-grams that were there before over 0.15, 0.14, 0.13, 0.12, 0.11 and 0.10. An
//! n-gram that occurs once is not repeated. The limits are meant for texts of 50 words and more; what is shorter than that
//! gives NULL. The names are duplicate_lines, duplicate_line_characters, top_n_gram and duplicate_n_grams.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::StringViewArray;

use crate::function::{Definition, Kind};

pub(crate) const GOPHER_REPETITION: Definition = Definition {
    name: "gopher_repetition",
    parameters: &[("text", Kind::Text)],
    invoke: |arguments| {
        let texts = arguments.text(0)?;
        let found = (0..arguments.rows).map(|row| gopher_repetition(texts.get(row)?));
        Ok(Arc::new(found.collect::<StringViewArray>()))
    },
    description: "The first of Gopher's rules by which a text of 50 words or more repeats itself too much, or NULL.",
    example: "SELECT gopher_repetition(repeat('so it goes on and on ', 20));",
    ..Definition::BLANK
};

const LEAST_WORDS: usize = 50;

const TOP: [(usize, f64, &str); 3] = [(2, 0.20, "top_2_gram"), (3, 0.18, "top_3_gram"), (4, 0.16, "top_4_gram")];

const DUPLICATE: [(usize, f64, &str); 6] = [
    (5, 0.15, "duplicate_5_grams"),
    (6, 0.14, "duplicate_6_grams"),
    (7, 0.13, "duplicate_7_grams"),
    (8, 0.12, "duplicate_8_grams"),
    (9, 0.11, "duplicate_9_grams"),
    (10, 0.10, "duplicate_10_grams"),
];

fn gopher_repetition(text: &str) -> Option<&'static str> {
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.len() < LEAST_WORDS {
        return None;
    }
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let (mut seen, mut duplicates, mut characters) = (HashSet::new(), 0, 0);
    for line in &lines {
        if !seen.insert(line) {
            duplicates += 1;
            characters += line.len();
        }
    }
    if duplicates as f64 > 0.30 * lines.len() as f64 {
        return Some("duplicate_lines");
    }
    if characters as f64 > 0.20 * text.len() as f64 {
        return Some("duplicate_line_characters");
    }
    let all: usize = words.iter().map(|word| word.len()).sum();
    let length = |ngram: &[&str]| ngram.iter().map(|word| word.len()).sum::<usize>();
    for (n, limit, name) in TOP {
        let mut counts: HashMap<&[&str], usize> = HashMap::new();
        words.windows(n).for_each(|ngram| *counts.entry(ngram).or_default() += 1);
        let repeated = counts.iter().filter(|(_, count)| **count > 1);
        let most = repeated.map(|(ngram, count)| (*count, length(ngram))).max();
        if most.is_some_and(|(count, length)| (count * length) as f64 > limit * all as f64) {
            return Some(name);
        }
    }
    for (n, limit, name) in DUPLICATE {
        let (mut seen, mut characters, mut counted_to) = (HashSet::new(), 0, 0);
        for (start, ngram) in words.windows(n).enumerate() {
            if !seen.insert(ngram) {
                let from = counted_to.max(start);
                characters += length(&words[from..start + n]);
                counted_to = start + n;
            }
        }
        if characters as f64 > limit * all as f64 {
            return Some(name);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbered(count: usize) -> String {
        (0..count).map(|n| format!("w{n} ")).collect()
    }

    #[test]
    fn each_rule_names_itself() {
        assert_eq!(gopher_repetition(&numbered(80)), None);
        assert_eq!(gopher_repetition(&"so it goes on ".repeat(5)), None);
        assert_eq!(gopher_repetition(&"so it goes on and on ".repeat(20)), Some("top_2_gram"));
        assert_eq!(
            gopher_repetition(&format!("{}\n{}\n{}", numbered(30), numbered(30), numbered(30))),
            Some("duplicate_lines")
        );
        let twice =
            format!("{} {} {}", numbered(16), (100..150).map(|n| format!("w{n} ")).collect::<String>(), numbered(16));
        assert_eq!(gopher_repetition(&twice), Some("duplicate_7_grams"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "([a-d] |\n|é ){0,120}") {
            let _ = gopher_repetition(&text);
        }
    }
}
