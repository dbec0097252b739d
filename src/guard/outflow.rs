//! What leaves the session with held-out rows in it says so. In: a plan that writes. Out: the same plan, with the mark in
//! the options of a COPY to Parquet, or a plan error where the target cannot carry it.

use std::any::Any;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::datasource::{MemTable, source_as_provider};
use datafusion::logical_expr::dml::CopyTo;
use datafusion::logical_expr::{DmlStatement, LogicalPlan, WriteOp};
use datafusion::optimizer::AnalyzerRule;

use super::reach::{any_held_out_scan, held_out_scan};
use crate::lineage::{MarkedTable, SPLIT_KEY};

/// Marks copies of held-out rows, and refuses what would make held-out rows unmarked: COPY to formats without a footer,
/// INSERT and UPDATE of tables that are not held out. As a rule of the analyzer it sees EXPLAIN ANALYZE and EXECUTE too.
#[derive(Debug)]
pub struct HeldOutOutflow;

impl AnalyzerRule for HeldOutOutflow {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_down(|node| match node {
            LogicalPlan::Copy(copy) => copied(copy),
            LogicalPlan::Dml(write) => {
                written(&write)?;
                Ok(Transformed::no(LogicalPlan::Dml(write)))
            }
            other => Ok(Transformed::no(other)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "held_out_outflow"
    }
}

fn copied(mut copy: CopyTo) -> Result<Transformed<LogicalPlan>> {
    let Some((source, lineage)) = held_out_scan(&copy.input)? else {
        return Ok(Transformed::no(LogicalPlan::Copy(copy)));
    };
    match copy.file_type.get_ext().as_str() {
        // The file says itself what it holds, and is a held-out table wherever it is read again.
        "parquet" => {
            let key = format!("metadata::{SPLIT_KEY}");
            copy.options.retain(|option, _| !option.to_ascii_lowercase().ends_with(&key));
            copy.options.insert(format!("format.{key}"), lineage.split.to_string());
            Ok(Transformed::yes(LogicalPlan::Copy(copy)))
        }
        format => plan_err!(
            "{source} holds held-out rows (split {}) and a file of format {format} cannot say so; copy them STORED AS \
             PARQUET",
            lineage.split
        ),
    }
}

fn written(write: &DmlStatement) -> Result<()> {
    let found = match &write.op {
        // Which rows stay is decided by what the condition reads.
        WriteOp::Insert(_) => held_out_scan(&write.input)?,
        _ => any_held_out_scan(&write.input)?,
    };
    let Some((source, lineage)) = found else { return Ok(()) };
    let target = source_as_provider(&write.target)?;
    let marked = (target.as_ref() as &dyn Any).downcast_ref::<MarkedTable>();
    let Some(marked) = marked.filter(|table| table.lineage().split.is_held_out()) else {
        return plan_err!(
            "{source} holds held-out rows (split {}) and {} is not marked as held out; create the target with CREATE \
             TABLE … AS SELECT, which carries the mark",
            lineage.split,
            write.table_name
        );
    };
    // All but a table in memory writes files, streams among them.
    if !(marked.inner().as_ref() as &dyn Any).is::<MemTable>() {
        return plan_err!(
            "{source} holds held-out rows (split {}) and files written by INSERT INTO {} would not say so; write them \
             with COPY … STORED AS PARQUET",
            lineage.split,
            write.table_name
        );
    }
    Ok(())
}
