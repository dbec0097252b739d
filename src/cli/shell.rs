//! The prompt of `seedmill sql`: statements end with a semicolon, lines are kept in a history.

use std::path::PathBuf;

use datafusion::common::{DataFusionError, Result};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::arguments::Format;
use super::interrupt::GRACE;
use super::sql::run_text;
use super::{EXIT_OK, sentence};
use crate::session::Workspace;

const HISTORY: &str = ".seedmill/history";

pub async fn shell(workspace: &Workspace, format: Format) -> Result<u8> {
    let failed = |e: ReadlineError| DataFusionError::External(Box::new(e));
    let mut editor = DefaultEditor::new().map_err(failed)?;
    let history: PathBuf = workspace.config.root.join(HISTORY);
    // A first session has no history yet.
    let _ = editor.load_history(&history);
    println!(
        "seedmill {}: SQL ends with ';'. SHOW TABLES; lists what is there. \\q leaves.",
        env!("CARGO_PKG_VERSION")
    );
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
                tokio::select! {
                    result = run_text(workspace, &statement, format) => {
                        if let Err(error) = result {
                            eprintln!("{}", sentence(&error));
                        }
                    }
                    _ = tokio::signal::ctrl_c() => eprintln!("\nthe query was stopped"),
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
    workspace.runtime.finish(GRACE).await?;
    Ok(EXIT_OK)
}
