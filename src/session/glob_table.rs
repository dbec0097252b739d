//! A pattern that names folders as a table. In: the pattern, and DataFusion's table of the folder before its first wildcard.
//! Out: a table of the pattern's files, listed anew at each scan.
//!
//! DataFusion compares a pattern with one name below the folder. With `listing_table_ignore_subdirectory` off it takes the
//! path, as a text in which a `*` stands for a `/` too, without the names that have a `=` in them. The option is read at
//! each listing and is the whole session's, in which plain folders would be reached into as well. So the table is one of the
//! whole folder, and is read in a session of its own: there the option is off, and the stores list the pattern's files
//! alone. Statistics, partition columns and files that come later are then DataFusion's care, as with any folder.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Constraints, Result, internal_datafusion_err, plan_err};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::ListingTable;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;

use crate::stores::FolderGlob;

/// The session in which a pattern's folder holds the pattern's files and no others.
pub fn session_of(glob: &FolderGlob, state: &SessionState) -> Result<SessionState> {
    let env = state.runtime_env();
    let env = RuntimeEnvBuilder::from_runtime_env(env)
        .with_object_store_registry(glob.stores(&env.object_store_registry))
        // Else what is listed here would be taken for the whole folder elsewhere, and the other way round.
        .with_object_list_cache_limit(0)
        .build_arc()?;
    // The catalogs are those of the session: none is to be put in their place.
    let mut config = state.config().clone().with_create_default_catalog_and_schema(false);
    config.options_mut().execution.listing_table_ignore_subdirectory = false;
    Ok(SessionStateBuilder::new_from_existing(state.clone()).with_config(config).with_runtime_env(env).build())
}

/// A table of files as DataFusion lists them; where they are those of a pattern that names folders, in the pattern's
/// session ([`session_of`]).
pub fn listing_of(table: &dyn TableProvider) -> Option<(&ListingTable, Option<&FolderGlob>)> {
    let table: &dyn Any = table;
    match table.downcast_ref::<GlobTable>() {
        Some(table) => Some((&table.listing, Some(&table.glob))),
        None => Some((table.downcast_ref::<ListingTable>()?, None)),
    }
}

/// The files of a pattern that names folders.
#[derive(Debug)]
pub struct GlobTable {
    /// Of all that is below the pattern's folder.
    listing: ListingTable,
    glob: FolderGlob,
}

impl GlobTable {
    pub fn new(listing: ListingTable, glob: FolderGlob) -> Self {
        GlobTable { listing, glob }
    }
}

#[async_trait]
impl TableProvider for GlobTable {
    fn schema(&self) -> SchemaRef {
        self.listing.schema()
    }

    fn constraints(&self) -> Option<&Constraints> {
        self.listing.constraints()
    }

    fn table_type(&self) -> TableType {
        self.listing.table_type()
    }

    fn get_table_definition(&self) -> Option<&str> {
        self.listing.get_table_definition()
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        self.listing.get_column_default(column)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let state = state.as_any().downcast_ref::<SessionState>();
        let state = state.ok_or_else(|| internal_datafusion_err!("a pattern is listed in a SessionState only"))?;
        let session = session_of(&self.glob, state)?;
        self.listing.scan(&session, projection, filters, limit).await
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        self.listing.supports_filters_pushdown(filters)
    }

    /// In which of the folders a new file would lie, nobody has said.
    async fn insert_into(
        &self,
        _state: &dyn Session,
        _input: Arc<dyn ExecutionPlan>,
        _insert_op: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan_err!("a table of a pattern that names folders is read only; insert into a table of one folder")
    }
}
