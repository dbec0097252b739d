//! Counts in sentences: `1 row`, `2 rows`.

use std::borrow::Cow;
use std::fmt::Display;

/// A count and what is counted.
pub fn counted<N: Display + PartialEq + From<u8>>(n: N, one: &str) -> String {
    let noun = noun(n == N::from(1), one);
    format!("{n} {noun}")
}

/// What is counted, behind a count that is written in its own way.
pub fn noun(is_one: bool, one: &str) -> Cow<'_, str> {
    if is_one { one.into() } else { format!("{one}s").into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_one() {
        let rows: Vec<String> = [0_u64, 1, 2].map(|n| counted(n, "row")).to_vec();
        assert_eq!(rows, ["0 rows", "1 row", "2 rows"]);
        assert_eq!(counted(1_usize, "more row"), "1 more row");
    }
}
