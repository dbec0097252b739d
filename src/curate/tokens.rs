//! The tokens by which texts are compared: a text comes in, hashes of its tokens with their places in it go out.
//! What is only form is gone: case, punctuation, white space, Unicode's compatibility forms, accents, characters of no
//! width. What carries a value stays: numbers with their decimals, and signs of arithmetic as tokens of their own.
//!
//! Words are runs of letters, marks and digits. Where a script has no spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese)
//! each character is a token, so that n-grams of tokens are n-grams of words in one text and of characters in another.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// What a token weighs in a count of words: a word 2, a sign or a character of a script without spaces 1.
pub(super) const WORD: u32 = 2;
const CHARACTER: u32 = 1;

/// The tokens of one text. Kept to be filled again, so that texts cost no allocation.
#[derive(Debug, Default, Clone)]
pub(super) struct Tokens {
    pub hashes: Vec<u64>,
    /// First and last byte + 1 in the text.
    pub places: Vec<(u32, u32)>,
    /// See [`WORD`].
    pub weights: Vec<u8>,
    word: String,
    start: usize,
}

/// A hash of several hashes in their order.
pub(super) fn hash_of(hashes: &[u64]) -> u64 {
    hashes.iter().fold(hashes.len() as u64 ^ 0x9e37_79b9_7f4a_7c15, |all, hash| mix(all ^ hash))
}

/// The two halves of a product with a constant, folded: the mixing step of wyhash, with its constant.
fn mix(value: u64) -> u64 {
    let product = u128::from(value) * 0xa076_1d64_78bd_642f;
    (product as u64) ^ ((product >> 64) as u64)
}

/// wyhash's other constants: over a word's length, and over its last bytes.
const LENGTHS: u64 = 0xe703_7ed1_a0b4_28db;
const LAST: u64 = 0x8ebc_6af0_9c88_c6e3;

/// A hash of a word; `mask` is put over its bytes, 0x20 to make ASCII letters small (digits have that bit already).
fn hash_word(word: &[u8], mask: u8) -> u64 {
    let mut hash = word.len() as u64 ^ LENGTHS;
    let mut chunks = word.chunks_exact(8);
    for chunk in &mut chunks {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(chunk);
        hash = mix(hash ^ (u64::from_le_bytes(bytes) | u64::from_ne_bytes([mask; 8])));
    }
    let rest = chunks.remainder();
    let mut bytes = [0; 8];
    for (place, byte) in bytes.iter_mut().zip(rest) {
        *place = byte | mask;
    }
    mix(mix(hash ^ u64::from_le_bytes(bytes)) ^ LAST)
}

