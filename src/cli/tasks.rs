//! `seedmill tasks`: the catalog, or one task with the SQL that normalizes it, or the check of our normalization.

use std::path::PathBuf;

use datafusion::common::Result;

use super::arguments::{Format, TasksArguments, TasksCommand};
use super::output::{self, Output};
use super::{EXIT_OK, tasks_check};
use crate::session::{OpenOptions, Workspace};

pub async fn tasks(root: Option<PathBuf>, arguments: TasksArguments) -> Result<u8> {
    let (task, tasks_from) = match arguments.command {
        Some(TasksCommand::Check(check)) => return tasks_check::check(root, check).await,
        Some(TasksCommand::Show { task, from }) => (Some(task), from),
        None => (arguments.task, arguments.from),
    };
    let options = OpenOptions { root, tasks_from, ..OpenOptions::default() };
    let workspace = Workspace::open(options).await?;
    match task {
        None if arguments.missing => {
            let missing = "SELECT task, family, message FROM tasks WHERE reason = 'python_function' ORDER BY task";
            Output::of(arguments.format).print(workspace.sql(missing).await?).await?;
        }
        None => {
            let columns = match arguments.format {
                Format::Table => "task, family, format, capability, language, status, reason, license, commercial",
                _ => "*",
            };
            let frame = workspace.sql(&format!("SELECT {columns} FROM tasks ORDER BY task")).await?;
            Output::of(arguments.format).print(frame).await?;
        }
        Some(task) => {
            let row = format!("SELECT * FROM tasks WHERE task = '{}'", task.replace('\'', "''"));
            Output::of(Format::Ndjson).print(workspace.sql(&row).await?).await?;
            match workspace.catalog.norm_sql(workspace.ctx(), &task).await {
                Ok(sql) => output::text(&format!("\n-- norm.{task}\n{sql}\n"))?,
                // A rejected task has no norm; its row above says why.
                Err(_) if workspace.catalog.tasks().iter().any(|known| known.name == task) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(EXIT_OK)
}
