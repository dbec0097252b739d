//! `math_equal(a TEXT, b TEXT) → BOOLEAN`: whether two mathematical answers are the same. NULL for NULL.
//!
//! ```sql
//! SELECT math_equal('\frac{\sqrt{2}}{2}', '1/\sqrt2');   -- true
//! SELECT math_equal('x = 1,000 \text{ cm}', '$1000$');   -- true
//! SELECT math_equal('[0, 1)', '(0, 1)');                 -- false
//! ```
//!
//! What it covers:
//! - numbers, exactly: thousands separators, decimals, fractions, mixed numbers, powers, `1e3`, `\times 10^{3}`,
//!   factorials. `5%` is 5 and `$5` is 5. Nothing is rounded: 3.14 is not π, 0.33 is not 1/3;
//! - LaTeX and typed forms of one formula: `\frac12`, `\dfrac{1}{2}`, `1/2`; `\sqrt3`, `sqrt(3)`; roots in simplest form
//!   and rational denominators; π and other names; sums and products in any order, multiplied out up to 200 terms;
//!   `\sin`, `\log_2` and their kin by equal arguments;
//! - what stands around an answer: `\boxed{}`, `$…$`, `\text{}`, `\left`, spaces, a full stop, `x =`, `f(x) =`, degrees
//!   and units behind a number (any `\text{…}`, else a list of words). Units are left out and not converted: 5 km is 5;
//! - sets and lists of solutions in any order (`1, 2`, `1 and 2`, `\{1, 2\}`, `\pm 1`); points, tuples and intervals by
//!   their brackets; unions; equations and inequalities up to a factor and the change of sides.
//!
//! Other texts are compared as `same_text` does. What is left out and how short forms are read follows the answer
//! normalizations of Minerva (Lewkowycz et al. 2022, appendix D) and of MATH (Hendrycks et al. 2021), which compare
//! strings; values are compared here. Sameness is transitive, so that `majority_vote` can group by it.

use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::datatypes::DataType;

use crate::function::{Definition, Kind};
use crate::math::MathKey;

pub(crate) const MATH_EQUAL: Definition = Definition {
    name: "math_equal",
    parameters: &[("a", Kind::Text), ("b", Kind::Text)],
    returns: || DataType::Boolean,
    invoke: |arguments| {
        let (a, b) = (arguments.text(0)?, arguments.text(1)?);
        let same = (0..arguments.rows).map(|row| Some(math_equal(a.get(row)?, b.get(row)?)));
        Ok(Arc::new(same.collect::<BooleanArray>()))
    },
    description: "Whether two mathematical answers are the same: numbers, fractions, LaTeX, units, sets, intervals, \
                  equations; other texts as same_text compares.",
    example: r"SELECT math_equal('\frac{\sqrt{2}}{2}', '1/\sqrt2');",
    ..Definition::BLANK
};

