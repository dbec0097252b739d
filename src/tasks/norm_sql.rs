//! Writes the SQL of `norm.<task>`: from a task's config and the columns of its rows to a SELECT that gives the columns
//! of `seeds`. Prompt and target are what the harness renders; question, passage, options and answer are their meaning.

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::{Result, plan_err};

use super::column_sql::{self, ListSql, identifier, is_text, is_text_list, literal};
use super::harness_config::{Field, HarnessConfig};
use super::known_datasets::known_dataset;
use super::raw_table::SOURCE_ROW;
use super::{Capability, Format, Task};
use crate::lineage::Split;

/// Columns that hold the question where a template names several, best first.
const QUESTION: &[&str] = &[
    "question",
    "question_stem",
    "query",
    "problem",
    "hypothesis",
    "claim",
    "goal",
    "instruction",
    "prompt",
    "stem",
    "statement",
    "sentence",
    "input",
    "ctx",
    "text",
];
/// Those of them that ask by themselves. Where a template has none, a description asks.
const ASKING: usize = 11;
/// Columns that hold what the question is about.
const PASSAGE: &[&str] = &[
    "passage",
    "context",
    "premise",
    "article",
    "story",
    "paragraph",
    "document",
    "abstract",
    "background",
    "support",
    "contexts",
    "dialogue",
    "excerpt",
    "fact1",
    "text",
];
/// Columns that hold code.
const CODE: &[&str] = &["code", "canonical_solution", "solution", "program"];

/// The SQL that normalizes the rows of `relation` (a table with the task's columns and `source_row`), one statement.
///
/// A row whose prompt or answer cannot be made has a NULL question: it is a row still, for others to count.
///
/// # Errors
/// `Plan`, when the config's target or choices do not fit the columns, naming the key.
pub(crate) fn norm_sql(task: &Task, rows: &Schema, relation: &str, split: Split) -> Result<String> {
    let Some(config) = &task.config else {
        return plan_err!("the task '{}' has no readable config", task.name);
    };
    Writer { task, config, rows, known_labels: known_labels(task) }.statement(relation, split)
}

fn known_labels(task: &Task) -> &'static [&'static str] {
    let path = task.dataset_path.as_deref().unwrap_or_default();
    known_dataset(path, task.dataset_name.as_deref()).map_or(&[], |known| known.labels)
}

struct Writer<'a> {
    task: &'a Task,
    config: &'a HarnessConfig,
    rows: &'a Schema,
    known_labels: &'static [&'static str],
}

/// The gold answer as the config gives it, over the columns `target` (TEXT) and `choices` of the first step.
struct Target {
    text: String,
    /// The index into the choices (BIGINT, from 0) where the config gives an index.
    index: Option<String>,
    /// Whether a text of digits is an index, as it is for templates.
    digits_are_index: bool,
}

