//! Writes the SQL of `norm.<task>`: from a task's config and the columns of its rows to a SELECT that gives the columns
//! of `seeds`. Prompt and target are what the harness renders; question, passage, options and answer are their meaning.

use datafusion::arrow::datatypes::Schema;
use datafusion::common::{Result, plan_err};

use super::column_sql::{self, ListSql, identifier, literal};
use super::harness_config::{Field, HarnessConfig};
use super::meaning_sql::{Meaning, shuffle_safe, strip};
use super::raw_table::SOURCE_ROW;
use super::rendered_sql::{Rendered, TEXT_NULL, TargetKind, may_be_list};
use super::{Capability, Format, Task};
use crate::lineage::Split;

/// The column that holds a raw row as JSON, for hashing, where statements of `sql/tasks` stand before the templates.
pub(crate) const SOURCE_JSON: &str = "source_json";

/// The rows that a task's config is applied to.
pub(crate) struct Source {
    /// The CTEs that make them, name and SELECT, in order; none where they are the table itself.
    pub ctes: Vec<(String, String)>,
    /// The table or the last CTE.
    pub relation: String,
    /// Their columns.
    pub rows: Schema,
    /// The config, with columns for the functions that statements stand for.
    pub config: HarnessConfig,
}

/// The SQL that normalizes the rows of `source`, one statement.
///
/// A row whose prompt or answer cannot be made has a NULL question: it is a row still, for others to count.
///
/// # Errors
/// `Plan`, when the config's target or choices do not fit the columns, naming the key.
pub(crate) fn norm_sql(task: &Task, source: &Source, split: Split) -> Result<String> {
    let ctes = Ctes::of(task, source)?;
    Ok(format!("WITH {}\nSELECT\n  {}\nFROM answered", ctes.sql(), ctes.seed_columns(task, split).join(",\n  ")))
}

/// What the rows are known by: source_row, passage, question TEXT, options TEXT[], answer_text TEXT. A question needs no
/// answer here. Beside it whether the question is the prompt with the template's own words in it.
pub(crate) fn question_sql(task: &Task, source: &Source) -> Result<(String, bool)> {
    let ctes = Ctes::of(task, source)?;
    let select = format!("SELECT source_row, passage, {} AS question, options, answer_text", strip("question"));
    Ok((format!("WITH {}\n{select}\nFROM answered", ctes.sql()), ctes.whole_prompt))
}

/// The same rows, with what the harness renders of each: source_row, description, doc_text, gen_prefix, prompt_text,
/// whole_target TEXT, targets TEXT[], choices TEXT[], gold BIGINT, target_text, answer_text, chooses_prompt BOOLEAN.
pub(crate) fn rendered_sql(task: &Task, source: &Source) -> Result<String> {
    let ctes = Ctes::of(task, source)?;
    let whole = if ctes.may_be_list { "whole_target" } else { "target" };
    let targets = if ctes.has_targets { "targets" } else { "CAST(NULL AS TEXT[])" };
    Ok(format!(
        "WITH {}\nSELECT source_row, {} AS description, doc_text, {} AS gen_prefix, prompt_text, {whole} AS whole_target, \
         {targets} AS targets, choices, gold, target_text, answer_text, {} AS chooses_prompt\nFROM answered ORDER BY source_row",
        ctes.sql(),
        if ctes.has_description { "description" } else { TEXT_NULL },
        if ctes.has_gen_prefix { "gen_prefix" } else { TEXT_NULL },
        ctes.chooses_prompt
    ))
}

/// The CTEs up to `answered`, which has all that is known of a row.
struct Ctes {
    ctes: Vec<(String, String)>,
    may_be_list: bool,
    has_targets: bool,
    has_description: bool,
    has_gen_prefix: bool,
    chooses_prompt: bool,
    is_label: bool,
    has_options: bool,
    whole_prompt: bool,
}

