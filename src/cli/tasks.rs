//! `seedmill tasks`: the catalog, or one task with the SQL that normalizes it.

use std::path::PathBuf;

use datafusion::common::Result;

use super::arguments::{Format, TasksArguments};
use super::{EXIT_OK, output};
use crate::session::{OpenOptions, Workspace};

pub async fn tasks(root: Option<PathBuf>, arguments: TasksArguments) -> Result<u8> {
    let options = OpenOptions { root, tasks_from: arguments.from, ..OpenOptions::default() };
    let workspace = Workspace::open(options).await?;
    match arguments.task {
        None => {
            let columns = match arguments.format {
                Format::Table => "task, family, format, capability, language, status, reason, license, commercial",
                Format::Csv | Format::Json => "*",
            };
            output::print(
                workspace.sql(&format!("SELECT {columns} FROM tasks ORDER BY task")).await?,
                arguments.format,
            )
            .await?;
        }
        Some(task) => {
            let row = format!("SELECT * FROM tasks WHERE task = '{}'", task.replace('\'', "''"));
            output::print(workspace.sql(&row).await?, Format::Json).await?;
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
