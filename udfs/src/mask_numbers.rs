//! `mask_numbers(text TEXT) → TEXT`: the text with every number written as '#', so that questions which differ only in
//! their numbers become equal. NULL for NULL.
//!
//! ```sql
//! SELECT mask_numbers('Ann has 3 apples and $1,250.50.');   -- Ann has # apples and $#.
//! ```
//!
//! A number is a run of digits of any script with its thousands separators and decimals; signs stay.

use std::sync::{Arc, LazyLock};

use arrow::array::StringViewBuilder;
use regex::Regex;

use crate::function::{Definition, Kind};

pub(crate) const MASK_NUMBERS: Definition = Definition {
    name: "mask_numbers",
    parameters: &[("text", Kind::Text)],
    invoke: |arguments| {
        let texts = arguments.text(0)?;
        let mut masked = StringViewBuilder::with_capacity(arguments.rows);
        for row in 0..arguments.rows {
            masked.append_option(texts.get(row).map(|text| NUMBER.replace_all(text, "#")));
        }
        Ok(Arc::new(masked.finish()))
    },
    description: "The text with every number written as '#'.",
    example: "SELECT mask_numbers('Ann has 3 apples and $1,250.50.');",
    ..Definition::BLANK
};

static NUMBER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\p{Nd}+(?:[.,]\p{Nd}+)*").expect("a constant pattern is valid"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_differ_in_numbers_only_become_equal() {
        let mask_numbers = |text| NUMBER.replace_all(text, "#").into_owned();
        assert_eq!(mask_numbers("Ann has 3 apples and $1,250.50."), "Ann has # apples and $#.");
        assert_eq!(mask_numbers("१२ and -7, B12"), "# and -#, B#");
    }
}
