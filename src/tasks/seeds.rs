//! The tables `seeds` and `heldout`: the normalized rows of all tasks, read from the cached Parquet of each. Only the
//! tasks that a filter on `task` leaves are normalized; filters, projection and limit go into the Parquet scan.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Column, Result, ScalarValue, plan_err};
use datafusion::datasource::TableType;
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, expr::InList};
use datafusion::physical_plan::ExecutionPlan;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};

use super::distinct_rows::without_rows_of;
use super::normalized_cache::normalized_file;
use super::task_planner::TaskPlanner;
use super::{Catalog, Status, Task};
use crate::lineage::{Lineage, MarkedTable, Origin, Split};

/// How many tasks are normalized at the same time.
const AT_ONCE: usize = 4;

/// The columns of `seeds`, of each `norm.<task>` and of each `heldout.<task>`, in order.
pub fn seeds_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let text = |name: &str| Field::new(name, DataType::Utf8, true);
        let integer = |name: &str| Field::new(name, DataType::Int64, true);
        let boolean = |name: &str| Field::new(name, DataType::Boolean, true);
        Arc::new(Schema::new(vec![
            text("seed_id"),
            text("task"),
            text("subtask"),
            text("family"),
            text("capability"),
            text("format"),
            text("passage"),
            text("question"),
            Field::new_list("options", Field::new_list_field(DataType::Utf8, true), true),
            integer("answer_index"),
            text("answer_text"),
            boolean("answer_is_label"),
            text("rationale"),
            text("language"),
            text("license"),
            text("license_evidence"),
            text("split"),
            text("dataset"),
            text("config"),
            text("revision"),
            integer("source_row"),
            text("source_sha256"),
            text("prompt_text"),
            text("target_text"),
            boolean("shuffle_safe"),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// The columns of `heldout`: task, passage, question, answer_text, options TEXT[], prompt_text, split, source_row.
pub fn heldout_schema() -> SchemaRef {
    let seeds = seeds_schema();
    let columns = ["task", "passage", "question", "answer_text", "options", "prompt_text", "split", "source_row"];
    Arc::new(Schema::new(columns.iter().filter_map(|c| seeds.field_with_name(c).ok().cloned()).collect::<Vec<_>>()))
}

/// The table `seeds`: one row for each row of each training split, marked train.
pub(crate) fn seeds(catalog: &Arc<Catalog>, planner: &Arc<TaskPlanner>) -> MarkedTable {
    let parts = distinct(catalog, Task::has_seeds, |_| vec![Split::Train]);
    marked(catalog, planner, parts, seeds_schema(), Split::Train)
}

/// The table `heldout`: the validation, test and scored training rows of all tasks, marked test.
pub(crate) fn heldout(catalog: &Arc<Catalog>, planner: &Arc<TaskPlanner>) -> MarkedTable {
    marked(catalog, planner, heldout_parts(catalog), heldout_schema(), Split::Test)
}

/// The tasks and splits that `heldout` is made of.
pub(super) fn heldout_parts(catalog: &Catalog) -> Vec<Part> {
    distinct(catalog, Task::has_heldout, |task| task.heldout_files.keys().copied().collect())
}

/// A task's split, and the tasks whose rows of the same files come before it.
#[derive(Debug, PartialEq)]
pub(super) struct Part {
    pub task: String,
    pub split: Split,
    /// Tasks that take other rows of the files, or make other questions of them.
    pub before: Vec<String>,
}

/// Each set of files once: prompt variants of one dataset are not other rows. The accepted task that is first by name
/// stands for those that read the same rows; tasks whose own code chooses the rows (`process_docs`) are each a part,
/// without the rows that are another's already.
pub(super) fn distinct(
    catalog: &Catalog,
    take: impl Fn(&Task) -> bool,
    splits: impl Fn(&Task) -> Vec<Split>,
) -> Vec<Part> {
    let mut tasks: Vec<&Task> = catalog.tasks().iter().filter(|task| take(task)).collect();
    tasks.sort_by_key(|task| (task.status == Status::AcceptedFewshotTrain, &task.name));
    // The tasks that read them, each with the code that chooses its rows.
    type Files<'a> = (Split, &'a [String]);
    let mut readers: HashMap<Files, Vec<(&str, &str)>> = HashMap::new();
    let mut parts = Vec::new();
    for task in tasks {
        let chooses = task.config.as_ref().and_then(|config| config.function_places.get("process_docs"));
        let chooses = chooses.map_or("", String::as_str);
        for split in splits(task) {
            let same = readers.entry((split, task.files(split))).or_default();
            if !same.iter().any(|(_, other)| *other == chooses) {
                let before = same.iter().map(|(task, _)| (*task).to_owned()).collect();
                parts.push(Part { task: task.name.clone(), split, before });
                same.push((&task.name, chooses));
            }
        }
    }
    parts
}

fn marked(
    catalog: &Arc<Catalog>,
    planner: &Arc<TaskPlanner>,
    parts: Vec<Part>,
    schema: SchemaRef,
    split: Split,
) -> MarkedTable {
    let rows = NormalizedRows { catalog: Arc::clone(catalog), planner: Arc::clone(planner), parts, schema };
    MarkedTable::new(Arc::new(rows), Lineage { split, origin: Origin::Catalog, task: None, licence: None })
}

/// The normalized rows of many tasks' splits.
#[derive(Debug)]
struct NormalizedRows {
    catalog: Arc<Catalog>,
    planner: Arc<TaskPlanner>,
    parts: Vec<Part>,
    schema: SchemaRef,
}

impl NormalizedRows {
    /// The Parquet file of a part's rows.
    async fn file(&self, part: &Part, state: &dyn Session) -> Result<PathBuf> {
        let cache = self.catalog.cache();
        let file = async |name: &str| match self.catalog.task(name) {
            Some(task) => normalized_file(cache, task, part.split, &self.planner, state).await,
            None => plan_err!("there is no task '{name}'"),
        };
        let own = file(&part.task).await?;
        if part.before.is_empty() {
            return Ok(own);
        }
        let mut before = Vec::new();
        for task in &part.before {
            before.push(file(task).await?);
        }
        without_rows_of(own, before).await
    }
}

#[async_trait]
impl TableProvider for NormalizedRows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut made = Vec::new();
        for part in &self.parts {
            if filters.iter().all(|filter| may_hold(filter, &part.task)) {
                made.push(self.file(part, state).boxed());
            }
        }
        let files: Vec<PathBuf> = stream::iter(made).buffered(AT_ONCE).try_collect().await?;
        if files.is_empty() {
            return EmptyTable::new(self.schema()).scan(state, projection, filters, limit).await;
        }
        let urls =
            files.iter().map(|file| ListingTableUrl::parse(file.to_string_lossy())).collect::<Result<Vec<_>>>()?;
        let config = ListingTableConfig::new_with_multi_paths(urls)
            .with_listing_options(ListingOptions::new(Arc::new(ParquetFormat::default())))
            .with_schema(self.schema());
        ListingTable::try_new(config)?.scan(state, projection, filters, limit).await
    }
}

/// Whether a row of `task` can pass the filter, as far as `task = '…'` and `task IN (…)` say.
pub(crate) fn may_hold(filter: &Expr, task: &str) -> bool {
    let is_task = |expr: &Expr| matches!(expr, Expr::Column(Column { name, .. }) if name == "task");
    let is_name = |expr: &Expr| match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten().is_none_or(|name| name == task) && !value.is_null(),
        _ => true,
    };
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match (is_task(left), is_task(right)) {
            (true, false) => is_name(right),
            (false, true) => is_name(left),
            _ => true,
        },
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            may_hold(left, task) && may_hold(right, task)
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => may_hold(left, task) || may_hold(right, task),
        Expr::InList(InList { expr, list, negated: false }) if is_task(expr) => list.iter().any(is_name),
        Expr::Literal(ScalarValue::Boolean(Some(false)), _) => false,
        _ => true,
    }
}