/// How many ASCII letters and digits a text begins with; and, where they are few, the hash of their word in small letters,
/// as [`hash_word`] gives it. Eight bytes are looked at together: most words are shorter.
fn plain_word(text: &[u8]) -> (usize, Option<u64>) {
    let Some(eight) = text.first_chunk::<8>() else {
        return (text.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count(), None);
    };
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let eight = u64::from_le_bytes(*eight);
    // The high bit of each byte: whether it lies between two others, all of them ASCII.
    let between = |bytes: u64, first: u8, last: u8| {
        let at_least = |least: u8| (bytes & !HIGH) + u64::from_ne_bytes([0x80 - least; 8]);
        at_least(first) & !at_least(last + 1) & !bytes & HIGH
    };
    let small = eight | u64::from_ne_bytes([0x20; 8]);
    let others = !(between(small, b'a', b'z') | between(eight, b'0', b'9')) & HIGH;
    if others == 0 {
        let more = text[8..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        return (8 + more, None);
    }
    let bits = others.trailing_zeros() & !7;
    let length = bits / 8;
    let word = small & ((1 << bits) - 1);
    (length as usize, Some(mix(mix(u64::from(length) ^ LENGTHS ^ word) ^ LAST)))
}

/// Whether what follows plain letters and digits neither goes on with their word nor changes it.
fn ends_word(after: &[u8]) -> bool {
    match after {
        [b'\'', ..] | [b'.' | b',', b'0'..=b'9', ..] => false,
        [byte, ..] => byte.is_ascii(),
        [] => true,
    }
}

impl Tokens {
    /// The tokens of a text, in the place of those of the text before.
    pub fn read(&mut self, text: &str) {
        self.hashes.clear();
        self.places.clear();
        self.weights.clear();
        self.word.clear();
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let byte = bytes[at];
            // A plain word at once: of ASCII letters and digits, and nothing behind it that may belong to it.
            if self.word.is_empty() {
                if byte == b' ' {
                    at += 1;
                    continue;
                }
                let (length, short) = plain_word(&bytes[at..]);
                let end = at + length;
                if length > 0 && ends_word(&bytes[end..]) {
                    let hash = short.unwrap_or_else(|| hash_word(&bytes[at..end], 0x20));
                    self.push(hash, at, end, WORD as u8);
                    at = end;
                    continue;
                }
            }
            if byte.is_ascii() {
                self.ascii(text, at, byte);
                at += 1;
                continue;
            }
            let Some(char) = text[at..].chars().next() else { break };
            let end = at + char.len_utf8();
            self.wide(text, at, end, char);
            at = end;
        }
        self.end_word(bytes.len());
    }

    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    fn ascii(&mut self, text: &str, at: usize, byte: u8) {
        if byte.is_ascii_alphanumeric() {
            self.letter(at, byte.to_ascii_lowercase() as char);
            return;
        }
        let bytes = text.as_bytes();
        let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
        let (before, after) = (at.checked_sub(1), Some(at + 1));
        match byte {
            // don't, 3.5, 1,000: one word each.
            b'\'' if !self.word.is_empty() => {}
            b'.' if digit(before) && digit(after) => self.letter(at, '.'),
            b',' if digit(before) && separates_thousands(&bytes[at + 1..]) => {}
            b'+' | b'*' | b'/' | b'=' | b'<' | b'>' | b'^' | b'%' => {
                self.end_word(at);
                self.alone(at, at + 1, byte as char, CHARACTER as u8);
            }
            b'-' => self.minus(text, at, at + 1),
            _ => self.end_word(at),
        }
    }

    fn wide(&mut self, text: &str, at: usize, end: usize, char: char) {
        match char {
            // No width: soft hyphen, zero-width spaces and joiners, marks of direction, byte order mark.
            '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{fe00}'..='\u{fe0f}' => {}
            '\u{2019}' | '\u{2bc}' if !self.word.is_empty() => {}
            '\u{2010}'..='\u{2015}' | '\u{2212}' => self.minus(text, at, end),
            '×' | '·' | '⋅' => self.sign(at, end, '*'),
            '÷' => self.sign(at, end, '/'),
            '±' | '\u{2200}'..='\u{22ff}' => self.sign(at, end, char),
            _ if is_alone(char) => {
                self.end_word(at);
                self.alone(at, end, char, CHARACTER as u8);
            }
            // Hangul is composed, and marks of its kin are told apart.
            '\u{ac00}'..='\u{d7a3}' => self.letter(at, char),
            _ => {
                for part in std::iter::once(char).nfkd() {
                    if matches!(part, '\u{300}'..='\u{36f}') {
                        continue;
                    }
                    if is_alone(part) {
                        self.end_word(at);
                        self.alone(at, end, part, CHARACTER as u8);
                    } else if part.is_alphanumeric() {
                        part.to_lowercase().for_each(|lower| self.letter(at, lower));
                    } else if is_combining_mark(part) {
                        // A mark behind a character that stands alone is dropped with its own token.
                        if !self.word.is_empty() {
                            self.letter(at, part);
                        }
                    } else {
                        self.end_word(at);
                    }
                }
            }
        }
    }

    fn letter(&mut self, at: usize, char: char) {
        if self.word.is_empty() {
            self.start = at;
        }
        self.word.push(char);
    }

    fn sign(&mut self, at: usize, end: usize, char: char) {
        self.end_word(at);
        self.alone(at, end, char, CHARACTER as u8);
    }

    /// A minus stands before a number and not behind a letter; other hyphens and dashes end a word.
    fn minus(&mut self, text: &str, at: usize, end: usize) {
        let before = text[..at].chars().next_back();
        let is_minus = !before.is_some_and(char::is_alphabetic)
            && text[end..].trim_start_matches(' ').starts_with(|after: char| after.is_ascii_digit());
        self.end_word(at);
        if is_minus {
            self.alone(at, end, '-', CHARACTER as u8);
        }
    }

    fn alone(&mut self, start: usize, end: usize, char: char, weight: u8) {
        self.push(hash_word(char.encode_utf8(&mut [0; 4]).as_bytes(), 0), start, end, weight);
    }

    fn end_word(&mut self, end: usize) {
        if !self.word.is_empty() {
            let hash = hash_word(self.word.as_bytes(), 0);
            let start = self.start;
            self.push(hash, start, end, WORD as u8);
            self.word.clear();
        }
    }

    fn push(&mut self, hash: u64, start: usize, end: usize, weight: u8) {
        self.hashes.push(hash);
        self.places.push((start as u32, end as u32));
        self.weights.push(weight);
    }
}

