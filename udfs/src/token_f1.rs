//! `token_f1(a TEXT, b TEXT) → DOUBLE`: how many words two answers share, from 0 to 1. NULL for NULL.
//!
//! ```sql
//! SELECT token_f1('the Eiffel Tower in Paris', 'Eiffel Tower');   -- 0.67
//! ```
//!
//! The F1 of SQuAD's evaluation (Rajpurkar et al. 2016): the words of both after `normalize_text`, as bags, and the
//! harmonic mean of the shares that are in both. Single Chinese and Japanese characters are words. Two texts without words
//! score 1 where they are the same after trimming, else 0.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::Float64Array;
use arrow::datatypes::DataType;

use crate::function::{Definition, Kind};
use crate::normalize_text::normalize_text;
use crate::words::is_word_alone;

pub(crate) const TOKEN_F1: Definition = Definition {
    name: "token_f1",
    parameters: &[("a", Kind::Text), ("b", Kind::Text)],
    returns: || DataType::Float64,
    invoke: |arguments| {
        let (a, b) = (arguments.text(0)?, arguments.text(1)?);
        let scores = (0..arguments.rows).map(|row| Some(token_f1(a.get(row)?, b.get(row)?)));
        Ok(Arc::new(scores.collect::<Float64Array>()))
    },
    description: "F1 of the words of two answers as SQuAD's evaluation counts it: 1 for the same words in any order.",
    example: "SELECT token_f1('the Eiffel Tower in Paris', 'Eiffel Tower');",
    ..Definition::BLANK
};

fn token_f1(a: &str, b: &str) -> f64 {
    let (a_text, b_text) = (normalize_text(a), normalize_text(b));
    let (a_words, b_words): (Vec<&str>, Vec<&str>) = (answer_words(&a_text), answer_words(&b_text));
    if a_words.is_empty() || b_words.is_empty() {
        return if a.trim() == b.trim() { 1.0 } else { 0.0 };
    }
    let mut left: HashMap<&str, usize> = HashMap::new();
    for word in &a_words {
        *left.entry(word).or_default() += 1;
    }
    let shared = b_words.iter().filter(|word| match left.get_mut(**word) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    });
    2.0 * shared.count() as f64 / (a_words.len() + b_words.len()) as f64
}

/// What white space separates, and single characters of scripts that have none.
fn answer_words(normalized: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for word in normalized.split(' ').filter(|word| !word.is_empty()) {
        let mut start = 0;
        for (at, char) in word.char_indices() {
            if is_word_alone(char) {
                if start < at {
                    words.push(&word[start..at]);
                }
                words.push(&word[at..at + char.len_utf8()]);
                start = at + char.len_utf8();
            }
        }
        if start < word.len() {
            words.push(&word[start..]);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_is_the_harmonic_mean_of_the_shared_words() {
        assert_eq!(token_f1("the Eiffel Tower in Paris", "Eiffel Tower"), 4.0 / 6.0);
        assert_eq!(token_f1("a cat", "The cat."), 1.0);
        assert_eq!(token_f1("cat cat", "cat"), 2.0 / 3.0);
        assert_eq!(token_f1("dog", "cat"), 0.0);
        assert_eq!(token_f1("東京都", "東京"), 0.8);
        assert_eq!((token_f1("?", " ?"), token_f1("?", "!"), token_f1("", "a")), (1.0, 0.0, 0.0));
    }

    proptest! {
        #[test]
        fn it_is_symmetric_and_lies_between_0_and_1(a in "[a-d é東]{0,30}", b in "[a-d é東]{0,30}") {
            let score = token_f1(&a, &b);
            prop_assert_eq!(score, token_f1(&b, &a));
            prop_assert!((0.0..=1.0).contains(&score));
        }
    }
}
