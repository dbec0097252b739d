//! The mark a table provider carries: which split its rows come from, and who says so.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Constraints, Result, Statistics};
use datafusion::datasource::TableType;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, LogicalPlan, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;

use super::{Licence, Split};

/// Who says which split rows come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A task of the catalog.
    Catalog,
    /// The manifest of a published run.
    Manifest,
    /// The option `seedmill.split` of a CREATE EXTERNAL TABLE.
    Option,
    /// The footer of the file itself.
    Footer,
    /// The option `seedmill.split` again, where the file itself says another split.
    OptionOver(Split),
    /// A task of the catalog that has the same file.
    CatalogFile,
    /// The file's own name.
    FileName,
    /// Another marked table that the rows were copied from.
    Derived,
    /// Nobody: the rows are the user's own, and the mark is there for what they lack.
    Own,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Catalog => "the task catalog",
            Origin::Manifest => "its run's manifest",
            Origin::Option | Origin::OptionOver(_) => "the option 'seedmill.split'",
            Origin::CatalogFile => "the task catalog, which has the same file",
            Origin::Footer => "its file's footer",
            Origin::FileName => "its file name",
            Origin::Derived => "the table it was filled from",
            Origin::Own => "its user",
        })
    }
}

/// Where a table's rows come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lineage {
    pub split: Split,
    pub origin: Origin,
    /// The catalog tasks these rows belong to, where the table is of tasks that can be named.
    pub tasks: Vec<String>,
    /// The licence of the rows, where the catalog knows it. A user's own table has none.
    pub licence: Option<Licence>,
    /// The held-out split whose rows were taken away when a table was filled: who takes the table's rows away gets the
    /// held-out ones back.
    pub lacks: Option<Split>,
}

impl Lineage {
    /// Of no task and no licence that is known.
    pub fn of(split: Split, origin: Origin) -> Self {
        Lineage { split, origin, tasks: Vec::new(), licence: None, lacks: None }
    }
}

/// A table provider with its [`Lineage`]. It passes everything else through to the provider it marks.
#[derive(Debug)]
pub struct MarkedTable {
    inner: Arc<dyn TableProvider>,
    lineage: Lineage,
}

impl MarkedTable {
    pub fn new(inner: Arc<dyn TableProvider>, lineage: Lineage) -> Self {
        Self { inner, lineage }
    }

    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    pub fn inner(&self) -> &Arc<dyn TableProvider> {
        &self.inner
    }
}

/// The mark of a provider, or `None` for an unmarked one (a user's own table, which is allowed).
pub fn lineage_of(provider: &dyn TableProvider) -> Option<&Lineage> {
    (provider as &dyn Any).downcast_ref::<MarkedTable>().map(MarkedTable::lineage)
}

#[async_trait]
impl TableProvider for MarkedTable {
    fn schema(&self) -> SchemaRef {
        self.inner.schema()
    }

    fn constraints(&self) -> Option<&Constraints> {
        self.inner.constraints()
    }

    fn table_type(&self) -> TableType {
        self.inner.table_type()
    }

    fn get_table_definition(&self) -> Option<&str> {
        self.inner.get_table_definition()
    }

    /// A view's plan is hidden on purpose: inlined, it would take the mark off the plan.
    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        None
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        self.inner.get_column_default(column)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.inner.scan(state, projection, filters, limit).await
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        self.inner.supports_filters_pushdown(filters)
    }

    fn statistics(&self) -> Option<Statistics> {
        self.inner.statistics()
    }

    async fn insert_into(
        &self,
        state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        insert_op: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.inner.insert_into(state, input, insert_op).await
    }

    async fn delete_from(&self, state: &dyn Session, filters: Vec<Expr>) -> Result<Arc<dyn ExecutionPlan>> {
        self.inner.delete_from(state, filters).await
    }

    async fn update(
        &self,
        state: &dyn Session,
        assignments: Vec<(String, Expr)>,
        filters: Vec<Expr>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.inner.update(state, assignments, filters).await
    }

    async fn truncate(&self, state: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        self.inner.truncate(state).await
    }
}
