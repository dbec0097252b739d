//! The row guard: training rows that are copies of held-out rows never reach a model call. In: an analyzed plan. Out:
//! the same plan with a filter over the catalog's training rows below calls. `seed_verdicts` counts the same rows.

use std::sync::Arc;

use datafusion::common::{Column, Result};
use datafusion::config::ConfigOptions;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{Expr, LogicalPlan, ScalarUDF, TableScan, lit};
use datafusion::optimizer::AnalyzerRule;

use super::below_calls::filter_below_calls;
use super::held_out_copy::{held_out_copy, held_out_row};
use crate::lineage::{Origin, Split, lineage_of};
use crate::tasks::HeldOutRows;

/// The columns that say which row a normalized row is.
const KNOWN_BY: [&str; 4] = ["question", "passage", "options", "answer_text"];

/// Filters the catalog's training rows below calls: `seeds` by what is asked, the rows of one task by their places.
#[derive(Debug)]
pub struct RowGate {
    copy: Arc<ScalarUDF>,
    row: Arc<ScalarUDF>,
}

impl RowGate {
    pub fn new(rows: &Arc<HeldOutRows>) -> Self {
        RowGate { copy: Arc::new(held_out_copy(Arc::clone(rows))), row: Arc::new(held_out_row(Arc::clone(rows))) }
    }

    /// What a row of the scan must meet; `None` where nothing is known of its rows.
    fn condition(&self, scan: &TableScan) -> Option<Expr> {
        let provider = source_as_provider(&scan.source).ok()?;
        let lineage = lineage_of(provider.as_ref())?;
        if lineage.split != Split::Train || !matches!(lineage.origin, Origin::Catalog | Origin::Derived) {
            return None;
        }
        let schema = scan.source.schema();
        let has = |name: &&str| schema.field_with_name(name).is_ok();
        let column = |name: &str| Expr::Column(Column::new(Some(scan.table_name.clone()), name));
        let is_copy = match &lineage.task {
            // A table that was filled from them may have fewer columns.
            None if has(&KNOWN_BY[0]) => {
                let known = KNOWN_BY.iter().take_while(|name| has(name));
                self.copy.call(known.map(|name| column(name)).collect())
            }
            Some(task) if has(&"source_row") => self.row.call(vec![lit(task.as_str()), column("source_row")]),
            _ => return None,
        };
        Some(Expr::Not(Box::new(is_copy)))
    }
}

impl AnalyzerRule for RowGate {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        filter_below_calls(plan, &|scan, _call| Ok(self.condition(scan)))
    }

    fn name(&self) -> &str {
        "row_gate"
    }
}
