//! Compares our normalization with what the harness rendered. In: a golden file, JSON lines of which one a task is a header
//! (`header: true`, `config`, `features`) and the others have a `doc` and what lm-evaluation-harness made of it. Out: for
//! each field how many rows are equal, different or failed, and every difference in full.
//!
//! A `doc` is what `process_docs` gave. Its rendering goes through the SQL of `norm.<task>` from there on; where the doc
//! still has all raw columns, the statement for `process_docs` is run over those, and its columns are compared with the doc.

mod doc_schema;
mod rendered_row;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::datasource::MemTable;
use datafusion::execution::runtime_env::RuntimeEnv;
use serde_json::{Map, Value};
use serde_yaml_ng::value::{Tag, TaggedValue};

use self::doc_schema::{batch_of, has_raw_columns, raw_features};
use self::rendered_row::{RenderedRow, cells};
use super::catalog_loader::config_task;
use super::harness_config::HarnessConfig;
use super::norm_sql::rendered_sql;
use super::raw_table::SOURCE_ROW;
use super::source_rows::source_rows;
use super::task_planner::session;
use super::task_sql::{Stage, TaskSql};
use super::{Catalog, Task};

/// The tasks of a golden file, in its order.
#[derive(Debug)]
pub struct Golden {
    tasks: Vec<GoldenTask>,
}

#[derive(Debug)]
struct GoldenTask {
    name: String,
    config: Map<String, Value>,
    features: Map<String, Value>,
    /// The harness's rows that have a doc.
    rows: Vec<Value>,
}

/// What a field came to over all rows.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub equal: usize,
    pub different: usize,
    /// We have no value where the harness has one.
    pub failed: usize,
}

/// One field of one row that is not what the harness has.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    pub task: String,
    pub row: i64,
    pub field: &'static str,
    pub expected: String,
    /// `None` where we have no value.
    pub found: Option<String>,
}

/// The result of a check.
#[derive(Debug, Default)]
pub struct Comparison {
    pub tasks: usize,
    pub rows: usize,
    /// In the order of [`FIELDS`].
    pub fields: BTreeMap<&'static str, Counts>,
    pub differences: Vec<Difference>,
    /// Tasks that could not be normalized at all, with the reason.
    pub failed_tasks: Vec<(String, String)>,
}

/// What is compared, in the order in which it is shown.
pub const FIELDS: [&str; 11] = [
    "process_docs",
    "description",
    "gen_prefix",
    "doc_to_text",
    "doc_to_choice",
    "doc_to_target",
    "gold_index",
    "answers",
    "context",
    "labeled",
    "answer_text",
];

impl Golden {
    /// Reads a golden file.
    ///
    /// # Errors
    /// A file that cannot be read, a line that is no JSON object, a row before its task's header; with file and line.
    pub fn read(file: &Path) -> Result<Golden> {
        let text = std::fs::read_to_string(file)
            .map_err(|e| DataFusionError::Plan(format!("'{}' cannot be read: {e}", file.display())))?;
        let mut tasks: Vec<GoldenTask> = Vec::new();
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let place = || format!("{}:{}", file.display(), number + 1);
            let row: Map<String, Value> =
                serde_json::from_str(line).map_err(|e| DataFusionError::Plan(format!("{}: {e}", place())))?;
            let Some(name) = row.get("task").and_then(Value::as_str) else {
                return plan_err!("{}: the row names no task", place());
            };
            if row.get("header") == Some(&Value::Bool(true)) {
                let object = |key: &str| row.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
                places.insert(name.to_owned(), tasks.len());
                let (config, features) = (object("config"), object("features"));
                tasks.push(GoldenTask { name: name.to_owned(), config, features, rows: Vec::new() });
            } else if row.contains_key("doc") {
                let Some(&task) = places.get(name) else {
                    return plan_err!("{}: the task '{name}' has no header above this row", place());
                };
                tasks[task].rows.push(Value::Object(row));
            }
        }
        Ok(Golden { tasks })
    }

    /// Normalizes every doc and compares. With a catalog the configs are those of its tasks, else those of the headers.
    ///
    /// # Errors
    /// None of the tasks' own: those are in the result.
    pub async fn check(&self, catalog: Option<&Catalog>, statements: Option<&Path>) -> Result<Comparison> {
        let sql = match statements {
            Some(folder) => TaskSql::with_folder(folder).map_err(DataFusionError::from)?,
            None => TaskSql::built_in().clone(),
        };
        let runtime = Arc::new(RuntimeEnv::default());
        let mut comparison = Comparison::default();
        for golden in &self.tasks {
            comparison.tasks += 1;
            comparison.rows += golden.rows.len();
            if let Err(error) = golden.compare(catalog, &sql, &runtime, &mut comparison).await {
                comparison.failed_tasks.push((golden.name.clone(), error.strip_backtrace()));
                for field in FIELDS.iter().filter(|field| **field != "process_docs") {
                    comparison.fields.entry(field).or_default().failed += golden.rows.len();
                }
            }
        }
        Ok(comparison)
    }
}

