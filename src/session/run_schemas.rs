//! Published runs as schemas: `run` is the newest complete one, `"run-<run_id>"` any other. A run's tables are `curated`,
//! `rejected`, `calls` (its calls with their stage, raw answers and costs) and `seeds` (those that its items come from).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::common::{Result, exec_datafusion_err, plan_datafusion_err};
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::datasource::{TableType, ViewTable};
use datafusion::execution::SessionState;
use datafusion::prelude::SessionContext;

use crate::lineage::{Lineage, MarkedTable, Origin, Split};
use crate::publish::{FileKind, newest_run, run_folder};

/// The newest complete run.
const NEWEST: &str = "run";
/// Before the id of any other.
const PREFIX: &str = "run-";

const TABLES: [&str; 4] = ["curated", "rejected", "calls", "seeds"];

/// Adds the schemas of the runs in `out` to the session's default catalog. They are looked for when they are named.
pub fn register(ctx: &SessionContext, out: &Path) -> Result<()> {
    let name = ctx.state().config_options().catalog.default_catalog.clone();
    let inner = ctx.catalog(&name).ok_or_else(|| plan_datafusion_err!("the session has no default catalog"))?;
    let state = ctx.state_weak_ref();
    let state = StateNow(Arc::new(move || Some(state.upgrade()?.read().clone())));
    let schemas = RunSchemas { inner, out: out.to_owned(), state };
    ctx.register_catalog(name, Arc::new(schemas));
    Ok(())
}

/// The session's state at this moment; `None` once the session has ended. The session owns what asks here.
#[derive(Clone)]
struct StateNow(Arc<dyn Fn() -> Option<SessionState> + Send + Sync>);

impl fmt::Debug for StateNow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StateNow")
    }
}

/// The catalog with the runs' schemas beside its own.
#[derive(Debug)]
struct RunSchemas {
    inner: Arc<dyn CatalogProvider>,
    out: PathBuf,
    state: StateNow,
}

impl CatalogProvider for RunSchemas {
    /// Of the runs only the newest is listed: there may be thousands. The table `runs` has them all.
    fn schema_names(&self) -> Vec<String> {
        let mut names = self.inner.schema_names();
        names.extend(newest_run(&self.out).map(|_| NEWEST.to_owned()));
        names
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if let Some(own) = self.inner.schema(name) {
            return Some(own);
        }
        let folder = match name.strip_prefix(PREFIX) {
            Some(run_id) => run_folder(&self.out, run_id),
            None if name == NEWEST => newest_run(&self.out),
            None => None,
        };
        Some(Arc::new(RunSchema { folder: folder?, state: self.state.clone() }))
    }

    fn register_schema(&self, name: &str, schema: Arc<dyn SchemaProvider>) -> Result<Option<Arc<dyn SchemaProvider>>> {
        self.inner.register_schema(name, schema)
    }

    fn deregister_schema(&self, name: &str, cascade: bool) -> Result<Option<Arc<dyn SchemaProvider>>> {
        self.inner.deregister_schema(name, cascade)
    }
}

/// One run's tables.
#[derive(Debug)]
struct RunSchema {
    folder: PathBuf,
    state: StateNow,
}

impl RunSchema {
    fn run_id(&self) -> String {
        self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The files of a kind, which their manifest says to be training data.
    async fn files(&self, state: &SessionState, kind: FileKind) -> Result<Arc<dyn TableProvider>> {
        let url = ListingTableUrl::parse(format!("{}/", self.folder.join(kind.folder()).display()))?;
        let options = ListingOptions::new(Arc::new(ParquetFormat::default()));
        let config = ListingTableConfig::new(url).with_listing_options(options).infer_schema(state).await?;
        let lineage = Lineage { split: Split::Train, origin: Origin::Manifest, task: None, licence: None };
        Ok(Arc::new(MarkedTable::new(Arc::new(ListingTable::try_new(config)?), lineage)))
    }

    async fn view(&self, state: &SessionState, sql: String) -> Result<Arc<dyn TableProvider>> {
        let plan = state.create_logical_plan(&sql).await?;
        Ok(Arc::new(ViewTable::new(plan, Some(sql))))
    }
}

#[async_trait]
impl SchemaProvider for RunSchema {
    fn table_names(&self) -> Vec<String> {
        TABLES.map(str::to_owned).to_vec()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let state = (self.state.0)().ok_or_else(|| exec_datafusion_err!("the session has ended"))?;
        let run_id = self.run_id().replace('\'', "''");
        let schema = format!("{PREFIX}{}", self.run_id()).replace('"', "\"\"");
        Ok(Some(match name {
            "curated" => self.files(&state, FileKind::Curated).await?,
            "rejected" => self.files(&state, FileKind::Rejected).await?,
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
