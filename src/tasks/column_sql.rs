//! Turns what a config says of a text or list (a column's name, a template, a list) into a SQL expression over the
//! columns of a task's rows. Plain column names and paths become plain SQL; everything else is rendered by `try_jinja`.

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::Result;
use seedmill_udfs::{read_python_list, template_variables};

/// A SQL expression and its type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TypedSql {
    pub sql: String,
    pub data_type: DataType,
}

/// The choices of a task.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ListSql {
    /// The same for every row.
    Constant(Vec<String>),
    /// A SQL expression of type TEXT[].
    Expression(String),
}

impl ListSql {
    pub(crate) fn sql(&self) -> String {
        match self {
            ListSql::Constant(items) => {
                format!("make_array({})", items.iter().map(|i| literal(i)).collect::<Vec<_>>().join(", "))
            }
            ListSql::Expression(sql) => sql.clone(),
        }
    }
}

/// A SQL string literal.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A quoted SQL identifier.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(crate) fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

pub(crate) fn is_text_list(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) => is_text(item.data_type()),
        _ => false,
    }
}

/// The column that `text` names outright or as a pure path, with its type; `None` for any other template.
pub(crate) fn column(text: &str, rows: &Schema) -> Option<TypedSql> {
    if let Ok(field) = rows.field_with_name(text) {
        return Some(TypedSql { sql: identifier(text), data_type: field.data_type().clone() });
    }
    path(expression(text)?, rows)
}

/// What stands in a template that is one `{{ expression }}` and nothing around it.
fn expression(template: &str) -> Option<&str> {
    let inner = template.strip_prefix("{{")?.strip_suffix("}}")?;
    let inner = inner.strip_prefix('-').unwrap_or(inner);
    let inner = inner.strip_suffix('-').unwrap_or(inner);
    (!inner.contains("{{") && !inner.contains("}}") && !inner.contains("{%")).then(|| inner.trim())
}

/// A path of names and indexes over the rows' columns: `name.field['field'][0]`.
fn path(text: &str, rows: &Schema) -> Option<TypedSql> {
    let (name, mut rest) = name(text)?;
    let mut sql = identifier(name);
    let mut data_type = rows.field_with_name(name).ok()?.data_type().clone();
    while !rest.is_empty() {
        let (step, after) = step(rest)?;
        data_type = match (step, data_type) {
            (Step::Field(field), DataType::Struct(fields)) => {
                sql.push_str(&format!("[{}]", literal(field)));
                fields.find(field)?.1.data_type().clone()
            }
            (Step::Index(index), DataType::List(item) | DataType::LargeList(item)) => {
                sql.push_str(&format!("[{}]", index.checked_add(1)?));
                item.data_type().clone()
            }
            _ => return None,
        };
        rest = after;
    }
    Some(TypedSql { sql, data_type })
}

enum Step<'a> {
    Field(&'a str),
    Index(usize),
}

/// The name that a path begins with, and the rest.
fn name(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    (!name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())).then_some((name, rest))
}

/// The first `.field`, `['field']` or `[0]` of a path, and the rest.
fn step(text: &str) -> Option<(Step<'_>, &str)> {
    if let Some(text) = text.strip_prefix('.') {
        let (field, rest) = name(text)?;
        return Some((Step::Field(field), rest));
    }
    let (key, rest) = text.strip_prefix('[')?.split_once(']')?;
    let key = key.trim();
    if key.starts_with(['\'', '"']) {
        let field = &key[1..key.len().checked_sub(1).filter(|&end| end > 0)?];
        return (quoted(key).as_deref() == Some(field)).then_some((Step::Field(field), rest));
    }
    Some((Step::Index(key.parse().ok()?), rest))
}

/// The rows' columns that a template names, in order of name. Variables that are no columns are left out: what a
/// template tests with `is defined` may be none, and any other makes each of its renderings NULL.
pub(crate) fn columns_of(template: &str, rows: &Schema) -> Result<Vec<String>> {
    if rows.field_with_name(template).is_ok() {
        return Ok(vec![template.to_owned()]);
    }
    Ok(template_variables(template)?.into_iter().filter(|name| rows.field_with_name(name).is_ok()).collect())
}

/// A column's name or a template as a TEXT expression. A NULL column is NULL where the column is named outright, and the
/// text `None` within a template, as in Python.
pub(crate) fn text(template: &str, rows: &Schema) -> Result<String> {
    if let Ok(field) = rows.field_with_name(template) {
        return Ok(match field.data_type() {
            text if is_text(text) => identifier(template),
            integer if integer.is_integer() => format!("CAST({} AS TEXT)", identifier(template)),
            _ => format!("try_jinja('{{{{ value }}}}', named_struct('value', {}))", identifier(template)),
        });
    }
    if !template.contains("{{") && !template.contains("{%") && !template.contains("{#") {
        return Ok(literal(&template.replace("\r\n", "\n").replace('\r', "\n")));
    }
    if let Some(sql) = joined_columns(template, rows) {
        return Ok(sql);
    }
    Ok(format!("try_jinja({}, {})", literal(template), values(&columns_of(template, rows)?)))
}

/// A template that does no more than write text columns, as `'Question: ' || coalesce("question", 'None')`; `None` for
/// any other.
fn joined_columns(template: &str, rows: &Schema) -> Option<String> {
    if template.contains("{%") || template.contains("{#") || template.contains('\r') {
        return None;
    }
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some(start) = rest.find("{{") {
        if start > 0 {
            parts.push(literal(&rest[..start]));
        }
        let (inner, after) = rest[start + 2..].split_once("}}")?;
        let inner = inner.trim();
        let name = inner.strip_suffix(".strip()").unwrap_or(inner);
        let column = rows.field_with_name(name).ok().filter(|field| is_text(field.data_type()))?;
        if !is_name(name) {
            return None;
        }
        // A method of None is an error in Python, so there NULL makes all of it NULL.
        parts.push(match inner == name {
            true if column.is_nullable() => format!("coalesce({}, 'None')", identifier(name)),
            true => identifier(name),
            false => format!("strip({})", identifier(name)),
        });
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(literal(rest));
    }
    Some(parts.join(" || "))
}

