//! `jinja_prompt(template, values, name) → TEXT`, which stands in the prompts of calls only: `jinja`, but a row that cannot be
//! rendered gets a mark with the reason in its text's place. A prompt may be any expression over texts, and a text is all
//! that comes through one, so the reason travels in it. Nothing with the mark is ever sent.

use std::sync::LazyLock;

use datafusion_common::Result;
use datafusion_expr::ScalarUDF;
use minijinja::ErrorKind;

use super::{Failure, JINJA, invoke};
use crate::arguments::Arguments;
use crate::function::{Definition, Kind, scalar};

/// Noncharacters of Unicode, which are for the inside of programs and in no text. The second says that no row can be
/// rendered, the third that this one could not.
const MARK: char = '\u{FDD0}';
const NO_ROW: char = '\u{FDD1}';
const THIS_ROW: char = '\u{FDD2}';
const END: char = '\u{FDD3}';

const JINJA_PROMPT: Definition = Definition {
    name: "jinja_prompt",
    parameters: &[("template", Kind::Text), ("values", Kind::Struct), ("name", Kind::Text)],
    invoke: |arguments| invoke(arguments, Failure::Mark),
    description: "Renders a Jinja template as jinja does; a row that cannot be rendered has no call, and an error.",
    ..JINJA
};

/// The function; it is not among [`crate::scalar_functions`], since its marks are read below calls only.
pub fn jinja_prompt() -> ScalarUDF {
    static DEFINITION: LazyLock<ScalarUDF> = LazyLock::new(|| scalar(&JINJA_PROMPT));
    DEFINITION.clone()
}

/// Why a text could not be rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unrendered<'a> {
    pub reason: &'a str,
    /// Whether it is the template's fault, whatever the values are: a filter that there is not.
    pub no_row_can: bool,
}

/// What `jinja_prompt` has left in a text that it could not render; `None` where it could.
pub fn unrendered(text: &str) -> Option<Unrendered<'_>> {
    let mut marks = text.match_indices(MARK);
    marks.find_map(|(place, mark)| {
        let rest = &text[place + mark.len()..];
        let no_row_can = rest.starts_with(NO_ROW);
        let (reason, _) = rest.strip_prefix([NO_ROW, THIS_ROW])?.split_once(END)?;
        Some(Unrendered { reason, no_row_can })
    })
}

/// The mark in place of a row's text; the reason begins with the template's name where it has one.
pub(super) fn mark(arguments: &Arguments, row: usize, error: &minijinja::Error, reason: &str) -> Result<String> {
    let no_row_can = matches!(
        error.kind(),
        ErrorKind::UnknownFilter
            | ErrorKind::UnknownTest
            | ErrorKind::UnknownFunction
            | ErrorKind::UnknownMethod
            | ErrorKind::TemplateNotFound
            | ErrorKind::MissingArgument
            | ErrorKind::TooManyArguments
    );
    let kind = if no_row_can { NO_ROW } else { THIS_ROW };
    let names = if arguments.len() > 2 { Some(arguments.text(2)?) } else { None };
    Ok(match (names.as_ref().and_then(|names| names.get(row)), reason.strip_prefix("template")) {
        (Some(name), Some(rest)) => format!("{MARK}{kind}template {name}{rest}{END}"),
        _ => format!("{MARK}{kind}{reason}{END}"),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, AsArray, Int64Array, StringViewArray, StructArray};
    use arrow::datatypes::{DataType, Field};
    use datafusion_expr::ColumnarValue;

    use super::*;

    fn rendered(template: &str, values: Vec<i64>) -> Vec<String> {
        let field = Arc::new(Field::new("n", DataType::Int64, false));
        let values: StructArray = vec![(field, Arc::new(Int64Array::from(values)) as _)].into();
        let rows = values.len();
        let texts = |text| ColumnarValue::Array(Arc::new(StringViewArray::from(vec![text; rows])));
        let columns = vec![texts(template), ColumnarValue::Array(Arc::new(values)), texts("prompts/p.jinja")];
        let texts = (JINJA_PROMPT.invoke)(&Arguments::new("jinja_prompt", columns, rows).unwrap()).unwrap();
        texts.as_string_view().iter().map(|text| text.unwrap().to_owned()).collect()
    }

    #[test]
    fn a_row_that_cannot_be_rendered_says_why_and_the_others_are_rendered() {
        let texts = rendered("{{ 6 // n }}", vec![2, 0, 3]);
        assert_eq!((texts[0].as_str(), texts[2].as_str()), ("3", "2"));
        let around = format!("Question: {}\nAnswer:", texts[1]);
        let why = unrendered(&around).unwrap();
        assert!(why.reason.starts_with("template prompts/p.jinja line 1 at `6 // n`: ") && !why.no_row_can, "{why:?}");
        assert_eq!(unrendered(&texts[0]), None);
    }

    #[test]
    fn what_no_row_can_be_rendered_with_is_told_apart() {
        for template in ["{{ n | nosuch }}", "{{ n is nosuch }}", "{{ n.nosuch() }}", "{% include 'x' %}"] {
            let text = &rendered(template, vec![1])[0];
            assert!(unrendered(text).unwrap().no_row_can, "{template}: {text}");
        }
    }

    #[test]
    fn a_text_that_holds_such_characters_by_itself_is_a_text() {
        for text in ["\u{FDD0}", "\u{FDD0}\u{FDD1}", "\u{FDD0}x\u{FDD3}", "\u{FDD0}\u{FDD0}"] {
            assert_eq!(unrendered(text), None, "{text:?}");
        }
        assert_eq!(unrendered("a\u{FDD0}b\u{FDD0}\u{FDD2}why\u{FDD3}c").unwrap().reason, "why");
    }
}
