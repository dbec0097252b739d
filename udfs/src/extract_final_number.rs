//! `extract_final_number(text TEXT) → TEXT`: the number in which a worked solution ends. NULL where there is none, and for
//! NULL.
//!
//! ```sql
//! SELECT extract_final_number('48 / 2 = 24, so 24 + 48 = 72.\n#### 72');        -- 72
//! SELECT extract_final_number('Thus the answer is \boxed{\frac{3}{4}}.');       -- 3/4
//! SELECT extract_final_number('She earned $1,234.50.');                         -- 1234.50
//! ```
//!
//! In this order: the first number after the last `####` (the answer's mark in GSM8K, Cobbe et al. 2021); the last number
//! in the last `\boxed{…}` (MATH, Hendrycks et al. 2021); the last number in the text. Thousands separators, signs of
//! currency, a plus and a full stop are left out; a minus stays where no letter, digit or bracket stands before it; `3/4`
//! is one number.

use std::sync::{Arc, LazyLock};

use arrow::array::StringViewArray;
use regex::Regex;

use crate::function::{Definition, Kind};

pub(crate) const EXTRACT_FINAL_NUMBER: Definition = Definition {
    name: "extract_final_number",
    parameters: &[("text", Kind::Text)],
    invoke: |arguments| {
        let texts = arguments.text(0)?;
        let numbers = (0..arguments.rows).map(|row| extract_final_number(texts.get(row)?));
        Ok(Arc::new(numbers.collect::<StringViewArray>()))
    },
    description: "The number in which a worked solution ends: after '####', in \\boxed{}, or the last in the text.",
    example: "SELECT extract_final_number('24 + 48 = 72, so she earned $1,072.');",
    ..Definition::BLANK
};

static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"([-+\u{2212}]?)[$€£¥]?([-\u{2212}]?)",
        r"([0-9]+/[0-9]+|(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
    ))
    .expect("a constant pattern is valid")
});

/// `\frac{a}{b}` of two whole numbers.
static LATEX_FRACTION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\\[dt]?frac\s*\{\s*([0-9]+)\s*\}\s*\{\s*([0-9]+)\s*\}").expect("a constant pattern is valid")
});

pub(crate) fn extract_final_number(text: &str) -> Option<String> {
    let marked = text.rfind("####").and_then(|mark| numbers(&text[mark + 4..]).next());
    let boxed = || {
        let content = LATEX_FRACTION.replace_all(last_boxed(text)?, "$1/$2").replace("{,}", ",");
        numbers(&content).last()
    };
    marked.or_else(boxed).or_else(|| numbers(text).last())
}

fn numbers(text: &str) -> impl Iterator<Item = String> {
    NUMBER.captures_iter(text).filter_map(move |parts| {
        let start = parts.get(0)?.start();
        let joined = |char: char| char.is_alphanumeric() || matches!(char, ')' | ']' | '}');
        let is_minus = |part| parts.get(part).is_some_and(|sign| matches!(sign.as_str(), "-" | "\u{2212}"));
        let negative = is_minus(2) || (is_minus(1) && !text[..start].chars().next_back().is_some_and(joined));
        Some(format!("{}{}", if negative { "-" } else { "" }, parts[3].replace(',', "")))
    })
}

/// What stands in the last `\boxed{…}` with balanced braces.
fn last_boxed(text: &str) -> Option<&str> {
    let start = text.rfind("\\boxed{")? + "\\boxed{".len();
    let mut depth = 1;
    for (offset, char) in text[start..].char_indices() {
        match char {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&text[start..start + offset]);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn marks_go_before_boxes_and_boxes_before_the_last_number() {
        for (text, number) in [
            ("He has 3.\n#### 1,234\nThat took 5 minutes.", Some("1234")),
            ("so \\boxed{42} because of 7", Some("42")),
            ("\\boxed{\\dfrac{3}{4}}", Some("3/4")),
            ("\\boxed{1{,}000}", Some("1000")),
            ("\\boxed{x} and 5", Some("5")),
            ("She earned $1,234.50.", Some("1234.50")),
            ("The answer is -5.", Some("-5")),
            ("-$5", Some("-5")),
            ("10-3", Some("3")),
            ("It is \u{2212}7%", Some("-7")),
            ("none", None),
            ("####", None),
        ] {
            assert_eq!(extract_final_number(text).as_deref(), number, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in r"(####|\\boxed\{|[}{é$0-9.,/ -]){0,20}") {
            let _ = extract_final_number(&text);
        }
    }
}
