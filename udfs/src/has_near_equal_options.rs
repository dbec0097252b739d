//! `has_near_equal_options(options TEXT[]) → BOOLEAN`: whether two options say the same in nearly the same words, so that
//! both or neither can be right: equal as `same_text` compares, or equal but for plural endings, or for an article before
//! the first word (also a German, Dutch, French, Spanish or Italian one), or with the parts of a list ("A and B", "A, B",
//! "A or B") in another order. NULL options are passed over; NULL for a NULL list.
//!
//! ```sql
//! SELECT has_near_equal_options(['a dog', 'cats', 'dogs']);                          -- true
//! SELECT has_near_equal_options(['salt and water', 'sugar', 'water and salt']);      -- true
//! SELECT has_near_equal_options(['A is larger than B', 'B is larger than A']);       -- false
//! ```
//!
//! Options with a digit or a sign of mathematics are compared by `same_text` alone: `x - 1` is not `x + 1`. Spelling is not
//! forgiven either, since one letter can be another substance (sulphate, sulphite).

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::datatypes::DataType;

use crate::function::{Definition, Kind};
use crate::same_text::AnswerKey;
use crate::words::words;

pub(crate) const HAS_NEAR_EQUAL_OPTIONS: Definition = Definition {
    name: "has_near_equal_options",
    parameters: &[("options", Kind::TextList)],
    returns: || DataType::Boolean,
    invoke: |arguments| {
        let options = arguments.text_list(0)?;
        let found = (0..arguments.rows).map(|row| Some(has_near_equal_options(&options.get(row)?)));
        Ok(Arc::new(found.collect::<BooleanArray>()))
    },
    description: "Whether two options are the same but for plural endings or the order of a list within them.",
    example: "SELECT has_near_equal_options(['a dog', 'cats', 'dogs']);",
    ..Definition::BLANK
};

fn has_near_equal_options(options: &[Option<&str>]) -> bool {
    let (mut exact, mut near) = (HashSet::with_capacity(options.len()), HashSet::with_capacity(options.len()));
    options.iter().flatten().any(|option| {
        let is_repeated = !exact.insert(AnswerKey::of(option));
        is_repeated || near_key(option).is_some_and(|key| !near.insert(key))
    })
}

/// Articles of other languages than English, which go only where they come first: "die" and "las" are words elsewhere too.
const FIRST_ARTICLES: [&str; 24] = [
    "der", "die", "das", "den", "dem", "ein", "eine", "einen", "einem", "einer", "het", "een", "le", "la", "les", "un",
    "une", "el", "los", "las", "una", "il", "lo", "gli",
];

/// The parts of a text in order, each as its words without articles and plural endings. None for what is no plain words.
fn near_key(option: &str) -> Option<Vec<String>> {
    let is_plain = |c: char| c.is_alphabetic() || c.is_whitespace() || matches!(c, ',' | '.' | '\'' | '’' | '"' | '-');
    if !option.chars().all(is_plain) || option.starts_with('-') {
        return None;
    }
    let lower = option.to_lowercase();
    let begins_with_article = |(first, _): &(&str, &str)| FIRST_ARTICLES.contains(first);
    let text = lower.trim_start().split_once(' ').filter(begins_with_article).map_or(lower.as_str(), |(_, rest)| rest);
    let mut parts: Vec<String> = Vec::new();
    for clause in text.split(',') {
        let mut part = String::new();
        for word in words(clause) {
            match word {
                "and" | "or" => parts.extend((!part.is_empty()).then(|| std::mem::take(&mut part))),
                "a" | "an" | "the" => {}
                word => {
                    if !part.is_empty() {
                        part.push(' ');
                    }
                    part.push_str(singular(word));
                }
            }
        }
        parts.extend((!part.is_empty()).then_some(part));
    }
    parts.sort_unstable();
    (!parts.is_empty()).then_some(parts)
}

/// A word without the s of a plural: not of short words (gas, bus), nor of those in -ss, -us and -is (glass, virus, axis).
fn singular(word: &str) -> &str {
    match word.strip_suffix('s') {
        Some(stem) if stem.chars().count() > 2 && !stem.ends_with(['s', 'u', 'i']) => stem,
        _ => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(options: &[&str]) -> bool {
        has_near_equal_options(&options.iter().map(|option| Some(*option)).collect::<Vec<_>>())
    }

    #[test]
    fn plural_endings_and_the_order_of_lists_make_no_other_option() {
        assert!(found(&["the dog", "a cat", "Dogs"]));
        assert!(found(&["salt and water", "water, salt"]));
        assert!(found(&["Nile", "the Nile"]));
        assert!(found(&["Das Zwollefest", "Zwollefest"]));
        assert!(found(&["la casa", "una casa", "un gato"]));
        assert!(found(&["0.5", "1/2"]));
    }

    #[test]
    fn other_words_order_signs_and_spelling_do() {
        assert!(!found(&["A is larger than B", "B is larger than A"]));
        assert!(!found(&["x - 1", "x + 1", "-1", "1"]));
        assert!(!found(&["sulphate", "sulphite", "mitosis", "meiosis", "gas", "ga"]));
        assert!(!found(&["die", "das", "los", "die young"]));
        assert!(!found(&["glass", "glas", "it is", "it is not"]));
        assert!(!has_near_equal_options(&[None, None]));
    }
}
