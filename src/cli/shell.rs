//! The prompt of `seedmill sql`: statements end with a semicolon, lines are kept in a history, Tab completes.

use std::path::PathBuf;
use std::time::Instant;

use datafusion::common::{DataFusionError, Result};
use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{CompletionType, Editor};

use super::completion::Completion;
use super::console::Console;
use super::interrupt::{GRACE, LAST_RECORDS, Signals, end_on_terminate};
use super::output::{self, Output};
use super::progress::Progress;
use super::shell_command::{ShellCommand, help, shell_command};
use super::sql::run_text;
use super::{EXIT_INTERRUPTED, EXIT_OK, functions, sentence};
use crate::counted::counted;
use crate::session::{Workspace, is_complete};
use crate::stores::without_queries;

const HISTORY: &str = ".seedmill/history";

/// What `\d` shows without a name.
const TABLES: &str = "SELECT table_schema AS schema, table_name AS name, table_type AS type FROM information_schema.tables \
                      WHERE table_schema <> 'information_schema' ORDER BY schema, name;";

pub async fn shell(workspace: &Workspace, output: Output, console: Console) -> Result<u8> {
    let failed = |e: ReadlineError| DataFusionError::External(Box::new(e));
    let mut editor: Editor<Completion, DefaultHistory> = Editor::new().map_err(failed)?;
    editor.set_completion_type(CompletionType::List);
    editor.set_helper(Some(Completion::new(workspace.ctx().clone())));
    let history: PathBuf = workspace.config.root.join(HISTORY);
    // A first session has no history yet.
    let _ = editor.load_history(&history);
    println!(
        "seedmill {}: SQL ends with ';'. \\d lists tables, \\? all commands, \\q leaves.",
        env!("CARGO_PKG_VERSION")
    );
    end_on_terminate(workspace);
    let mut shell = Shell { workspace, output, console, timing: false };
    let mut text = String::new();
    loop {
        let prompt = if text.is_empty() { "seedmill> " } else { "      ..> " };
        match editor.readline(prompt) {
            Ok(line) => {
                if text.is_empty()
                    && let Some(command) = shell_command(&line)
                {
                    // A history that cannot grow is no reason to stop.
                    let _ = editor.add_history_entry(line.trim());
                    match command {
                        Ok(ShellCommand::Quit) => break,
                        Ok(command) => shell.obey(command).await?,
                        Err(sentence) => eprintln!("{sentence}"),
                    }
                    continue;
                }
                text.push_str(&line);
                text.push('\n');
                if text.trim().is_empty() {
                    text.clear();
                }
                if !is_complete(&text) {
                    continue;
                }
                let statement = std::mem::take(&mut text);
                // A signature of a web address is kept in no file.
                if without_queries(&statement) == statement {
                    let _ = editor.add_history_entry(statement.trim());
                }
                shell.run(&statement).await?;
            }
            Err(ReadlineError::Interrupted) => text.clear(),
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(failed(error)),
        }
    }
    shell.output.redirect(None)?;
    if let Some(folder) = history.parent()
        && std::fs::create_dir_all(folder).is_ok()
    {
        let _ = editor.save_history(&history);
    }
    let mut signals = Signals::new()?;
    tokio::select! {
        finished = workspace.runtime.finish(GRACE) => finished.map(|_| EXIT_OK),
        () = signals.next() => {
            workspace.runtime.give_up(LAST_RECORDS).await;
            Ok(EXIT_INTERRUPTED)
        }
    }
}

struct Shell<'a> {
    workspace: &'a Workspace,
    output: Output,
    console: Console,
    timing: bool,
}

impl Shell<'_> {
    /// Runs statements. Ctrl-C stops them and not the shell. Errors of theirs are told.
    async fn run(&mut self, text: &str) -> Result<()> {
        // Signals from here on: an older one was not for this query.
        let mut signals = Signals::new()?;
        let start = Instant::now();
        let progress = Progress::start(self.console, &self.workspace.runtime, Vec::new(), None);
        let result = tokio::select! {
            result = run_text(self.workspace, text, &mut self.output) => Some(result),
            () = signals.next() => None,
        };
        drop(progress);
        match result {
            Some(Ok(rows)) => {
                if self.timing {
                    eprintln!("{}, {:.3} s", counted(rows, "row"), start.elapsed().as_secs_f64());
                }
            }
            Some(Err(error)) => eprintln!("{}", sentence(&error)),
            None => eprintln!(
                "\nthe query was stopped: no new calls; those in flight are recorded, and the same query goes on"
            ),
        }
        Ok(())
    }

    async fn obey(&mut self, command: ShellCommand) -> Result<()> {
        let said = |on| if on { "on" } else { "off" };
        match command {
            ShellCommand::Quit => {}
            ShellCommand::Help => output::text(&help())?,
            ShellCommand::Describe(None) => self.run(TABLES).await?,
            ShellCommand::Describe(Some(table)) => self.run(&format!("DESCRIBE {table};")).await?,
            ShellCommand::Functions(text) => {
                let state = self.workspace.ctx().state();
                let scalar = state.scalar_functions().values().map(AsRef::as_ref);
                output::text(&functions::list(scalar, &text.unwrap_or_default()))?;
            }
            ShellCommand::Timing => {
                self.timing = !self.timing;
                eprintln!("timing is {}", said(self.timing));
            }
            ShellCommand::Expanded => {
                self.output.expanded = !self.output.expanded;
                eprintln!("one line a column is {}", said(self.output.expanded));
            }
            ShellCommand::Output(path) => {
                if let Err(error) = self.output.redirect(path.as_deref()) {
                    eprintln!("{}", sentence(&error));
                }
            }
        }
        Ok(())
    }
}
