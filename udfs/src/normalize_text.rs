//! `normalize_text(text TEXT) → TEXT`: the text without what does not matter to an answer. NULL for NULL.
//!
//! ```sql
//! SELECT normalize_text(' The  “Eiffel Tower”. ');   -- eiffel tower
//! SELECT normalize_text('x = -1,000.5');             -- x = -1000.5
//! ```
//!
//! Source: `normalize_answer` of the SQuAD v1.1 evaluation script (Rajpurkar et al. 2016): lower case, no punctuation, no
//! articles (a, an, the), white space collapsed. It differs where SQuAD's rule merges different answers: the text is
//! first put into Unicode's form NFKC; punctuation of all scripts goes, but signs that carry a value stay (mathematical
//! symbols and `^`; a minus before a digit or between spaces; `.` `:` `/` `,` within numbers, but thousands separators
//! go; `*` and `/` between letters or digits; `#` after a letter); and articles stay where nothing else is left, so that
//! the option 'A' is not empty.

use std::sync::{Arc, LazyLock};

use arrow::array::StringViewBuilder;
use regex::Regex;
use unicode_normalization::UnicodeNormalization;

use crate::function::{Definition, Kind};

pub(crate) const NORMALIZE_TEXT: Definition = Definition {
    name: "normalize_text",
    parameters: &[("text", Kind::Text)],
    invoke: |arguments| {
        let texts = arguments.text(0)?;
        let mut normalized = StringViewBuilder::with_capacity(arguments.rows);
        for row in 0..arguments.rows {
            normalized.append_option(texts.get(row).map(normalize_text));
        }
        Ok(Arc::new(normalized.finish()))
    },
    description: "The text in lower case, without punctuation, articles and superfluous white space, as SQuAD's \
                  evaluation compares answers; signs that carry a value stay.",
    example: "SELECT normalize_text(' The  “Eiffel Tower”. ');",
    ..Definition::BLANK
};

/// Punctuation, and those symbols of Python's `string.punctuation` that are neither mathematics nor punctuation.
static PUNCTUATION: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[\p{P}$`]").expect("a constant pattern is valid"));

/// The text in lower case, in the form NFKC, without the punctuation that carries no value; spaces stay as they are.
pub fn without_punctuation(text: &str) -> String {
    // Of ASCII, NFKC and the dashes change nothing.
    let chars: Vec<char> = match text.is_ascii() {
        true => text.bytes().map(|byte| char::from(byte.to_ascii_lowercase())).collect(),
        false => text.nfkc().flat_map(char::to_lowercase).map(plain_dash).collect(),
    };
    let mut kept = String::with_capacity(text.len());
    for (at, &char) in chars.iter().enumerate() {
        if !is_punctuation(char) || carries_value(&chars, at) {
            kept.push(char);
        }
    }
    kept
}

/// What the SQL function `normalize_text` gives for one text.
pub(crate) fn normalize_text(text: &str) -> String {
    let kept = without_punctuation(text);
    let mut normalized = String::with_capacity(kept.len());
    for word in kept.split_whitespace().filter(|word| !matches!(*word, "a" | "an" | "the")) {
        push_word(&mut normalized, word);
    }
    if normalized.is_empty() {
        for word in kept.split_whitespace() {
            push_word(&mut normalized, word);
        }
    }
    normalized
}

fn push_word(text: &mut String, word: &str) {
    if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(word);
}

/// Hyphens, dashes and the minus sign are all written `-`.
fn plain_dash(char: char) -> char {
    match char {
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}' => '-',
        _ => char,
    }
}

fn is_punctuation(char: char) -> bool {
    match char {
        '+' | '<' | '=' | '>' | '^' | '|' | '~' => false,
        '!'..='/' | ':'..='@' | '['..='`' | '{'..='~' => true,
        _ if char.is_ascii() || char.is_alphanumeric() || char.is_whitespace() => false,
        _ => PUNCTUATION.is_match(char.encode_utf8(&mut [0; 4])),
    }
}

/// Whether the punctuation at this place is part of a number, a formula or a name such as C#.
fn carries_value(chars: &[char], at: usize) -> bool {
    let before = at.checked_sub(1).map(|at| chars[at]);
    let after = chars.get(at + 1).copied();
    let digit = |char: Option<char>| char.is_some_and(char::is_numeric);
    let letter = |char: Option<char>| char.is_some_and(char::is_alphabetic);
    let space = |char: Option<char>| char.is_some_and(char::is_whitespace);
    match chars[at] {
        '-' => {
            let next = chars[at + 1..].iter().copied().find(|char| !char.is_whitespace());
            digit(next) || (after == Some('.') && digit(chars.get(at + 2).copied())) || (space(before) && space(after))
        }
        '.' => digit(after) && (digit(before) || !letter(before)),
        ':' => digit(before) && digit(after),
        '*' | '/' => (digit(before) || letter(before)) && (digit(after) || letter(after)),
        ',' => digit(before) && digit(after) && !separates_thousands(chars, at),
        '#' => letter(before),
        _ => false,
    }
}

/// Whether exactly three digits follow.
fn separates_thousands(chars: &[char], at: usize) -> bool {
    chars[at + 1..].iter().take_while(|char| char.is_numeric()).count() == 3
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn case_articles_punctuation_and_space_do_not_matter() {
        assert_eq!(normalize_text(" The  “Eiffel\nTower”. "), "eiffel tower");
        assert_eq!(normalize_text("¿An ﬁsh?"), "fish");
        assert_eq!(normalize_text("**don't**"), "dont");
        assert_eq!(normalize_text("東京。"), "東京");
    }

    #[test]
    fn what_carries_a_value_stays() {
        for (text, normalized) in [
            ("−5", "-5"),
            ("1.5", "1.5"),
            ("$1,000.00.", "1000.00"),
            ("(1,2)", "1,2"),
            ("x - 1", "x - 1"),
            ("x+1", "x+1"),
            ("3/4", "3/4"),
            ("10:30.", "10:30"),
            ("C#", "c#"),
            ("well-known", "wellknown"),
        ] {
            assert_eq!(normalize_text(text), normalized);
        }
    }

    #[test]
    fn an_article_that_is_the_whole_text_stays() {
        assert_eq!(normalize_text("(A)"), "a");
        assert_eq!(normalize_text("..."), "");
    }

    proptest! {
        #[test]
        fn words_are_separated_by_single_spaces(text in any::<String>()) {
            let normalized = normalize_text(&text);
            prop_assert_eq!(normalized.split_whitespace().collect::<Vec<_>>().join(" "), normalized);
        }
    }
}
