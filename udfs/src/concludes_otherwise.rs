//! `concludes_otherwise(reasoning TEXT, answer TEXT, options TEXT[]) → BOOLEAN`: whether the last sentence of a reasoning
//! ends in another answer. NULL for a NULL reasoning or answer; options may be NULL.
//!
//! ```sql
//! SELECT concludes_otherwise('Iron is heavy. So it sinks.', 'floats', ['sinks', 'floats']);   -- true
//! SELECT concludes_otherwise('12 - 5 leaves 8.', '7', NULL);                                  -- true
//! ```
//!
//! With options: the last sentence names one of the others (as whole words after `normalize_text`) and not the answer.
//! Without: the answer is a number and the sentence ends in another one (by `extract_final_number`). All else cannot be
//! told and is false.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::DataType;
use datafusion_common::Result;

use crate::arguments::Arguments;
use crate::extract_final_number::extract_final_number;
use crate::function::{Definition, Kind};
use crate::normalize_text::normalize_text;
use crate::number::parse_number;

pub(crate) const CONCLUDES_OTHERWISE: Definition = Definition {
    name: "concludes_otherwise",
    parameters: &[("reasoning", Kind::Text), ("answer", Kind::Text), ("options", Kind::TextList)],
    returns: || DataType::Boolean,
    invoke,
    description: "Whether the last sentence of a reasoning names another option than the answer, or another number.",
    example: "SELECT concludes_otherwise('Iron is heavy. So it sinks.', 'floats', ['sinks', 'floats']);",
    ..Definition::BLANK
};

fn invoke(arguments: &Arguments) -> Result<ArrayRef> {
    let (reasonings, answers) = (arguments.text(0)?, arguments.text(1)?);
    let options = arguments.text_list(2)?;
    let found = (0..arguments.rows).map(|row| {
        let options: Vec<&str> = options.get(row).unwrap_or_default().into_iter().flatten().collect();
        Some(concludes_otherwise(reasonings.get(row)?, answers.get(row)?, &options))
    });
    Ok(Arc::new(found.collect::<BooleanArray>()))
}

fn concludes_otherwise(reasoning: &str, answer: &str, options: &[&str]) -> bool {
    let sentence = last_sentence(reasoning);
    if options.is_empty() {
        let number = parse_number(answer);
        let last = extract_final_number(sentence).and_then(|last| parse_number(&last));
        return number.is_some() && last.is_some() && number != last;
    }
    let sentence = format!(" {} ", normalize_text(sentence));
    let names = |option: &str| {
        let option = normalize_text(option);
        !option.is_empty() && sentence.contains(&format!(" {option} "))
    };
    let answer_key = normalize_text(answer);
    !names(answer) && options.iter().any(|option| normalize_text(option) != answer_key && names(option))
}

/// What stands behind the last end of a sentence that has something behind it.
fn last_sentence(text: &str) -> &str {
    let text = text.trim_end().trim_end_matches(['.', '!', '?', '。']);
    let mut ends = text
        .match_indices([' ', '\n', '。'])
        .filter(|(at, space)| *space != " " || text[..*at].ends_with(['.', '!', '?']));
    ends.next_back().map_or(text, |(at, space)| text[at + space.len()..].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_answer_at_the_end_counts() {
        let options = ["sinks", "floats"];
        assert!(concludes_otherwise("It floats at first. So iron sinks.", "floats", &options));
        assert!(!concludes_otherwise("Iron sinks. But this one floats.", "floats", &options));
        assert!(!concludes_otherwise("It does not sink or float.", "floats", &options));
        assert!(!concludes_otherwise("Some say it sinks, but it floats.", "floats", &options));
        assert!(concludes_otherwise("12 - 5 leaves 8.", "7", &[]));
        assert!(!concludes_otherwise("We add 3 and 4. That is 7.0.", "7", &[]));
        assert!(!concludes_otherwise("", "7", &[]));
    }

    #[test]
    fn the_last_sentence_is_found() {
        for (text, last) in [
            ("One. Two.", "Two"),
            ("Only 3.5 of them", "Only 3.5 of them"),
            ("A\nB.", "B"),
            ("一。二。", "二"),
            ("", ""),
        ] {
            assert_eq!(last_sentence(text), last);
        }
    }
}
