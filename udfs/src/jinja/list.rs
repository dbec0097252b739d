//! `try_jinja_list(template TEXT [, values STRUCT]) → TEXT[]`: the list of texts that a Jinja template gives. NULL for a row
//! whose template cannot be rendered or gives no list.
//!
//! ```sql
//! SELECT try_jinja_list('{{ [a, b] | map("upper") }}', named_struct('a', 'no', 'b', 'yes'));   -- [NO, YES]
//! ```
//!
//! lm-evaluation-harness renders such a template and reads the text back with `ast.literal_eval` (`lm_eval/api/task.py`,
//! `doc_to_choice`). A template that is one `{{ expression }}` is evaluated here instead, which gives the same list without
//! the way through text; what else a template renders is read back. Each item is as Python's `str()` writes it, None is
//! NULL. A template with bad syntax is an error.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, StringViewBuilder};
use datafusion_common::{Result, exec_err};
use minijinja::{Expression, Template, Value};

use super::dialect::ENGINE;
use super::{JINJA, compile, values, with_unix_newlines};
use crate::arguments::Arguments;
use crate::function::{Definition, text_item, text_list};
use crate::python_list::items;
use crate::python_literal::literal;

pub(crate) const TRY_JINJA_LIST: Definition = Definition {
    name: "try_jinja_list",
    returns: text_list,
    invoke,
    description: "The list of texts that a Jinja template gives, and NULL for a row where it gives none.",
    example: "SELECT try_jinja_list('{{ [a, b] }}', named_struct('a', 'no', 'b', 'yes'));",
    ..JINJA
};

enum Compiled<'a> {
    Expression(Expression<'a, 'a>),
    Template(Template<'a, 'a>),
}

fn invoke(arguments: &Arguments) -> Result<ArrayRef> {
    let texts = arguments.text(0)?;
    let rows = if arguments.column(0)?.is_constant() { 1 } else { arguments.rows };
    let mut sources = HashMap::new();
    for text in (0..rows).filter_map(|row| texts.get(row)) {
        sources.entry(text).or_insert_with(|| with_unix_newlines(text));
    }
    let mut compiled: HashMap<&str, Compiled> = HashMap::new();
    for (text, source) in &sources {
        let expression = expression(source).and_then(|inner| ENGINE.compile_expression(inner).ok());
        let ready = match expression {
            Some(expression) => Compiled::Expression(expression),
            None => match compile(source) {
                Ok(template) => Compiled::Template(template),
                Err(reason) => return exec_err!("{}: {reason}", arguments.function),
            },
        };
        compiled.insert(text, ready);
    }
    let mut lists = ListBuilder::new(StringViewBuilder::new()).with_field(text_item());
    for row in 0..arguments.rows {
        let template = texts.get(row).and_then(|text| compiled.get(text));
        match (template, values(arguments, row)?) {
            (Some(template), Some(values)) => match list(template, values) {
                Some(items) => lists.append_value(items),
                None => lists.append_null(),
            },
            _ => lists.append_null(),
        }
    }
    Ok(Arc::new(lists.finish()))
}

fn list(template: &Compiled, values: Value) -> Option<Vec<Option<String>>> {
    let value = match template {
        Compiled::Expression(expression) => expression.eval(values).ok()?,
        Compiled::Template(template) => Value::from(template.render(values).ok()?),
    };
    match value.as_str() {
        Some(text) => items(&literal(text)?),
        None => items(&value),
    }
}

/// What stands in a template that is one `{{ expression }}` and nothing around it.
fn expression(template: &str) -> Option<&str> {
    let inner = template.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner);
    Some(inner.strip_suffix('-').unwrap_or(inner))
}
