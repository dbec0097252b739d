//! `normalize_math_answer(text TEXT) → TEXT`: a LaTeX answer without units, text marks and thousands commas, and with its
//! short forms (`\frac12`, `\sqrt3`) written out. NULL for NULL.
//!
//! ```sql
//! SELECT normalize_math_answer('x = 1,000\text{ cm}');   -- 1000
//! ```
//!
//! The rules are those of Minerva (Lewkowycz et al., 2022, appendix D) as lm-evaluation-harness 0.4.13 has them
//! (`minerva_math/utils.py`, `normalize_final_answer`), in its order: what stands after the last `=`; unit words; fixed
//! replacements; unit words again, glued ones, but not within LaTeX commands; one `$…$`; the content of `\text`,
//! `\textbf`, `\overline` and `\boxed`; short forms; commas between groups of three digits.

use std::sync::{Arc, LazyLock};

use arrow::array::StringViewArray;
use regex::{Captures, Regex};

use crate::function::{Definition, Kind};

pub(crate) const NORMALIZE_MATH_ANSWER: Definition = Definition {
    name: "normalize_math_answer",
    parameters: &[("text", Kind::Text)],
    invoke: |arguments| {
        let texts = arguments.text(0)?;
        let normalized = (0..arguments.rows).map(|row| texts.get(row).map(normalize));
        Ok(Arc::new(normalized.collect::<StringViewArray>()))
    },
    description: "A LaTeX answer without units, text marks and thousands commas, its short forms written out.",
    example: r"SELECT normalize_math_answer('x = 1,000\text{ cm}');",
    ..Definition::BLANK
};

/// Unit words, and marks that say nothing of the value, in the order in which they go.
const REMOVED: [&str; 41] = [
    "square",
    "ways",
    "integers",
    "dollars",
    "mph",
    "inches",
    "ft",
    "hours",
    "km",
    "units",
    "\\ldots",
    "sue",
    "points",
    "feet",
    "minutes",
    "digits",
    "cents",
    "degrees",
    "cm",
    "gm",
    "pounds",
    "meters",
    "meals",
    "edges",
    "students",
    "childrentickets",
    "multiples",
    "\\text{s}",
    "\\text{.}",
    "\\text{\ns}",
    "\\text{}^2",
    "\\text{}^3",
    "\\text{\n}",
    "\\text{}",
    "\\mathrm{th}",
    "^\\circ",
    "^{\\circ}",
    "\\;",
    ",\\!",
    "{,}",
    "\"",
];

const REPLACED: [(&str, &str); 10] = [
    ("an ", ""),
    ("a ", ""),
    (".$", "$"),
    ("\\$", ""),
    ("\\ ", ""),
    (" ", ""),
    ("mbox", "text"),
    (",\\text{and}", ","),
    ("\\text{and}", ","),
    ("\\text{m}", "\\text{}"),
];

struct Patterns {
    /// A unit word that stands alone; one that follows a backslash is a LaTeX command.
    words: Vec<Regex>,
    command: Regex,
    math: Regex,
    marks: [Regex; 4],
    fraction: Regex,
    indexed_root: Regex,
    root: Regex,
    thousands: Regex,
}

static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| {
    let pattern = |text: &str| Regex::new(text).expect("a constant pattern");
    Patterns {
        words: removed().filter(|word| is_word(word)).map(|word| pattern(&format!(r"\b{word}\b"))).collect(),
        command: pattern(r"\\[a-zA-Z]+"),
        math: pattern(r"(.*?)(\$)(.*?)(\$)(.*)"),
        marks: [
            pattern(r"\\text\{(.*?)\}"),
            pattern(r"\\textbf\{(.*?)\}"),
            pattern(r"\\overline\{(.*?)\}"),
            pattern(r"\\boxed\{(.*)\}"),
        ],
        fraction: pattern(r"(frac)([^{])(.)"),
        indexed_root: pattern(r"(sqrt)(\[[^\]]*\])(\w)"),
        root: pattern(r"(sqrt)([^\[{])"),
        thousands: pattern(r"^-?\d{1,3}(,\d{3})+$"),
    }
});

fn removed() -> impl Iterator<Item = &'static str> {
    REMOVED.into_iter().chain(["\\dots"])
}

fn is_word(text: &str) -> bool {
    text.chars().all(char::is_alphabetic)
}

fn normalize(answer: &str) -> String {
    let patterns = &*PATTERNS;
    let mut text = answer.rsplit('=').next().unwrap_or_default().to_owned();
    for word in &patterns.words {
        if word.is_match(&text) {
            let kept = |found: &Captures| {
                let found = found.get_match();
                if text[..found.start()].ends_with('\\') { found.as_str().to_owned() } else { String::new() }
            };
            text = word.replace_all(&text, kept).into_owned();
        }
    }
    for (from, to) in REPLACED {
        text = text.replace(from, to);
    }
    for mark in removed() {
        text = if is_word(mark) { without_glued(&text, mark, &patterns.command) } else { text.replace(mark, "") };
    }
    text = patterns.math.replace_all(&text, "$$$3$$").into_owned();
    for mark in &patterns.marks {
        text = mark.replace_all(&text, "$1").into_owned();
    }
    text = patterns.fraction.replace_all(&text, "frac{$2}{$3}").into_owned();
    text = patterns.indexed_root.replace_all(&text, "$1$2{$3}").into_owned();
    text = patterns.root.replace_all(&text, "sqrt{$2}").into_owned();
    text = text.replace('$', "");
    if patterns.thousands.is_match(&text) { text.replace(',', "") } else { text }
}

/// Without a unit word, wherever it stands but in a LaTeX command.
fn without_glued(text: &str, word: &str, command: &Regex) -> String {
    if !text.contains(word) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    for found in command.find_iter(text) {
        out.push_str(&text[end..found.start()].replace(word, ""));
        out.push_str(found.as_str());
        end = found.end();
    }
    out.push_str(&text[end..].replace(word, ""));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_lose_what_is_not_their_value() {
        for (answer, expected) in [
            ("x = 1,000\\text{ cm}", "1000"),
            ("\\frac12", "\\frac{1}{2}"),
            ("\\sqrt3", "\\sqrt{3}"),
            ("\\sqrt[3]8", "\\sqrt[3]{8}"),
            ("\\left(0, 1\\right)", "\\left(0,1\\right)"),
            ("0,1", "0,1"),
            ("2\\pi cm", "2\\pi"),
            ("the answer is $5$ points", "5"),
            ("10\\text{ dollars}", "10"),
            ("90^\\circ", "90"),
            ("", ""),
        ] {
            assert_eq!(normalize(answer), expected, "{answer}");
        }
    }
}
