//! Hangs the catalog into a session: the schemas `raw`, `norm` and `heldout`, whose tables are planned one at a time
//! when asked for, and the tables `tasks`, `seeds`, `heldout` and `raw_errors`.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::{Result, plan_err};
use datafusion::datasource::TableType;
use datafusion::prelude::SessionContext;

use super::raw_errors::RawErrors;
use super::task_planner::TaskPlanner;
use super::{Catalog, Task, seeds, tasks_table};
use crate::lineage::Split;

/// What the tables of a schema show of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    Raw,
    Norm,
    Heldout,
}

/// One of the schemas, a table a task.
#[derive(Debug)]
struct TaskSchema {
    view: View,
    catalog: Arc<Catalog>,
    planner: Arc<TaskPlanner>,
}

impl TaskSchema {
    fn lists(&self, task: &Task) -> bool {
        match self.view {
            View::Raw | View::Norm => task.has_seeds(),
            View::Heldout => task.has_heldout(),
        }
    }
}

#[async_trait]
impl SchemaProvider for TaskSchema {
    fn table_names(&self) -> Vec<String> {
        self.catalog.tasks().iter().filter(|task| self.lists(task)).map(|task| task.name.clone()).collect()
    }

    /// A task that is known but not listed is an error that says why.
    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some((at, task)) = self.catalog.place(name) else { return Ok(None) };
        Ok(Some(match self.view {
            View::Raw => self.planner.raw(task, Split::Train).await?,
            View::Norm => Arc::new(self.planner.norm(task).await?),
            View::Heldout => Arc::new(seeds::heldout_of(&self.catalog, &self.planner, at)),
        }))
    }

    /// Known without planning, so that SHOW TABLES plans nothing.
    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        let table_type = if self.view == View::Norm { TableType::View } else { TableType::Base };
        Ok(self.table_exist(name).then_some(table_type))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.catalog.task(name).is_some_and(|task| self.lists(task))
    }
}

/// See [`Catalog::register`].
pub(crate) fn register(catalog: &Arc<Catalog>, ctx: &SessionContext) -> Result<()> {
    let state = ctx.state();
    let Some(names) = ctx.catalog(&state.config_options().catalog.default_catalog) else {
        return plan_err!("the session has no default catalog to register tasks in");
    };
    let planner = Arc::new(TaskPlanner::new(ctx.runtime_env()));
    for (name, view) in [("raw", View::Raw), ("norm", View::Norm), ("heldout", View::Heldout)] {
        let schema = TaskSchema { view, catalog: Arc::clone(catalog), planner: Arc::clone(&planner) };
        names.register_schema(name, Arc::new(schema))?;
    }
    ctx.register_table("tasks", Arc::new(tasks_table::tasks_table(catalog)?))?;
    let errors = RawErrors { catalog: Arc::clone(catalog), planner: Arc::clone(&planner) };
    ctx.register_table("raw_errors", Arc::new(errors))?;
    ctx.register_table("seeds", Arc::new(seeds::seeds(catalog, &planner)))?;
    ctx.register_table("heldout", Arc::new(seeds::heldout(catalog, &planner)))?;
    Ok(())
}