/// Whether exactly three digits follow.
fn separates_thousands(after: &[u8]) -> bool {
    after.iter().take_while(|byte| byte.is_ascii_digit()).take(4).count() == 3
}

/// Characters of scripts without spaces between words.
fn is_alone(char: char) -> bool {
    matches!(char,
        '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
        | '\u{3005}'..='\u{3007}' | '\u{3041}'..='\u{3096}' | '\u{309d}'..='\u{309f}' | '\u{30a1}'..='\u{30fa}'
        | '\u{30fc}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Tokens {
        let mut tokens = Tokens::default();
        tokens.read(text);
        tokens
    }

    fn pieces(text: &str) -> Vec<&str> {
        read(text).places.iter().map(|&(start, end)| &text[start as usize..end as usize]).collect()
    }

    #[test]
    fn words_and_numbers_and_single_characters_are_tokens() {
        assert_eq!(pieces("Don't stop: 1,000.50 apples, x+1."), ["Don't", "stop", "1,000.50", "apples", "x", "+", "1"]);
        assert_eq!(pieces("東京 tower は"), ["東", "京", "tower", "は"]);
        assert_eq!(pieces("well-known, 5 - 3 = -2"), ["well", "known", "5", "-", "3", "=", "-", "2"]);
        assert!(pieces(" ?! … ").is_empty());
    }

    #[test]
    fn form_does_not_matter() {
        for (a, b) in [
            ("What is the CAFÉ's menu?", "what is  the cafe\u{301}s\n“menu”"),
            ("ｆｕｌｌ ﬁsh", "full fish"),
            ("zero\u{200b}width so\u{ad}ft", "zerowidth soft"),
            ("1,000 dollars", "1000 dollars"),
            ("6 × 7 ÷ 2 − 1", "6 * 7 / 2 - 1"),
            ("ｶﾒﾗ", "カメラ"),
        ] {
            assert_eq!(read(a).hashes, read(b).hashes, "{a} {b}");
        }
        for (a, b) in [("3 + 4", "3 - 4"), ("3.5", "35"), ("-5", "5"), ("か", "が"), ("x<1", "x>1"), ("5%", "5")] {
            assert_ne!(read(a).hashes, read(b).hashes, "{a} {b}");
        }
    }

    #[test]
    fn a_word_is_the_same_however_it_is_read() {
        // The first is read at once, the second by its characters.
        for word in ["a", "Abc9", "twelve34", "TWELVE345", "seventeenletters1"] {
            assert_eq!(read(&format!("{word} x")).hashes[0], read(&format!("{word}\u{200b} x")).hashes[0], "{word}");
        }
        assert_eq!(read("A").hashes, read("a").hashes);
        assert_ne!(read("ab").hashes, read("ba").hashes);
    }

    proptest! {
        /// The one with characters of no width in it is read character by character.
        #[test]
        fn words_read_at_once_are_those_read_by_their_characters(words in prop::collection::vec("[a-zA-Z0-9]{1,20}", 0..6)) {
            let apart = |behind: &str| words.iter().map(|word| format!("{word}{behind} ")).collect::<String>();
            prop_assert_eq!(read(&apart("")).hashes, read(&apart("\u{200b}")).hashes);
            prop_assert_eq!(read(&apart(".")).hashes, read(&apart("")).hashes);
            prop_assert_eq!(read(apart("").trim_end()).hashes.len(), words.len());
        }

        #[test]
        fn places_are_whole_characters_in_order(text in any::<String>()) {
            let tokens = read(&text);
            let mut last = 0;
            for &(start, end) in &tokens.places {
                prop_assert!(text.get(start as usize..end as usize).is_some());
                prop_assert!(start >= last || start <= end);
                last = start;
            }
        }
    }
}
