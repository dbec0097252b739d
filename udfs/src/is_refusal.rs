//! `is_refusal(text TEXT) → BOOLEAN`: whether a model declined to answer. NULL for NULL.
//!
//! ```sql
//! SELECT is_refusal('I''m sorry, but I can''t help with that.');   -- true
//! SELECT is_refusal('He said: I can''t swim.');                    -- false
//! ```
//!
//! The list is conservative, and English only. It holds: an apology at the start with "I can't / cannot / won't / am
//! unable to" in the same sentence; "I can't help with / assist / provide that …" and its like at the start; "I must
//! decline" at the start; "As an AI (language model), I …" in the first 300 characters; and appeals to the model's own
//! guidelines there.

use std::sync::{Arc, LazyLock};

use arrow::array::BooleanArray;
use arrow::datatypes::DataType;
use regex::Regex;

use crate::function::{Definition, Kind};

pub(crate) const IS_REFUSAL: Definition = Definition {
    name: "is_refusal",
    parameters: &[("text", Kind::Text)],
    returns: || DataType::Boolean,
    invoke: |arguments| {
        let texts = arguments.text(0)?;
        let found = (0..arguments.rows).map(|row| texts.get(row).map(is_refusal));
        Ok(Arc::new(found.collect::<BooleanArray>()))
    },
    description: "Whether a model declined to answer ('I''m sorry, but I can''t …', 'As an AI language model, I …').",
    example: "SELECT is_refusal('I''m sorry, but I can''t help with that.');",
    ..Definition::BLANK
};

/// How much of a text is looked at, in characters: refusals come first.
const BEGINNING: usize = 300;

static REFUSAL: LazyLock<Regex> = LazyLock::new(|| {
    let apology = concat!(
        r"(?:(?:i'm|i am) (?:(?:very|really|so|truly) )?(?:sorry|afraid)|(?:we're|we are) sorry|sorry|i apologi[sz]e|",
        r"(?:my )?apologies|unfortunately|regrettably)\b[^.!?\n]{0,60}?",
        r"\b(?:i|we)(?:'m| am|'re| are)? (?:can't|cannot|can not|couldn't|won't|will not|unable|not able|not allowed|",
        r"must decline|have to decline|don't have|do not have)\b"
    );
    let inability = concat!(
        r"i (?:can't|cannot|can not|won't|will not|am unable to|am not able to|'m unable to)",
        r" (?:help|assist)(?: you)?(?: with\b|[.!]|$)|",
        r"(?:i (?:can't|cannot|can not|won't|will not)|(?:i am|i'm) (?:unable|not able|not allowed) to)",
        r" (?:help with|assist with|comply|fulfil+|provide|answer|generate|create|write|discuss|engage in|share|complete)",
        r" (?:this|that|your|any|the requested|such|with)\b|",
        r"i (?:must|have to|need to)(?: respectfully| politely)? decline\b|",
        r"(?:i am|i'm) not (?:comfortable|programmed)\b|",
        r"i (?:don't|do not) have (?:access to|the ability to|enough information to)\b"
    );
    let identity = concat!(
        r"\bas an? (?:ai|artificial intelligence|large)(?: language)?(?: model| assistant| chatbot)?",
        r"(?: (?:created|developed|trained) by \w+)?,? (?:i|my)\b|",
        r"\b(?:against|violates?|violation of) (?:my|our) (?:programming|guidelines|policies|policy|content policy)\b"
    );
    Regex::new(&format!(r#"^["'\s*]*(?:{apology}|{inability})|{identity}"#)).expect("a constant pattern is valid")
});

fn is_refusal(text: &str) -> bool {
    let beginning: String = text
        .trim_start()
        .chars()
        .take(BEGINNING)
        .flat_map(char::to_lowercase)
        .map(|char| if matches!(char, '’' | '‘' | 'ʼ') { '\'' } else { char })
        .collect();
    REFUSAL.is_match(&beginning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_found() {
        for text in [
            "I'm sorry, but I can't assist with that request.",
            "I’m sorry, I cannot help.",
            "Sorry, I am unable to answer this.",
            "I can't help with that.",
            "I cannot provide that information.",
            "I must respectfully decline to answer.",
            "As an AI language model, I do not have opinions.",
            "Well, as an AI, I cannot say.",
            "This is against my programming.",
        ] {
            assert!(is_refusal(text), "{text}");
        }
    }

    #[test]
    fn answers_that_sound_alike_are_none() {
        for text in [
            "Paris",
            "He said: \"I'm sorry, but I can't swim.\"",
            "Unfortunately, the dog cannot swim.",
            "I can't help falling in love",
            "As an aide, I worked there.",
            "Sorry is an adjective.",
            "",
        ] {
            assert!(!is_refusal(text), "{text}");
        }
    }
}
