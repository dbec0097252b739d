//! Opens a task's files and plans its normalization. In: a task and a split. Out: the marked table of its rows, the SQL
//! over it, and the plan of that SQL, in a session of its own that no name of the user's can reach into.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::catalog::{MemorySchemaProvider, SchemaProvider, TableProvider};
use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::datasource::ViewTable;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::column_sql::identifier;
use super::harness_config::HarnessConfig;
use super::norm_sql::{Source, config_of, norm_sql, question_sql};
use super::raw_table::RawTable;
use super::source_rows::source_rows;
use super::{Reason, Task};
use crate::counted::counted;
use crate::lineage::{MarkedTable, Split};

/// The planned normalization of one split of a task.
pub(crate) struct Normalization {
    pub sql: String,
    pub plan: LogicalPlan,
    /// The session to run it in: one partition, so rows stay in file order.
    pub session: SessionContext,
}

/// Opens the files of each split once, however many tasks read them.
pub(crate) struct TaskPlanner {
    runtime: Arc<RuntimeEnv>,
    opened: Mutex<HashMap<Vec<String>, Arc<RawTable>>>,
}

impl std::fmt::Debug for TaskPlanner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskPlanner").finish_non_exhaustive()
    }
}

impl TaskPlanner {
    /// `runtime` holds the object stores that files are read from.
    pub(crate) fn new(runtime: Arc<RuntimeEnv>) -> Self {
        TaskPlanner { runtime, opened: Mutex::default() }
    }

    pub(crate) fn session(&self) -> Result<SessionContext> {
        session(&self.runtime)
    }

    /// A split's rows as they are, marked.
    pub(crate) async fn raw(&self, task: &Task, split: Split) -> Result<Arc<dyn TableProvider>> {
        let table = self.files(task, split).await?;
        Ok(Arc::new(MarkedTable::new(table, task.lineage(split))))
    }

    /// A split's files, opened.
    pub(crate) async fn files(&self, task: &Task, split: Split) -> Result<Arc<RawTable>> {
        check(task, split)?;
        let key = task.files(split).to_vec();
        let known = self.opened.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let session = self.session()?;
        let table = RawTable::open(&key, &session.state())
            .await
            .map_err(|e| e.context(format!("the {split} rows of the task '{}'", task.name)))?;
        if let Some(first) = table.unread().first() {
            let more = table.unlisted().iter().map(|(_, more)| more).sum::<u64>();
            let unread = table.unread().len() as u64 + more;
            let (rows, are) = (counted(unread, "row"), if unread == 1 { "is" } else { "are" });
            tracing::warn!(
                "{rows} of '{}' cannot be read and {are} left out, the first in {} ({}); \
                 SELECT * FROM raw_errors WHERE task = '{}' lists them",
                first.file,
                first.line.map_or("no place that is known".to_owned(), |line| format!("line {line}")),
                first.what,
                task.name
            );
        }
        let table = Arc::new(table);
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&table));
        Ok(table)
    }

    pub(crate) async fn norm_sql(&self, task: &Task) -> Result<String> {
        Ok(self.normalization(task, Split::Train).await?.sql)
    }

    /// A split's rows in the columns of `seeds`.
    pub(crate) async fn normalization(&self, task: &Task, split: Split) -> Result<Normalization> {
        let write = |source: &Source| Ok((norm_sql(task, source, split)?, ()));
        Ok(self.planned(task, split, config_of(task)?, write).await?.0)
    }

    /// What a split's rows are known by, as `config` reads them, and whether by whole prompts (see [`question_sql`]).
    pub(crate) async fn questions(
        &self,
        task: &Task,
        split: Split,
        config: &HarnessConfig,
    ) -> Result<(Normalization, bool)> {
        self.planned(task, split, config, |source| question_sql(task, source)).await
    }

    async fn planned<T>(
        &self,
        task: &Task,
        split: Split,
        config: &HarnessConfig,
        write: impl FnOnce(&Source) -> Result<(String, T)>,
    ) -> Result<(Normalization, T)> {
        let rows = self.raw(task, split).await?;
        let session = self.session()?;
        let schema = Arc::new(MemorySchemaProvider::new());
        schema.register_table(task.name.clone(), Arc::clone(&rows))?;
        let Some(catalog) = session.catalog(&session.state().config_options().catalog.default_catalog) else {
            return plan_err!("the session has no default catalog");
        };
        catalog.register_schema(schema_name(split), schema)?;
        let place = |e: DataFusionError| e.context(format!("the task '{}' ({})", task.name, task.file.display()));
        let (relation, columns) = (relation(task, split), rows.schema());
        let source = source_rows(&session, config, &config.stages, &relation, &columns).await.map_err(place)?;
        let (sql, beside) = write(&source)?;
        let plan = session.state().create_logical_plan(&sql).await.map_err(place)?;
        Ok((Normalization { sql, plan, session }, beside))
    }

    /// The table `norm.<task>`.
    pub(crate) async fn norm(&self, task: &Task) -> Result<ViewTable> {
        let Normalization { sql, plan, .. } = self.normalization(task, Split::Train).await?;
        Ok(ViewTable::new(plan, Some(sql)))
    }
}

/// A session that normalizes: one partition, so that rows stay in order.
pub(crate) fn session(runtime: &Arc<RuntimeEnv>) -> Result<SessionContext> {
    let config = SessionConfig::new().with_target_partitions(1);
    let mut session = SessionContext::new_with_config_rt(config, Arc::clone(runtime));
    seedmill_udfs::register_all(&mut session)?;
    Ok(session)
}

fn schema_name(split: Split) -> &'static str {
    match split {
        Split::Train => "raw",
        Split::Validation => "raw_validation",
        Split::Test => "raw_test",
    }
}

fn relation(task: &Task, split: Split) -> String {
    format!("{}.{}", schema_name(split), identifier(&task.name))
}

/// A sentence for rows that may not or cannot be read.
fn check(task: &Task, split: Split) -> Result<(), DataFusionError> {
    if split == Split::Train && !task.is_accepted() {
        return plan_err!(
            "the task '{}' is rejected ({}): {}",
            task.name,
            task.reason.map_or("", Reason::as_str),
            task.message.as_deref().unwrap_or_default()
        );
    }
    if task.files(split).is_empty() {
        return match split {
            Split::Train => {
                plan_err!("the task '{}': {}", task.name, task.message.as_deref().unwrap_or("it has no training files"))
            }
            held_out => plan_err!("no {held_out} file is known for the task '{}'", task.name),
        };
    }
    Ok(())
}
