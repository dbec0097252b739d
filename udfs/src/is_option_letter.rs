//! `is_option_letter(text TEXT) → BOOLEAN`: whether a text is only the letter of an option, A to J: 'B', '(c)', 'd.',
//! 'Answer: D'. NULL for NULL.
//!
//! ```sql
//! SELECT is_option_letter('(c)');   -- true
//! SELECT is_option_letter('x');     -- false
//! ```
//!
//! Letters after J are left out because they are more often an answer (a variable, an element) than an option: no task
//! of the harness has more than ten options.

use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::datatypes::DataType;

use crate::function::{Definition, Kind};
use crate::option_letter::option_letter;

pub(crate) const IS_OPTION_LETTER: Definition = Definition {
    name: "is_option_letter",
    parameters: &[("text", Kind::Text)],
    returns: || DataType::Boolean,
    invoke: |arguments| {
        let texts = arguments.text(0)?;
        let found = (0..arguments.rows).map(|row| texts.get(row).map(is_option_letter));
        Ok(Arc::new(found.collect::<BooleanArray>()))
    },
    description: "Whether a text is only the letter of an option, A to J, as in 'B', '(c)' or 'Answer: D'.",
    example: "SELECT is_option_letter('(c)');",
    ..Definition::BLANK
};

const OPTIONS: usize = 10;

fn is_option_letter(text: &str) -> bool {
    option_letter(text).is_some_and(|letter| letter.index < OPTIONS && letter.rest.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bare_letter_is_one() {
        assert!(["B", "(c)", "Answer: D", "j."].into_iter().all(is_option_letter));
        assert!(!["x", "B) Paris", "Paris", "", "12"].into_iter().any(is_option_letter));
    }
}
