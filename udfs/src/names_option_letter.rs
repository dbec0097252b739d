//! `names_option_letter(text TEXT) → BOOLEAN`: whether a text speaks of an option by its letter: 'option B', 'choice (c)',
//! 'the answer is D.', 'so (A) is correct'. NULL for NULL.
//!
//! ```sql
//! SELECT names_option_letter('Only water boils at 100 degrees, so the answer is B.');   -- true
//! SELECT names_option_letter('Vitamin C is found in oranges.');                          -- false
//! ```
//!
//! Options are shuffled, so letters mean nothing to a reader. Letters are A to J, as in `is_option_letter`. A small a is an
//! article unless it stands in brackets.

use std::sync::{Arc, LazyLock};

use arrow::array::BooleanArray;
use arrow::datatypes::DataType;
use regex::Regex;

use crate::function::{Definition, Kind};

pub(crate) const NAMES_OPTION_LETTER: Definition = Definition {
    name: "names_option_letter",
    parameters: &[("text", Kind::Text)],
    returns: || DataType::Boolean,
    invoke: |arguments| {
        let texts = arguments.text(0)?;
        let found = (0..arguments.rows).map(|row| texts.get(row).map(|text| LETTER.is_match(text)));
        Ok(Arc::new(found.collect::<BooleanArray>()))
    },
    description: "Whether a text speaks of an option by its letter, as in 'option B' or 'the answer is (c)'.",
    example: "SELECT names_option_letter('Only water boils at 100 degrees, so the answer is B.');",
    ..Definition::BLANK
};

static LETTER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        // 'Option B', 'choice (c)', 'answers A and D'
        r"\b(?i:options?|choices?|alternatives?)\s*:?\s*(?:[A-J]\b|[b-hj]\b|\([A-Ja-j]\)|\*\*[A-J]\*\*)",
        // 'the answer is D', 'answer: (b)'
        r"|\b(?i:answers?)\s*(?i:is|are|must be|would be|should be|:|=)\s*(?i:option\s*|choice\s*)?",
        r"(?:[A-J](?:[.,;:)!]|\s*$|\s+(?:because|since|as|and)\b)|\([A-Ja-j]\)|\*\*[A-J]\b)",
        // '(A) is correct', 'B is the right answer'
        r"|(?:\([A-Ja-j]\)|\b[B-HJ])\s+(?:is|are)\s+(?:(?:the|most|clearly|therefore)\s+)*(?:correct|right|wrong|incorrect|best)\b",
    ))
    .expect("a constant pattern is valid")
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_options_are_told_from_other_letters() {
        for text in [
            "so the answer is B.",
            "Answer: (c)",
            "Option B is right because it floats.",
            "We can rule out choice (d).",
            "options A and C are wrong",
            "Therefore (A) is correct.",
            "D is the right answer",
            "the answer is B because iron rusts",
            "The answer must be **C**",
        ] {
            assert!(LETTER.is_match(text), "{text}");
        }
        for text in [
            "Vitamin C is found in oranges.",
            "The answer is a mammal.",
            "The option a reader takes is theirs.",
            "The answer is I think unknown",
            "Plan B was better.",
            "The answer is the letter that follows.",
            "In C, arrays begin at 0.",
        ] {
            assert!(!LETTER.is_match(text), "{text}");
        }
    }
}
