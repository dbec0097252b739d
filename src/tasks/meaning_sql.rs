//! What a row means beyond what the harness renders of it, as SQL: question, passage, options and answer. In: a task's
//! config, the columns of its rows and what is rendered. What the config's `metadata.seed` or a statement of `sql/tasks`
//! says goes before what is read from the templates.

use std::sync::LazyLock;

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::{Result, plan_err};
use regex::Regex;

use super::column_sql::{self, ListSql, identifier, is_text, is_text_list, literal};
use super::harness_config::{Field, HarnessConfig};
use super::known_datasets::known_dataset;
use super::raw_table::SOURCE_ROW;
use super::rendered_sql::{Rendered, TargetKind};
use super::{Format, Task};

/// Columns that hold the question where a template names several, best first.
pub(super) const QUESTION: &[&str] = &[
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
pub(super) const ASKING: usize = 11;
/// Columns that hold what the question is about.
pub(super) const PASSAGE: &[&str] = &[
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
    "fact",
    "text",
];
/// Columns that hold code.
const CODE: &[&str] = &["code", "canonical_solution", "solution", "program"];

/// What is to be said of a task's rows.
pub(crate) struct Meaning<'a> {
    pub task: &'a Task,
    pub config: &'a HarnessConfig,
    pub rows: &'a Schema,
    pub rendered: &'a Rendered,
}

/// What a row asks, as TEXT expressions over the rows.
pub(crate) struct Asked {
    pub question: String,
    pub passage: Option<String>,
    /// Whether the question is the prompt with the template's own words in it.
    pub whole_prompt: bool,
}

/// The options by their meaning.
pub(crate) struct Options {
    /// TEXT[] over the rows' columns.
    pub sql: String,
    /// The same for every row.
    constant: bool,
    origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// What the harness chooses from, in its order.
    Choices,
    /// Texts in the order of the harness's choices.
    TextsOfChoices,
    /// In an order of our own.
    Own,
}

