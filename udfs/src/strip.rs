//! `strip(text TEXT) → TEXT`: the text without white space around it, as Python's `str.strip()` takes it away. NULL for NULL.
//!
//! ```sql
//! SELECT strip(concat(chr(10), ' Nile ', chr(160)));   -- Nile
//! ```
//!
//! SQL's `trim` takes blanks alone. White space is Unicode's White_Space and the four separators U+001C to U+001F.

use std::sync::Arc;

use arrow::array::StringViewArray;

use crate::function::{Definition, Kind};

pub(crate) const STRIP: Definition = Definition {
    name: "strip",
    parameters: &[("text", Kind::Text)],
    invoke: |arguments| {
        let texts = arguments.text(0)?;
        let stripped = (0..arguments.rows).map(|row| texts.get(row).map(strip));
        Ok(Arc::new(stripped.collect::<StringViewArray>()))
    },
    description: "The text without white space of any kind around it.",
    example: "SELECT strip(concat(chr(10), ' Nile '));",
    ..Definition::BLANK
};

pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(|char: char| char.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&char))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_white_space_around_goes_and_none_within() {
        assert_eq!(strip("\u{3000}\t\r\na b\u{1f}\u{85} "), "a b");
        assert_eq!(strip("\u{200b}a"), "\u{200b}a");
        assert_eq!(strip(" \n"), "");
    }
}