impl GoldenTask {
    async fn compare(
        &self,
        catalog: Option<&Catalog>,
        sql: &TaskSql,
        runtime: &Arc<RuntimeEnv>,
        comparison: &mut Comparison,
    ) -> Result<()> {
        let task = match catalog {
            Some(catalog) => match catalog.task(&self.name) {
                Some(task) => task.clone(),
                None => return plan_err!("the configs have no task of this name"),
            },
            None => self.task(sql)?,
        };
        let Some(config) = task.config.as_ref() else { return plan_err!("its config cannot be used") };
        if let Some(python) = &config.python {
            return plan_err!("no statement of sql/tasks stands for {python}");
        }
        if self.rows.is_empty() {
            return Ok(());
        }
        let docs: Vec<&Map<String, Value>> =
            self.rows.iter().filter_map(|row| row.get("doc").and_then(Value::as_object)).collect();
        let is_processing = |stage: &&Stage| stage.keys.iter().any(|key| key == "process_docs");
        let processing: Vec<Stage> = config.stages.iter().filter(is_processing).cloned().collect();
        let rendering: Vec<Stage> = config.stages.iter().filter(|stage| !is_processing(stage)).cloned().collect();
        let batch = batch_of(&docs, &self.features)?;
        let found = rendered_rows(&task, config, &rendering, batch, runtime).await?;
        for (expected, found) in self.rows.iter().zip(&found) {
            found.compare(expected, config, |field, expected, found| {
                comparison.add(&self.name, row_number(&self.rows, expected.0), field, expected.1, found);
            });
        }
        if !processing.is_empty() {
            self.compare_processed(config, &processing, runtime, comparison).await?;
        }
        Ok(())
    }

