//! `shuffle_options(options TEXT[], seed, …) → TEXT[]`: the options in an order that depends only on their number and the
//! seeds. NULL for a NULL list; seeds are any values (a NULL seed too), at least one.
//!
//! ```sql
//! SELECT shuffle_options(['Nile', 'Amazon', 'Rhine'], 'question 1', 7);
//! ```
//!
//! Fisher–Yates from the end: for i from the last place down to 1, the item at i changes places with the one at a place
//! drawn uniformly from 0 to i. Draws are 8-byte little-endian integers from BLAKE3's output stream for the seeds (in the
//! canonical form that `stable_hash` uses), taken modulo i + 1 after refusing those above the largest multiple of i + 1,
//! so the order is the same on every machine and in every version.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, StringViewBuilder};
use blake3::OutputReader;
use datafusion_common::Result;

use crate::arguments::Arguments;
use crate::canonical_hash::hash_arguments;
use crate::function::{Definition, Kind, text_item, text_list};

pub(crate) const SHUFFLE_OPTIONS: Definition = Definition {
    name: "shuffle_options",
    parameters: &[("options", Kind::TextList), ("seed", Kind::Any)],
    variadic: true,
    returns: text_list,
    invoke,
    description: "The options in an order that depends only on their number and the seeds.",
    example: "SELECT shuffle_options(['Nile', 'Amazon', 'Rhine'], 'question 1', 7);",
    ..Definition::BLANK
};

fn invoke(arguments: &Arguments) -> Result<ArrayRef> {
    let lists = arguments.text_list(0)?;
    let mut shuffled = ListBuilder::new(StringViewBuilder::new()).with_field(text_item());
    for row in 0..arguments.rows {
        let Some(mut options) = lists.get(row) else {
            shuffled.append_null();
            continue;
        };
        shuffle(&mut options, hash_arguments(arguments, 1, row)?.finalize_xof());
        shuffled.append_value(options);
    }
    Ok(Arc::new(shuffled.finish()))
}

pub(crate) fn shuffle<T>(items: &mut [T], mut stream: OutputReader) {
    for last in (1..items.len()).rev() {
        items.swap(last, draw(&mut stream, last as u64 + 1) as usize);
    }
}

/// A number from 0 to `choices` - 1, each as likely.
fn draw(stream: &mut OutputReader, choices: u64) -> u64 {
    let fair = u64::MAX - u64::MAX % choices;
    loop {
        let mut bytes = [0; 8];
        stream.fill(&mut bytes);
        let number = u64::from_le_bytes(bytes);
        if number < fair {
            return number % choices;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shuffled<T>(mut items: Vec<T>, seed: &[u8]) -> Vec<T> {
        shuffle(&mut items, blake3::Hasher::new().update(seed).finalize_xof());
        items
    }

    #[test]
    fn the_order_does_not_change_between_versions() {
        assert_eq!(shuffled(vec!['a', 'b', 'c', 'd', 'e'], b"seed"), PINNED);
    }

    /// Computed from the definition above outside of this crate, with Python's `blake3`.
    const PINNED: [char; 5] = ['a', 'e', 'd', 'c', 'b'];

    #[test]
    fn every_place_is_as_likely() {
        let mut first = [0; 4];
        for seed in 0..4000u32 {
            first[shuffled(vec![0, 1, 2, 3], &seed.to_le_bytes())[0]] += 1;
        }
        assert!(first.iter().all(|count| (900..1100).contains(count)), "{first:?}");
    }

    /// Pearson's test over 10,000 items for each number of options; a fair shuffle fails one with a chance of 0.001.
    #[test]
    fn the_answer_stands_in_every_place_as_often() {
        // The 0.999 quantiles of the χ² distribution with 1 to 9 degrees of freedom.
        let limits = [10.83, 13.82, 16.27, 18.47, 20.52, 22.46, 24.32, 26.12, 27.88];
        for (options, limit) in (2..=10).zip(limits) {
            let mut counts = vec![0; options];
            for item in 0..10_000u32 {
                let order = shuffled((0..options).collect(), format!("item {item}").as_bytes());
                counts[order.iter().position(|option| *option == 0).unwrap()] += 1;
            }
            let expected = 10_000.0 / options as f64;
            let statistic: f64 = counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
            assert!(statistic < limit, "{options} options: {statistic}, {counts:?}");
        }
    }

    proptest! {
        #[test]
        fn a_shuffle_is_a_permutation(items in prop::collection::vec(".{0,3}", 0..12), seed in any::<[u8; 8]>()) {
            let mut after = shuffled(items.clone(), &seed);
            let mut before = items;
            before.sort();
            after.sort();
            prop_assert_eq!(before, after);
        }
    }
}
