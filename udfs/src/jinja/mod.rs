//! `jinja(template TEXT [, values STRUCT]) → TEXT`: renders a Jinja template with the fields of a struct as variables.
//! `try_jinja` is the same and gives NULL for a row that cannot be rendered.
//!
//! ```sql
//! SELECT jinja('Q: {{ question.strip() }}{% for o in options %}
//! - {{ o }}{% endfor %}', named_struct('question', ' Why? ', 'options', ['a', 'b']));
//! ```
//!
//! The text is what Python's jinja2 renders for lm-evaluation-harness (`lm_eval/utils.py`, `apply_template`): a trailing
//! newline stays, undefined variables are errors, values are written as Python's `str()` writes them, the common methods
//! of Python's str, list and dict work, and so does the harness's filter `regex_replace`. Templates can read nothing but
//! their values, and the work of one rendering is bounded. NULL template or NULL struct gives NULL; a NULL field is none.
//! A template with bad syntax is an error in both functions, at planning where the template is a constant.

mod dialect;
mod list;
mod python_json;
pub(crate) mod python_text;
mod python_title;
pub(crate) mod row_values;
pub(crate) mod unrendered;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, StringViewBuilder};
use datafusion_common::{Result, ScalarValue, exec_err, plan_datafusion_err};
use minijinja::{ErrorKind, Template, Value};
use regex::Regex;

use crate::arguments::Arguments;
use crate::function::{Definition, Kind};
use crate::jinja::dialect::ENGINE;
pub(crate) use crate::jinja::list::TRY_JINJA_LIST;

pub(crate) const JINJA: Definition = Definition {
    name: "jinja",
    parameters: &[("template", Kind::Text), ("values", Kind::Struct)],
    optional: 1,
    invoke: |arguments| invoke(arguments, Failure::Error),
    check: Some(check),
    description: "Renders a Jinja template with the fields of a struct as variables, as Python's jinja2 does in \
                  lm-evaluation-harness. A row that cannot be rendered is an error.",
    example: "SELECT jinja('Question: {{question}}\nAnswer:', named_struct('question', 'Why?'));",
    ..Definition::BLANK
};

pub(crate) const TRY_JINJA: Definition = Definition {
    name: "try_jinja",
    invoke: |arguments| invoke(arguments, Failure::Null),
    description: "Renders a Jinja template as jinja does, and gives NULL for a row that cannot be rendered.",
    example: "SELECT try_jinja('{{options[3]}}', named_struct('options', ['only one']));",
    ..JINJA
};

/// The variables that a template takes from outside, sorted: what `values` must hold (but for those that the template
/// itself tests with `is defined` or `is undefined`). Loop variables, `set` names and built-in functions are not among
/// them.
///
/// # Errors
/// `DataFusionError::Plan` with one sentence where the syntax is wrong.
pub fn template_variables(template: &str) -> Result<Vec<String>> {
    let source = with_unix_newlines(template);
    let compiled = compile(&source).map_err(|reason| plan_datafusion_err!("{reason}"))?;
    let mut names: Vec<String> = compiled.undeclared_variables(false).into_iter().collect();
    // minijinja 3.1 does not look into what is sliced: `a` in `{{ a[:2] }}`. Items in place of slices show it.
    let items = SLICE.replace_all(&source, "[0]");
    if items != source
        && let Ok(compiled) = compile(&items)
    {
        names.extend(compiled.undeclared_variables(false));
    }
    names.retain(|name| !ENGINE.globals().any(|(global, _)| global == name));
    names.sort();
    names.dedup();
    Ok(names)
}

/// `[1:]`, `[-2:n]`, and whatever else stands in brackets with a colon.
static SLICE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\[[^\[\]]*:[^\[\]]*\]").expect("a constant pattern is valid"));

/// A constant template with bad syntax is refused before anything runs.
fn check(constants: &[Option<&ScalarValue>]) -> Result<()> {
    if let Some(Some(template)) = constants.first().map(|value| value.and_then(|value| value.try_as_str().flatten())) {
        let source = with_unix_newlines(template);
        compile(&source).map_err(|reason| plan_datafusion_err!("{reason}"))?;
    }
    Ok(())
}

