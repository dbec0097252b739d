//! Numbers as people write them in answers: a text comes in, its exact value comes out, so that '1,000', '$1000.0' and
//! '2000/2' are one value and nothing is lost to floating point.

use std::sync::LazyLock;

use regex::Regex;

/// The exact value of a number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Number {
    /// A reduced fraction with a positive denominator.
    Fraction(i128, i128),
    /// A decimal with too many digits for that: sign, digits without leading zeros, exponent.
    Long(bool, String, i64),
}

/// Sign, amount sign, sign, digits, decimals, exponent; then a percent sign and a full stop.
static DECIMAL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"^([+-]?)\s*[$€£¥]?\s*([+-]?)",
        r"([0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)?(?:\.([0-9]*))?",
        r"(?:[eE]([+-]?[0-9]{1,2}))?\s*%?\.?$"
    ))
    .expect("a constant pattern is valid")
});

static FRACTION: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^([+-]?)([0-9]+)\s*/\s*([0-9]+)\.?$").expect("a constant pattern is valid"));

/// The value of a text that is one number and nothing else. Signs of currency and percent do not change it: '5%' is 5.
pub(crate) fn parse_number(text: &str) -> Option<Number> {
    let text = text.trim();
    // Most texts are no numbers; do not run the patterns over them.
    if text.len() > 400 || !text.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let text = text.replace('\u{2212}', "-");
    if let Some(parts) = FRACTION.captures(&text) {
        let (above, below) = (parts[2].parse().ok()?, parts[3].parse().ok()?);
        return fraction(&parts[1] == "-", above, below);
    }
    let parts = DECIMAL.captures(&text)?;
    if !parts[1].is_empty() && !parts[2].is_empty() {
        return None;
    }
    let negative = &parts[1] == "-" || &parts[2] == "-";
    let whole = parts.get(3).map_or(String::new(), |digits| digits.as_str().replace(',', ""));
    let decimals = parts.get(4).map_or("", |digits| digits.as_str());
    if whole.is_empty() && decimals.is_empty() {
        return None;
    }
    let exponent: i64 = parts.get(5).map_or(Ok(0), |exponent| exponent.as_str().parse()).ok()?;
    Some(decimal(negative, &(whole + decimals), exponent - decimals.len() as i64))
}

/// The value `digits × 10^exponent`.
fn decimal(negative: bool, digits: &str, exponent: i64) -> Number {
    let significant = digits.trim_start_matches('0');
    let trimmed = significant.trim_end_matches('0');
    let exponent = exponent + (significant.len() - trimmed.len()) as i64;
    if trimmed.is_empty() {
        return Number::Fraction(0, 1);
    }
    let power = u32::try_from(exponent.unsigned_abs()).ok().and_then(|power| 10i128.checked_pow(power));
    let exact = trimmed.parse::<i128>().ok().zip(power).and_then(|(value, power)| {
        if exponent >= 0 { fraction(negative, value.checked_mul(power)?, 1) } else { fraction(negative, value, power) }
    });
    exact.unwrap_or_else(|| Number::Long(negative, trimmed.to_string(), exponent))
}

fn fraction(negative: bool, above: i128, below: i128) -> Option<Number> {
    if below == 0 {
        return None;
    }
    let divisor = greatest_common_divisor(above, below).max(1);
    let above = above / divisor;
    Some(Number::Fraction(if negative { -above } else { above }, below / divisor))
}

fn greatest_common_divisor(mut a: i128, mut b: i128) -> i128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_same_value_is_equal_in_every_notation() {
        for text in ["1000", "1,000", "1000.0", "$1,000.00", " +1000. ", "1e3", "2000/2", "1000%", "€ 1000"] {
            assert_eq!(parse_number(text), Some(Number::Fraction(1000, 1)), "{text}");
        }
        assert_eq!(parse_number("0.75"), parse_number("6/8"));
        assert_eq!(parse_number("−$.5"), parse_number("-1/2"));
        assert_eq!(parse_number("-0"), parse_number("0.00"));
    }

    #[test]
    fn long_numbers_stay_exact() {
        let long = "1".repeat(60);
        assert_eq!(parse_number(&long), parse_number(&format!("{long}.0")));
        assert_ne!(parse_number(&long), parse_number(&format!("{long}.01")));
    }

    #[test]
    fn other_texts_are_no_numbers() {
        for text in ["", "-", ".", "1,2", "12,34", "1/0", "5 apples", "--5", "B2", "1.2.3", "1:2", "$"] {
            assert_eq!(parse_number(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in r"[-+$%0-9.,/eE ]{0,60}") {
            let _ = parse_number(&text);
        }
    }
}
