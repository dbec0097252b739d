//! Where held-out rows get to in a plan. In: a plan. Out: the first scan by which they can be among the plan's rows or
//! choose among them; rows that only take others away are free (see [`super::role`]).
//!
//! A table may hold held-out rows, or lack them because they were taken away when it was filled. What it lacks comes back
//! where its rows take others away: it is in a plan what the query that filled it would be in its place.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::LogicalPlan;

use super::role::{Role, each_scan};
use crate::lineage::{Lineage, Origin, Split, lineage_of};

/// A scan by which held-out rows get somewhere.
#[derive(Debug)]
pub struct HeldOutScan {
    pub table: String,
    /// What the table is marked with.
    pub lineage: Lineage,
    /// The split of the rows.
    pub split: Split,
    /// Whether the table has them not: they come back where it takes its own away.
    lacks: bool,
}

impl HeldOutScan {
    /// The first half of a sentence, about `table`.
    pub fn says(&self) -> String {
        let HeldOutScan { table, split, lacks, .. } = self;
        match lacks {
            true => {
                format!("{table} lacks held-out rows (split {split}), which come back where its rows are taken away,")
            }
            false => format!("{table} holds held-out rows (split {split})"),
        }
    }

    /// The same with who says so.
    pub fn says_by_whom(&self) -> String {
        let HeldOutScan { table, split, lineage, lacks } = self;
        match lacks {
            true => self.says(),
            false => format!("{table} holds held-out rows (split {split}, says {})", lineage.origin),
        }
    }
}

/// The first scan of held-out rows that reaches the plan's output.
pub fn held_out_scan(plan: &LogicalPlan) -> Result<Option<HeldOutScan>> {
    let found = first(plan, Role::Shown, &brings)?;
    match found {
        // What all that is shown lacks itself does not come back: those rows of a table that have no answer in another yet.
        // (Which rows of the split a table lacks is not known, nor what else came into it: who unites tables for it can
        // still make a difference of two that is held out.)
        Some(HeldOutScan { lacks: true, split, .. }) if all_shown_lacks(plan, split)? => {
            first(plan, Role::Shown, &|lineage, role| brings(lineage, role).filter(|(_, lacks)| !lacks))
        }
        found => Ok(found),
    }
}

/// Whether all rows that a plan shows come from tables out of which the held-out rows of a split were taken.
fn all_shown_lacks(plan: &LogicalPlan, split: Split) -> Result<bool> {
    let mut all = true;
    plan.apply_with_subqueries(|node| {
        all &= !matches!(node, LogicalPlan::Values(_));
        Ok(if all { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    each_scan(plan, Role::Shown, &mut |scan, role| {
        if matches!(role, Role::Shown | Role::Unclear) {
            let provider = source_as_provider(&scan.source).ok();
            let lineage = provider.as_ref().and_then(|provider| lineage_of(provider.as_ref()));
            all &= lineage.is_some_and(|lineage| lineage.lacks == Some(split));
        }
        Ok(all)
    })?;
    Ok(all)
}

/// The first scan of held-out rows anywhere in the plan but of `table` itself, whatever they do there.
pub fn any_held_out_scan(plan: &LogicalPlan, table: &Arc<dyn TableProvider>) -> Result<Option<HeldOutScan>> {
    first_but(plan, Role::Unclear, Some(table), &brings)
}

/// The first scan by which held-out rows are taken away from the plan's output.
pub fn lacking_scan(plan: &LogicalPlan) -> Result<Option<HeldOutScan>> {
    // What brings them back where rows are taken away.
    first(plan, Role::Shown, &|lineage, role| brings(lineage, role.flipped()))
}

/// The split of the held-out rows that a marked table in a role brings, and whether it lacks them itself.
fn brings(lineage: &Lineage, role: Role) -> Option<(Split, bool)> {
    let holds = Some(lineage.split).filter(|split| split.is_held_out()).map(|split| (split, false));
    let lacks = lineage.lacks.map(|split| (split, true));
    match role {
        Role::Shown => holds,
        Role::TakesAway => lacks,
        Role::Unclear => holds.or(lacks),
        Role::Unseen => None,
    }
}

type Does<'a> = &'a dyn Fn(&Lineage, Role) -> Option<(Split, bool)>;

fn first(plan: &LogicalPlan, role: Role, does: Does) -> Result<Option<HeldOutScan>> {
    first_but(plan, role, None, does)
}

fn first_but(
    plan: &LogicalPlan,
    role: Role,
    but: Option<&Arc<dyn TableProvider>>,
    does: Does,
) -> Result<Option<HeldOutScan>> {
    let mut found = None;
    each_scan(plan, role, &mut |scan, role| {
        let Ok(provider) = source_as_provider(&scan.source) else { return Ok(true) };
        if but.is_some_and(|table| Arc::ptr_eq(table, &provider)) {
            return Ok(true);
        }
        let Some(lineage) = lineage_of(provider.as_ref()) else { return Ok(true) };
        if let Some((split, lacks)) = does(lineage, role) {
            // The catalog's held-out rows are known to users as heldout.<task>.
            let table = match (lineage.tasks.as_slice(), lineage.origin) {
                ([task], Origin::Catalog) => format!("heldout.{task}"),
                _ => scan.table_name.to_string(),
            };
            found = Some(HeldOutScan { table, lineage: lineage.clone(), split, lacks });
        }
        Ok(found.is_none())
    })?;
    Ok(found)
}
