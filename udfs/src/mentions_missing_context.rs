//! `mentions_missing_context(text TEXT) → BOOLEAN`: whether a question speaks of a passage, figure or table that has to
//! stand beside it. Ask it of questions that are given without one. NULL for NULL.
//!
//! ```sql
//! SELECT mentions_missing_context('According to the passage, who won?');   -- true
//! SELECT mentions_missing_context('What changes with the passage of time?');   -- false
//! ```
//!
//! The list is conservative, and English only: "the passage / excerpt", "according to / based on / in the text / article /
//! story / …", "the figure / table / … above / below / shows", "the following passage / figure / …", "as shown / mentioned
//! above", "in figure 2".

use std::sync::{Arc, LazyLock};

use arrow::array::BooleanArray;
use arrow::datatypes::DataType;
use regex::Regex;

use crate::function::{Definition, Kind};

pub(crate) const MENTIONS_MISSING_CONTEXT: Definition = Definition {
    name: "mentions_missing_context",
    parameters: &[("text", Kind::Text)],
    returns: || DataType::Boolean,
    invoke: |arguments| {
        let texts = arguments.text(0)?;
        let found = (0..arguments.rows).map(|row| texts.get(row).map(mentions_missing_context));
        Ok(Arc::new(found.collect::<BooleanArray>()))
    },
    description: "Whether a question speaks of a passage, figure or table that has to stand beside it.",
    example: "SELECT mentions_missing_context('According to the passage, who won?');",
    ..Definition::BLANK
};

static MENTION: LazyLock<Regex> = LazyLock::new(|| {
    let text = "(?:text|article|story|paragraph|document|context|poem|dialogue|conversation|essay|narrative|author)";
    let picture = "(?:figure|table|diagram|graph|chart|image|picture|photo|map|illustration)";
    let which = "(?:the|this|that)(?: (?:given|above|following|provided|preceding))?";
    let patterns = [
        format!(r"\b(?:according to|based on|mentioned in|described in|stated in|discussed in|in) {which} {text}\b"),
        format!(r"\b(?:given|above|provided|preceding|following) (?:passage|excerpt|{picture})\b"),
        format!(r"\b(?:{text}|passage|{picture}) (?:above|below)\b"),
        format!(r"\b(?:according to|based on|shown in|depicted in|seen in) {which} {picture}\b"),
        format!(r"\b(?:the|this) {picture} (?:shows|shown|depicts|illustrates)\b"),
        r"\b(?:as|is|are) (?:shown|seen|described|mentioned|stated|depicted|listed) (?:above|below)\b".to_string(),
        r"\b(?:in|see) (?:figure|fig\.|table) \d".to_string(),
    ];
    Regex::new(&format!("(?i){}", patterns.join("|"))).expect("a constant pattern is valid")
});

/// A passage; with the group it is one of something else, as in "the passage of time".
static PASSAGE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\b(?:the|this) (?:passage|excerpt)\b( of\b)?").expect("a constant pattern is valid")
});

fn mentions_missing_context(text: &str) -> bool {
    MENTION.is_match(text) || PASSAGE.captures_iter(text).any(|passage| passage.get(1).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_about_something_beside_them_are_found() {
        for text in [
            "According to the passage, who won?",
            "What is the main idea of this passage?",
            "Why does the passage mention bees?",
            "Based on the text, what is true?",
            "In the figure above, find x.",
            "Which of these is shown in the diagram?",
            "Use the following table.",
            "As shown above, what is y?",
            "See Table 2.",
        ] {
            assert!(mentions_missing_context(text), "{text}");
        }
    }

    #[test]
    fn questions_that_stand_alone_are_none() {
        for text in [
            "What changes with the passage of time?",
            "Who wrote the text of the anthem?",
            "Which author wrote Emma?",
            "What is a table in SQL?",
            "Put the book on the table.",
            "",
        ] {
            assert!(!mentions_missing_context(text), "{text}");
        }
    }
}
