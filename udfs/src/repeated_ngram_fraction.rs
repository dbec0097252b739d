//! `repeated_ngram_fraction(text TEXT, n BIGINT) → DOUBLE`: how much of a text repeats what it has said before, from 0
//! to 1. NULL for NULL; an error for n < 1.
//!
//! ```sql
//! SELECT repeated_ngram_fraction('so it goes and so it goes', 3);   -- 0.43 (3 of 7 words)
//! ```
//!
//! Definition: the words are what white space separates, in lower case. An n-gram (n words in a row) is repeated if the
//! same n-gram began earlier in the text. The fraction is the number of words that lie in a repeated n-gram, each counted
//! once, over all words; 0 for a text of fewer than n + 1 words. Source: the duplicate n-gram fractions of Gopher (Rae et
//! al. 2021, table A1), which count characters instead of words and use n from 5 to 10.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};
use arrow::datatypes::DataType;
use datafusion_common::Result;

use crate::arguments::Arguments;
use crate::function::{Definition, Kind};

pub(crate) const REPEATED_NGRAM_FRACTION: Definition = Definition {
    name: "repeated_ngram_fraction",
    parameters: &[("text", Kind::Text), ("n", Kind::Integer)],
    returns: || DataType::Float64,
    invoke,
    description: "The fraction of a text's words that lie in an n-gram which occurred earlier in the text (Gopher).",
    example: "SELECT repeated_ngram_fraction('so it goes and so it goes', 3);",
    ..Definition::BLANK
};

fn invoke(arguments: &Arguments) -> Result<ArrayRef> {
    let (texts, sizes) = (arguments.text(0)?, arguments.integer(1)?);
    let mut fractions = Float64Array::builder(arguments.rows);
    for row in 0..arguments.rows {
        let fraction = match (texts.get(row), sizes.get(row)) {
            (Some(text), Some(n)) => Some(repeated_ngram_fraction(text, arguments.positive(n, "n")?)),
            _ => None,
        };
        fractions.append_option(fraction);
    }
    Ok(Arc::new(fractions.finish()))
}

fn repeated_ngram_fraction(text: &str, n: usize) -> f64 {
    let text = text.to_lowercase();
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() || n == 0 {
        return 0.0;
    }
    let mut seen = HashSet::new();
    let (mut repeated, mut counted_to) = (0, 0);
    for (start, ngram) in words.windows(n).enumerate() {
        if !seen.insert(ngram) {
            repeated += start + n - counted_to.max(start);
            counted_to = start + n;
        }
    }
    repeated as f64 / words.len() as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_in_repeated_ngrams_count_once() {
        assert_eq!(repeated_ngram_fraction("So it goes and so it goes", 3), 3.0 / 7.0);
        assert_eq!(repeated_ngram_fraction("a a a a", 2), 0.75);
        assert_eq!(repeated_ngram_fraction("a b c d", 1), 0.0);
        assert_eq!(repeated_ngram_fraction("", 3), 0.0);
    }

    proptest! {
        #[test]
        fn it_lies_between_0_and_1(text in "[ab ]{0,30}", n in 1usize..6) {
            let fraction = repeated_ngram_fraction(&text, n);
            prop_assert!((0.0..1.0).contains(&fraction));
        }
    }
}
