//! `approx_tokens(text TEXT) → BIGINT`: about how many tokens a language model makes of a text, without a tokenizer. NULL
//! for NULL.
//!
//! ```sql
//! SELECT approx_tokens('What is the capital of France?');   -- 8
//! ```
//!
//! A rule of thumb for planning, not for billing: an ASCII character counts ¼ token, a character below U+2E80 (most
//! alphabets) ½, any other (Chinese, Japanese, Korean, emoji) 1; the sum is rounded up.

use std::sync::Arc;

use arrow::array::Int64Array;
use arrow::datatypes::DataType;

use crate::function::{Definition, Kind};

pub(crate) const APPROX_TOKENS: Definition = Definition {
    name: "approx_tokens",
    parameters: &[("text", Kind::Text)],
    returns: || DataType::Int64,
    invoke: |arguments| {
        let texts = arguments.text(0)?;
        let counts = (0..arguments.rows).map(|row| texts.get(row).map(approx_tokens));
        Ok(Arc::new(counts.collect::<Int64Array>()))
    },
    description: "About how many tokens a model makes of a text: 4 ASCII characters, 2 of other alphabets, 1 ideograph.",
    example: "SELECT approx_tokens('What is the capital of France?');",
    ..Definition::BLANK
};

fn approx_tokens(text: &str) -> i64 {
    let quarters: i64 = if text.is_ascii() {
        text.len() as i64
    } else {
        let weights = text.chars().map(|char| match char {
            '\0'..='\u{7f}' => 1,
            '\u{80}'..='\u{2e7f}' => 2,
            _ => 4,
        });
        weights.sum()
    };
    (quarters + 3) / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ideographs_count_more_than_letters() {
        assert_eq!(approx_tokens(""), 0);
        assert_eq!(approx_tokens("What is the capital of France?"), 8);
        assert_eq!(approx_tokens("東京"), 2);
        assert_eq!(approx_tokens("Привет"), 3);
    }
}
