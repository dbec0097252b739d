//! The words by which texts are compared: a text comes in, its lower-case words come out. Used by `rouge_l`,
//! `ngram_containment` and `token_f1`.

use unicode_normalization::char::is_combining_mark;

/// The words of a text that has been put into lower case: runs of letters, marks and digits; each character of a script
/// without spaces between words is a word.
pub(crate) fn words(lower_case: &str) -> impl Iterator<Item = &str> {
    let mut rest = lower_case;
    std::iter::from_fn(move || {
        rest = &rest[rest.find(is_of_word)?..];
        let first = rest.chars().next()?;
        let end = match is_word_alone(first) {
            true => first.len_utf8(),
            false => rest.find(|char| !is_of_word(char) || is_word_alone(char)).unwrap_or(rest.len()),
        };
        let word = &rest[..end];
        rest = &rest[end..];
        Some(word)
    })
}

fn is_of_word(char: char) -> bool {
    if char.is_ascii() { char.is_ascii_alphanumeric() } else { char.is_alphanumeric() || is_combining_mark(char) }
}

/// Whether a character is a word by itself: Chinese characters and Japanese kana.
pub(crate) fn is_word_alone(char: char) -> bool {
    matches!(char,
        '\u{3005}'..='\u{3007}' | '\u{3041}'..='\u{3096}' | '\u{309d}'..='\u{309f}' | '\u{30a1}'..='\u{30fa}'
        | '\u{30fd}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{ff66}'..='\u{ff9d}' | '\u{20000}'..='\u{323af}')
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
        assert_eq!(words(" ?! ").count(), 0);
    }
}
