//! `has_duplicate_options(options TEXT[]) → BOOLEAN`: whether two options are the same text, as `same_text` compares. NULL
//! options are passed over; NULL for a NULL list.
//!
//! ```sql
//! SELECT has_duplicate_options(['Nile', 'Amazon', 'the Nile']);   -- true
//! ```

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::datatypes::DataType;

use crate::function::{Definition, Kind};
use crate::same_text::AnswerKey;

pub(crate) const HAS_DUPLICATE_OPTIONS: Definition = Definition {
    name: "has_duplicate_options",
    parameters: &[("options", Kind::TextList)],
    returns: || DataType::Boolean,
    invoke: |arguments| {
        let options = arguments.text_list(0)?;
        let found = (0..arguments.rows).map(|row| Some(has_duplicate_options(&options.get(row)?)));
        Ok(Arc::new(found.collect::<BooleanArray>()))
    },
    description: "Whether two of the options are the same text, as same_text compares.",
    example: "SELECT has_duplicate_options(['Nile', 'Amazon', 'the Nile']);",
    ..Definition::BLANK
};

fn has_duplicate_options(options: &[Option<&str>]) -> bool {
    let mut seen = HashSet::with_capacity(options.len());
    !options.iter().flatten().all(|option| seen.insert(AnswerKey::of(option)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_differ_in_form_only_are_duplicates() {
        assert!(has_duplicate_options(&[Some("Nile"), Some("Amazon"), Some("the Nile")]));
        assert!(has_duplicate_options(&[Some("0.5"), Some("1/2")]));
    }

    #[test]
    fn options_that_differ_in_a_sign_are_none() {
        assert!(!has_duplicate_options(&[Some("x+1"), Some("x-1"), Some("-5"), Some("5"), None, None]));
    }
}
