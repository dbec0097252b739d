//! The tables `seeds` and `heldout`: the normalized rows of all tasks, read from the cached Parquet of each. Only the
//! tasks that a filter on `task` leaves are normalized; filters, projection and limit go into the Parquet scan.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Column, DataFusionError, Result, ScalarValue};
use datafusion::datasource::TableType;
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, expr::InList};
use datafusion::physical_plan::ExecutionPlan;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};

use super::distinct_rows::without_rows_of;
use super::heldout_split::reading;
use super::heldout_texts::heldout_files;
use super::normalized_cache::normalized_file;
use super::raw_file::may_pass;
use super::task_planner::TaskPlanner;
use super::{Catalog, Status, Task};
use crate::lineage::{Lineage, MarkedTable, Origin, Split};
use crate::stores::listing_url;

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
    marked(catalog, planner, parts, seeds_schema(), of_many_tasks(Split::Train))
}

/// The table `heldout`: the validation, test and scored training rows of all tasks, marked test.
pub(crate) fn heldout(catalog: &Arc<Catalog>, planner: &Arc<TaskPlanner>) -> MarkedTable {
    marked(catalog, planner, heldout_parts(catalog), heldout_schema(), of_many_tasks(Split::Test))
}

/// The table `heldout.<task>`: all of a task's held-out splits, in the columns of `seeds`.
pub(crate) fn heldout_of(catalog: &Arc<Catalog>, planner: &Arc<TaskPlanner>, task: usize) -> MarkedTable {
    let of = &catalog.tasks()[task];
    let parts = of.heldout_files.keys().map(|&split| Part { task, split, before: Vec::new() }).collect();
    let split = of.heldout_files.keys().copied().max().unwrap_or(Split::Test);
    marked(catalog, planner, parts, seeds_schema(), of.lineage(split))
}

/// The tasks and splits that `heldout` is made of: where no task that can be normalized reads a set of files, the one that
/// says best what their rows ask.
pub(super) fn heldout_parts(catalog: &Catalog) -> Vec<Part> {
    let splits = |task: &Task| task.heldout_files.keys().copied().collect();
    let mut parts = distinct(catalog, |task| task.normalizable && task.has_heldout(), splits);
    let tasks = catalog.tasks();
    let normalized: HashSet<&[String]> = parts.iter().map(|part| tasks[part.task].files(part.split)).collect();
    let mut others: BTreeMap<&[String], (u8, usize, Split)> = BTreeMap::new();
    for (at, task) in tasks.iter().enumerate() {
        for (&split, files) in task.heldout_files.iter().filter(|(_, files)| !normalized.contains(files.as_slice())) {
            let reader = (reading(task), at, split);
            others.entry(files.as_slice()).and_modify(|best| *best = reader.min(*best)).or_insert(reader);
        }
    }
    parts.extend(others.into_values().map(|(_, task, split)| Part { task, split, before: Vec::new() }));
    parts
}

/// A task's split, and the tasks whose rows of the same files come before it. Tasks are places in the catalog.
#[derive(Debug, PartialEq)]
pub(super) struct Part {
    pub task: usize,
    pub split: Split,
    /// Tasks that take other rows of the files, or make other questions of them.
    pub before: Vec<usize>,
}

