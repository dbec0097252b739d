//! The words by which texts are compared: a text comes in, its lower-case words come out. Used by `rouge_l` and
//! `ngram_containment`.

use std::sync::LazyLock;

use regex::Regex;

/// A run of letters, marks and digits; each Chinese or Japanese character is a word, for there are no spaces.
static WORD: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(r"[\p{Han}\p{Hiragana}\p{Katakana}]|", r"[\p{L}\p{M}\p{N}--[\p{Han}\p{Hiragana}\p{Katakana}]]+"))
        .expect("a constant pattern is valid")
});

/// The words of a text that has been put into lower case.
pub(crate) fn words(lower_case: &str) -> impl Iterator<Item = &str> {
    WORD.find_iter(lower_case).map(|word| word.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_letters_and_digits_or_single_ideographs() {
        assert_eq!(
            words("don't stop, 2nd हिन्दी 東京tower").collect::<Vec<_>>(),
            ["don", "t", "stop", "2nd", "हिन्दी", "東", "京", "tower"]
        );
    }
}
