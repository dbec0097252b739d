//! `detokenize(text TEXT) → TEXT`: takes away the blanks that a tokenizer put before `n't`, `)`, `'`, `.` and `,`, after
//! `(` and on both sides of `"`. NULL for NULL.
//!
//! ```sql
//! SELECT detokenize('He did n''t say ( or write ) it .');   -- He didn't say (or write) it.
//! ```
//!
//! The rules and their order are those of `general_detokenize` in lm-evaluation-harness (`lm_eval/utils.py`).

use std::sync::{Arc, LazyLock};

use arrow::array::StringViewArray;
use regex::Regex;

use crate::function::{Definition, Kind};

pub(crate) const DETOKENIZE: Definition = Definition {
    name: "detokenize",
    parameters: &[("text", Kind::Text)],
    invoke: |arguments| {
        let texts = arguments.text(0)?;
        let joined = (0..arguments.rows).map(|row| texts.get(row).map(detokenize));
        Ok(Arc::new(joined.collect::<StringViewArray>()))
    },
    description: "Takes away the blanks that a tokenizer put around punctuation, brackets and quotes.",
    example: "SELECT detokenize('He did n''t say it .');",
    ..Definition::BLANK
};

static BEFORE_PUNCTUATION: LazyLock<Regex> = LazyLock::new(|| Regex::new(" (['.,])").expect("a constant pattern"));

fn detokenize(text: &str) -> String {
    let mut text = text.to_owned();
    for (spaced, plain) in [(" n't", "n't"), (" )", ")"), ("( ", "("), ("\" ", "\""), (" \"", "\"")] {
        if text.contains(spaced) {
            text = text.replace(spaced, plain);
        }
    }
    BEFORE_PUNCTUATION.replace_all(&text, "$1").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_around_punctuation_go() {
        assert_eq!(detokenize("He did n't , ( \" or \" ) it 's ."), "He didn't, (\"or\") it's.");
        assert_eq!(detokenize("a  . b"), "a . b");
    }
}
