//! `gold_index(target TEXT, choices TEXT[]) → BIGINT`: the zero-based place of the right choice, as lm-evaluation-harness
//! finds it for a rendered target. NULL where there is none, and for NULL.
//!
//! ```sql
//! SELECT gold_index('1', ['no', 'yes']);      -- 1
//! SELECT gold_index('yes', ['no', 'yes']);    -- 1
//! ```
//!
//! A target that Python's `str.isdigit` accepts is the place itself (`lm_eval/api/task.py`, `doc_to_target`), so digits that
//! `ast.literal_eval` refuses (`007`, `²`, `٣`) are NULL; any other is looked up among the choices.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::DataType;
use datafusion_common::Result;

use crate::arguments::Arguments;
use crate::function::{Definition, Kind};

pub(crate) const GOLD_INDEX: Definition = Definition {
    name: "gold_index",
    parameters: &[("target", Kind::Text), ("choices", Kind::TextList)],
    returns: || DataType::Int64,
    invoke,
    description: "The zero-based place of the right choice, as lm-evaluation-harness finds it for a rendered target.",
    example: "SELECT gold_index('yes', ['no', 'yes']);",
    ..Definition::BLANK
};

fn invoke(arguments: &Arguments) -> Result<ArrayRef> {
    let (targets, choices) = (arguments.text(0)?, arguments.text_list(1)?);
    let indexes = (0..arguments.rows).map(|row| gold_index(targets.get(row)?, &choices.get(row)?));
    Ok(Arc::new(indexes.collect::<Int64Array>()))
}

fn gold_index(target: &str, choices: &[Option<&str>]) -> Option<i64> {
    if is_digit(target) {
        let zeros_lead = target.len() > 1 && target.starts_with('0') && target.bytes().any(|b| b != b'0');
        let index: i64 = target.parse().ok().filter(|_| !zeros_lead)?;
        return usize::try_from(index).is_ok_and(|place| place < choices.len()).then_some(index);
    }
    choices.iter().position(|choice| *choice == Some(target)).map(|place| place as i64)
}

/// Python's `str.isdigit`.
pub(crate) fn is_digit(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_digit_char)
}

/// Decimal digits of any script, and the characters whose Unicode property Numeric_Type is Digit.
fn is_digit_char(char: char) -> bool {
    char.is_ascii_digit()
        || (!char.is_ascii()
            && char.is_numeric()
            && (DECIMAL.binary_search_by(|(first, last)| order(*first, *last, char)).is_ok()
                || DIGIT.binary_search_by(|(first, last)| order(*first, *last, char)).is_ok()))
}

fn order(first: char, last: char, char: char) -> std::cmp::Ordering {
    if last < char {
        std::cmp::Ordering::Less
    } else if first > char {
        std::cmp::Ordering::Greater
    } else {
        std::cmp::Ordering::Equal
    }
}

