//! `rouge_l(a TEXT, b TEXT) → DOUBLE`: how much of two texts is the same words in the same order, from 0 to 1. NULL for
//! NULL.
//!
//! ```sql
//! SELECT rouge_l('the cat sat on the mat', 'The cat lay on the mat.');   -- 0.83 (5 of 6 words)
//! ```
//!
//! ROUGE-L F1 (Lin 2004): with the longest common subsequence of the words, the harmonic mean of its share in a and its
//! share in b, that is 2 · LCS / (words of a + words of b). Words are lower-case runs of letters and digits, and single
//! Chinese or Japanese characters; there is no stemming. 0 where a text has no words. Self-Instruct (Wang et al. 2022)
//! keeps a new question when its ROUGE-L with all earlier ones is below 0.7.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::Float64Array;
use arrow::datatypes::DataType;

use crate::function::{Definition, Kind};
use crate::words::words;

pub(crate) const ROUGE_L: Definition = Definition {
    name: "rouge_l",
    parameters: &[("a", Kind::Text), ("b", Kind::Text)],
    returns: || DataType::Float64,
    invoke: |arguments| {
        let (a, b) = (arguments.text(0)?, arguments.text(1)?);
        let scores = (0..arguments.rows).map(|row| Some(rouge_l(a.get(row)?, b.get(row)?)));
        Ok(Arc::new(scores.collect::<Float64Array>()))
    },
    description: "ROUGE-L F1 of two texts over their lower-case words: 1 for the same words in the same order.",
    example: "SELECT rouge_l('the cat sat on the mat', 'The cat lay on the mat.');",
    ..Definition::BLANK
};

fn rouge_l(a: &str, b: &str) -> f64 {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let (a, b): (Vec<&str>, Vec<&str>) = (words(&a).collect(), words(&b).collect());
    if a.is_empty() || b.is_empty() {
        return 0.0;
    }
    2.0 * longest_common_subsequence(&a, &b) as f64 / (a.len() + b.len()) as f64
}

/// The length of the longest common subsequence of two lists, which are not empty, by bits: one of the shorter text's words each, 64 of them in one step (Hyyrö 2004, "Bit-parallel LCS-length
/// computation revisited").
pub fn longest_common_subsequence<T: Eq + Hash>(a: &[T], b: &[T]) -> usize {
    let (long, short) = if a.len() < b.len() { (b, a) } else { (a, b) };
    let blocks = short.len().div_ceil(64);
    // Where each word stands in the short text: its first place in `places`, a row of bits.
    let mut rows: HashMap<&T, usize> = HashMap::with_capacity(short.len());
    let mut places: Vec<u64> = Vec::with_capacity(short.len() * blocks);
    for (at, word) in short.iter().enumerate() {
        let row = *rows.entry(word).or_insert_with(|| {
            places.resize(places.len() + blocks, 0);
            places.len() - blocks
        });
        places[row + at / 64] |= 1 << (at % 64);
    }
    // A zero is a step of the length.
    let mut open = vec![u64::MAX; blocks];
    for word in long {
        let Some(row) = rows.get(word) else { continue };
        let mut carry = false;
        for (block, places) in open.iter_mut().zip(&places[*row..row + blocks]) {
            let matched = *block & places;
            let (sum, over) = block.overflowing_add(matched);
            let (sum, over_carry) = sum.overflowing_add(u64::from(carry));
            carry = over || over_carry;
            *block = sum | (*block - matched);
        }
    }
    let last = short.len() - 64 * (blocks - 1);
    let counted = open.iter().enumerate().map(|(at, block)| {
        let used = if at + 1 == blocks && last < 64 { (1 << last) - 1 } else { u64::MAX };
        (!block & used).count_ones() as usize
    });
    counted.sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_is_the_share_of_words_in_common_order() {
        assert_eq!(rouge_l("the cat sat on the mat", "The cat lay on the mat."), 10.0 / 12.0);
        assert_eq!(rouge_l("police killed the gunman", "the gunman police killed"), 0.5);
        assert_eq!(rouge_l("東京タワー", "東京タワー"), 1.0);
        assert_eq!(rouge_l("", "a"), 0.0);
    }

    /// In time |a| · |b|, by definition.
    fn by_table(a: &[&str], b: &[&str]) -> usize {
        let mut lengths = vec![0usize; b.len() + 1];
        for word in a {
            let mut diagonal = 0;
            for (at, other) in b.iter().enumerate() {
                let above = lengths[at + 1];
                lengths[at + 1] = if word == other { diagonal + 1 } else { above.max(lengths[at]) };
                diagonal = above;
            }
        }
        lengths[b.len()]
    }

    proptest! {
        #[test]
        fn bits_count_what_the_table_counts(
            a in prop::collection::vec("[a-f]", 1..200),
            b in prop::collection::vec("[a-f]", 1..200),
        ) {
            let (a, b): (Vec<&str>, Vec<&str>) = (a.iter().map(|s| &**s).collect(), b.iter().map(|s| &**s).collect());
            prop_assert_eq!(longest_common_subsequence(&a, &b), by_table(&a, &b));
        }

        #[test]
        fn it_is_symmetric_and_lies_between_0_and_1(a in "[a-d é]{0,30}", b in "[a-d é]{0,30}") {
            let score = rouge_l(&a, &b);
            prop_assert_eq!(score, rouge_l(&b, &a));
            prop_assert!((0.0..=1.0).contains(&score));
            prop_assert_eq!(rouge_l(&a, &a), if words(&a).next().is_some() { 1.0 } else { 0.0 });
        }
    }
}
