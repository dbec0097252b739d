//! Answers that are an option's letter: 'B', 'b)', '(B)', '**B.**', 'Answer: D', or a letter with the option's text after
//! it. A text comes in, the zero-based place of the letter comes out.

use std::sync::LazyLock;

use regex::Regex;

/// Words before the letter, the letter in its brackets, and the text after it.
static LETTER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?s)^(?i:(?:the |my )?(?:(?:correct|final|best|right) )?(?:answer|option|choice)(?: is)?\s*[:=]?\s*)?",
        r"([(\[]?)([A-Za-z])(?:([)\]])[.:]?|([.:)]))?(?:\s+(\S.*))?$"
    ))
    .expect("a constant pattern is valid")
});

/// A letter and what is written after it.
pub(crate) struct OptionLetter<'a> {
    /// 0 for A.
    pub index: usize,
    pub rest: Option<&'a str>,
}

/// Reads a text as an option's letter; None where it is something else.
pub(crate) fn option_letter(text: &str) -> Option<OptionLetter<'_>> {
    let text = text.trim().trim_matches('*').trim();
    let parts = LETTER.captures(text)?;
    let closed = parts.get(3).is_some() || parts.get(4).is_some();
    let rest = parts.get(5).map(|rest| rest.as_str());
    // '(B' is no label, nor is the A of 'A cat'.
    if (!parts[1].is_empty() && parts.get(3).is_none()) || (rest.is_some() && !closed) {
        return None;
    }
    let letter = parts[2].bytes().next()?.to_ascii_uppercase();
    Some(OptionLetter { index: usize::from(letter - b'A'), rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_read_in_their_usual_forms() {
        for text in
            ["B", "b)", "(B)", " B. ", "[b]", "**B**", "Answer: B", "The correct answer is (B).", "option B", "B:"]
        {
            let letter = option_letter(text).unwrap();
            assert_eq!((letter.index, letter.rest), (1, None), "{text}");
        }
        assert_eq!(option_letter("(C) a cat\nor two").unwrap().rest, Some("a cat\nor two"));
    }

    #[test]
    fn words_are_no_letters() {
        for text in ["", "cat", "A cat", "(B", "é", "4", "Answer:", "AB", "I think so", "BB)"] {
            assert!(option_letter(text).is_none(), "{text}");
        }
    }
}