/// Whether Jinja reads the text as the name of a variable.
fn is_name(text: &str) -> bool {
    const WORDS: [&str; 12] = ["true", "false", "none", "True", "False", "None", "not", "and", "or", "is", "in", "if"];
    name(text).is_some_and(|(name, rest)| rest.is_empty() && !WORDS.contains(&name))
}

/// The struct that gives a template its variables.
fn values(columns: &[String]) -> String {
    if columns.is_empty() {
        return "named_struct('none', NULL)".into();
    }
    let fields: Vec<String> = columns.iter().map(|c| format!("{}, {}", literal(c), identifier(c))).collect();
    format!("named_struct({})", fields.join(", "))
}

/// A whole row as JSON, for hashing.
pub(crate) fn row_json(rows: &Schema, without: &str) -> String {
    let columns: Vec<String> = rows.fields().iter().map(|f| f.name().clone()).filter(|name| name != without).collect();
    format!("row_json({})", values(&columns))
}

/// A column's name or a template as a TEXT[] expression.
pub(crate) fn list(template: &str, rows: &Schema) -> Result<ListSql> {
    if let Some(column) = column(template, rows) {
        return Ok(ListSql::Expression(match column.data_type {
            list if is_text_list(&list) => column.sql,
            _ => format!("try_jinja_list('{{{{ value }}}}', named_struct('value', {}))", column.sql),
        }));
    }
    if !template.contains("{{") && !template.contains("{%") && !template.contains("{#") {
        let items: Option<Vec<String>> =
            read_python_list(template.trim()).and_then(|items| items.into_iter().collect());
        if let Some(items) = items {
            return Ok(ListSql::Constant(items));
        }
    }
    if let Some(items) = expression(template.trim()).and_then(|e| e.strip_prefix('[')?.strip_suffix(']')) {
        let constants: Option<Vec<String>> = split_items(items).map(quoted).collect();
        if let Some(constants) = constants.filter(|c| !c.is_empty()) {
            return Ok(ListSql::Constant(constants));
        }
        let texts: Option<Vec<String>> = split_items(items)
            .map(|item| match quoted(item) {
                Some(text) => Some(literal(&text)),
                None => path(item, rows).filter(|c| is_text(&c.data_type)).map(|c| c.sql),
            })
            .collect();
        if let Some(texts) = texts.filter(|t| !t.is_empty()) {
            return Ok(ListSql::Expression(format!("make_array({})", texts.join(", "))));
        }
    }
    let columns = values(&columns_of(template, rows)?);
    Ok(ListSql::Expression(format!("try_jinja_list({}, {columns})", literal(template))))
}

fn split_items(items: &str) -> impl Iterator<Item = &str> {
    items.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn quoted(item: &str) -> Option<String> {
    let inner = item.strip_prefix('\'').and_then(|i| i.strip_suffix('\''));
    let inner = inner.or_else(|| item.strip_prefix('"').and_then(|i| i.strip_suffix('"')))?;
    (!inner.contains(['\'', '"', '\\'])).then(|| inner.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::{Field, Fields};

    fn rows() -> Schema {
        let texts = DataType::new_list(DataType::Utf8, true);
        let choices =
            Fields::from(vec![Field::new("text", texts.clone(), true), Field::new("label", texts.clone(), true)]);
        Schema::new(vec![
            Field::new("Question", DataType::Utf8, true),
            Field::new("choices", DataType::Struct(choices), true),
            Field::new("options", texts, true),
            Field::new("n", DataType::Int64, true),
        ])
    }

    #[test]
    fn pure_paths_become_plain_sql_and_all_else_is_rendered() {
        let rows = rows();
        assert_eq!(text("Question", &rows).unwrap(), "\"Question\"");
        assert!(text("{{ options[1] }}", &rows).unwrap().starts_with("try_jinja("));
        assert_eq!(text("It's", &rows).unwrap(), "'It''s'");
        assert_eq!(text("Q: {{Question}}", &rows).unwrap(), "'Q: ' || coalesce(\"Question\", 'None')");
        assert_eq!(
            text("Q: {{Question | upper}}", &rows).unwrap(),
            "try_jinja('Q: {{Question | upper}}', named_struct('Question', \"Question\"))"
        );
        assert_eq!(list("{{choices.text}}", &rows).unwrap().sql(), "\"choices\"['text']");
        assert_eq!(list("options", &rows).unwrap().sql(), "\"options\"");
        assert_eq!(list("{{[Question, 'none']}}", &rows).unwrap().sql(), "make_array(\"Question\", 'none')");
        for constant in ["{{['yes', 'no']}}", "['yes', 'no']"] {
            assert_eq!(list(constant, &rows).unwrap(), ListSql::Constant(vec!["yes".into(), "no".into()]));
        }
        assert!(list("{{options[:2]}}", &rows).unwrap().sql().starts_with("try_jinja_list('{{options[:2]}}'"));
    }

    #[test]
    fn a_template_that_quotes_cannot_leave_its_literal() {
        let sql = text("{{Question}}'); DROP TABLE x; --", &rows()).unwrap();
        assert!(sql.contains("''); DROP"), "{sql}");
    }
}
