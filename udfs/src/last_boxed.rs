//! `last_boxed(text TEXT) → TEXT`: what stands in the last `\boxed{…}` of a LaTeX solution, found by matching braces. NULL
//! where there is none or it does not close, and for NULL.
//!
//! ```sql
//! SELECT last_boxed('So $x = \boxed{\frac{1}{2}}$.');   -- \frac{1}{2}
//! ```
//!
//! `\boxed x$` without braces gives `x`. The rules are those of MATH's own evaluation (Hendrycks et al., 2021,
//! `last_boxed_only_string` and `remove_boxed`), which lm-evaluation-harness uses for hendrycks_math.

use std::sync::Arc;

use arrow::array::StringViewArray;

use crate::function::{Definition, Kind};

pub(crate) const LAST_BOXED: Definition = Definition {
    name: "last_boxed",
    parameters: &[("text", Kind::Text)],
    invoke: |arguments| {
        let texts = arguments.text(0)?;
        let answers = (0..arguments.rows).map(|row| texts.get(row).and_then(last_boxed));
        Ok(Arc::new(answers.collect::<StringViewArray>()))
    },
    description: "What stands in the last \\boxed{…} of a LaTeX solution.",
    example: r"SELECT last_boxed('So $x = \boxed{\frac{1}{2}}$.');",
    ..Definition::BLANK
};

fn last_boxed(text: &str) -> Option<&str> {
    const SPACED: &str = "\\boxed ";
    if let Some(at) = text.rfind(SPACED) {
        return text[at + SPACED.len()..].split('$').next();
    }
    let boxed = &text[text.rfind("\\boxed")?..];
    let mut open = 0usize;
    for (at, char) in boxed.char_indices() {
        match char {
            '{' => open += 1,
            '}' => {
                // A brace that closes nothing goes below zero there, and never comes back to it here.
                open = open.checked_sub(1)?;
                if open == 0 {
                    return boxed[..at].strip_prefix("\\boxed{");
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_box_is_found_by_its_braces() {
        assert_eq!(last_boxed("\\boxed{1} or \\boxed{\\frac{a}{b}}."), Some("\\frac{a}{b}"));
        assert_eq!(last_boxed("$x = \\boxed 7$ \\text{cm}"), Some("7"));
        assert_eq!(last_boxed("\\boxed{1} or \\boxed{2"), None);
        assert_eq!(last_boxed("\\fbox{3}"), None);
        assert_eq!(last_boxed("\\boxed"), None);
        assert_eq!(last_boxed("none"), None);
    }
}