impl Ctes {
    fn of(task: &Task, source: &Source) -> Result<Ctes> {
        let config = &source.config;
        let rendered = Rendered::of(config, &source.rows)?;
        let meaning = Meaning { task, config, rows: &source.rows, rendered: &rendered };
        let format = task.format.unwrap_or(Format::ShortAnswer);
        let has_choices = rendered.choices.is_some();
        let options = meaning.options()?;
        let asked = meaning.question_and_passage(format)?;
        let list_null = || "CAST(NULL AS TEXT[])".to_owned();

        let may_be_list = rendered.target.kind == TargetKind::Template
            && rendered.target.list.is_none()
            && matches!(&config.doc_to_target, Some(Field::Text(template)) if may_be_list(template, has_choices));
        let has_targets = may_be_list || rendered.target.list.is_some();

        let staged = !source.ctes.is_empty();
        let row_json = match staged {
            true => identifier(SOURCE_JSON),
            false => column_sql::row_json(&source.rows, SOURCE_ROW),
        };
        let mut columns = vec![format!("{} AS source_row", identifier(SOURCE_ROW)), format!("{row_json} AS row_json")];
        let mut add = |sql: String, name: &str| columns.push(format!("{sql} AS {name}"));
        let chosen = if rendered.chooses_prompt { "prompt_index" } else { "doc_text" };
        add(rendered.doc_text.clone(), chosen);
        if let Some(description) = &rendered.description {
            add(description.clone(), "description");
        }
        if let Some(gen_prefix) = &rendered.gen_prefix {
            add(gen_prefix.clone(), "gen_prefix");
        }
        add(rendered.target.text.clone(), if may_be_list { "whole_target" } else { "target" });
        if let Some(list) = &rendered.target.list {
            add(list.clone(), "targets");
        }
        add(rendered.choices.as_ref().map_or_else(list_null, ListSql::sql), "choices");
        let labels = meaning.labels();
        if let Some(labels) = &labels {
            add(labels.clone(), "labels");
        }
        let options_sql = options.as_ref().map(|options| options.sql.clone());
        if !meaning.options_are_choices(&options) {
            add(options_sql.clone().unwrap_or_else(list_null), "options");
        }
        add(asked.question, "question");
        add(asked.passage.unwrap_or_else(|| TEXT_NULL.to_owned()), "passage");
        let row_answer = meaning.row_answer(format)?;
        if let Some(answer) = &row_answer {
            add(answer.clone(), "row_answer");
        }
        if let Some(index) = meaning.seed_column("answer_index") {
            add(format!("CAST({index} AS BIGINT)"), "row_answer_index");
        }
        let row_rationale = meaning.seed("rationale")?;
        if let Some(rationale) = &row_rationale {
            add(rationale.clone(), "row_rationale");
        }
        let mut ctes = source.ctes.clone();
        ctes.push(("rendered".into(), format!("SELECT\n    {}\n  FROM {}", columns.join(",\n    "), source.relation)));

        let mut from = "rendered";
        if may_be_list {
            ctes.push(("listed".into(), "SELECT *, python_list(whole_target) AS targets FROM rendered".into()));
            let first = "CASE WHEN targets IS NULL THEN whole_target ELSE targets[1] END";
            ctes.push(("targeted".into(), format!("SELECT *, {first} AS target FROM listed")));
            from = "targeted";
        }
        let by_target = match rendered.target.kind {
            _ if rendered.chooses_prompt => "prompt_index".to_owned(),
            _ if !has_choices => "CAST(NULL AS BIGINT)".to_owned(),
            TargetKind::Index => "TRY_CAST(target AS BIGINT)".to_owned(),
            TargetKind::Text => "CAST(array_position(choices, target) AS BIGINT) - 1".to_owned(),
            TargetKind::Template => "gold_index(target, choices)".to_owned(),
        };
        let mut indexed = vec!["*".to_owned(), format!("{by_target} AS gold")];
        if rendered.chooses_prompt {
            indexed.push("choices[prompt_index + 1] AS doc_text".into());
        }
        if meaning.options_are_choices(&options) {
            indexed.push("choices AS options".into());
        }
        ctes.push(("indexed".into(), format!("SELECT {} FROM {from}", indexed.join(", "))));

        let places = meaning.answer_index(&options, labels.is_some());
        let answer_index = format!("SELECT *, {places} AS answer_index FROM indexed");
        ctes.push(("placed".into(), answer_index));

        let target_text = match rendered.target.kind {
            _ if !has_choices || rendered.chooses_prompt => "target".to_owned(),
            TargetKind::Index => "choices[gold + 1]".to_owned(),
            TargetKind::Text => "target".to_owned(),
            TargetKind::Template => {
                "CASE WHEN gold IS NOT NULL THEN choices[gold + 1] WHEN NOT regexp_like(target, '^\\d+$') THEN target END"
                    .to_owned()
            }
        };
        let prompt = prompt_text(&rendered, &config.target_delimiter);
        let numeric = format == Format::Numeric;
        let answer = match (&row_answer, numeric) {
            (Some(_), _) => "row_answer".to_owned(),
            (None, true) if !has_choices => {
                strip("CASE WHEN strpos(target, '####') > 0 THEN split_part(target, '####', 2) ELSE target END")
            }
            (None, _) if options.is_some() => "options[answer_index + 1]".to_owned(),
            (None, _) if may_be_list => {
                // Several answers are texts; an interval is one answer that looks like a list.
                strip(
                    "CASE WHEN targets IS NULL OR NOT regexp_like(whole_target, '^\\[\\s*[''\"]') THEN whole_target ELSE target END",
                )
            }
            (None, _) => strip("target"),
        };
        let rationale = match &row_rationale {
            Some(_) => "row_rationale".to_owned(),
            None if numeric && !has_choices => {
                // Calculators' marks, <<48/2=24>>, are no part of the text.
                let solution = strip("regexp_replace(split_part(target, '####', 1), '<<[^>]*>>', '', 'g')");
                format!("CASE WHEN strpos(target, '####') > 0 THEN {solution} END")
            }
            None => TEXT_NULL.to_owned(),
        };
        ctes.push((
            "answered".into(),
            format!(
                "SELECT\n    *,\n    {prompt} AS prompt_text,\n    {target_text} AS target_text,\n    {answer} AS answer_text,\n    \
                 {rationale} AS rationale\n  FROM placed"
            ),
        ));
        Ok(Ctes {
            ctes,
            may_be_list,
            has_targets,
            has_description: rendered.description.is_some(),
            has_gen_prefix: rendered.gen_prefix.is_some(),
            chooses_prompt: rendered.chooses_prompt,
            is_label: meaning.answer_is_label(format, &options),
            has_options: options.is_some(),
            whole_prompt: asked.whole_prompt,
        })
    }

