//! The table `raw_errors`: the rows of tasks' files that cannot be read, with file and line. It reads the files of the
//! tasks that a filter on `task` leaves.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::{MemTable, TableType};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;

use super::Catalog;
use super::seeds::may_hold;
use super::task_planner::TaskPlanner;
use crate::counted::counted;
use crate::lineage::Split;

/// Columns: task (the first that reads the file), split, file, line BIGINT (from 1, of Parquet the first row that is lost;
/// NULL where the whole file cannot be read, and for the number of those that are not listed), error.
fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let text = |name: &str| Field::new(name, DataType::Utf8, true);
        let line = Field::new("line", DataType::Int64, true);
        Arc::new(Schema::new(vec![text("task"), text("split"), text("file"), line, text("error")]))
    });
    Arc::clone(&SCHEMA)
}

#[derive(Debug)]
pub(crate) struct RawErrors {
    pub catalog: Arc<Catalog>,
    pub planner: Arc<TaskPlanner>,
}

#[async_trait]
impl TableProvider for RawErrors {
    fn schema(&self) -> SchemaRef {
        schema()
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
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut seen = BTreeSet::new();
        let (mut tasks, mut splits, mut files, mut lines, mut errors) = (vec![], vec![], vec![], vec![], vec![]);
        for task in self.catalog.tasks().iter().filter(|task| filters.iter().all(|f| may_hold(f, &task.name))) {
            for split in [Split::Train, Split::Validation, Split::Test] {
                if task.files(split).is_empty() || !seen.insert(task.files(split).to_vec()) {
                    continue;
                }
                let mut add = |file: String, line: Option<i64>, error: String| {
                    tasks.push(task.name.clone());
                    splits.push(split.to_string());
                    files.push(file);
                    lines.push(line);
                    errors.push(error);
                };
                let opened = self.planner.files(task, split).await;
                let opened = match opened {
                    Ok(table) => table.read_all().await.map(|()| table),
                    Err(error) => Err(error),
                };
                match opened {
                    Ok(table) => {
                        for unread in table.unread() {
                            add(unread.file, unread.line.map(|line| line as i64), unread.what);
                        }
                        for (file, more) in table.unlisted() {
                            add(file.clone(), None, format!("{} cannot be read", counted(*more, "more row")));
                        }
                    }
                    Err(error) => add(task.files(split).join(", "), None, error.strip_backtrace()),
                }
            }
        }
        let text = |values: Vec<String>| -> ArrayRef { Arc::new(StringArray::from(values)) };
        let columns = vec![text(tasks), text(splits), text(files), Arc::new(Int64Array::from(lines)), text(errors)];
        let batch = RecordBatch::try_new(schema(), columns)?;
        MemTable::try_new(schema(), vec![vec![batch]])?.scan(state, projection, &[], None).await
    }
}
