//! What the harness renders of a row, as SQL: prompt, target, choices and the place of the right choice. In: a task's config
//! and the columns of its rows. Out: expressions whose values are the harness's, byte for byte (`lm_eval/api/task.py` of
//! 0.4.13: `doc_to_text`, `doc_to_target`, `doc_to_choice`, `fewshot_context`, `build_qa_turn`).

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::{Result, plan_err};

use super::column_sql::{self, ListSql, identifier, is_text, is_text_list, literal};
use super::harness_config::{Field, HarnessConfig};

pub(crate) const TEXT_NULL: &str = "CAST(NULL AS TEXT)";

/// The expressions over the rows' columns.
pub(crate) struct Rendered {
    /// TEXT. For a task whose choices are its prompts (winogrande) the place of the right one, BIGINT.
    pub doc_text: String,
    pub chooses_prompt: bool,
    /// TEXT; none where there is no description.
    pub description: Option<String>,
    pub gen_prefix: Option<String>,
    pub target: Target,
    /// What the harness chooses from; none for tasks without `doc_to_choice`.
    pub choices: Option<ListSql>,
}

/// The target that a config gives.
pub(crate) struct Target {
    /// TEXT, over the rows' columns: Python's `str()` of it.
    pub text: String,
    /// TEXT[], over the rows' columns: several right answers.
    pub list: Option<String>,
    pub kind: TargetKind,
    /// TEXT, over the rows' columns: the text where it is one column's, NULL where that is NULL.
    pub column: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TargetKind {
    /// A number, by which choices are counted from 0.
    Index,
    /// A text; digits are no index.
    Text,
    /// What a template renders: digits are an index, `[…]` is a list.
    Template,
}

impl Rendered {
    /// # Errors
    /// `Plan`, when a key of the config does not fit the columns, naming it.
    pub(crate) fn of(config: &HarnessConfig, rows: &Schema) -> Result<Rendered> {
        let place = || format!("the task '{}' ({})", config.task, config.file.display());
        let template = |key: &str, field: &Option<Field>| match field {
            None => Ok(None),
            Some(Field::Text(template)) if template.is_empty() => Ok(None),
            Some(Field::Text(template)) => column_sql::text(template, rows).map(Some),
            Some(_) => plan_err!("{}: '{key}' is neither a column nor a template", place()),
        };
        let choices = choices(config, rows)?;
        let (doc_text, chooses_prompt) = match &config.doc_to_text {
            Some(Field::Index(index)) if choices.is_some() => (format!("CAST({index} AS BIGINT)"), true),
            Some(Field::Text(name)) if choices.is_some() && is_integer_column(name, rows) => (identifier(name), true),
            Some(Field::Text(template)) => (column_sql::text(template, rows)?, false),
            Some(_) => return plan_err!("{}: 'doc_to_text' is neither a column nor a template", place()),
            None => (TEXT_NULL.to_owned(), false),
        };
        Ok(Rendered {
            doc_text,
            chooses_prompt,
            description: template("description", &config.description)?,
            gen_prefix: template("gen_prefix", &config.gen_prefix)?,
            target: target(config, rows, choices.is_some())?,
            choices,
        })
    }
}

fn is_integer_column(name: &str, rows: &Schema) -> bool {
    rows.field_with_name(name).is_ok_and(|field| field.data_type().is_integer())
}

fn choices(config: &HarnessConfig, rows: &Schema) -> Result<Option<ListSql>> {
    Ok(match &config.doc_to_choice {
        None => None,
        // Items are no templates: the harness takes a list as it is.
        Some(Field::List(items)) => Some(ListSql::Constant(items.clone())),
        Some(Field::Text(template)) => Some(column_sql::list(template, rows)?),
        Some(_) => {
            let place = config.file.display();
            return plan_err!("the task '{}' ({place}): 'doc_to_choice' gives no list of texts", config.task);
        }
    })
}

fn target(config: &HarnessConfig, rows: &Schema, has_choices: bool) -> Result<Target> {
    let plain = |text: String, kind| Target { text, list: None, kind, column: None };
    let template = match &config.doc_to_target {
        None => return Ok(plain(TEXT_NULL.to_owned(), TargetKind::Text)),
        Some(Field::Index(index)) => return Ok(plain(literal(&index.to_string()), TargetKind::Index)),
        Some(Field::List(items)) => {
            let list = ListSql::Constant(items.clone()).sql();
            let first = items.first().map_or(TEXT_NULL.to_owned(), |item| literal(item));
            return Ok(Target { list: Some(list), ..plain(first, TargetKind::Text) });
        }
        Some(Field::Function(name)) => {
            return plan_err!(
                "the task '{}' ({}): 'doc_to_target' needs Python ({name})",
                config.task,
                config.file.display()
            );
        }
        Some(Field::Text(template)) => template,
    };
    let text = column_sql::text(template, rows)?;
    let named = rows.field_with_name(template).is_ok();
    Ok(match column_sql::column(template, rows) {
        Some(column) if is_text(&column.data_type) => {
            let kind = if named { TargetKind::Text } else { TargetKind::Template };
            Target { column: Some(column.sql), list: None, text, kind }
        }
        Some(column) if is_text_list(&column.data_type) => {
            Target { list: Some(column.sql.clone()), ..plain(format!("{}[1]", column.sql), TargetKind::Text) }
        }
        Some(column) if is_list(&column.data_type) && named => {
            let list = format!("CAST({} AS TEXT[])", column.sql);
            Target { list: Some(list), ..plain(format!("CAST({}[1] AS TEXT)", column.sql), TargetKind::Index) }
        }
        // A truth value is an index through its integer, as in Python.
        Some(column) if column.data_type == DataType::Boolean && named => {
            plain(format!("CAST(CAST({} AS BIGINT) AS TEXT)", column.sql), TargetKind::Index)
        }
        Some(column) if column.data_type.is_integer() => {
            let kind = if has_choices || named { TargetKind::Index } else { TargetKind::Template };
            plain(text, kind)
        }
        _ => plain(text, TargetKind::Template),
    })
}

fn is_list(data_type: &DataType) -> bool {
    matches!(data_type, DataType::List(_) | DataType::LargeList(_) | DataType::ListView(_))
}

/// Whether what a template renders may begin with `[` and end with `]`, which makes it a list for the harness.
pub(crate) fn may_be_list(template: &str, has_choices: bool) -> bool {
    let head_fits = template.starts_with('[') || template.starts_with('{');
    let tail_fits = template.ends_with(']') || template.ends_with('}');
    // What is looked up in a list is its place.
    head_fits && tail_fits && !(has_choices && template.contains(".index("))
}
