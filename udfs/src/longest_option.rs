//! `longest_option(options TEXT[]) → TEXT`: the option with the most characters, the first of several. NULL options are
//! passed over; NULL for a NULL list and where there is no option.
//!
//! ```sql
//! SELECT longest_option(['Nile', 'Amazon', 'Rhine']);   -- Amazon
//! ```
//!
//! Compared with the answers of many items it tells whether length gives the answer away.

use std::sync::Arc;

use arrow::array::StringViewBuilder;

use crate::function::{Definition, Kind};

pub(crate) const LONGEST_OPTION: Definition = Definition {
    name: "longest_option",
    parameters: &[("options", Kind::TextList)],
    invoke: |arguments| {
        let lists = arguments.text_list(0)?;
        let mut longest = StringViewBuilder::with_capacity(arguments.rows);
        for row in 0..arguments.rows {
            longest.append_option(lists.get(row).and_then(|options| longest_option(&options)));
        }
        Ok(Arc::new(longest.finish()))
    },
    description: "The option with the most characters, the first of several.",
    example: "SELECT longest_option(['Nile', 'Amazon', 'Rhine']);",
    ..Definition::BLANK
};

fn longest_option<'a>(options: &[Option<&'a str>]) -> Option<&'a str> {
    // max_by_key gives the last of several, so go backwards.
    options.iter().rev().copied().flatten().max_by_key(|option| option.chars().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_several_longest_options_is_given() {
        assert_eq!(longest_option(&[Some("ab"), None, Some("éé"), Some("c")]), Some("ab"));
        assert_eq!(longest_option(&[None]), None);
    }
}
