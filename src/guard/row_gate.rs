//! The row guard: training rows that are copies of held-out rows never reach a model call, nor a table that another plan
//! could bring to one. In: an analyzed plan. Out: the same plan with a filter over the catalog's training rows below calls
//! and INSERT; what that leaves out is counted (see [`super::row_gate_exec`]). `seed_verdicts` has the same rows.
//!
//! A row is looked at where it leaves the catalog, with all of its columns: what a query makes of them (another name, a
//! part, an answer alone) cannot be told from a user's own text. So a table that is filled from training rows gets none of
//! the copies, and what is read from it needs no second look.

use std::sync::Arc;

use datafusion::common::{Column, Result};
use datafusion::config::ConfigOptions;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{Expr, LogicalPlan, ScalarUDF, TableScan, lit};
use datafusion::optimizer::AnalyzerRule;

use super::below_calls::{filter_below_calls_and_inserts, filter_shown};
use super::held_out_copy::{left_out_row, left_out_seed, no_copies_in_files};
use crate::lineage::{Origin, Split, lineage_of};
use crate::tasks::HeldOutRows;

/// The columns that say which row a normalized row is.
const KNOWN_BY: [&str; 4] = ["question", "passage", "options", "answer_text"];

/// Filters the catalog's training rows: `seeds` by what is asked, the rows of one task by their places. A task's file that
/// is read by its path is refused as a whole if it has copies: its rows do not say their places.
#[derive(Debug)]
pub struct RowGate {
    seed: Arc<ScalarUDF>,
    row: Arc<ScalarUDF>,
    files: Arc<ScalarUDF>,
}

impl RowGate {
    pub fn new(rows: &Arc<HeldOutRows>) -> Self {
        RowGate {
            seed: Arc::new(left_out_seed(Arc::clone(rows))),
            row: Arc::new(left_out_row(Arc::clone(rows))),
            files: Arc::new(no_copies_in_files(Arc::clone(rows))),
        }
    }

    /// The plan that fills a table: CREATE TABLE AS hands the analyzer a query that does not say what it is for.
    pub fn of_table(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        filter_shown(plan, &|scan, _call| Ok(self.condition(scan)))
    }

    /// What a row of the scan must meet; `None` where nothing is known of its rows.
    fn condition(&self, scan: &TableScan) -> Option<Expr> {
        let provider = source_as_provider(&scan.source).ok()?;
        let lineage = lineage_of(provider.as_ref())?;
        if lineage.split != Split::Train {
            return None;
        }
        let column = |name: &str| Expr::Column(Column::new(Some(scan.table_name.clone()), name));
        match (lineage.origin, lineage.tasks.as_slice()) {
            (Origin::Catalog, []) => Some(Expr::Not(Box::new(self.seed.call(KNOWN_BY.map(column).to_vec())))),
            (Origin::Catalog, [task]) => {
                let left_out = self.row.call(vec![lit(task.as_str()), column("source_row")]);
                Some(Expr::Not(Box::new(left_out)))
            }
            (Origin::CatalogFile | Origin::Option, tasks @ [_, ..]) => {
                Some(self.files.call(tasks.iter().map(|task| lit(task.as_str())).collect()))
            }
            _ => None,
        }
    }
}

impl AnalyzerRule for RowGate {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        filter_below_calls_and_inserts(plan, &|scan, _call| Ok(self.condition(scan)))
    }

    fn name(&self) -> &str {
        "row_gate"
    }
}
