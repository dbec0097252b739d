//! The tasks that the configuration names, and the tables that a session sees of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::prelude::SessionContext;
use thiserror::Error;

use super::task_planner::TaskPlanner;
use super::task_sql::TaskSql;
use super::{Task, catalog_loader, schemas};
use crate::config::TasksConfig;
use crate::stores::Stores;

/// A configuration of tasks that cannot be loaded. Single broken configs are rows of `tasks`, not errors.
#[derive(Debug, Error)]
pub enum TasksError {
    #[error("[tasks] from (or --from): '{0}' does not exist: name a folder of task configs or a config file")]
    NoSuchPath(PathBuf),
    #[error("the statements for tasks in '{0}' cannot be read: {1}")]
    Sql(PathBuf, std::io::Error),
    #[error("[data] roots: {0}")]
    Root(String),
}

/// All tasks that the configuration names, in order of name.
#[derive(Debug)]
pub struct Catalog {
    tasks: Vec<Task>,
    cache: PathBuf,
}

impl Catalog {
    /// Loads every harness task config (`*.yaml`) under `config.from`, folders with all that is below them; a folder that
    /// holds `lm_eval/tasks` means that. A file that cannot be read is a task with status 'rejected' and the parser's
    /// message.
    ///
    /// # Errors
    /// Only a path of `config.from` that does not exist, and a root in a store that cannot be listed.
    pub fn load(config: &TasksConfig, stores: &Arc<Stores>) -> std::result::Result<Catalog, TasksError> {
        if let Some(lost) = config.from.iter().find(|from| !from.exists()) {
            return Err(TasksError::NoSuchPath(lost.clone()));
        }
        let sql = match &config.sql {
            Some(folder) => TaskSql::with_folder(folder).map_err(|e| TasksError::Sql(folder.clone(), e))?,
            None => TaskSql::built_in().clone(),
        };
        let tasks = catalog_loader::load(config, &sql, stores).map_err(TasksError::Root)?;
        Ok(Catalog { tasks, cache: config.cache.clone() })
    }

    /// Every task, in order of name.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// The folder of normalized rows.
    pub(crate) fn cache(&self) -> &Path {
        &self.cache
    }

    /// The task of a name that can be planned; of several with one name the first that was read.
    pub(crate) fn task(&self, name: &str) -> Option<&Task> {
        self.place(name).map(|(_, task)| task)
    }

    /// The same with its place among the tasks.
    pub(crate) fn place(&self, name: &str) -> Option<(usize, &Task)> {
        self.tasks.iter().enumerate().find(|(_, task)| task.name == name && task.config.is_some())
    }

    /// Registers the tables `tasks`, `seeds` and `heldout` in the session's default schema, and the schemas `raw`,
    /// `norm` and `heldout` beside it. Nothing is read or planned before it is asked for.
    pub fn register(self: &Arc<Self>, ctx: &SessionContext) -> Result<()> {
        schemas::register(self, ctx)
    }

    /// The SQL of `norm.<task>`, as `seedmill tasks TASK` prints it: one statement over `raw.<task>`. It depends on the
    /// columns of the task's rows, so its training files are opened.
    ///
    /// # Errors
    /// `Plan` for an unknown or rejected task, one without data, or rows that do not fit the config.
    pub async fn norm_sql(self: &Arc<Self>, ctx: &SessionContext, task: &str) -> Result<String> {
        let Some(task) = self.task(task) else {
            return match self.tasks.iter().find(|known| known.name == task) {
                Some(known) => plan_err!(
                    "the config of the task '{task}' ({}) cannot be used: {}",
                    known.file.display(),
                    known.message.as_deref().unwrap_or_default()
                ),
                None => plan_err!("there is no task '{task}'{}", self.nearest(task)),
            };
        };
        TaskPlanner::new(ctx.runtime_env()).norm_sql(task).await
    }

    /// A hint at the task that may be meant, or nothing.
    fn nearest(&self, name: &str) -> String {
        let nearest = self.tasks.iter().map(|task| (strsim::jaro_winkler(&task.name, name), &task.name));
        match nearest.max_by(|a, b| a.0.total_cmp(&b.0)) {
            Some((likeness, nearest)) if likeness > 0.8 => format!("; did you mean '{nearest}'?"),
            _ => "; `SELECT task FROM tasks` lists them".into(),
        }
    }
}

impl From<TasksError> for DataFusionError {
    fn from(error: TasksError) -> Self {
        DataFusionError::External(Box::new(error))
    }
}
