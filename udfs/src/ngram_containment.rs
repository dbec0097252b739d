//! `ngram_containment(a TEXT, b TEXT, n BIGINT) → DOUBLE`: the share of a's different word n-grams that also occur in b,
//! from 0 to 1. NULL for NULL and where a has fewer than n words; an error for n < 1.
//!
//! ```sql
//! SELECT ngram_containment('the cat sat', 'Today the cat sat down.', 2);   -- 1.0
//! ```
//!
//! Containment as in Broder (1997, "On the resemblance and containment of documents"), over lower-case runs of letters
//! and digits, and single Chinese or Japanese characters.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};
use arrow::datatypes::DataType;
use datafusion_common::Result;

use crate::arguments::Arguments;
use crate::function::{Definition, Kind};
use crate::words::words;

pub(crate) const NGRAM_CONTAINMENT: Definition = Definition {
    name: "ngram_containment",
    parameters: &[("a", Kind::Text), ("b", Kind::Text), ("n", Kind::Integer)],
    returns: || DataType::Float64,
    invoke,
    description: "The share of a's word n-grams that also occur in b; NULL where a has fewer than n words.",
    example: "SELECT ngram_containment('the cat sat', 'Today the cat sat down.', 2);",
    ..Definition::BLANK
};

fn invoke(arguments: &Arguments) -> Result<ArrayRef> {
    let (a, b, sizes) = (arguments.text(0)?, arguments.text(1)?, arguments.integer(2)?);
    let mut shares = Float64Array::builder(arguments.rows);
    for row in 0..arguments.rows {
        let share = match (a.get(row), b.get(row), sizes.get(row)) {
            (Some(a), Some(b), Some(n)) => ngram_containment(a, b, arguments.positive(n, "n")?),
            _ => None,
        };
        shares.append_option(share);
    }
    Ok(Arc::new(shares.finish()))
}

fn ngram_containment(a: &str, b: &str, n: usize) -> Option<f64> {
    if n == 0 {
        return None;
    }
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let (a, b): (Vec<&str>, Vec<&str>) = (words(&a).collect(), words(&b).collect());
    let ngrams: HashSet<&[&str]> = a.windows(n).collect();
    let others: HashSet<&[&str]> = b.windows(n).collect();
    (!ngrams.is_empty()).then(|| ngrams.intersection(&others).count() as f64 / ngrams.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_share_of_ngrams_found_in_the_other_text() {
        assert_eq!(ngram_containment("The cat sat", "Today the cat, sat down.", 2), Some(1.0));
        assert_eq!(ngram_containment("the cat sat here", "the cat lay here", 2), Some(1.0 / 3.0));
        assert_eq!(ngram_containment("the cat", "the cat", 3), None);
    }
}