/// Decimal digits outside ASCII, first and last of each range (Unicode 14.0.0, category Nd).
const DECIMAL: [(char, char); 61] = [
    ('\u{660}', '\u{669}'),
    ('\u{6f0}', '\u{6f9}'),
    ('\u{7c0}', '\u{7c9}'),
    ('\u{966}', '\u{96f}'),
    ('\u{9e6}', '\u{9ef}'),
    ('\u{a66}', '\u{a6f}'),
    ('\u{ae6}', '\u{aef}'),
    ('\u{b66}', '\u{b6f}'),
    ('\u{be6}', '\u{bef}'),
    ('\u{c66}', '\u{c6f}'),
    ('\u{ce6}', '\u{cef}'),
    ('\u{d66}', '\u{d6f}'),
    ('\u{de6}', '\u{def}'),
    ('\u{e50}', '\u{e59}'),
    ('\u{ed0}', '\u{ed9}'),
    ('\u{f20}', '\u{f29}'),
    ('\u{1040}', '\u{1049}'),
    ('\u{1090}', '\u{1099}'),
    ('\u{17e0}', '\u{17e9}'),
    ('\u{1810}', '\u{1819}'),
    ('\u{1946}', '\u{194f}'),
    ('\u{19d0}', '\u{19d9}'),
    ('\u{1a80}', '\u{1a89}'),
    ('\u{1a90}', '\u{1a99}'),
    ('\u{1b50}', '\u{1b59}'),
    ('\u{1bb0}', '\u{1bb9}'),
    ('\u{1c40}', '\u{1c49}'),
    ('\u{1c50}', '\u{1c59}'),
    ('\u{a620}', '\u{a629}'),
    ('\u{a8d0}', '\u{a8d9}'),
    ('\u{a900}', '\u{a909}'),
    ('\u{a9d0}', '\u{a9d9}'),
    ('\u{a9f0}', '\u{a9f9}'),
    ('\u{aa50}', '\u{aa59}'),
    ('\u{abf0}', '\u{abf9}'),
    ('\u{ff10}', '\u{ff19}'),
    ('\u{104a0}', '\u{104a9}'),
    ('\u{10d30}', '\u{10d39}'),
    ('\u{11066}', '\u{1106f}'),
    ('\u{110f0}', '\u{110f9}'),
    ('\u{11136}', '\u{1113f}'),
    ('\u{111d0}', '\u{111d9}'),
    ('\u{112f0}', '\u{112f9}'),
    ('\u{11450}', '\u{11459}'),
    ('\u{114d0}', '\u{114d9}'),
    ('\u{11650}', '\u{11659}'),
    ('\u{116c0}', '\u{116c9}'),
    ('\u{11730}', '\u{11739}'),
    ('\u{118e0}', '\u{118e9}'),
    ('\u{11950}', '\u{11959}'),
    ('\u{11c50}', '\u{11c59}'),
    ('\u{11d50}', '\u{11d59}'),
    ('\u{11da0}', '\u{11da9}'),
    ('\u{16a60}', '\u{16a69}'),
    ('\u{16ac0}', '\u{16ac9}'),
    ('\u{16b50}', '\u{16b59}'),
    ('\u{1d7ce}', '\u{1d7ff}'),
    ('\u{1e140}', '\u{1e149}'),
    ('\u{1e2f0}', '\u{1e2f9}'),
    ('\u{1e950}', '\u{1e959}'),
    ('\u{1fbf0}', '\u{1fbf9}'),
];

/// Superscripts, circled digits and the like (Unicode 14.0.0, Numeric_Type=Digit).
const DIGIT: [(char, char); 20] = [
    ('\u{b2}', '\u{b3}'),
    ('\u{b9}', '\u{b9}'),
    ('\u{1369}', '\u{1371}'),
    ('\u{19da}', '\u{19da}'),
    ('\u{2070}', '\u{2070}'),
    ('\u{2074}', '\u{2079}'),
    ('\u{2080}', '\u{2089}'),
    ('\u{2460}', '\u{2468}'),
    ('\u{2474}', '\u{247c}'),
    ('\u{2488}', '\u{2490}'),
    ('\u{24ea}', '\u{24ea}'),
    ('\u{24f5}', '\u{24fd}'),
    ('\u{24ff}', '\u{24ff}'),
    ('\u{2776}', '\u{277e}'),
    ('\u{2780}', '\u{2788}'),
    ('\u{278a}', '\u{2792}'),
    ('\u{10a40}', '\u{10a43}'),
    ('\u{10e60}', '\u{10e68}'),
    ('\u{11052}', '\u{1105a}'),
    ('\u{1f100}', '\u{1f10a}'),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_places_and_other_texts_are_looked_up() {
        let choices = [Some("no"), Some("yes"), Some("½")];
        assert_eq!(gold_index("1", &choices), Some(1));
        assert_eq!(gold_index("yes", &choices), Some(1));
        assert_eq!(gold_index("½", &choices), Some(2));
        for none in ["3", "01", "²", "٣", "maybe", "", "99999999999999999999"] {
            assert_eq!(gold_index(none, &choices), None, "{none}");
        }
    }

    #[test]
    fn digits_are_what_python_says() {
        for digits in ["0", "١٢", "²", "①", "९"] {
            assert!(is_digit(digits), "{digits}");
        }
        for other in ["", "½", "Ⅳ", "一", "1.0", "-1"] {
            assert!(!is_digit(other), "{other}");
        }
    }
}
