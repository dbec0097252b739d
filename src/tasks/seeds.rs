//! The tables `seeds` and `heldout`: the normalized rows of all tasks, read from the cached Parquet of each. Only the
//! tasks that a filter on `task` leaves are normalized; filters, projection and limit go into the Parquet scan.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::datasource::TableType;
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, expr::InList};
use datafusion::physical_plan::ExecutionPlan;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};

use super::normalized_cache::normalized_file;
use super::task_planner::TaskPlanner;
use super::{Catalog, Task};
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
    let parts = distinct(catalog, Task::has_heldout, |task| task.heldout_files.keys().copied().collect());
    marked(catalog, planner, parts, heldout_schema(), Split::Test)
}

/// Each set of files once, by the first task in name order: prompt variants of one dataset are not other rows.
fn distinct(
    catalog: &Catalog,
    take: impl Fn(&Task) -> bool,
    splits: impl Fn(&Task) -> Vec<Split>,
) -> Vec<(String, Split)> {
    let mut seen = BTreeSet::new();
    let mut parts = Vec::new();
    for task in catalog.tasks().iter().filter(|task| take(task)) {
        for split in splits(task) {
            if seen.insert((task.dataset_path.clone(), task.dataset_name.clone(), split, task.files(split).to_vec())) {
                parts.push((task.name.clone(), split));
            }
        }
    }
    parts
}

fn marked(
    catalog: &Arc<Catalog>,
    planner: &Arc<TaskPlanner>,
    parts: Vec<(String, Split)>,
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
    parts: Vec<(String, Split)>,
    schema: SchemaRef,
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
        for (name, split) in &self.parts {
            if let Some(task) = self.catalog.task(name)
                && filters.iter().all(|filter| may_hold(filter, name))
            {
                let cache = self.catalog.cache();
                made.push(normalized_file(cache, task, *split, &self.planner, state).boxed());
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
fn may_hold(filter: &Expr, task: &str) -> bool {
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
