//! `has_unclosed_delimiters(text TEXT) → BOOLEAN`: whether a text opens something that it does not close, as text cut off
//! in the middle does: a ``` fence, `$…$`, `\(…\)`, `\[…\]` or `{…}`. NULL for NULL.
//!
//! ```sql
//! SELECT has_unclosed_delimiters('The area is $\frac{1}{2}');   -- true
//! SELECT has_unclosed_delimiters('It costs $5.');               -- false
//! ```
//!
//! What is closed where nothing is open counts too. Code between fences or backticks is passed over; `\{`, `\}`, `\$` and
//! `\\` are no delimiters; an odd number of `$` is only found if it stays odd without those that begin an amount of money.

use std::sync::{Arc, LazyLock};

use arrow::array::BooleanArray;
use arrow::datatypes::DataType;
use regex::Regex;

use crate::function::{Definition, Kind};

pub(crate) const HAS_UNCLOSED_DELIMITERS: Definition = Definition {
    name: "has_unclosed_delimiters",
    parameters: &[("text", Kind::Text)],
    returns: || DataType::Boolean,
    invoke: |arguments| {
        let texts = arguments.text(0)?;
        let found = (0..arguments.rows).map(|row| texts.get(row).map(has_unclosed_delimiters));
        Ok(Arc::new(found.collect::<BooleanArray>()))
    },
    description: "Whether a text opens a code fence, LaTeX formula or brace that it does not close.",
    example: "SELECT has_unclosed_delimiters('The area is $x + 1');",
    ..Definition::BLANK
};

/// Closed fences and inline code.
static CODE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?s)```.*?```|`[^`\n]+`").expect("a constant pattern is valid"));

/// What follows the `$` of an amount of money.
static AMOUNT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^[0-9][0-9,]*(?:\.[0-9]+)?(?:[\s.,;:!?)]|$)").expect("a constant pattern is valid"));

fn has_unclosed_delimiters(text: &str) -> bool {
    if text.matches("```").count() % 2 == 1 {
        return true;
    }
    let text = CODE.replace_all(text, " ");
    let (mut braces, mut parentheses, mut brackets) = (0i64, 0i64, 0i64);
    let (mut dollars, mut amounts) = (0, 0);
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '{' => braces += 1,
            '}' => braces -= 1,
            '$' => {
                dollars += 1;
                amounts += usize::from(AMOUNT.is_match(&text[at + 1..]));
            }
            '\\' => match chars.next() {
                Some((_, '(')) => parentheses += 1,
                Some((_, ')')) => parentheses -= 1,
                Some((_, '[')) => brackets += 1,
                Some((_, ']')) => brackets -= 1,
                _ => {}
            },
            _ => {}
        }
        if braces < 0 || parentheses < 0 || brackets < 0 {
            return true;
        }
    }
    braces + parentheses + brackets > 0 || (dollars % 2 == 1 && (dollars - amounts) % 2 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_is_found() {
        for text in ["$x + 1", r"\(x", r"\[ x \)", r"\frac{1}{2", "```rust\nfn", "x}", "$x$ costs $y"] {
            assert!(has_unclosed_delimiters(text), "{text}");
        }
    }

    #[test]
    fn whole_texts_and_amounts_of_money_are_no_cuts() {
        for text in [
            "It costs $5.",
            "$x$ costs $5",
            "$5 + x$",
            r"\{1, 2\} \(a\) \[b\] \\[2pt]",
            "```\nif {\n```",
            "use `{` here",
            r"\$",
            "",
        ] {
            assert!(!has_unclosed_delimiters(text), "{text}");
        }
    }
}
