//! The names of all tables of a session, as one writes them in SQL. Naming them plans and opens nothing.

use datafusion::prelude::SessionContext;

/// `table` in the default schema, `schema.table` in others.
pub fn table_names(ctx: &SessionContext) -> Vec<String> {
    let state = ctx.state();
    let options = &state.config_options().catalog;
    let mut names = Vec::new();
    let Some(catalog) = ctx.catalog(&options.default_catalog) else { return names };
    for schema in catalog.schema_names() {
        let tables = catalog.schema(&schema).map(|tables| tables.table_names()).unwrap_or_default();
        names.extend(tables.into_iter().map(|table| match schema == options.default_schema {
            true => table,
            false => format!("{schema}.{table}"),
        }));
    }
    names
}
