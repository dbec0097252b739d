//! `seedmill runs`: the published runs and those that did not get there, the newest first.

use std::path::PathBuf;

use datafusion::common::Result;

use super::EXIT_OK;
use super::arguments::{Format, RunsArguments};
use super::output::Output;
use crate::session::{OpenOptions, Workspace};

pub async fn runs(root: Option<PathBuf>, arguments: RunsArguments) -> Result<u8> {
    let options = OpenOptions { root, out: arguments.out, ..OpenOptions::default() };
    let workspace = Workspace::open(options).await?;
    let columns = match arguments.format {
        Format::Table => {
            "run_id, state, date_trunc('second', finished) AS finished, curated_rows AS kept, rejected_rows AS rejected, \
             round(bytes / 1e6, 1) AS mb, coalesce(stopped_by || ': ' || reason, path) AS \"path, or why not\""
        }
        _ => "*",
    };
    let frame = workspace.sql(&format!("SELECT {columns} FROM runs ORDER BY run_id DESC")).await?;
    Output::of(arguments.format).print(frame).await?;
    Ok(EXIT_OK)
}
