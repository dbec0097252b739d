//! The page of a report: the run's manifest, the figures with their queries, and items side by side. Everything that
//! comes from a run is escaped by the template.

use datafusion::common::{DataFusionError, Result};
use minijinja::Environment;
use serde::Serialize;
use serde_json::{Value, json};

use super::figures::{FIGURES, Figure, KEPT, REJECTED};
use super::plot;
use super::result::{Cell, QueryResult};
use crate::cli::sentence;
use crate::publish::Manifest;
use crate::session::Workspace;

const TEMPLATE: &str = include_str!("page.html");

/// Rows of a table on the page; the query gives them all.
const MOST_ROWS: usize = 100;

/// What a page shows.
#[derive(Debug)]
pub struct Page {
    manifest: Manifest,
    figures: Vec<Shown>,
    kept: Sample,
    rejected: Sample,
}

/// A figure with its rows.
#[derive(Debug, Serialize)]
struct Shown {
    title: &'static str,
    note: &'static str,
    sql: String,
    svg: Option<String>,
    /// Bars that were not drawn, and rows that are not in the table.
    not_drawn: usize,
    not_listed: usize,
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
    /// Why there are none: an older run may lack a column.
    problem: Option<String>,
}

/// Items to look at.
#[derive(Debug, Serialize)]
struct Sample {
    title: &'static str,
    sql: String,
    of: u64,
    items: Vec<Item>,
}

#[derive(Debug, Serialize)]
struct Item {
    id: String,
    /// Task and licence.
    source: String,
    question: String,
    options: Vec<Choice>,
    answer: String,
    reasoning: String,
    knowledge: Vec<String>,
    reasons: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Choice {
    text: String,
    is_answer: bool,
}

impl Page {
    /// Runs the queries, one after the other.
    pub async fn read(workspace: &Workspace, manifest: Manifest) -> Result<Page> {
        let id = manifest.run_id.as_str();
        let mut figures = Vec::with_capacity(FIGURES.len());
        for figure in FIGURES {
            let sql = figure.sql(id);
            let (mut result, problem) = match workspace.sql(&sql).await {
                Ok(frame) => (QueryResult::of(frame).await.map_err(|e| of_figure(figure, e))?, None),
                Err(error) => (QueryResult::default(), Some(sentence(&error))),
            };
            let rows = result.rows.len();
            let svg = plot::draw(figure.plot, &result)?;
            result.rows.truncate(MOST_ROWS);
            figures.push(Shown {
                title: figure.title,
                note: figure.note,
                sql,
                svg,
                not_drawn: plot::left_out(figure.plot, rows),
                not_listed: rows.saturating_sub(MOST_ROWS),
                columns: result.columns,
                rows: result.rows,
                problem,
            });
        }
        let kept = sample(workspace, &KEPT, id, manifest.rows.curated).await?;
        let rejected = sample(workspace, &REJECTED, id, manifest.rows.rejected).await?;
        Ok(Page { manifest, figures, kept, rejected })
    }

    pub fn run_id(&self) -> &str {
        &self.manifest.run_id
    }

    /// The HTML.
    pub fn render(&self) -> Result<String> {
        let mut environment = Environment::new();
        // The ending of the name turns escaping on.
        environment.add_template("page.html", TEMPLATE).map_err(broken)?;
        let template = environment.get_template("page.html").map_err(broken)?;
        let is_demonstration = self.manifest.models.iter().any(|model| model.provider == "embedded");
        let page = json!({
            "run": self.manifest, "figures": self.figures, "samples": [&self.kept, &self.rejected],
            "is_demonstration": is_demonstration,
        });
        template.render(template_value(page)).map_err(broken)
    }
}

/// minijinja is built without serde here: its feature would be on for every template of a pipeline too.
fn template_value(value: Value) -> minijinja::Value {
    match value {
        Value::Null => minijinja::Value::from(()),
        Value::Bool(value) => value.into(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => whole.into(),
            (None, Some(number)) => number.into(),
            (None, None) => number.to_string().into(),
        },
        Value::String(text) => text.into(),
        Value::Array(values) => values.into_iter().map(template_value).collect::<Vec<_>>().into(),
        Value::Object(fields) => {
            minijinja::Value::from_pairs(fields.into_iter().map(|(name, value)| (name, template_value(value))))
        }
    }
}

fn broken(error: minijinja::Error) -> DataFusionError {
    DataFusionError::Execution(format!("the page cannot be made: {error:#}"))
}

fn of_figure(figure: &Figure, error: DataFusionError) -> DataFusionError {
    error.context(format!("the figure '{}'", figure.title))
}

async fn sample(workspace: &Workspace, figure: &Figure, run_id: &str, of: u64) -> Result<Sample> {
    let sql = figure.sql(run_id);
    let frame = workspace.sql(&sql).await.map_err(|e| of_figure(figure, e))?;
    let result = QueryResult::of(frame).await.map_err(|e| of_figure(figure, e))?;
    let items = result.rows.iter().map(|row| {
        let cell = |name: &str| result.place(name).map(|place| &row[place]);
        let text = |name: &str| cell(name).map(|cell| cell.text.clone()).unwrap_or_default();
        let texts = |name: &str| cell(name).map(|cell| cell.texts.clone()).unwrap_or_default();
        let answer = text("answer_text");
        let option = |text: String| Choice { is_answer: text == answer, text };
        Item {
            id: text("id"),
            source: [text("task"), text("license")]
                .into_iter()
                .filter(|t| !t.is_empty())
                .collect::<Vec<_>>()
                .join(" · "),
            question: text("question"),
            options: texts("options").into_iter().map(option).collect(),
            reasoning: text("reasoning"),
            knowledge: texts("knowledge"),
            reasons: texts("reasons"),
            answer,
        }
    });
    Ok(Sample { title: figure.title, of, items: items.collect(), sql })
}
