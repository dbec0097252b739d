//! `option_text(options TEXT[], label TEXT) → TEXT`: the text of the option that a label or an answer means, as
//! `option_index` finds it. NULL where none fits, and for NULL.
//!
//! ```sql
//! SELECT option_text(['Nile', 'Amazon'], 'b)');   -- Amazon
//! ```

use std::sync::Arc;

use arrow::array::StringViewBuilder;

use crate::function::{Definition, Kind};
use crate::option_index::option_index;

pub(crate) const OPTION_TEXT: Definition = Definition {
    name: "option_text",
    parameters: &[("options", Kind::TextList), ("label", Kind::Text)],
    invoke: |arguments| {
        let (options, labels) = (arguments.text_list(0)?, arguments.text(1)?);
        let mut texts = StringViewBuilder::with_capacity(arguments.rows);
        for row in 0..arguments.rows {
            let options = options.get(row);
            texts.append_option(options.as_deref().zip(labels.get(row)).and_then(|(o, label)| option_text(o, label)));
        }
        Ok(Arc::new(texts.finish()))
    },
    description: "The text of the option that a label such as 'B', 'b)', '(B)' or the option's own text means, or NULL.",
    example: "SELECT option_text(['Nile', 'Amazon'], 'b)');",
    ..Definition::BLANK
};

pub(crate) fn option_text<'a>(options: &[Option<&'a str>], label: &str) -> Option<&'a str> {
    options[option_index(options, label)?]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_own_form_is_given_back() {
        assert_eq!(option_text(&[Some("The Nile"), Some("Amazon")], "nile"), Some("The Nile"));
        assert_eq!(option_text(&[Some("The Nile"), Some("Amazon")], "(A)"), Some("The Nile"));
        assert_eq!(option_text(&[], "A"), None);
    }
}
