//! `is_number(text TEXT) → BOOLEAN`: whether a text is one number and nothing else: '-1,234.5', '3/4', '12%', '$5', '1e6'.
//! NULL for NULL.
//!
//! ```sql
//! SELECT is_number('-1,234.5');   -- true
//! SELECT is_number('5 apples');   -- false
//! ```

use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::datatypes::DataType;

use crate::function::{Definition, Kind};
use crate::number::parse_number;

pub(crate) const IS_NUMBER: Definition = Definition {
    name: "is_number",
    parameters: &[("text", Kind::Text)],
    returns: || DataType::Boolean,
    invoke: |arguments| {
        let texts = arguments.text(0)?;
        let found = (0..arguments.rows).map(|row| texts.get(row).map(is_number));
        Ok(Arc::new(found.collect::<BooleanArray>()))
    },
    description: "Whether a text is one number and nothing else, as in '-1,234.5', '3/4', '12%' or '$5'.",
    example: "SELECT is_number('-1,234.5');",
    ..Definition::BLANK
};

fn is_number(text: &str) -> bool {
    parse_number(text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_their_usual_forms() {
        assert!(["-1,234.5", "3/4", "12%", "$5", " 7. ", "1e6"].into_iter().all(is_number));
        assert!(!["", "5 apples", "B", "1/0", "five"].into_iter().any(is_number));
    }
}
