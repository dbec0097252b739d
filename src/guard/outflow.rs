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

use super::reach::{any_held_out_scan, held_out_scan, lacking_scan};
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
    let Some(found) = held_out_scan(&copy.input)? else {
        return Ok(Transformed::no(LogicalPlan::Copy(copy)));
    };
    match copy.file_type.get_ext().as_str() {
        // The file says itself what it holds, and is a held-out table wherever it is read again.
        "parquet" => {
            let key = format!("metadata::{SPLIT_KEY}");
            copy.options.retain(|option, _| !option.to_ascii_lowercase().ends_with(&key));
            copy.options.insert(format!("format.{key}"), found.split.to_string());
            Ok(Transformed::yes(LogicalPlan::Copy(copy)))
        }
        format => {
            plan_err!("{} and a file of format {format} cannot say so; copy them STORED AS PARQUET", found.says())
        }
    }
}

fn written(write: &DmlStatement) -> Result<()> {
    let target = source_as_provider(&write.target)?;
    let marked = (target.as_ref() as &dyn Any).downcast_ref::<MarkedTable>();
    // All but a table in memory writes files, streams among them.
    let inner = marked.map_or(&target, |marked| marked.inner());
    let in_memory = (inner.as_ref() as &dyn Any).is::<MemTable>();
    let is_insert = matches!(write.op, WriteOp::Insert(_));
    // Otherwise which rows stay is decided by what the condition reads, beside the table itself.
    let found = if is_insert { held_out_scan(&write.input)? } else { any_held_out_scan(&write.input, &target)? };
    if let Some(found) = &found
        && marked.is_none_or(|table| !table.lineage().split.is_held_out())
    {
        return plan_err!(
            "{} and {} is not marked as held out; create the target with CREATE TABLE … AS SELECT, which carries the mark",
            found.says(),
            write.table_name
        );
    }
    if is_insert
        && in_memory
        && marked.is_none_or(|table| table.lineage().lacks.is_none())
        && let Some(lacking) = lacking_scan(&write.input)?
    {
        return plan_err!(
            "held-out rows (split {}) were taken away from what would go into {}, which does not say so, and what takes \
             its rows away would bring them back; create the target with CREATE TABLE … AS SELECT, which carries the mark",
            lacking.split,
            write.table_name
        );
    }
    let Some(found) = found else { return Ok(()) };
    if !in_memory {
        return plan_err!(
            "{} and files written by INSERT INTO {} would not say so; write them with COPY … STORED AS PARQUET",
            found.says(),
            write.table_name
        );
    }
    Ok(())
}
