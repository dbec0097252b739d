//! The table `heldout_coverage`: which held-out rows the row guard knows. One row for each task and held-out split. It reads
//! the held-out files of the tasks that a filter on `task` leaves; of files that several tasks read, once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::{MemTable, TableType};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;

use super::dataset_files::base_split;
use super::heldout_split::Counts;
use super::seeds::may_hold;
use super::{HeldOutRows, Reason, Task};
use crate::lineage::Split;

/// Columns:
///
/// - task; split ('validation' | 'test', to which a scored training split belongs; NULL for a task that scores nothing)
/// - indexed BOOLEAN: whether copies of any of the split's rows are found
/// - form: 'normalized' (rows are known by what the normalization calls the question), 'raw' (by the texts of the raw
///   row), NULL
/// - rows, normalized, raw BIGINT: rows that were read, known in the one form, known in the other alone
/// - unknown BIGINT: rows that were read and have no text to know them by
/// - unread BIGINT: rows that cannot be read (see `raw_errors`)
/// - read_as: the task whose reading of the files it is
/// - reason: why not all rows are known: 'nothing_scored', 'no_data' (no file is known), 'unreadable', 'no_text'; message
fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let text = |name: &str| Field::new(name, DataType::Utf8, true);
        let number = |name: &str| Field::new(name, DataType::Int64, true);
        Arc::new(Schema::new(vec![
            text("task"),
            text("split"),
            Field::new("indexed", DataType::Boolean, true),
            text("form"),
            number("rows"),
            number("normalized"),
            number("raw"),
            number("unknown"),
            number("unread"),
            text("read_as"),
            text("reason"),
            text("message"),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// One row.
#[derive(Default)]
struct Coverage {
    task: String,
    split: Option<Split>,
    counts: Option<Counts>,
    read_as: Option<String>,
    reason: Option<&'static str>,
    message: Option<String>,
}

/// The table over the rows that the guard knows.
#[derive(Debug)]
pub struct HeldOutCoverage(pub Arc<HeldOutRows>);

impl HeldOutCoverage {
    async fn rows(&self, filters: &[Expr], session: &dyn Session) -> Result<Vec<Coverage>> {
        let tasks = self.0.catalog().tasks();
        let mut read: HashMap<(usize, Split), (Counts, Option<String>)> = HashMap::new();
        let mut rows = Vec::new();
        for (at, task) in tasks.iter().enumerate().filter(|(_, task)| filters.iter().all(|f| may_hold(f, &task.name))) {
            let before = rows.len();
            for &split in task.heldout_files.keys() {
                let Some(part) = self.0.read_by(at, split) else { continue };
                let (counts, note) = match read.entry(part) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => {
                        let keys = self.0.keys_of(part, session).await?;
                        new.insert((keys.counts, keys.note))
                    }
                };
                let known = counts.normalized + counts.raw;
                rows.push(Coverage {
                    task: task.name.clone(),
                    split: Some(split),
                    counts: Some(*counts),
                    read_as: Some(tasks[part.0].name.clone()),
                    reason: match () {
                        () if counts.rows == 0 && note.is_some() || counts.unread > 0 => Some("unreadable"),
                        () if known < counts.rows || counts.rows == 0 => Some("no_text"),
                        () => None,
                    },
                    message: note.clone(),
                });
            }
            rows.extend(without_data(task));
            if rows.len() == before {
                let message = task.message.clone().filter(|_| task.config.is_none());
                rows.push(Coverage {
                    task: task.name.clone(),
                    reason: Some("nothing_scored"),
                    message: message.or_else(|| Some("the config names no validation_split and no test_split".into())),
                    ..Coverage::default()
                });
            }
        }
        Ok(rows)
    }
}

/// A row for each held-out split whose files are not known.
fn without_data(task: &Task) -> Vec<Coverage> {
    let scored = task.train_split.as_ref().filter(|_| {
        matches!(task.reason, Some(Reason::TrainIsScored | Reason::NotATrainSplit))
            && !task.heldout_files.contains_key(&Split::Test)
    });
    let mut rows: Vec<Coverage> = Vec::new();
    for (split, name) in
        [(Split::Validation, &task.validation_split), (Split::Test, &task.test_split), (Split::Test, &scored.cloned())]
    {
        let Some(name) = name.as_deref().map(base_split) else { continue };
        let listed = rows.iter().any(|row| row.split == Some(split));
        // A split that is both has its files once.
        let both = [&task.validation_split, &task.test_split].into_iter().flatten().map(|other| base_split(other));
        let once = both.filter(|other| *other == name).count() > 1 && !task.heldout_files.is_empty();
        if task.heldout_files.contains_key(&split) || listed || once {
            continue;
        }
        rows.push(Coverage {
            task: task.name.clone(),
            split: Some(split),
            reason: Some("no_data"),
            message: Some(format!("no file is known for the split '{name}' of '{}'", task.dataset())),
            ..Coverage::default()
        });
    }
    rows
}

#[async_trait]
impl TableProvider for HeldOutCoverage {
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
        let rows = self.rows(filters, state).await?;
        let text = |of: &dyn Fn(&Coverage) -> Option<String>| -> ArrayRef {
            Arc::new(rows.iter().map(of).collect::<StringArray>())
        };
        let number = |of: &dyn Fn(&Counts) -> u64| -> ArrayRef {
            Arc::new(rows.iter().map(|row| row.counts.as_ref().map(|counts| of(counts) as i64)).collect::<Int64Array>())
        };
        let known = |row: &Coverage| row.counts.is_some_and(|counts| counts.normalized + counts.raw > 0);
        let form = |row: &Coverage| match row.counts {
            Some(Counts { normalized: 1.., .. }) => Some("normalized".to_owned()),
            Some(Counts { raw: 1.., .. }) => Some("raw".to_owned()),
            _ => None,
        };
        let columns: Vec<ArrayRef> = vec![
            text(&|row| Some(row.task.clone())),
            text(&|row| row.split.map(|split| split.to_string())),
            Arc::new(rows.iter().map(|row| Some(known(row))).collect::<BooleanArray>()),
            text(&form),
            number(&|counts| counts.rows),
            number(&|counts| counts.normalized),
            number(&|counts| counts.raw),
            number(&|counts| counts.rows.saturating_sub(counts.normalized + counts.raw)),
            number(&|counts| counts.unread),
            text(&|row| row.read_as.clone()),
            text(&|row| row.reason.map(str::to_owned)),
            text(&|row| row.message.clone()),
        ];
        let batch = RecordBatch::try_new(schema(), columns)?;
        MemTable::try_new(schema(), vec![vec![batch]])?.scan(state, projection, &[], None).await
    }
}
