//! The tables `calls`, `attempts` and `call_uses`: what lies in a ledger's folder when a query is planned.
//! Readers wait for no writer, so they see what running processes have written so far.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::{TableType, provider_as_source};
use datafusion::error::{DataFusionError, Result};
use datafusion::functions::core::expr_fn::greatest;
use datafusion::functions_aggregate::expr_fn::max;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, JoinType, LogicalPlanBuilder, TableProviderFilterPushDown, col};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

use super::columns::Table;
use super::hold::Hold;
use super::location::Location;
use super::table_scan::{TableScan, files, objects};

/// The tables of the ledger in a location, which need not exist yet, under their names. They may be queried
/// while any process writes there.
///
/// - `calls`, one row a call: call_id (64 hex digits), provider, model, revision, variant, sample INT, messages and
///   parameters (JSON), response (the raw body), finish_reason, prompt_tokens and completion_tokens BIGINT (NULL
///   where the server did not count them), cost_usd DOUBLE (with the most that they can be thought to be in their place),
///   time TIMESTAMP (ms, UTC): when the request was sent that was answered; first_time, the same; last_time, when a run
///   last used the answer. A query that asks for last_time also reads call_uses.
/// - `attempts`, one row a request: call_id, model, time, latency_ms BIGINT, status INT (HTTP; NULL without an
///   answer), error_kind and error (NULL for an answer), billed BOOLEAN, cost_usd DOUBLE.
/// - `call_uses`, one row for each use of a call by a run: run_id, call_id, stage, replayed BOOLEAN, time.
pub fn tables(location: impl Into<Location>) -> Vec<(&'static str, Arc<dyn TableProvider>)> {
    tables_held(location, None)
}

/// The same tables for one who has a hold on the folder already, and so cannot have another.
pub(super) fn tables_held(
    location: impl Into<Location>,
    hold: Option<&Hold>,
) -> Vec<(&'static str, Arc<dyn TableProvider>)> {
    let location = location.into();
    let table = |table: Table| {
        let stored = StoredTable { location: location.clone(), table, hold: hold.cloned() };
        let provider: Arc<dyn TableProvider> = match table {
            Table::Calls => Arc::new(Calls { stored }),
            Table::Attempts | Table::CallUses => Arc::new(stored),
        };
        (table.name(), provider)
    };
    Table::ALL.into_iter().map(table).collect()
}

/// A table with the columns that are stored.
#[derive(Debug, Clone)]
struct StoredTable {
    location: Location,
    table: Table,
    hold: Option<Hold>,
}

#[async_trait]
impl TableProvider for StoredTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.table.schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Filters skip row groups, pages and rows of segments; they are evaluated again above, for the logs.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let StoredTable { location, table, hold } = self.clone();
        let columns = projection.cloned().unwrap_or_else(|| (0..table.schema().fields().len()).collect());
        let scan = TableScan::new(table, &columns, filters, state)?;
        match location {
            Location::Folder(folder) => {
                let files = tokio::task::spawn_blocking(move || files(&folder, table, hold)).await;
                scan.plan(files.map_err(|e| DataFusionError::External(Box::new(e)))??)
            }
            Location::Store { prefix, unsent } => scan.plan_objects(objects(prefix, unsent).await?),
        }
    }
}

const TIME: &str = "time";
const FIRST_TIME: &str = "first_time";
const LAST_TIME: &str = "last_time";

static CALLS_WITH_TIMES: LazyLock<SchemaRef> = LazyLock::new(|| {
    let stored = Table::Calls.schema();
    let time = stored.fields().iter().find(|field| field.name() == TIME).map(|field| field.data_type().clone());
    let derived = time.into_iter().flat_map(|time| {
        [Arc::new(Field::new(FIRST_TIME, time.clone(), false)), Arc::new(Field::new(LAST_TIME, time, true))]
    });
    Arc::new(Schema::new(stored.fields().iter().cloned().chain(derived).collect::<Vec<_>>()))
});

fn stored_name(name: &str) -> &str {
    if name == FIRST_TIME { TIME } else { name }
}

/// The table `calls`: what is stored, and the times of first and last use.
#[derive(Debug)]
struct Calls {
    stored: StoredTable,
}

#[async_trait]
impl TableProvider for Calls {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&CALLS_WITH_TIMES)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let stored = |filter: &&Expr| filter.column_refs().iter().all(|c| ![FIRST_TIME, LAST_TIME].contains(&c.name()));
        Ok(filters
            .iter()
            .map(|filter| match stored(filter) {
                true => TableProviderFilterPushDown::Inexact,
                false => TableProviderFilterPushDown::Unsupported,
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.schema();
        let columns = projection.cloned().unwrap_or_else(|| (0..schema.fields().len()).collect());
        let names: Vec<&str> = columns.iter().map(|&column| schema.field(column).name().as_str()).collect();
        if names.contains(&LAST_TIME) {
            return self.with_last_time(state, &names, filters).await;
        }
        let mut stored = Vec::new();
        for name in &names {
            let column = self.stored.schema().index_of(stored_name(name))?;
            if !stored.contains(&column) {
                stored.push(column);
            }
        }
        let scan = self.stored.scan(state, Some(&stored), filters, limit).await?;
        if !names.contains(&FIRST_TIME) {
            return Ok(scan);
        }
        let input = scan.schema();
        let column = |name: &&str| {
            let expr = Arc::new(Column::new_with_schema(stored_name(name), &input)?);
            Ok(ProjectionExpr { expr, alias: (*name).to_owned() })
        };
        Ok(Arc::new(ProjectionExec::try_new(names.iter().map(column).collect::<Result<Vec<_>>>()?, scan)?))
    }
}

impl Calls {
    /// The calls joined to the latest of their uses.
    async fn with_last_time(
        &self,
        state: &dyn Session,
        names: &[&str],
        filters: &[Expr],
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let uses = StoredTable { table: Table::CallUses, ..self.stored.clone() };
        let uses = LogicalPlanBuilder::scan("uses", provider_as_source(Arc::new(uses)), None)?
            .aggregate([col("uses.call_id")], [max(col("uses.time")).alias("used")])?
            .build()?;
        let mut calls = LogicalPlanBuilder::scan("calls", provider_as_source(Arc::new(self.stored.clone())), None)?;
        if let Some(filter) = conjunction(filters.to_vec()) {
            calls = calls.filter(filter)?;
        }
        let column = |name: &str| match name {
            FIRST_TIME => col("calls.time").alias(FIRST_TIME),
            LAST_TIME => greatest(vec![col("calls.time"), col("used")]).alias(LAST_TIME),
            name => col(format!("calls.{name}")).alias(name),
        };
        let plan = calls
            .join(uses, JoinType::Left, (vec!["calls.call_id"], vec!["uses.call_id"]), None)?
            .project(names.iter().map(|name| column(name)))?
            .build()?;
        state.create_physical_plan(&plan).await
    }
}
