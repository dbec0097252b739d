//! The tables that the program keeps: what calls, attempts and runs there were. SQL reads them; statements that would
//! change them, or put another table in their place, are refused in one sentence.

use datafusion::common::{Result, TableReference, plan_err};
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::prelude::SessionContext;

const KEPT: [&str; 4] = ["calls", "attempts", "call_uses", "runs"];

/// An error where a plan changes, drops or replaces one of the tables.
pub fn refuse_change(ctx: &SessionContext, plan: &LogicalPlan) -> Result<()> {
    let Some(table) = changed(plan) else { return Ok(()) };
    let state = ctx.state();
    let options = &state.config_options().catalog;
    let place = table.clone().resolve(&options.default_catalog, &options.default_schema);
    let in_default = *place.catalog == *options.default_catalog && *place.schema == *options.default_schema;
    let name = &*place.table;
    if !in_default || !KEPT.contains(&name) {
        return Ok(());
    }
    match name {
        "runs" => plan_err!("runs lists the published runs and cannot be changed by SQL"),
        _ => plan_err!(
            "{name} is a table of the ledger and cannot be changed by SQL; `seedmill calls gc` drops calls that no run uses"
        ),
    }
}

/// The table that a plan takes away or writes to.
fn changed(plan: &LogicalPlan) -> Option<&TableReference> {
    match plan {
        LogicalPlan::Dml(dml) => Some(&dml.table_name),
        LogicalPlan::Ddl(DdlStatement::DropTable(drop)) => Some(&drop.name),
        LogicalPlan::Ddl(DdlStatement::DropView(drop)) => Some(&drop.name),
        LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)) => create.or_replace.then_some(&create.name),
        LogicalPlan::Ddl(DdlStatement::CreateView(create)) => create.or_replace.then_some(&create.name),
        LogicalPlan::Ddl(DdlStatement::CreateExternalTable(create)) => create.or_replace.then_some(&create.name),
        _ => None,
    }
}