/// What becomes of a row that cannot be rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    Error,
    Null,
    Mark,
}

fn invoke(arguments: &Arguments, failure: Failure) -> Result<ArrayRef> {
    let texts = arguments.text(0)?;
    let mut sources: Vec<Cow<str>> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for row in 0..if arguments.column(0)?.is_constant() { 1 } else { arguments.rows } {
        if let Some(text) = texts.get(row) {
            places.entry(text).or_insert_with(|| {
                sources.push(with_unix_newlines(text));
                sources.len() - 1
            });
        }
    }
    let mut templates = Vec::with_capacity(sources.len());
    for source in &sources {
        match compile(source) {
            Ok(template) => templates.push((source, template)),
            Err(reason) => return exec_err!("{}: {reason}", arguments.function),
        }
    }

    let mut rendered = StringViewBuilder::with_capacity(arguments.rows);
    for row in 0..arguments.rows {
        let template = texts.get(row).and_then(|text| templates.get(*places.get(text)?));
        let values = values(arguments, row)?;
        let (Some((source, template)), Some(values)) = (template, values) else {
            rendered.append_null();
            continue;
        };
        match (template.render(values), failure) {
            (Ok(text), _) => rendered.append_value(text),
            (Err(_), Failure::Null) => rendered.append_null(),
            (Err(error), Failure::Mark) => {
                rendered.append_value(unrendered::mark(arguments, row, &error, &sentence(&error, source))?);
            }
            (Err(error), Failure::Error) => {
                return exec_err!("{}: {}", arguments.function, sentence(&error, source));
            }
        }
    }
    Ok(Arc::new(rendered.finish()))
}

/// The variables of one row; None for a NULL struct.
fn values(arguments: &Arguments, row: usize) -> Result<Option<Value>> {
    if arguments.len() < 2 {
        return Ok(Some(Value::from_pairs(std::iter::empty::<(&str, Value)>())));
    }
    let column = arguments.column(1)?;
    let (array, place) = column.at(row);
    match column.as_struct() {
        Some(structs) if array.is_valid(place) => row_values::row_value(structs, place).map(Some),
        _ => Ok(None),
    }
}

/// Python's lexer turns every newline of a template into `\n`.
fn with_unix_newlines(template: &str) -> Cow<'_, str> {
    if template.contains('\r') {
        Cow::Owned(template.replace("\r\n", "\n").replace('\r', "\n"))
    } else {
        Cow::Borrowed(template)
    }
}

fn compile(source: &str) -> Result<Template<'_, '_>, String> {
    ENGINE.template_from_str(source).map_err(|error| sentence(&error, source))
}

/// Renders one template with one map of variables.
#[cfg(test)]
fn render(template: &str, values: Value) -> Result<String, String> {
    let source = with_unix_newlines(template);
    compile(&source)?.render(values).map_err(|error| sentence(&error, &source))
}

/// What is wrong, on which line and at which expression, as one sentence.
fn sentence(error: &minijinja::Error, source: &str) -> String {
    let expression = error.range().and_then(|range| source.get(range)).map(str::trim).filter(|text| !text.is_empty());
    let place = match (error.line(), expression) {
        (Some(line), Some(expression)) => format!("template line {line} at `{expression}`"),
        (Some(line), None) => format!("template line {line}"),
        _ => "template".to_string(),
    };
    match (error.kind(), error.detail()) {
        (ErrorKind::UndefinedError, None) => format!("{place}: a value is undefined; the template's values lack it"),
        (ErrorKind::OutOfFuel, _) => format!("{place}: the rendering takes too much work and was stopped"),
        (kind, Some(detail)) => format!("{place}: {kind}: {detail}"),
        (kind, None) => format!("{place}: {kind}"),
    }
}

#[cfg(test)]
mod tests;
