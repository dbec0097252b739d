//! The tables that the program keeps: what calls, attempts and runs there were. SQL reads them; statements that would
//! change them, or put another table in their place, are refused in one sentence.

use datafusion::common::{Result, SchemaReference, TableReference, plan_err};
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::prelude::SessionContext;

const KEPT: [&str; 4] = ["calls", "attempts", "call_uses", "runs"];

/// The schemas of the tasks. The default schema, which has the ledger's tables, is kept too.
const SCHEMAS: [&str; 3] = ["raw", "norm", "heldout"];

/// An error where a plan changes, drops or replaces one of the tables, or drops a schema with them.
pub fn refuse_change(ctx: &SessionContext, plan: &LogicalPlan) -> Result<()> {
    if let LogicalPlan::Ddl(DdlStatement::DropCatalogSchema(drop)) = plan {
        return refuse_drop(ctx, &drop.name);
    }
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

/// With CASCADE, DataFusion drops a schema that has tables: nothing of the program would be found in the session any more.
fn refuse_drop(ctx: &SessionContext, dropped: &SchemaReference) -> Result<()> {
    let state = ctx.state();
    let options = &state.config_options().catalog;
    let in_default = match dropped {
        SchemaReference::Bare { .. } => true,
        SchemaReference::Full { catalog, .. } => **catalog == *options.default_catalog,
    };
    let name = dropped.schema_name();
    if in_default && (name == options.default_schema || SCHEMAS.contains(&name)) {
        return plan_err!(
            "the schema {name} holds tables of seedmill and cannot be dropped; DROP TABLE drops one of yours"
        );
    }
    Ok(())
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
