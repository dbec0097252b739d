//! `answer_in_options(answer TEXT, options TEXT[]) → BOOLEAN`: whether one of the options is the same text as the answer,
//! as `same_text` compares. NULL options are passed over; NULL for a NULL answer or list.
//!
//! ```sql
//! SELECT answer_in_options('the Nile', ['Nile', 'Amazon']);   -- true
//! ```

use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::datatypes::DataType;

use crate::function::{Definition, Kind};
use crate::same_text::AnswerKey;

pub(crate) const ANSWER_IN_OPTIONS: Definition = Definition {
    name: "answer_in_options",
    parameters: &[("answer", Kind::Text), ("options", Kind::TextList)],
    returns: || DataType::Boolean,
    invoke: |arguments| {
        let (answers, options) = (arguments.text(0)?, arguments.text_list(1)?);
        let found = (0..arguments.rows).map(|row| Some(answer_in_options(answers.get(row)?, &options.get(row)?)));
        Ok(Arc::new(found.collect::<BooleanArray>()))
    },
    description: "Whether one of the options is the same text as the answer, as same_text compares.",
    example: "SELECT answer_in_options('the Nile', ['Nile', 'Amazon']);",
    ..Definition::BLANK
};

fn answer_in_options(answer: &str, options: &[Option<&str>]) -> bool {
    let answer = AnswerKey::of(answer);
    options.iter().flatten().any(|option| AnswerKey::of(option) == answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_found_in_another_form() {
        assert!(answer_in_options("the Nile", &[None, Some("Amazon"), Some("Nile.")]));
        assert!(!answer_in_options("the Nile", &[None, Some("Amazon")]));
    }
}
