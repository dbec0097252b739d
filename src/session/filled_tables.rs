//! Tables that statements fill. In: the plan whose rows go into a table. Out: the mark that the table has by its rows, or an
//! error where a table that is there cannot carry it.

use std::any::Any;
use std::collections::HashMap;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, plan_err};
use datafusion::datasource::{MemTable, source_as_provider};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{DmlStatement, Expr, LogicalPlan, TableScan, WriteOp};
use datafusion::prelude::SessionContext;

use super::external_table::{CatalogFiles, together};
use crate::guard::{held_out_scan, lacking_scan};
use crate::lineage::{Licence, Lineage, MarkedTable, Origin, Split, Target, lineage_of};
use crate::publish::Run;
use crate::tasks::{Task, may_hold_where};

/// An error where a plan brings rows whose licence does not permit the run's target into a table in memory that is not
/// marked with it. A mark that came with the rows would not reach the views and prepared plans that are there already.
pub fn refuse_licence_without_mark(ctx: &SessionContext, plan: &LogicalPlan) -> Result<()> {
    let Some(run) = ctx.state().config().get_extension::<Run>() else { return Ok(()) };
    plan.apply(|node| {
        let LogicalPlan::Dml(write) = node else { return Ok(TreeNodeRecursion::Continue) };
        let verb = match &write.op {
            WriteOp::Insert(_) => "INSERT INTO",
            WriteOp::Update => "UPDATE",
            WriteOp::MergeInto(_) => "MERGE INTO",
            // They bring no rows.
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        if let Some(licence) = licence_without_mark(ctx, write, run.target)? {
            return plan_err!(
                "{verb} {} would bring rows under the licence {licence}, which does not permit a {} run, into a table \
                 that does not say so; create the table with CREATE TABLE … AS SELECT, which carries the licence, or take \
                 rows of other tasks (WHERE licence_permits(license, @target))",
                write.table_name,
                run.target
            );
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// A licence that a statement brings, that does not permit the target, and that its table is not marked with.
fn licence_without_mark(ctx: &SessionContext, write: &DmlStatement, target: Target) -> Result<Option<Licence>> {
    // Held-out rows are refused by their split, or go where no call reads.
    let rows = filled(ctx, &write.input)?.filter(|rows| !rows.lineage.split.is_held_out());
    let Some(Filled { lineage: rows, strictest }) = rows else { return Ok(None) };
    let table = source_as_provider(&write.target)?;
    let marked = (table.as_ref() as &dyn Any).downcast_ref::<MarkedTable>();
    let inner = marked.map_or(&table, |marked| marked.inner());
    // A file that is no task of the catalog is its user's.
    if !(inner.as_ref() as &dyn Any).is::<MemTable>() {
        return Ok(None);
    }
    let carried = marked.map(MarkedTable::lineage).is_some_and(|known| match (&known.licence, &rows.licence) {
        _ if known.split.is_held_out() => true,
        (Some(known), _) => !known.permits(target),
        // Each row says its own, and the gate reads it.
        (None, None) => known.origin == Origin::Derived,
        (None, Some(_)) => false,
    });
    Ok(strictest.filter(|licence| !carried && !licence.permits(target)))
}

/// The mark of a table that a plan fills: held out where one of its sources is and reaches it; else with the strictest
/// licence of the training rows in it, unless each row says its own in a column `license`; and in both cases with the
/// held-out rows that were taken away from it.
pub fn lineage_of_filled(ctx: &SessionContext, plan: &LogicalPlan) -> Result<Option<Lineage>> {
    Ok(filled(ctx, plan)?.map(|filled| filled.lineage))
}

struct Filled {
    lineage: Lineage,
    /// The strictest licence of its rows, whether or not each says its own.
    strictest: Option<Licence>,
}

fn filled(ctx: &SessionContext, plan: &LogicalPlan) -> Result<Option<Filled>> {
    let lacks = lacking_scan(plan)?.map(|found| found.split);
    if let Some(found) = held_out_scan(plan)? {
        let lineage = Lineage { split: found.split, origin: Origin::Derived, lacks, ..found.lineage };
        return Ok(Some(Filled { strictest: lineage.licence.clone(), lineage }));
    }
    let rows_say = plan.schema().has_column_with_unqualified_name("license");
    let state = ctx.state();
    let catalog = state.config().get_extension::<CatalogFiles>();
    let target = state.config().get_extension::<Run>().map(|run| run.target);
    let mut found: Option<Lineage> = None;
    let mut strictest: Option<Licence> = None;
    let mut conditions: HashMap<*const TableScan, Vec<Expr>> = HashMap::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Filter(filter) = node
            && let Some(scan) = scan_right_below(&filter.input)
            && !filter.predicate.exists(|expr| Ok(is_subquery(expr)))?
        {
            let parts = split_conjunction(&filter.predicate).into_iter().cloned();
            conditions.entry(std::ptr::from_ref(scan)).or_default().extend(parts);
        }
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(table) = source_as_provider(&scan.source)
            && let Some(lineage) = lineage_of(table.as_ref())
            && matches!(lineage.origin, Origin::Catalog | Origin::CatalogFile | Origin::Derived)
            && lineage.split == Split::Train
        {
            // Taken out: two places of a plan can share a scan, as those of a CTE do, and not the conditions.
            let above = conditions.remove(&std::ptr::from_ref(scan)).unwrap_or_default();
            // In other tables than the catalog's a column of that name may say anything.
            let parts: Vec<&Expr> = match lineage.origin {
                Origin::Catalog => above.iter().chain(&scan.filters).collect(),
                _ => Vec::new(),
            };
            let takes = |task: &Task| parts.iter().all(|part| may_be_met(part, task, target));
            let of_rows = lineage.licence.clone().or_else(|| catalog.as_ref()?.strictest(takes));
            let licence = if rows_say { lineage.licence.clone() } else { of_rows.clone() };
            strictest = strictest.take().into_iter().chain(of_rows).reduce(Licence::stricter);
            let lineage = Lineage { licence, ..Lineage::of(Split::Train, Origin::Derived) };
            found = Some(match found.take() {
                Some(known) => together(known, lineage),
                None => lineage,
            });
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    // A user's own rows are marked for what they lack alone.
    let own = || lacks.map(|_| Lineage::of(Split::Train, Origin::Own));
    Ok(found.or_else(own).map(|lineage| Filled { lineage: Lineage { lacks, ..lineage }, strictest }))
}

fn is_subquery(expr: &Expr) -> bool {
    matches!(expr, Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) | Expr::ScalarSubquery(_))
}

/// The scan whose rows a condition on this plan is about.
fn scan_right_below(plan: &LogicalPlan) -> Option<&TableScan> {
    match plan {
        LogicalPlan::TableScan(scan) => Some(scan),
        LogicalPlan::SubqueryAlias(alias) => scan_right_below(&alias.input),
        LogicalPlan::Filter(filter) => scan_right_below(&filter.input),
        _ => None,
    }
}

/// Whether rows of a task can meet a condition on the catalog's seeds, as far as their task and licence decide it.
fn may_be_met(condition: &Expr, task: &Task, target: Option<Target>) -> bool {
    match condition {
        Expr::ScalarFunction(call) if call.func.name() == "licence_permits" => match call.args.as_slice() {
            [Expr::Column(column), of] if column.name == "license" => {
                target_of(of, target).is_none_or(|target| task.licence.permits(target))
            }
            _ => true,
        },
        other => may_hold_where(other, &|column| match column {
            "task" => Some(task.name.as_str()),
            "license" => Some(task.licence.as_str()),
            _ => None,
        }),
    }
}

/// The target that is named; `@target` is the run's.
fn target_of(expr: &Expr, target: Option<Target>) -> Option<Target> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten()?.parse().ok(),
        Expr::ScalarVariable(_, names) if names.first().is_some_and(|name| name == "@target") => target,
        _ => None,
    }
}