/// Each set of files once: prompt variants of one dataset are not other rows. The accepted task that is first by name
/// stands for those that read the same rows; tasks whose own code chooses the rows (`process_docs`) are each a part,
/// without the rows that are another's already.
pub(super) fn distinct(
    catalog: &Catalog,
    take: impl Fn(&Task) -> bool,
    splits: impl Fn(&Task) -> Vec<Split>,
) -> Vec<Part> {
    let mut tasks: Vec<(usize, &Task)> = catalog.tasks().iter().enumerate().filter(|(_, task)| take(task)).collect();
    tasks.sort_by_key(|(_, task)| (task.status == Status::AcceptedFewshotTrain, &task.name));
    // The tasks that read them, each with the code that chooses its rows.
    type Files<'a> = (Split, &'a [String]);
    let mut readers: HashMap<Files, Vec<(usize, &str)>> = HashMap::new();
    let mut parts = Vec::new();
    for (at, task) in tasks {
        let chooses = task.config.as_ref().and_then(|config| config.function_places.get("process_docs"));
        let chooses = chooses.map_or("", String::as_str);
        for split in splits(task) {
            let same = readers.entry((split, task.files(split))).or_default();
            if !same.iter().any(|(_, other)| *other == chooses) {
                let before = same.iter().map(|(task, _)| *task).collect();
                parts.push(Part { task: at, split, before });
                same.push((at, chooses));
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
    lineage: Lineage,
) -> MarkedTable {
    let rows = NormalizedRows { catalog: Arc::clone(catalog), planner: Arc::clone(planner), parts, schema };
    MarkedTable::new(Arc::new(rows), lineage)
}

fn of_many_tasks(split: Split) -> Lineage {
    Lineage::of(split, Origin::Catalog)
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
    /// The Parquet files of a part's rows; none for held-out rows of which nothing can be read.
    async fn files(&self, part: &Part, state: &dyn Session) -> Result<Vec<PathBuf>> {
        let (cache, tasks, split) = (self.catalog.cache(), self.catalog.tasks(), part.split);
        let files = async |at: usize| match split {
            Split::Train => Ok(vec![normalized_file(cache, &tasks[at], split, &self.planner, state).await?]),
            _ => heldout_files(cache, &tasks[at], split, &self.planner, state).await,
        };
        // Of many tasks' held-out rows those that cannot be read are left out.
        let alone = self.parts.iter().all(|other| other.task == part.task);
        let must_be_read = |e: &DataFusionError| split == Split::Train || alone || may_pass(e);
        let mut own = match files(part.task).await {
            Err(e) if !must_be_read(&e) => {
                let (task, why) = (&tasks[part.task].name, e.strip_backtrace());
                tracing::warn!(
                    "the {split} rows of the task '{task}' cannot be read and are not in the table heldout: {why}"
                );
                return Ok(Vec::new());
            }
            own => own?,
        };
        let mut before = Vec::new();
        for &task in &part.before {
            match files(task).await {
                // It is a part of its own, and warned of there.
                Err(e) if !must_be_read(&e) => {}
                files => before.extend(files?),
            }
        }
        if !before.is_empty() {
            for file in &mut own {
                *file = without_rows_of(std::mem::take(file), before.clone()).await?;
            }
        }
        Ok(own)
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
            if filters.iter().all(|filter| may_hold(filter, &self.catalog.tasks()[part.task].name)) {
                made.push(self.files(part, state).boxed());
            }
        }
        let files: Vec<Vec<PathBuf>> = stream::iter(made).buffered(AT_ONCE).try_collect().await?;
        let files: Vec<PathBuf> = files.into_iter().flatten().collect();
        if files.is_empty() {
            return EmptyTable::new(self.schema()).scan(state, projection, filters, limit).await;
        }
        let urls = files.iter().map(|file| listing_url(&file.to_string_lossy())).collect::<Result<Vec<_>>>()?;
        let config = ListingTableConfig::new_with_multi_paths(urls)
            .with_listing_options(ListingOptions::new(Arc::new(ParquetFormat::default())))
            .with_schema(self.schema());
        ListingTable::try_new(config)?.scan(state, projection, filters, limit).await
    }
}

/// Whether a row of `task` can pass the filter, as far as `task = '…'` and `task IN (…)` say.
pub(crate) fn may_hold(filter: &Expr, task: &str) -> bool {
    may_hold_where(filter, &|column| (column == "task").then_some(task))
}

/// Whether a row can pass the filter, as far as `column = '…'` and `column IN (…)` say of columns whose value is known.
pub(crate) fn may_hold_where<'a>(filter: &Expr, known: &dyn Fn(&str) -> Option<&'a str>) -> bool {
    let value_of = |expr: &Expr| match expr {
        Expr::Column(Column { name, .. }) => known(name),
        _ => None,
    };
    let may_be = |expr: &Expr, value: &str| match expr {
        Expr::Literal(literal, _) => {
            literal.try_as_str().flatten().is_none_or(|text| text == value) && !literal.is_null()
        }
        _ => true,
    };
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match (value_of(left), value_of(right)) {
            (Some(value), None) => may_be(right, value),
            (None, Some(value)) => may_be(left, value),
            _ => true,
        },
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            may_hold_where(left, known) && may_hold_where(right, known)
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            may_hold_where(left, known) || may_hold_where(right, known)
        }
        Expr::InList(InList { expr, list, negated: false }) => {
            value_of(expr).is_none_or(|value| list.iter().any(|expr| may_be(expr, value)))
        }
        Expr::Literal(ScalarValue::Boolean(Some(false)), _) => false,
        _ => true,
    }
}
