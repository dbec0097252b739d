//! The tables that the program keeps: what calls, attempts and runs there were. SQL reads them; statements that would
//! change them, or put another table in their place, are refused in one sentence.

use std::sync::Arc;

use datafusion::common::{Result, SchemaReference, TableReference, plan_err};
use datafusion::config::CatalogOptions;
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::prelude::SessionContext;

const KEPT: [&str; 4] = ["calls", "attempts", "call_uses", "runs"];

/// The schemas of the tasks. The schema of the tables above is kept too.
const SCHEMAS: [&str; 3] = ["raw", "norm", "heldout"];

/// Where the tables are. SET makes another schema or catalog the default and moves nothing.
#[derive(Debug)]
struct Home {
    catalog: String,
    schema: String,
}

/// Remembers for [`refuse_change`] that the tables are in what is the default schema now.
pub fn remember_home(ctx: &SessionContext) {
    let CatalogOptions { default_catalog, default_schema, .. } = ctx.state().config_options().catalog.clone();
    let home = Arc::new(Home { catalog: default_catalog, schema: default_schema });
    ctx.state_ref().write().config_mut().set_extension(home);
}

/// An error where a plan changes, drops or replaces one of the tables, or drops a schema with them.
pub fn refuse_change(ctx: &SessionContext, plan: &LogicalPlan) -> Result<()> {
    let state = ctx.state();
    let Some(home) = state.config().get_extension::<Home>() else { return Ok(()) };
    let options = &state.config_options().catalog;
    if let LogicalPlan::Ddl(DdlStatement::DropCatalogSchema(drop)) = plan {
        return refuse_drop(&home, options, &drop.name);
    }
    let Some(table) = changed(plan) else { return Ok(()) };
    let place = table.clone().resolve(&options.default_catalog, &options.default_schema);
    let is_home = *place.catalog == *home.catalog && *place.schema == *home.schema;
    let name = &*place.table;
    if !is_home || !KEPT.contains(&name) {
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
fn refuse_drop(home: &Home, options: &CatalogOptions, dropped: &SchemaReference) -> Result<()> {
    let catalog = match dropped {
        SchemaReference::Bare { .. } => &*options.default_catalog,
        SchemaReference::Full { catalog, .. } => &**catalog,
    };
    let name = dropped.schema_name();
    if catalog == home.catalog && (name == home.schema || SCHEMAS.contains(&name)) {
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
