//! `option_label(i BIGINT) → TEXT`: the letter of the option at a zero-based place, 0 → 'A' … 25 → 'Z'. NULL for other
//! numbers and for NULL.
//!
//! ```sql
//! SELECT option_label(2);   -- C
//! ```

use std::sync::Arc;

use arrow::array::StringViewArray;

use crate::function::{Definition, Kind};

pub(crate) const OPTION_LABEL: Definition = Definition {
    name: "option_label",
    parameters: &[("i", Kind::Integer)],
    invoke: |arguments| {
        let places = arguments.integer(0)?;
        let labels = (0..arguments.rows).map(|row| option_label(places.get(row)?));
        Ok(Arc::new(labels.collect::<StringViewArray>()))
    },
    description: "The letter of the option at a zero-based place: 0 is A, 25 is Z; NULL for other numbers.",
    example: "SELECT option_label(2);",
    ..Definition::BLANK
};

fn option_label(place: i64) -> Option<&'static str> {
    const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let place = usize::try_from(place).ok()?;
    LETTERS.get(place..place.checked_add(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_26_places_have_a_letter() {
        let labels = [0, 25, 26, -1, i64::MAX].map(option_label);
        assert_eq!(labels, [Some("A"), Some("Z"), None, None, None]);
    }
}
