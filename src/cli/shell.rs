//! The prompt of `seedmill sql`: statements end with a semicolon, lines are kept in a history.

use std::path::PathBuf;

use datafusion::common::{DataFusionError, Result};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::arguments::Format;
use super::console::Console;
use super::interrupt::{GRACE, Signals, end_on_terminate};
use super::progress::Progress;
use super::sql::run_text;
use super::{EXIT_INTERRUPTED, EXIT_OK, sentence};
use crate::session::Workspace;

const HISTORY: &str = ".seedmill/history";

pub async fn shell(workspace: &Workspace, format: Format, console: Console) -> Result<u8> {
    let failed = |e: ReadlineError| DataFusionError::External(Box::new(e));
    let mut editor = DefaultEditor::new().map_err(failed)?;
    let history: PathBuf = workspace.config.root.join(HISTORY);
    // A first session has no history yet.
    let _ = editor.load_history(&history);
    println!(
        "seedmill {}: SQL ends with ';'. SHOW TABLES; lists what is there. \\q leaves.",
        env!("CARGO_PKG_VERSION")
    );
    end_on_terminate(workspace);
    let mut text = String::new();
    loop {
        let prompt = if text.is_empty() { "seedmill> " } else { "      ..> " };
        match editor.readline(prompt) {
            Ok(line) => {
                if text.is_empty() && matches!(line.trim(), "\\q" | "quit" | "exit") {
                    break;
                }
                text.push_str(&line);
                text.push('\n');
                if !line.trim_end().ends_with(';') {
                    continue;
                }
                let statement = std::mem::take(&mut text);
                // A history that cannot grow is no reason to stop.
                let _ = editor.add_history_entry(statement.trim());
                // Signals from here on: an older one was not for this query.
                let mut signals = Signals::new()?;
                let progress = Progress::start(console, &workspace.runtime, Vec::new(), None);
                let result = tokio::select! {
                    result = run_text(workspace, &statement, format) => Some(result),
                    () = signals.next() => None,
                };
                drop(progress);
                match result {
                    Some(Ok(())) => {}
                    Some(Err(error)) => eprintln!("{}", sentence(&error)),
                    None => eprintln!(
                        "\nthe query was stopped: no new calls; those in flight are recorded, and the same query goes on"
                    ),
                }
            }
            Err(ReadlineError::Interrupted) => text.clear(),
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(failed(error)),
        }
    }
    if let Some(folder) = history.parent()
        && std::fs::create_dir_all(folder).is_ok()
    {
        let _ = editor.save_history(&history);
    }
    let mut signals = Signals::new()?;
    tokio::select! {
        finished = workspace.runtime.finish(GRACE) => finished.map(|_| EXIT_OK),
        () = signals.next() => Ok(EXIT_INTERRUPTED),
    }
}