fn math_equal(a: &str, b: &str) -> bool {
    a == b || MathKey::of(a) == MathKey::of(b)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_value_is_equal_in_every_notation() {
        for (a, b) in [
            // numbers
            ("1,000", "1000.0"),
            ("1{,}000", "1000"),
            ("1,\\!000", "1000"),
            ("0.75", "3/4"),
            (".5", "\\frac12"),
            ("-\\frac{1}{2}", "\\frac{-1}{2}"),
            ("\\frac{1}{-2}", "-0.5"),
            ("1\\frac{3}{4}", "7/4"),
            ("1 3/4", "\\dfrac{7}{4}"),
            ("3\\times 10^{5}", "300000"),
            ("3e5", "300,000"),
            ("1.5e-3", "0.0015"),
            ("5!", "120"),
            ("2^{10}", "1024"),
            ("2**10", "1024"),
            ("50\\%", "50"),
            ("50%", "50"),
            ("−5", "-5"),
            // roots, constants, formulas
            ("\\frac{\\sqrt{2}}{2}", "1/\\sqrt2"),
            ("\\sqrt{12}", "2\\sqrt{3}"),
            ("sqrt(8)", "2 \\sqrt 2"),
            ("2√3", "\\sqrt{12}"),
            ("9^{1/2}", "3"),
            ("\\sqrt[3]{x}", "x^{\\frac{1}{3}}"),
            ("2\\pi", "2π"),
            ("\\frac{\\pi}{4}", "pi/4"),
            ("2x+3", "3+2x"),
            ("(x+1)^2", "x^2+2x+1"),
            ("\\frac{x+1}{2}", "0.5x+0.5"),
            ("3xy", "3yx"),
            ("\\sin(x)", "\\sin x"),
            ("2\\cdot 3x", "6x"),
            ("|-3|", "3"),
        ] {
            assert!(math_equal(a, b), "{a} {b}: {:?} {:?}", MathKey::of(a), MathKey::of(b));
        }
    }

    /// What the normalizations of Minerva and of MATH leave out or read as another form.
    #[test]
    fn what_stands_around_an_answer_does_not_matter() {
        for (a, b) in [
            ("so $x=\\boxed{5}$.", "5"),
            ("The answer is $\\frac{1}{2}$.", "0.5"),
            ("\\(7\\)", "7"),
            ("$5", "5"),
            ("\\$5.00", "5"),
            ("x=5", "5"),
            ("x = 5", "$x=5$"),
            ("f(x) = 2x", "2x"),
            ("5 = 5.0", "5"),
            ("5\\text{ cm}", "5"),
            ("5\\mbox{ inches}^2", "5"),
            ("5\\text{ m}^{2}", "5 square meters"),
            ("12 km/h", "12"),
            ("5 dollars", "$5"),
            ("30 degrees", "30^\\circ"),
            ("30^{\\circ}", "30°"),
            ("\\text{Evelyn}", "evelyn"),
            ("\\text{(B)}", "B"),
            ("\\left(1,2\\right)", "(1, 2)"),
            ("\\tfrac12", "\\frac{1}{2}"),
            ("\\frac1{72}", "1/72"),
            ("\\sqrt3", "\\sqrt{3}"),
            ("10\\,000", "10\\;000"),
            ("The Nile.", "nile"),
        ] {
            assert!(math_equal(a, b), "{a} {b}: {:?} {:?}", MathKey::of(a), MathKey::of(b));
        }
    }

    #[test]
    fn sets_have_no_order_and_tuples_and_intervals_have_one() {
        for (a, b) in [
            ("1, 2", "2,1"),
            ("1 and 2", "\\{2, 1\\}"),
            ("1,\\text{ and }2", "1, 2"),
            ("x=1, x=2", "1,2"),
            ("\\pm 1", "-1, 1"),
            ("1 \\pm \\sqrt{2}", "1+\\sqrt2, 1-\\sqrt2"),
            ("(-\\infty, 3]", "(-∞,3]"),
            ("(0,1) \\cup (2,3)", "(2,3)\\cup(0,1)"),
            ("x \\in [1, 2]", "[1,2]"),
            ("x < 5", "5 > x"),
            ("x \\le 5", "x<=5"),
            ("2x + 4 = 6y", "x + 2 = 3y"),
            ("-2x < 4", "-x < 2"),
            ("1 < x < 3", "3 > x > 1"),
        ] {
            assert!(math_equal(a, b), "{a} {b}: {:?} {:?}", MathKey::of(a), MathKey::of(b));
        }
        for (a, b) in
            [("(1,2)", "(2,1)"), ("[0, 1)", "(0, 1)"), ("[0,1]", "\\{0,1\\}"), ("(1,2)", "12"), ("x<5", "x>5")]
        {
            assert!(!math_equal(a, b), "{a} {b}: {:?} {:?}", MathKey::of(a), MathKey::of(b));
        }
    }

    #[test]
    fn other_values_and_other_words_are_not_the_same() {
        for (a, b) in [
            ("3.14", "\\pi"),
            ("0.33", "1/3"),
            ("-5", "5"),
            ("1,234", "1,2,3,4"),
            ("1,2", "12"),
            ("12,34", "1234"),
            ("x+1", "x-1"),
            ("2^3", "23"),
            ("\\sqrt{2}", "2"),
            ("on", "no"),
            ("May 5", "5"),
            ("10:30", "1030"),
            ("B2", "B"),
            ("?", "!"),
            ("", "0"),
        ] {
            assert!(!math_equal(a, b), "{a} {b}: {:?} {:?}", MathKey::of(a), MathKey::of(b));
        }
    }

    #[test]
    fn what_is_too_large_is_compared_as_it_is_written() {
        let long = "1".repeat(60);
        assert!(math_equal(&long, &format!("{long}.0")));
        assert!(!math_equal(&long, &format!("{long}1")));
        assert!(!math_equal("2^{1000000}", "2^{1000001}"));
        let deep = "(".repeat(500) + "1" + &")".repeat(500);
        assert!(math_equal(&deep, &deep));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in r"(\\frac|\\sqrt|\\text|\\boxed|\\pm|\\cup|[{}()\[\]|^_!%$=<,.+*/0-9a-c\\ -]){0,40}") {
            let _ = MathKey::of(&text);
        }

        #[test]
        fn fractions_are_equal_as_their_values(a in -50i64..50, b in 1i64..50, k in 1i64..20) {
            let scaled = format!("\\frac{{{}}}{{{}}}", a * k, b * k);
            let plain = format!("{a}/{b}");
            prop_assert!(math_equal(&scaled, &plain), "{} {}", scaled, plain);
            let more = format!("{}/{}", a + 1, b);
            prop_assert!(!math_equal(&scaled, &more));
        }
    }
}