impl Writer<'_> {
    fn statement(&self, relation: &str, split: Split) -> Result<String> {
        let format = self.task.format.unwrap_or(Format::ShortAnswer);
        let doc_text = self.doc_to_text()?;
        let prompt = match &self.config.description {
            Some(Field::Text(description)) if !description.is_empty() => {
                format!("concat({}, {doc_text})", column_sql::text(description, self.rows)?)
            }
            _ => doc_text.clone(),
        };
        let choices = self.choices()?;
        let options = self.options(&choices)?;
        let target = self.target(choices.is_some())?;
        let (question, passage) = self.question_and_passage(format, &doc_text)?;
        let is_label = self.answer_is_label(format, &choices, &options);

        let text_null = "CAST(NULL AS TEXT)".to_owned();
        let list_null = "CAST(NULL AS TEXT[])".to_owned();
        let list = |list: &Option<ListSql>| list.as_ref().map_or(list_null.clone(), ListSql::sql);
        let index = match (&target.index, &choices) {
            (Some(index), _) => index.clone(),
            (None, Some(choices)) => self.index_of(&target, choices),
            (None, None) if options.is_some() => "CAST(array_position(options, target) AS BIGINT) - 1".into(),
            (None, None) => "CAST(NULL AS BIGINT)".into(),
        };
        // The code of a code task stands in its own column; its prompt's target may be the tests.
        let answer = match (self.seed("answer")?, format) {
            (Some(answer), _) => answer,
            (None, Format::Code) => self.column_of(CODE).unwrap_or_else(|| "target".into()),
            (None, Format::Numeric) => {
                strip("CASE WHEN strpos(target, '####') > 0 THEN split_part(target, '####', 2) ELSE target END")
            }
            (None, _) if choices.is_some() => "options[answer_index + 1]".into(),
            (None, _) => strip("target"),
        };
        let answer_in_rows = !answer.contains("options[") && !answer.contains("target");
        let rationale = match self.seed("rationale")? {
            Some(rationale) => rationale,
            None if format == Format::Numeric => {
                format!("CASE WHEN strpos(target, '####') > 0 THEN {} END", strip("split_part(target, '####', 1)"))
            }
            None => text_null.clone(),
        };
        let rationale_in_rows = self.config.metadata.seed.contains_key("rationale");
        let target_text = if choices.is_some() { "choices[answer_index + 1]" } else { "target" };
        let row = |in_rows: bool, sql: &str| if in_rows { sql.to_owned() } else { text_null.clone() };
        let after = |in_rows: bool, name: &str, sql: &str| if in_rows { name.to_owned() } else { sql.to_owned() };

        let dataset = self.task.dataset_path.as_deref().unwrap_or_default();
        let text = |value: Option<&str>| value.map_or(text_null.clone(), literal);
        let passage = passage.unwrap_or_else(|| text_null.clone());
        Ok(format!(
            "WITH rendered AS (
  SELECT
    {source_row} AS source_row,
    {row_json} AS row_json,
    {prompt} AS prompt_text,
    {target} AS target,
    {choices} AS choices,
    {labels} AS labels,
    {options} AS options,
    {question} AS question,
    {passage} AS passage,
    {row_answer} AS row_answer,
    {row_rationale} AS row_rationale
  FROM {relation}
),
indexed AS (
  SELECT *, {index} AS answer_index FROM rendered
),
answered AS (
  SELECT
    *,
    {answer} AS answer_text,
    {rationale} AS rationale,
    {target_text} AS target_text
  FROM indexed
)
SELECT
  left(encode(digest(concat_ws(chr(31), {identity}, CAST(source_row AS TEXT), row_json), 'blake3'), 'hex'), 32) AS seed_id,
  {task} AS task,
  {subtask} AS subtask,
  {family} AS family,
  {capability} AS capability,
  {format} AS format,
  passage,
  CASE WHEN prompt_text IS NOT NULL AND answer_text <> '' THEN question END AS question,
  options,
  answer_index,
  answer_text,
  {is_label} AS answer_is_label,
  rationale,
  {language} AS language,
  {license} AS license,
  {license_evidence} AS license_evidence,
  {split} AS split,
  {dataset} AS dataset,
  {config} AS config,
  {revision} AS revision,
  source_row,
  encode(sha256(row_json), 'hex') AS source_sha256,
  prompt_text,
  target_text,
  {shuffle_safe} AS shuffle_safe
FROM answered",
            source_row = identifier(SOURCE_ROW),
            row_json = column_sql::row_json(self.rows, SOURCE_ROW),
            target = target.text,
            choices = list(&choices),
            labels = choices.as_ref().and_then(|c| self.labels(c)).unwrap_or_else(|| list_null.clone()),
            options = list(&options),
            row_answer = row(answer_in_rows, &answer),
            row_rationale = row(rationale_in_rows, &rationale),
            answer = after(answer_in_rows, "row_answer", &answer),
            rationale = after(rationale_in_rows, "row_rationale", &rationale),
            identity = literal(&format!("{}|{}", self.task.dataset(), split)),
            task = literal(&self.task.name),
            subtask = text(self.task.dataset_name.as_deref()),
            family = literal(&self.task.family),
            capability = text(self.task.capability.map(Capability::as_str)),
            format = literal(format.as_str()),
            language = text(self.task.language.as_deref()),
            license = literal(self.task.licence.as_str()),
            license_evidence = text(self.task.licence_evidence.as_deref()),
            split = literal(split.as_str()),
            dataset = literal(dataset),
            config = text(self.task.dataset_name.as_deref()),
            revision = text(self.config.revision.as_deref()),
            shuffle_safe = shuffle_safe(options.is_some() && !is_label),
        ))
    }

    /// `metadata.seed.<key>` as a TEXT expression over the rows.
    fn seed(&self, key: &str) -> Result<Option<String>> {
        match self.config.metadata.seed.get(key) {
            Some(Field::Text(template)) => column_sql::text(template, self.rows).map(Some),
            Some(_) => plan_err!("{}: 'metadata.seed.{key}' is neither a column nor a template", self.place()),
            None => Ok(None),
        }
    }

    fn place(&self) -> String {
        format!("the task '{}' ({})", self.task.name, self.task.file.display())
    }

    fn doc_to_text(&self) -> Result<String> {
        match &self.config.doc_to_text {
            Some(Field::Text(template)) => column_sql::text(template, self.rows),
            Some(_) => plan_err!("{}: 'doc_to_text' is neither a column nor a template", self.place()),
            None => Ok(self.seed("question")?.unwrap_or_else(|| "CAST(NULL AS TEXT)".into())),
        }
    }

    /// What the harness chooses from; `None` for tasks that generate.
    fn choices(&self) -> Result<Option<ListSql>> {
        if self.config.output_type != "multiple_choice" {
            return Ok(None);
        }
        let choices = match &self.config.doc_to_choice {
            Some(Field::List(items)) if items.iter().any(|item| item.contains("{{")) => {
                let items = items.iter().map(|item| column_sql::text(item, self.rows)).collect::<Result<Vec<_>>>()?;
                Some(ListSql::Expression(format!("make_array({})", items.join(", "))))
            }
            Some(Field::List(items)) => Some(ListSql::Constant(items.clone())),
            Some(Field::Text(template)) => column_sql::list(template, self.rows)?,
            _ => None,
        };
        match choices {
            Some(choices) => Ok(Some(choices)),
            None => plan_err!("{}: 'doc_to_choice' gives no list of texts for the columns of its rows", self.place()),
        }
    }

    /// The options by their meaning: letters stand for the list of texts that the prompt shows.
    fn options(&self, choices: &Option<ListSql>) -> Result<Option<ListSql>> {
        match self.config.metadata.seed.get("options") {
            Some(Field::List(items)) => return Ok(Some(ListSql::Constant(items.clone()))),
            Some(Field::Text(template)) => match column_sql::list(template, self.rows)? {
                Some(list) => return Ok(Some(list)),
                None => return plan_err!("{}: 'metadata.seed.options' gives no list of texts", self.place()),
            },
            Some(_) => return plan_err!("{}: 'metadata.seed.options' is no list", self.place()),
            None => {}
        }
        if let Some(ListSql::Constant(letters)) = choices
            && letters.iter().map(|l| l.trim()).eq((b'A'..=b'Z').take(letters.len()).map(char::from).map(String::from))
            && let Some(texts) = self.shown_list()
        {
            return Ok(Some(texts));
        }
        if choices.is_none() && !self.known_labels.is_empty() {
            return Ok(Some(ListSql::Constant(self.known_labels.iter().map(|&l| l.to_owned()).collect())));
        }
        Ok(choices.clone())
    }

    /// The one list of texts that the prompt's template shows.
    fn shown_list(&self) -> Option<ListSql> {
        let Some(Field::Text(template)) = &self.config.doc_to_text else { return None };
        column_sql::columns_of(template, self.rows).ok()?.into_iter().find_map(|name| {
            match self.rows.field_with_name(&name).ok()?.data_type() {
                list if is_text_list(list) => Some(ListSql::Expression(identifier(&name))),
                DataType::Struct(fields) if fields.find("text").is_some_and(|(_, f)| is_text_list(f.data_type())) => {
                    Some(ListSql::Expression(format!("{}['text']", identifier(&name))))
                }
                _ => None,
            }
        })
    }

    fn target(&self, has_choices: bool) -> Result<Target> {
        let plain = |text: String| Target { text, index: None, digits_are_index: false };
        match &self.config.doc_to_target {
            None => Ok(plain(self.seed("answer")?.unwrap_or_else(|| "CAST(NULL AS TEXT)".into()))),
            Some(Field::Index(index)) => {
                let index_sql = has_choices.then(|| format!("CAST({index} AS BIGINT)"));
                Ok(Target { text: literal(&index.to_string()), index: index_sql, digits_are_index: true })
            }
            // Several right answers: the first is the one that the harness writes in its examples.
            Some(Field::List(items)) => Ok(plain(items.first().map_or("CAST(NULL AS TEXT)".into(), |i| literal(i)))),
            Some(Field::Text(template)) => {
                let text = column_sql::text(template, self.rows)?;
                match column_sql::column(template, self.rows) {
                    Some(column) if is_text(&column.data_type) => {
                        Ok(Target { digits_are_index: self.rows.field_with_name(template).is_err(), ..plain(text) })
                    }
                    // Several right answers: the first, as for a list in the config.
                    Some(column) if is_text_list(&column.data_type) => Ok(plain(format!("{}[1]", column.sql))),
                    Some(column) if has_choices && is_index(&column.data_type) => {
                        // A truth value is an index through its integer, as in Python.
                        Ok(Target {
                            index: Some("TRY_CAST(target AS BIGINT)".into()),
                            ..plain(format!("CAST(CAST({} AS BIGINT) AS TEXT)", column.sql))
                        })
                    }
                    _ => Ok(Target { digits_are_index: true, ..plain(text) }),
                }
            }
            Some(Field::Function(name)) => plan_err!("{}: 'doc_to_target' needs Python ({name})", self.place()),
        }
    }

    /// The list `label` beside a list `text`, as many datasets have their choices.
    fn labels(&self, choices: &ListSql) -> Option<String> {
        let ListSql::Expression(sql) = choices else { return None };
        let column = sql.strip_suffix("['text']")?;
        let DataType::Struct(fields) = self.rows.field_with_name(column.trim_matches('"')).ok()?.data_type() else {
            return None;
        };
        fields.find("label").is_some_and(|(_, f)| is_text_list(f.data_type())).then(|| format!("{column}['label']"))
    }

    /// The index of a text target: where it stands in the choices, else in the labels beside them, else by letter.
    fn index_of(&self, target: &Target, choices: &ListSql) -> String {
        let mut places = vec!["array_position(choices, target)"];
        if self.labels(choices).is_some() {
            places.push("array_position(labels, target)");
        }
        places.push("CASE WHEN regexp_like(target, '^[A-Z]$') THEN ascii(target) - 64 END");
        let by_text = format!("CAST(coalesce({}) AS BIGINT) - 1", places.join(", "));
        if target.digits_are_index {
            format!("CASE WHEN regexp_like(target, '^[0-9]+$') THEN TRY_CAST(target AS BIGINT) ELSE {by_text} END")
        } else {
            by_text
        }
    }

    /// Whether the answer is a label of the task and not a text with a meaning of its own.
    fn answer_is_label(&self, format: Format, choices: &Option<ListSql>, options: &Option<ListSql>) -> bool {
        match format {
            Format::Nli | Format::YesNo => true,
            Format::Numeric | Format::Code | Format::ShortAnswer | Format::FreeForm => false,
            Format::MultipleChoice | Format::Cloze => {
                matches!(options, Some(ListSql::Constant(_))) && (choices.is_some() || !self.known_labels.is_empty())
            }
        }
    }

    /// The text columns that the prompt's template names.
    fn prompt_columns(&self) -> Vec<String> {
        let Some(Field::Text(template)) = &self.config.doc_to_text else { return Vec::new() };
        let columns = column_sql::columns_of(template, self.rows).unwrap_or_default();
        columns.into_iter().filter(|name| self.text_column(name).is_some()).collect()
    }

    /// A column as text: a text as it is, a list of texts as its paragraphs.
    fn text_column(&self, name: &str) -> Option<String> {
        match self.rows.field_with_name(name).ok()?.data_type() {
            text if is_text(text) => Some(identifier(name)),
            list if is_text_list(list) => Some(format!("array_to_string({}, chr(10))", identifier(name))),
            _ => None,
        }
    }

    /// The first of `names` that the rows have as text.
    fn column_of(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| {
            let field = self.rows.fields().iter().find(|f| f.name().eq_ignore_ascii_case(name))?;
            is_text(field.data_type()).then(|| identifier(field.name()))
        })
    }

    fn question_and_passage(&self, format: Format, doc_text: &str) -> Result<(String, Option<String>)> {
        let columns = self.prompt_columns();
        let named = |names: &[&str]| {
            names.iter().find_map(|name| columns.iter().find(|column| column.eq_ignore_ascii_case(name)))
        };
        let is_list = |name: &String| self.rows.field_with_name(name).is_ok_and(|f| is_text_list(f.data_type()));
        let asking = match format {
            Format::Nli => named(&["hypothesis"]).or_else(|| named(&QUESTION[..ASKING])),
            _ => named(&QUESTION[..ASKING]),
        };
        let described = matches!(&self.config.description, Some(Field::Text(d)) if !d.trim().is_empty());
        let (question, used) = match (asking, &self.config.description) {
            (Some(column), _) => (identifier(column), Some(column)),
            // A description asks about every row; what its template shows is what it asks about.
            (None, Some(Field::Text(description))) if described => {
                (strip(&column_sql::text(description, self.rows)?), None)
            }
            _ => {
                match named(QUESTION).or_else(|| columns.iter().find(|c| !is_list(c)).filter(|_| columns.len() == 1)) {
                    Some(column) => (self.text_column(column).unwrap_or_else(|| identifier(column)), Some(column)),
                    None => (without_furniture(doc_text), None),
                }
            }
        };
        let passage = PASSAGE
            .iter()
            .find_map(|name| columns.iter().find(|c| c.eq_ignore_ascii_case(name) && Some(*c) != used))
            .and_then(|column| self.text_column(column));
        let passage = match (passage, asking) {
            (Some(passage), _) => Some(passage),
            (None, None) if described && columns.len() == 1 => self.text_column(&columns[0]),
            (None, None) if described => Some(without_furniture(doc_text)),
            (None, _) => None,
        };
        Ok((self.seed("question")?.unwrap_or(question), self.seed("passage")?.or(passage)))
    }
}

fn is_index(data_type: &DataType) -> bool {
    data_type.is_integer() || *data_type == DataType::Boolean
}

/// A rendered prompt without its first word's `Question:` and its last line's `Answer:`.
fn without_furniture(rendered: &str) -> String {
    let without_head = format!("regexp_replace({rendered}, '^\\s*(Question|Q|Problem)\\s*:\\s*', '')");
    strip(&format!("regexp_replace({without_head}, '\\n[^\\n:]{{1,30}}:\\s*$', '')"))
}

/// Without white space around, as Python's `strip` does it; SQL's `trim` takes blanks alone.
fn strip(text: &str) -> String {
    format!("btrim({text}, concat(' ', chr(9), chr(10), chr(13)))")
}

/// Whether options may change places: not where one speaks of others, nor where there are none.
fn shuffle_safe(has_options: bool) -> String {
    if !has_options {
        return "false".into();
    }
    "coalesce(NOT regexp_like(array_to_string(options, chr(10)), \
     '\\b(all|none|both|neither|either|any) of (the )?(above|these|those|them)\\b|\\b(both )?[A-E] (and|or) [A-E]\\b', 'i'), false)"
        .into()
}
