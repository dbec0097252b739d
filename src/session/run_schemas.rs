//! Published runs as schemas: `run` is the newest complete one, `"run-<run_id>"` any other. A run's tables are `curated`,
//! `rejected`, `calls` (its calls with their stage, raw answers and costs) and `seeds` (those that its items come from).

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::common::{Result, plan_datafusion_err};
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::datasource::{TableType, ViewTable};
use datafusion::execution::SessionState;
use datafusion::prelude::SessionContext;

use super::state_now::StateNow;
use crate::lineage::{Lineage, MarkedTable, Origin, Split};
use crate::publish::{FileKind, complete_run, newest_complete_run, newest_run, run_folder};
use crate::stores::Place;

/// The newest complete run.
const NEWEST: &str = "run";
/// Before the id of any other.
const PREFIX: &str = "run-";

const TABLES: [&str; 4] = ["curated", "rejected", "calls", "seeds"];

/// Adds the schemas of the runs in `out` to the session's default catalog. They are looked for when they are named.
pub fn register(ctx: &SessionContext, out: &Place) -> Result<()> {
    let name = ctx.state().config_options().catalog.default_catalog.clone();
    let inner = ctx.catalog(&name).ok_or_else(|| plan_datafusion_err!("the session has no default catalog"))?;
    let schemas = RunSchemas { inner, out: out.clone(), state: StateNow::of(ctx) };
    ctx.register_catalog(name, Arc::new(schemas));
    Ok(())
}

/// The catalog with the runs' schemas beside its own.
#[derive(Debug)]
struct RunSchemas {
    inner: Arc<dyn CatalogProvider>,
    out: Place,
    state: StateNow,
}

impl CatalogProvider for RunSchemas {
    /// Of the runs only the newest is listed: there may be thousands. The table `runs` has them all.
    fn schema_names(&self) -> Vec<String> {
        let mut names = self.inner.schema_names();
        // What lies in a store is asked for when it is named.
        if self.out.folder().is_none_or(|out| newest_run(out).is_some()) {
            names.push(NEWEST.to_owned());
        }
        names
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if let Some(own) = self.inner.schema(name) {
            return Some(own);
        }
        let run = match name.strip_prefix(PREFIX) {
            Some(run_id) => Wanted::Id(run_id.to_owned()),
            None if name == NEWEST => Wanted::Newest,
            None => return None,
        };
        if let Some(out) = self.out.folder() {
            match &run {
                Wanted::Newest => newest_run(out)?,
                Wanted::Id(run_id) => run_folder(out, run_id)?,
            };
        }
        Some(Arc::new(RunSchema { out: self.out.clone(), run, state: self.state.clone() }))
    }

    fn register_schema(&self, name: &str, schema: Arc<dyn SchemaProvider>) -> Result<Option<Arc<dyn SchemaProvider>>> {
        self.inner.register_schema(name, schema)
    }

    fn deregister_schema(&self, name: &str, cascade: bool) -> Result<Option<Arc<dyn SchemaProvider>>> {
        self.inner.deregister_schema(name, cascade)
    }
}

/// The run that a schema is.
#[derive(Debug)]
enum Wanted {
    Newest,
    Id(String),
}

/// One run's tables.
#[derive(Debug)]
struct RunSchema {
    out: Place,
    run: Wanted,
    state: StateNow,
}

impl RunSchema {
    /// Where the run lies, which is complete.
    async fn place(&self) -> Result<Place> {
        let (found, what) = match &self.run {
            Wanted::Newest => (newest_complete_run(&self.out).await?, "complete run".to_owned()),
            Wanted::Id(run_id) => (complete_run(&self.out, run_id).await?, format!("complete run '{run_id}'")),
        };
        found.ok_or_else(|| plan_datafusion_err!("there is no {what} in {}", self.out))
    }

    async fn view(&self, state: &SessionState, sql: String) -> Result<Arc<dyn TableProvider>> {
        let plan = state.create_logical_plan(&sql).await?;
        Ok(Arc::new(ViewTable::new(plan, Some(sql))))
    }
}

/// The files of a kind of a run, which their manifest says to be training data.
pub async fn files(state: &SessionState, run: &Place, kind: FileKind) -> Result<Arc<dyn TableProvider>> {
    // Not from the path as a text, in which a `[` or `*` of a folder's name would begin a pattern.
    let url = ListingTableUrl::try_new(run.join(kind.folder()).folder_url()?, None)?;
    let options = ListingOptions::new(Arc::new(ParquetFormat::default()));
    let config = ListingTableConfig::new(url).with_listing_options(options).infer_schema(state).await?;
    let lineage = Lineage::of(Split::Train, Origin::Manifest);
    Ok(Arc::new(MarkedTable::new(Arc::new(ListingTable::try_new(config)?), lineage)))
}

#[async_trait]
impl SchemaProvider for RunSchema {
    fn table_names(&self) -> Vec<String> {
        TABLES.map(str::to_owned).to_vec()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let state = self.state.get()?;
        if !self.table_exist(name) {
            return Ok(None);
        }
        let place = self.place().await?;
        let name_of = place.name();
        let id = name_of.file_name().unwrap_or_default().to_string_lossy();
        let run_id = id.replace('\'', "''");
        let schema = format!("{PREFIX}{id}").replace('"', "\"\"");
        Ok(Some(match name {
            "curated" => files(&state, &place, FileKind::Curated).await?,
            "rejected" => files(&state, &place, FileKind::Rejected).await?,
            "calls" => {
                let sql = format!(
                    "SELECT u.stage, u.replayed, c.* FROM call_uses AS u JOIN calls AS c ON c.call_id = u.call_id \
                     WHERE u.run_id = '{run_id}'"
                );
                self.view(&state, sql).await?
            }
            "seeds" => {
                let ids = ["curated", "rejected"].map(|t| format!("SELECT unnest(seed_ids) FROM \"{schema}\".{t}"));
                let sql = format!("SELECT * FROM seeds WHERE seed_id IN ({})", ids.join(" UNION ALL "));
                self.view(&state, sql).await?
            }
            _ => return Ok(None),
        }))
    }

    /// Known without opening a file, so that SHOW TABLES opens none.
    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        let is_view = matches!(name, "calls" | "seeds");
        Ok(self.table_exist(name).then_some(if is_view { TableType::View } else { TableType::Base }))
    }

    fn table_exist(&self, name: &str) -> bool {
        TABLES.contains(&name)
    }
}
