//! `seedmill sql`: statements from -c, -f or standard input, or the prompt where that is a terminal.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use datafusion::common::{DataFusionError, Result};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use serde_json::json;

use super::arguments::SqlArguments;
use super::console::Console;
use super::ending::{Ending, finished_event, settle};
use super::interrupt::interruptible;
use super::output::Output;
use super::progress::Progress;
use super::sql_error::with_place;
use super::{EXIT_OK, sentence, shell};
use crate::counted::counted;
use crate::session::{OpenOptions, Workspace};

pub async fn sql(root: Option<PathBuf>, arguments: SqlArguments, console: Console) -> Result<u8> {
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
    let workspace =
        Workspace::open(OpenOptions { root, pipeline: arguments.pipeline, set, ..OpenOptions::default() }).await?;
    workspace.warnings().listen(move |warning| console.note(format_args!("note: {warning}")));
    if let Err(error) = workspace.offer_stages().await {
        let folder = workspace.pipeline.folder.display();
        console.note(format_args!("note: the views of {folder} are not there: {}", sentence(&error)));
    }
    workspace.limit(arguments.budget.budget());
    let Some(text) = text else {
        let mut output = Output::of(arguments.format);
        output.redirect(arguments.output.as_deref())?;
        return shell::shell(&workspace, output, console).await;
    };
    let mut output = Output::as_one_file(arguments.format);
    if let Some(path) = &arguments.output {
        output.replace(path)?;
    }
    console.event("run_started", json!({ "run_id": workspace.run.id, "seeds": null, "stages": [] }));
    let progress = Progress::start(console, &workspace.runtime, Vec::new(), None);
    let work = async { run_text(&workspace, &text, &mut output).await };
    let result = interruptible(&workspace, console, work).await;
    match settle(&workspace, console, progress, result).await? {
        Ending::Complete(_, views) => {
            output.finish()?;
            for view in views.iter().filter(|view| view.counts.failed > 0) {
                let (title, counts, name) = (view.title(), &view.counts, &view.name);
                console.note(format_args!(
                    "note: {title}: {} of {} failed; why stands in {name}['error'] of {}",
                    counts.failed,
                    counted(counts.calls(), "call"),
                    if counts.failed == 1 { "its row" } else { "their rows" }
                ));
            }
            finished_event(&workspace, console, &views, None, EXIT_OK);
            Ok(EXIT_OK)
        }
        Ending::Stopped(code) => Ok(code),
    }
}

/// Runs the statements of a text and prints what they give. An error that knows its place shows it. `Ok` is the number
/// of rows.
pub async fn run_text(workspace: &Workspace, text: &str, output: &mut Output) -> Result<usize> {
    let mut rows = 0;
    let statements = workspace.parse(text).map_err(|e| with_place(text, workspace.ctx(), e))?;
    output.need_room(statements.iter().filter(|statement| gives_rows(statement)).count())?;
    for statement in statements {
        let frame = workspace.execute(statement).await.map_err(|e| with_place(text, workspace.ctx(), e))?;
        // A definition gives no columns.
        if !frame.schema().fields().is_empty() {
            rows += output.print(frame).await?;
            workspace.tell_left_out();
        }
    }
    Ok(rows)
}

/// Whether a statement gives rows, as far as that can be seen before it is planned.
fn gives_rows(statement: &Statement) -> bool {
    match statement {
        Statement::Statement(statement) => matches!(statement.as_ref(), ast::Statement::Query(_)),
        Statement::CopyTo(_) | Statement::Explain(_) => true,
        _ => false,
    }
}