    /// Runs the statement for `process_docs` over the raw columns that docs still have.
    async fn compare_processed(
        &self,
        config: &HarnessConfig,
        processing: &[Stage],
        runtime: &Arc<RuntimeEnv>,
        comparison: &mut Comparison,
    ) -> Result<()> {
        let mut raw = Vec::new();
        for row in &self.rows {
            let Some(doc) = row.get("doc").and_then(Value::as_object) else { continue };
            if has_raw_columns(doc, &self.features) {
                raw.push((row, raw_features(doc, &self.features)));
            }
        }
        if raw.is_empty() {
            return Ok(());
        }
        let docs: Vec<&Map<String, Value>> = raw.iter().map(|(_, doc)| doc).collect();
        let session = session(runtime)?;
        let batch = batch_of(&docs, &self.features)?;
        let schema = batch.schema();
        session.register_table("docs", Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))?;
        let source = source_rows(&session, config, processing, "docs", &schema).await?;
        let with = source.ctes.iter().map(|(name, sql)| format!("{name} AS ({sql}\n)")).collect::<Vec<_>>().join(",\n");
        let sql = format!("WITH {with} SELECT * FROM {} ORDER BY {SOURCE_ROW}", source.relation);
        let batches = session.sql(&sql).await?.collect().await?;
        let mut found: BTreeMap<i64, Map<String, Value>> = BTreeMap::new();
        for mut row in cells(&batches)? {
            if let Some(number) = row.get(SOURCE_ROW).and_then(Value::as_i64) {
                row.retain(|name, _| !name.starts_with("seed_") && !name.starts_with("source_"));
                found.entry(number).or_insert(row);
            }
        }
        for (place, (row, raw)) in raw.iter().enumerate() {
            let Some(doc) = row.get("doc").and_then(Value::as_object) else { continue };
            let Some(made) = found.get(&(place as i64)) else {
                // Where raw columns were overwritten the row that is left may be one that a filter drops.
                continue;
            };
            // A raw column that changes again was overwritten: what stood there before is not known.
            if raw.iter().any(|(name, value)| made.get(name).is_some_and(|made| made != value)) {
                continue;
            }
            let wanted = doc.iter().filter(|(name, _)| made.contains_key(*name));
            let wanted = Value::Object(wanted.map(|(name, value)| (name.clone(), value.clone())).collect());
            let columns = made.iter().filter(|(name, _)| doc.contains_key(*name));
            let got = Value::Object(columns.map(|(name, value)| (name.clone(), value.clone())).collect());
            let text = |value: &Value| sorted(value).to_string();
            comparison.add(&self.name, row_number(&self.rows, row), "process_docs", text(&wanted), Some(text(&got)));
        }
        Ok(())
    }

    /// The task as its header says it.
    fn task(&self, sql: &TaskSql) -> Result<Task> {
        let mut mapping = serde_yaml_ng::Mapping::new();
        mapping.insert("task".into(), self.name.clone().into());
        for (key, value) in self.config.iter().filter(|(_, value)| !value.is_null()) {
            let value = match value.as_str().and_then(|text| text.strip_prefix("!function ")) {
                Some(function) => serde_yaml_ng::Value::Tagged(Box::new(TaggedValue {
                    tag: Tag::new("!function"),
                    value: function.into(),
                })),
                None => serde_yaml_ng::to_value(value)
                    .map_err(|e| DataFusionError::Plan(format!("'{key}' of the header cannot be read: {e}")))?,
            };
            mapping.insert(key.clone().into(), value);
        }
        let mut config =
            HarnessConfig::from_mapping(&mapping, &PathBuf::from("header")).map_err(DataFusionError::Plan)?;
        sql.serve(&mut config);
        Ok(config_task(config))
    }
}

/// The rows as the SQL of the task renders them, in order.
async fn rendered_rows(
    task: &Task,
    config: &HarnessConfig,
    stages: &[Stage],
    batch: RecordBatch,
    runtime: &Arc<RuntimeEnv>,
) -> Result<Vec<RenderedRow>> {
    let session = session(runtime)?;
    let schema = batch.schema();
    session.register_table("docs", Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))?;
    let source = source_rows(&session, config, stages, "docs", &schema).await?;
    let sql = rendered_sql(task, &source)?;
    RenderedRow::read(&session.sql(&sql).await?.collect().await?)
}

fn row_number(rows: &[Value], row: &Value) -> i64 {
    let place = rows.iter().position(|other| std::ptr::eq(other, row)).unwrap_or_default();
    row.get("row").and_then(Value::as_i64).unwrap_or(place as i64)
}

/// Objects in order of their keys, so that two texts of one value are one.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<_> = object.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

impl Comparison {
    /// Whether every field of every row is what the harness has.
    pub fn is_equal(&self) -> bool {
        self.failed_tasks.is_empty() && self.differences.is_empty()
    }

    fn add(&mut self, task: &str, row: i64, field: &'static str, expected: String, found: Option<String>) {
        let counts = self.fields.entry(field).or_default();
        match &found {
            Some(found) if *found == expected => {
                counts.equal += 1;
                return;
            }
            Some(_) => counts.different += 1,
            None => counts.failed += 1,
        }
        self.differences.push(Difference { task: task.to_owned(), row, field, expected, found });
    }
}
