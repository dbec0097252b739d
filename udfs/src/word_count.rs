//! `word_count(text TEXT) → BIGINT`: the number of words, that is of runs of characters between white space (Unicode's
//! White_Space property). NULL for NULL.
//!
//! ```sql
//! SELECT word_count('What is the capital of France?');   -- 6
//! ```

use std::sync::Arc;

use arrow::array::Int64Array;
use arrow::datatypes::DataType;

use crate::function::{Definition, Kind};

pub(crate) const WORD_COUNT: Definition = Definition {
    name: "word_count",
    parameters: &[("text", Kind::Text)],
    returns: || DataType::Int64,
    invoke: |arguments| {
        let texts = arguments.text(0)?;
        let counts = (0..arguments.rows).map(|row| texts.get(row).map(word_count));
        Ok(Arc::new(counts.collect::<Int64Array>()))
    },
    description: "Counts the words of a text: runs of characters between white space.",
    example: "SELECT word_count('What is the capital of France?');",
    ..Definition::BLANK
};

fn word_count(text: &str) -> i64 {
    text.split_whitespace().count() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_white_space_separates() {
        assert_eq!(word_count("  What's\u{a0}the\ncapital ? "), 4);
        assert_eq!(word_count(" \t"), 0);
    }
}
