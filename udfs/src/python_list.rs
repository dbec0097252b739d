//! `python_list(text TEXT) → TEXT[]`: the items of a list that is written as Python writes it, each as Python's `str()`.
//! NULL where the text is no list (it must begin with `[` and end with `]`), and for NULL; an item None is NULL.
//!
//! ```sql
//! SELECT python_list('["it''s", 2]');   -- [it's, 2]
//! ```
//!
//! Read as `ast.literal_eval` reads it. lm-evaluation-harness takes targets that look so for several right answers
//! (`lm_eval/api/task.py`, `doc_to_target`).

use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, StringViewBuilder};
use datafusion_common::Result;
use minijinja::Value;
use minijinja::value::ValueKind;

use crate::arguments::Arguments;
use crate::function::{Definition, Kind, text_item, text_list};
use crate::jinja::python_text::write_str;
use crate::python_literal::literal;

pub(crate) const PYTHON_LIST: Definition = Definition {
    name: "python_list",
    parameters: &[("text", Kind::Text)],
    returns: text_list,
    invoke,
    description: "The items of a list that is written as Python writes it; NULL for any other text.",
    example: r#"SELECT python_list('["it''s", 2]');"#,
    ..Definition::BLANK
};

fn invoke(arguments: &Arguments) -> Result<ArrayRef> {
    let texts = arguments.text(0)?;
    let mut lists = ListBuilder::new(StringViewBuilder::new()).with_field(text_item());
    for row in 0..arguments.rows {
        match texts.get(row).and_then(list) {
            Some(items) => lists.append_value(items),
            None => lists.append_null(),
        }
    }
    Ok(Arc::new(lists.finish()))
}

/// The items of a list as text; None for a text that is no list.
pub fn list(text: &str) -> Option<Vec<Option<String>>> {
    if text.len() < 2 || !text.starts_with('[') || !text.ends_with(']') {
        return None;
    }
    items(&literal(text)?)
}

/// The items of a list or tuple, each as `str()`; None for any other value.
pub(crate) fn items(value: &Value) -> Option<Vec<Option<String>>> {
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return None;
    }
    let mut items = Vec::new();
    for item in value.try_iter().ok()? {
        items.push(match item.kind() {
            ValueKind::None => None,
            ValueKind::Undefined | ValueKind::Invalid => return None,
            _ => {
                let mut text = String::new();
                write_str(&mut text, &item).ok()?;
                Some(text)
            }
        });
    }
    Some(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lists_have_items() {
        let text = |items: &[&str]| Some(items.iter().map(|&i| Some(i.to_owned())).collect::<Vec<_>>());
        assert_eq!(list("['a', 1, [2.0, 'b']]"), text(&["a", "1", "[2.0, 'b']"]));
        assert_eq!(list("[None]"), Some(vec![None]));
        for other in ["(1, 2)", "{'a': 1}", "[1, 2) and (3, 4]", " [1]", "["] {
            assert_eq!(list(other), None, "{other}");
        }
    }
}
