//! `script_fraction(text TEXT, script TEXT) → DOUBLE`: the share of a text's letters that belong to a script, from 0 to 1.
//! NULL for NULL and where there are no letters.
//!
//! ```sql
//! SELECT script_fraction('Это test', 'cyrillic');   -- 0.43 (3 of 7 letters)
//! ```
//!
//! Scripts: latin, cyrillic, han, kana (hiragana and katakana), arabic, greek, hangul, devanagari; another one is an error.
//! Letters are Unicode's category L, scripts its property Script; digits, punctuation and combining marks do not count.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Float64Array};
use arrow::datatypes::DataType;
use datafusion_common::{Result, plan_err};
use regex::Regex;

use crate::arguments::Arguments;
use crate::function::{Definition, Kind};

pub(crate) const SCRIPT_FRACTION: Definition = Definition {
    name: "script_fraction",
    parameters: &[("text", Kind::Text), ("script", Kind::Text)],
    returns: || DataType::Float64,
    invoke,
    check: Some(|constants| match constants.get(1) {
        Some(Some(script)) => script.try_as_str().flatten().map_or(Ok(()), |script| letters_of(script).map(drop)),
        _ => Ok(()),
    }),
    description: "The share of a text's letters that belong to a script: latin, cyrillic, han, kana, arabic, greek, \
                  hangul or devanagari.",
    example: "SELECT script_fraction('Это test', 'cyrillic');",
    ..Definition::BLANK
};

static LETTERS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\p{L}+").expect("a constant pattern is valid"));

static SCRIPTS: LazyLock<Vec<(&str, Regex)>> = LazyLock::new(|| {
    [
        ("latin", r"[\p{L}&&\p{Latin}]+"),
        ("cyrillic", r"[\p{L}&&\p{Cyrillic}]+"),
        ("han", r"[\p{L}&&\p{Han}]+"),
        // The sign of a long vowel is common to both kana, so its own Script is Common.
        ("kana", r"[[\p{L}&&[\p{Hiragana}\p{Katakana}]]ー]+"),
        ("arabic", r"[\p{L}&&\p{Arabic}]+"),
        ("greek", r"[\p{L}&&\p{Greek}]+"),
        ("hangul", r"[\p{L}&&\p{Hangul}]+"),
        ("devanagari", r"[\p{L}&&\p{Devanagari}]+"),
    ]
    .into_iter()
    .map(|(name, letters)| (name, Regex::new(letters).expect("a constant pattern is valid")))
    .collect()
});

fn invoke(arguments: &Arguments) -> Result<ArrayRef> {
    let (texts, scripts) = (arguments.text(0)?, arguments.text(1)?);
    let mut fractions = Float64Array::builder(arguments.rows);
    for row in 0..arguments.rows {
        let fraction = match (texts.get(row), scripts.get(row)) {
            (Some(text), Some(script)) => script_fraction(text, letters_of(script)?),
            _ => None,
        };
        fractions.append_option(fraction);
    }
    Ok(Arc::new(fractions.finish()))
}

fn letters_of(script: &str) -> Result<&'static Regex> {
    match SCRIPTS.iter().find(|(name, _)| name.eq_ignore_ascii_case(script)) {
        Some((_, letters)) => Ok(letters),
        None => {
            let names: Vec<_> = SCRIPTS.iter().map(|(name, _)| *name).collect();
            plan_err!("script_fraction: the script '{script}' is not one of {}", names.join(", "))
        }
    }
}

fn script_fraction(text: &str, script: &Regex) -> Option<f64> {
    let count = |letters: &Regex| letters.find_iter(text).map(|run| run.as_str().chars().count()).sum::<usize>();
    let all = count(&LETTERS);
    (all > 0).then(|| count(script) as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_letters_count() {
        let fraction = |text, script| script_fraction(text, letters_of(script).unwrap());
        assert_eq!(fraction("Это test, 123!", "cyrillic"), Some(3.0 / 7.0));
        assert_eq!(fraction("タワー", "kana"), Some(1.0));
        assert_eq!(fraction("東京タワー", "Han"), Some(0.4));
        assert_eq!(fraction("हिन्दी", "devanagari"), Some(1.0));
        assert_eq!(fraction("123", "latin"), None);
    }

    #[test]
    fn an_unknown_script_is_an_error_that_lists_the_known() {
        let error = letters_of("klingon").unwrap_err().to_string();
        assert!(error.contains("klingon") && error.contains("devanagari"), "{error}");
    }
}
