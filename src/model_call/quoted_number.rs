//! Numbers that models write in quotes. In: a text. Out: the number, if it is one and no other.

use std::str::FromStr;

/// A number in quotes. Commas go only between groups of three digits, as in `1,234.5`: another is a decimal comma or stands
/// between several numbers, and without it the text would be some other number.
pub fn quoted_number<T: FromStr>(text: &str) -> Option<T> {
    let text = text.trim();
    if !text.contains(',') {
        return text.parse().ok();
    }
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction) = match unsigned.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (unsigned, None),
    };
    let mut groups = whole.split(',');
    let grouped = groups.next().is_some_and(|group| group.len() <= 3 && digits(group) && !group.starts_with('0'))
        && groups.all(|group| group.len() == 3 && digits(group))
        && fraction.is_none_or(digits);
    if grouped { text.replace(',', "").parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_go_from_a_number_only_between_its_groups_of_digits() {
        for (text, n) in [("1,234", 1234), ("-12,345,678", -12_345_678), (" +1,234 ", 1234), ("7", 7)] {
            assert_eq!(quoted_number::<i64>(text), Some(n), "{text}");
            assert_eq!(quoted_number::<f64>(text), Some(n as f64), "{text}");
        }
        assert_eq!(quoted_number::<f64>("1,234.5"), Some(1234.5));
        for text in [
            "3,14", "0,125", "-0,250", "1,2,3", "1234,567", ",123", "1,,234", "1,234,", "1.5,000", "1,234.", "1,23e",
            "-,123",
        ] {
            assert_eq!(quoted_number::<i64>(text), None, "{text}");
            assert_eq!(quoted_number::<f64>(text), None, "{text}");
        }
    }
}
