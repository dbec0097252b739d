//! `seedmill sql`: statements from -c, -f or standard input, or the prompt where that is a terminal.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result};

use super::arguments::{Format, SqlArguments};
use super::interrupt::{self, GRACE};
use super::{EXIT_INTERRUPTED, EXIT_OK, note, output, sentence, shell};
use crate::session::{OpenOptions, Workspace};

pub async fn sql(root: Option<PathBuf>, arguments: SqlArguments) -> Result<u8> {
    let text = match (&arguments.command, &arguments.file) {
        (Some(command), _) => Some(command.clone()),
        (None, Some(file)) => Some(
            std::fs::read_to_string(file)
                .map_err(|e| DataFusionError::Execution(format!("{} cannot be read: {e}", file.display())))?,
        ),
        (None, None) if std::io::stdin().is_terminal() => None,
        (None, None) => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            Some(text)
        }
    };
    let set = arguments.set.set.into_iter().collect();
    let workspace = Workspace::open(OpenOptions { root, pipeline: arguments.pipeline, set, out: None }).await?;
    workspace.warnings().listen(note);
    if let Err(error) = workspace.register_stages().await {
        eprintln!("note: the views of {} are not there: {}", workspace.pipeline.folder.display(), sentence(&error));
    }
    let Some(text) = text else {
        return shell::shell(&workspace, arguments.format).await;
    };
    interrupt::watch(Arc::clone(&workspace.runtime));
    let result = run_text(&workspace, &text, arguments.format).await;
    workspace.runtime.finish(GRACE).await?;
    if workspace.runtime.interrupt.is_cancelled() {
        return Ok(EXIT_INTERRUPTED);
    }
    result.map(|()| EXIT_OK)
}

/// Runs the statements of a text and prints what they give.
pub async fn run_text(workspace: &Workspace, text: &str, format: Format) -> Result<()> {
    for statement in workspace.parse(text)? {
        let frame = workspace.execute(statement).await?;
        // A definition gives no columns.
        if !frame.schema().fields().is_empty() {
            output::print(frame, format).await?;
        }
    }
    Ok(())
}