    fn sql(&self) -> String {
        let ctes = self.ctes.iter().map(|(name, sql)| format!("{name} AS (\n  {sql}\n)"));
        ctes.collect::<Vec<_>>().join(",\n")
    }

    /// The columns of `seeds`, in order.
    fn seed_columns(&self, task: &Task, split: Split) -> Vec<String> {
        let text = |value: Option<&str>| value.map_or(TEXT_NULL.to_owned(), literal);
        let identity = literal(&format!("{}|{}", task.dataset(), split));
        let columns = [
            (
                format!(
                    "left(encode(digest(concat_ws(chr(31), {identity}, CAST(source_row AS TEXT), row_json), 'blake3'), 'hex'), 32)"
                ),
                "seed_id",
            ),
            (literal(&task.name), "task"),
            (text(task.dataset_name.as_deref()), "subtask"),
            (literal(&task.family), "family"),
            (text(task.capability.map(Capability::as_str)), "capability"),
            (literal(task.format.unwrap_or(Format::ShortAnswer).as_str()), "format"),
            ("passage".into(), ""),
            ("CASE WHEN prompt_text IS NOT NULL AND answer_text <> '' THEN strip(question) END".into(), "question"),
            ("options".into(), ""),
            ("answer_index".into(), ""),
            ("answer_text".into(), ""),
            (self.is_label.to_string(), "answer_is_label"),
            ("rationale".into(), ""),
            (text(task.language.as_deref()), "language"),
            (literal(task.licence.as_str()), "license"),
            (text(task.licence_evidence.as_deref()), "license_evidence"),
            (literal(split.as_str()), "split"),
            (literal(task.dataset_path.as_deref().unwrap_or_default()), "dataset"),
            (text(task.dataset_name.as_deref()), "config"),
            (text(task.config.as_ref().and_then(|config| config.revision.as_deref())), "revision"),
            ("source_row".into(), ""),
            ("encode(sha256(row_json), 'hex')".into(), "source_sha256"),
            ("prompt_text".into(), ""),
            ("target_text".into(), ""),
            (shuffle_safe(self.has_options && !self.is_label), "shuffle_safe"),
        ];
        let column = |(sql, name): (String, &str)| if name.is_empty() { sql } else { format!("{sql} AS {name}") };
        columns.into_iter().map(column).collect()
    }
}

/// Description, question and the beginning of the answer, as the harness joins them: a delimiter stands before the
/// beginning where there is no white space.
fn prompt_text(rendered: &Rendered, target_delimiter: &str) -> String {
    let mut parts = Vec::new();
    if rendered.description.is_some() {
        parts.push("description".to_owned());
    }
    parts.push("doc_text".to_owned());
    if rendered.gen_prefix.is_some() {
        let delimiter = literal(if rendered.chooses_prompt { "" } else { target_delimiter });
        parts.push(format!(
            "CASE WHEN doc_text = '' OR regexp_like(doc_text, '\\s$') OR regexp_like(gen_prefix, '^\\s') THEN '' ELSE {delimiter} END"
        ));
        parts.push("gen_prefix".to_owned());
    }
    parts.join(" || ")
}

/// The SQL of a task without a readable config is an error.
pub(crate) fn config_of(task: &Task) -> Result<&HarnessConfig> {
    match &task.config {
        Some(config) => Ok(config),
        None => plan_err!("the task '{}' has no readable config", task.name),
    }
}