impl Meaning<'_> {
    /// What `metadata.seed` or a statement says of `key`, as a TEXT expression over the rows.
    pub(crate) fn seed(&self, key: &str) -> Result<Option<String>> {
        match self.config.metadata.seed.get(key) {
            Some(Field::Text(template)) => column_sql::text(template, self.rows).map(Some),
            Some(_) => plan_err!("{}: 'metadata.seed.{key}' is neither a column nor a template", self.place()),
            None => Ok(self.seed_column(key)),
        }
    }

    /// The column `seed_<key>` that a statement gives.
    pub(crate) fn seed_column(&self, key: &str) -> Option<String> {
        let name = format!("seed_{key}");
        self.rows.field_with_name(&name).is_ok().then(|| identifier(&name))
    }

    fn place(&self) -> String {
        format!("the task '{}' ({})", self.task.name, self.task.file.display())
    }

    fn known_labels(&self) -> &'static [&'static str] {
        let path = self.task.dataset_path.as_deref().unwrap_or_default();
        known_dataset(path, self.task.dataset_name.as_deref()).map_or(&[], |known| known.labels)
    }

    /// The options: letters stand for the texts that the prompt shows beside them.
    pub(crate) fn options(&self) -> Result<Option<Options>> {
        let of = |list: &ListSql, origin| Options {
            sql: list.sql(),
            constant: matches!(list, ListSql::Constant(_)),
            origin,
        };
        match self.config.metadata.seed.get("options") {
            Some(Field::List(items)) => return Ok(Some(of(&ListSql::Constant(items.clone()), Origin::TextsOfChoices))),
            Some(Field::Text(template)) => {
                return Ok(Some(of(&column_sql::list(template, self.rows)?, Origin::TextsOfChoices)));
            }
            Some(_) => return plan_err!("{}: 'metadata.seed.options' is no list", self.place()),
            None => {}
        }
        if let Some(column) = self.seed_column("options") {
            return Ok(Some(Options { sql: column, constant: false, origin: Origin::TextsOfChoices }));
        }
        let Some(choices) = &self.rendered.choices else {
            let labels = self.known_labels();
            let labels = (!labels.is_empty()).then(|| labels.iter().map(|&label| label.to_owned()).collect());
            return Ok(labels.map(|labels| of(&ListSql::Constant(labels), Origin::Own)));
        };
        if let ListSql::Constant(letters) = choices
            && letters.iter().map(|l| l.trim()).eq((b'A'..=b'Z').take(letters.len()).map(char::from).map(String::from))
            && let Some(texts) = self.texts_of_letters(letters.len())?
        {
            return Ok(Some(Options { sql: texts, constant: false, origin: Origin::TextsOfChoices }));
        }
        if let ListSql::Expression(sql) = choices
            && let Some(column) = sql.strip_suffix("['label']")
            && let Some(texts) = self.text_list_in(column)
        {
            return Ok(Some(Options { sql: texts, constant: false, origin: Origin::TextsOfChoices }));
        }
        // Where the right one always stands in the same place, the place would give it away.
        if let (Some(Field::Index(_)), ListSql::Expression(sql)) = (&self.config.doc_to_target, choices) {
            let shuffled = format!("shuffle_options({sql}, {})", identifier(SOURCE_ROW));
            return Ok(Some(Options { sql: shuffled, constant: false, origin: Origin::Own }));
        }
        Ok(Some(of(choices, Origin::Choices)))
    }

    /// Whether the options are the harness's choices, which need not be written twice.
    pub(crate) fn options_are_choices(&self, options: &Option<Options>) -> bool {
        options.as_ref().is_some_and(|options| options.origin == Origin::Choices)
    }

    /// The texts that the prompt shows for letters: lines such as `A. {{a}}`, or the one list that it names.
    fn texts_of_letters(&self, letters: usize) -> Result<Option<String>> {
        static LINE: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"^\s*\(?([A-Z])\s*(?:[.):：]\)?|\s-)\s*(\S.*?)\s*$").expect("a constant pattern")
        });
        let Some(Field::Text(template)) = &self.config.doc_to_text else { return Ok(None) };
        let mut texts = vec![None; letters];
        for line in template.split('\n').flat_map(|line| line.split("\\n")) {
            if let Some(found) = LINE.captures(line)
                && let Some(place) = found[1].bytes().next().and_then(|b| texts.get_mut(usize::from(b - b'A')))
                && !found[2].contains("{%")
            {
                place.get_or_insert(found[2].to_owned());
            }
        }
        if let Some(texts) = texts.into_iter().collect::<Option<Vec<String>>>() {
            let sql = texts.iter().map(|text| column_sql::text(text, self.rows)).collect::<Result<Vec<_>>>()?;
            return Ok(Some(format!("make_array({})", sql.join(", "))));
        }
        Ok(self.shown_list())
    }

    /// The one list of texts that the prompt's template shows.
    fn shown_list(&self) -> Option<String> {
        let Some(Field::Text(template)) = &self.config.doc_to_text else { return None };
        column_sql::columns_of(template, self.rows).ok()?.into_iter().find_map(|name| {
            match self.rows.field_with_name(&name).ok()?.data_type() {
                list if is_text_list(list) => Some(identifier(&name)),
                DataType::Struct(fields) if fields.find("text").is_some_and(|(_, f)| is_text_list(f.data_type())) => {
                    Some(format!("{}['text']", identifier(&name)))
                }
                _ => None,
            }
        })
    }

    /// The list `text` in a struct column.
    fn text_list_in(&self, column: &str) -> Option<String> {
        let DataType::Struct(fields) = self.rows.field_with_name(column.trim_matches('"')).ok()?.data_type() else {
            return None;
        };
        fields.find("text").is_some_and(|(_, f)| is_text_list(f.data_type())).then(|| format!("{column}['text']"))
    }

    /// The list `label` beside a list `text`, as many datasets have their choices.
    pub(crate) fn labels(&self) -> Option<String> {
        let Some(ListSql::Expression(sql)) = &self.rendered.choices else { return None };
        let column = sql.strip_suffix("['text']")?;
        let DataType::Struct(fields) = self.rows.field_with_name(column.trim_matches('"')).ok()?.data_type() else {
            return None;
        };
        fields.find("label").is_some_and(|(_, f)| is_text_list(f.data_type())).then(|| format!("{column}['label']"))
    }

    /// The place of the answer among the options, over the columns of `indexed`: what a statement says, else the harness's,
    /// else the text among labels or letters.
    pub(crate) fn answer_index(&self, options: &Option<Options>, has_labels: bool) -> String {
        if self.seed_column("answer_index").is_some() {
            return "row_answer_index".into();
        }
        if self.seed_column("options").is_some() && self.rendered.choices.is_some() {
            return "CASE WHEN options IS NOT NULL THEN gold END".into();
        }
        let position = |list: &str, text: &str| format!("CAST(array_position({list}, {text}) AS BIGINT) - 1");
        match options {
            None => "gold".into(),
            Some(options) if options.origin == Origin::Own => match &self.rendered.choices {
                Some(_) => position("options", "choices[gold + 1]"),
                None => position("options", "target"),
            },
            Some(_) if self.rendered.choices.is_none() => position("options", "target"),
            Some(_) if self.rendered.target.kind == TargetKind::Index || self.rendered.chooses_prompt => "gold".into(),
            Some(_) => {
                let mut places = vec!["gold".to_owned()];
                if has_labels {
                    places.push(position("labels", "target"));
                }
                places.push(
                    "CASE WHEN regexp_like(target, '^[A-Z]$') THEN CAST(ascii(target) AS BIGINT) - 65 END".into(),
                );
                format!("coalesce({})", places.join(", "))
            }
        }
    }

    /// The answer where a statement, the config or a code task's own column gives it.
    pub(crate) fn row_answer(&self, format: Format) -> Result<Option<String>> {
        if let Some(answer) = self.seed("answer")? {
            return Ok(Some(answer));
        }
        // The code of a code task stands in its own column; its prompt's target may be the tests.
        if format == Format::Code
            && let Some(code) = self.column_of(CODE)
        {
            return Ok(Some(code));
        }
        // A NULL is no answer, though the harness writes it as None.
        let free = self.rendered.choices.is_none() && format != Format::Numeric && self.known_labels().is_empty();
        match (&self.rendered.target.column, &self.rendered.target.list) {
            (Some(column), None) if free && self.rendered.target.kind == TargetKind::Text => Ok(Some(strip(column))),
            _ => Ok(None),
        }
    }

    /// Whether the answer is a label of the task and not a text with a meaning of its own.
    pub(crate) fn answer_is_label(&self, format: Format, options: &Option<Options>) -> bool {
        match format {
            Format::Nli | Format::YesNo => true,
            Format::Numeric | Format::Code | Format::ShortAnswer | Format::FreeForm => false,
            Format::MultipleChoice | Format::Cloze => options.as_ref().is_some_and(|options| options.constant),
        }
    }

    /// Whether the prompt, or the choices where it is empty, is one column and nothing around it.
    fn prompt_is_column(&self) -> bool {
        match &self.config.doc_to_text {
            Some(Field::Text(template)) => template.is_empty() || column_sql::column(template, self.rows).is_some(),
            _ => true,
        }
    }

    /// The text columns that the prompt's template names, or those of the choices where the prompt is empty.
    fn prompt_columns(&self) -> Vec<String> {
        let template = match (&self.config.doc_to_text, &self.config.doc_to_choice) {
            (Some(Field::Text(empty)), Some(Field::Text(choices))) if empty.is_empty() => choices,
            (Some(Field::Text(template)), _) => template,
            _ => return Vec::new(),
        };
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

    pub(crate) fn question_and_passage(&self, format: Format) -> Result<Asked> {
        let (question, passage) = (self.seed("question")?, self.seed("passage")?);
        if let Some(question) = question {
            return Ok(Asked { question, passage, whole_prompt: false });
        }
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
        let doc_text = match self.rendered.chooses_prompt {
            true => "CAST(NULL AS TEXT)",
            false => &self.rendered.doc_text,
        };
        let mut whole_prompt = false;
        let (question, used) = match (asking, &self.rendered.description) {
            (Some(column), _) => (identifier(column), Some(column)),
            // A description asks about every row; what its template shows is what it asks about.
            (None, Some(description)) if described => (strip(description), None),
            // What surrounds a text may be what asks about it.
            _ if !self.prompt_is_column() => {
                whole_prompt = true;
                (without_furniture(doc_text), None)
            }
            _ => {
                match named(QUESTION).or_else(|| columns.iter().find(|c| !is_list(c)).filter(|_| columns.len() == 1)) {
                    Some(column) => (self.text_column(column).unwrap_or_else(|| identifier(column)), Some(column)),
                    None => (without_furniture(doc_text), None),
                }
            }
        };
        let found = PASSAGE
            .iter()
            .find_map(|name| columns.iter().find(|c| c.eq_ignore_ascii_case(name) && Some(*c) != used))
            .and_then(|column| self.text_column(column));
        let found = match (found, asking) {
            _ if whole_prompt => None,
            (Some(passage), _) => Some(passage),
            (None, None) if described && columns.len() == 1 => self.text_column(&columns[0]),
            (None, None) if described => Some(without_furniture(doc_text)),
            (None, _) => None,
        };
        Ok(Asked { question, passage: passage.or(found), whole_prompt })
    }
}

