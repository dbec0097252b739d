//! `same_text(a TEXT, b TEXT) → BOOLEAN`: whether two texts say the same, as answers are compared. NULL for NULL.
//!
//! ```sql
//! SELECT same_text('The Nile.', 'nile');      -- true
//! SELECT same_text('$1,000', '1000.0');       -- true
//! SELECT same_text('-5', '5');                -- false
//! ```
//!
//! Two numbers are compared by value (signs of currency and percent are ignored); other texts are equal when
//! `normalize_text` makes them equal; texts of which it leaves nothing ('?', '…') when they are equal after trimming.

use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::datatypes::DataType;

use crate::function::{Definition, Kind};
use crate::normalize_text::normalize_text;
use crate::number::{Number, parse_number};

pub(crate) const SAME_TEXT: Definition = Definition {
    name: "same_text",
    parameters: &[("a", Kind::Text), ("b", Kind::Text)],
    returns: || DataType::Boolean,
    invoke: |arguments| {
        let (a, b) = (arguments.text(0)?, arguments.text(1)?);
        let same = (0..arguments.rows).map(|row| Some(same_text(a.get(row)?, b.get(row)?)));
        Ok(Arc::new(same.collect::<BooleanArray>()))
    },
    description: "Whether two texts are the same answer: numbers by value, other texts after normalize_text.",
    example: "SELECT same_text('$1,000', '1000.0');",
    ..Definition::BLANK
};

/// What a text is compared by: equal keys are the same answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum AnswerKey {
    Number(Number),
    Text(String),
    /// A text of which normalizing leaves nothing.
    Exact(String),
}

impl AnswerKey {
    pub fn of(text: &str) -> Self {
        if let Some(number) = parse_number(text) {
            return AnswerKey::Number(number);
        }
        let normalized = normalize_text(text);
        if normalized.is_empty() {
            return AnswerKey::Exact(text.trim().to_string());
        }
        // 'Five hundred' stays a text, but '**500**' is the number.
        parse_number(&normalized).map_or(AnswerKey::Text(normalized), AnswerKey::Number)
    }
}

pub(crate) fn same_text(a: &str, b: &str) -> bool {
    a == b || AnswerKey::of(a) == AnswerKey::of(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_answer_in_other_words_of_form_is_the_same() {
        for (a, b) in [("The Nile.", "nile"), ("$1,000", "1000.0"), ("(A)", "a"), ("**500**", "500"), (" ? ", "?")] {
            assert!(same_text(a, b), "{a} {b}");
        }
    }

    #[test]
    fn other_answers_are_not_the_same() {
        for (a, b) in [("-5", "5"), ("1.5", "15"), ("x+1", "x-1"), ("?", "!"), ("", "?"), ("C#", "C")] {
            assert!(!same_text(a, b), "{a} {b}");
        }
    }
}
