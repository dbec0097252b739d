//! `option_index(options TEXT[], answer TEXT) → BIGINT`: the zero-based place of the option that an answer means. NULL
//! where none fits, and for NULL.
//!
//! ```sql
//! SELECT option_index(['Nile', 'Amazon'], '(B)');            -- 1
//! SELECT option_index(['Nile', 'Amazon'], 'the Amazon');     -- 1
//! SELECT option_index(['Nile', 'Amazon'], 'B) Nile');        -- NULL: letter and text contradict each other
//! ```
//!
//! In this order: the first option that is the same text (as `same_text` compares); an option's letter, as in 'B', 'b)',
//! '(B)', 'B.', 'Answer: B'; a letter followed by the text of that same option. NULL options are never meant, and a
//! blank answer means none.

use std::sync::Arc;

use arrow::array::Int64Array;
use arrow::datatypes::DataType;

use crate::function::{Definition, Kind};
use crate::option_letter::option_letter;
use crate::same_text::{AnswerKey, same_text};

pub(crate) const OPTION_INDEX: Definition = Definition {
    name: "option_index",
    parameters: &[("options", Kind::TextList), ("answer", Kind::Text)],
    returns: || DataType::Int64,
    invoke: |arguments| {
        let (options, answers) = (arguments.text_list(0)?, arguments.text(1)?);
        let places = (0..arguments.rows)
            .map(|row| option_index(&options.get(row)?, answers.get(row)?).map(|place| place as i64));
        Ok(Arc::new(places.collect::<Int64Array>()))
    },
    description: "The zero-based place of the option that an answer means by its text or its letter, or NULL.",
    example: "SELECT option_index(['Nile', 'Amazon'], '(B)');",
    ..Definition::BLANK
};

pub(crate) fn option_index(options: &[Option<&str>], answer: &str) -> Option<usize> {
    if answer.trim().is_empty() {
        return None;
    }
    let key = AnswerKey::of(answer);
    if let Some(place) = options.iter().position(|option| option.is_some_and(|option| AnswerKey::of(option) == key)) {
        return Some(place);
    }
    let letter = option_letter(answer)?;
    let option = options.get(letter.index).copied().flatten()?;
    letter.rest.is_none_or(|rest| same_text(rest, option)).then_some(letter.index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RIVERS: &[Option<&str>] = &[Some("Nile"), Some("Amazon"), None];

    #[test]
    fn an_option_is_meant_by_its_text_or_its_letter() {
        for answer in ["Amazon", "the Amazon.", "B", "b)", "(B)", "B.", "Answer: B", "B) Amazon", "(b) the Amazon"] {
            assert_eq!(option_index(RIVERS, answer), Some(1), "{answer}");
        }
    }

    #[test]
    fn an_options_own_text_goes_before_its_letter() {
        assert_eq!(option_index(&[Some("B"), Some("A")], "B"), Some(0));
    }

    #[test]
    fn contradictions_and_other_answers_mean_no_option() {
        for answer in ["B) Nile", "C", "D", "Rhine", "", "A river"] {
            assert_eq!(option_index(RIVERS, answer), None, "{answer}");
        }
        assert_eq!(option_index(&[Some("")], ""), None);
    }

    proptest! {
        #[test]
        fn what_is_meant_is_an_option(options in prop::collection::vec(prop::option::of(".{0,4}"), 0..5), answer in ".{0,6}") {
            let options: Vec<_> = options.iter().map(Option::as_deref).collect();
            if let Some(place) = option_index(&options, &answer) {
                prop_assert!(options[place].is_some());
            }
        }
    }
}