/// A rendered prompt without its first word's `Question:` and its last line's `Answer:`.
fn without_furniture(rendered: &str) -> String {
    let without_head = format!("regexp_replace({rendered}, '^\\s*(Question|Q|Problem)\\s*:\\s*', '')");
    strip(&format!("regexp_replace({without_head}, '\\n[^\\n:]{{1,30}}:\\s*$', '')"))
}

/// Without white space around, as Python's `strip` does it.
pub(crate) fn strip(text: &str) -> String {
    format!("strip({text})")
}

/// Whether options may change places: not where one speaks of others, nor where there are none.
pub(crate) fn shuffle_safe(has_options: bool) -> String {
    if !has_options {
        return "false".into();
    }
    format!(
        "coalesce(NOT regexp_like(array_to_string(options, chr(10)), {}, 'im'), false)",
        literal(
            "\\b(all|none|both|neither|either|any|two|some|most) of (the )?(above|below|these|those|them|following|options|answers|others|preceding)\\b\
             |\\b(none|all) (is|are) (correct|true|right)\\b|\\b(both )?\\(?[A-E1-5]\\)?,? (and|or|&) \\(?[A-E1-5]\\)?\\b\
             |^\\s*(all|none|both|neither|no answer|not given)\\s*\\.?\\s*$"
        )
    )
}
