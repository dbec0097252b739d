//! The command line: one file a subcommand. In: arguments. Out: an exit code.

mod arguments;
mod budget_check;
mod calls;
mod calls_compact;
mod calls_gc;
mod completion;
mod console;
mod ending;
mod explain;
mod first_calls;
mod functions;
mod init;
mod interrupt;
mod model;
mod open_files;
mod output;
mod progress;
mod prompt_check;
mod report;
mod result_table;
mod run;
mod runs;
mod shell;
mod shell_command;
mod sql;
mod sql_error;
mod stage_view;
mod tasks;
mod tasks_check;
mod text_table;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use datafusion::common::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;

use arguments::{Arguments, Command};
use console::Console;

use crate::stores::{store_error, without_queries};

/// Done.
const EXIT_OK: u8 = 0;
/// The command failed; the sentence on standard error says why.
const EXIT_FAILED: u8 = 1;
/// Wrong arguments (clap's code too), or an estimate above the budget without `--yes`.
const EXIT_USAGE: u8 = 2;
/// The budget is spent; the same command goes on with a higher one.
const EXIT_BUDGET: u8 = 3;
/// Stopped by Ctrl-C or SIGTERM; the same command goes on.
const EXIT_INTERRUPTED: u8 = 130;

/// How long tasks may take to end after the command has.
const SHUTDOWN: Duration = Duration::from_secs(1);

/// Runs the program.
pub fn main() -> ExitCode {
    // The embedded model computes on one thread a worker; it reads this setting once, before any thread starts.
    #[cfg(feature = "embedded")]
    crate::endpoint::embedded::prepare_process();
    let arguments = Arguments::parse();
    let console = match &arguments.command {
        Command::Run(run) => run.console.console(),
        Command::Sql(sql) => sql.console.console(),
        _ => Console::Plain,
    };
    console::logging(console, arguments.verbose);
    open_files::raise_limit();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(8 << 20).build() {
        Ok(runtime) => runtime,
        Err(error) => {
            console.error(format_args!("the runtime cannot start: {error}"));
            return ExitCode::from(EXIT_FAILED);
        }
    };
    let code = runtime.block_on(dispatch(arguments, console));
    // Tasks of a query that was stopped let go of their temporary files. Those that are blocked (a model at work, a
    // terminal being read) are not waited for.
    runtime.shutdown_timeout(SHUTDOWN);
    ExitCode::from(code)
}

async fn dispatch(arguments: Arguments, console: Console) -> u8 {
    let workspace = arguments.workspace;
    let result = match arguments.command {
        Command::Run(run) => run::run(workspace, run, console).await,
        Command::Explain(explain) => {
            interrupt::until_signal(explain::explain(workspace, explain)).await.unwrap_or(Ok(EXIT_INTERRUPTED))
        }
        Command::Sql(sql) => sql::sql(workspace, sql, console).await,
        Command::Tasks(tasks) => tasks::tasks(workspace, tasks).await,
        Command::Calls(calls) => calls::calls(workspace, calls).await,
        Command::Init(init) => init::init(init),
        Command::Runs(runs) => runs::runs(workspace, runs).await,
        Command::Report(report) => report::report(workspace, report).await,
        Command::Functions => functions::functions(),
        Command::Model(command) => model::model(command).await,
    };
    match result {
        Ok(code) => code,
        // `seedmill sql … | head` is no error.
        Err(error) if is_broken_pipe(&error) => EXIT_OK,
        Err(error) => {
            console.error(sentence(&error));
            EXIT_FAILED
        }
    }
}

/// An error as one readable sentence: without backtrace and without the names of DataFusion's error kinds.
pub(crate) fn sentence(error: &DataFusionError) -> String {
    without_queries(&said(error))
}

fn said(error: &DataFusionError) -> String {
    if !matches!(error, DataFusionError::Context(..))
        && let Some(told) = store_error(error)
    {
        return told.to_string();
    }
    match error {
        DataFusionError::Context(context, inner) => {
            let inner = said(inner);
            // The names of our own rules tell a user nothing.
            let internal = !context.contains([' ', '.', '/']) && context.contains('_') || context == "type_coercion";
            if internal { inner } else { format!("{context}: {inner}") }
        }
        DataFusionError::Diagnostic(_, inner) => said(inner),
        DataFusionError::SQL(parser, _) => match parser.as_ref() {
            ParserError::ParserError(text) | ParserError::TokenizerError(text) => text.clone(),
            ParserError::RecursionLimitExceeded => "the statement is nested too deeply".to_owned(),
        },
        DataFusionError::Shared(inner) => said(inner),
        DataFusionError::Collection(errors) => errors.iter().map(said).collect::<Vec<_>>().join("; "),
        DataFusionError::External(inner) => match inner.downcast_ref::<DataFusionError>() {
            Some(inner) => said(inner),
            None => inner.to_string(),
        },
        DataFusionError::ArrowError(inner, _) => match inner.as_ref() {
            datafusion::arrow::error::ArrowError::ExternalError(inner) => match inner.downcast_ref::<DataFusionError>()
            {
                Some(inner) => said(inner),
                None => inner.to_string(),
            },
            other => other.to_string(),
        },
        other => {
            let text = other.message().into_owned();
            if text.contains("Error encountered while finalizing writes") {
                return "the files of COPY cannot be written; the warning before this says why".to_owned();
            }
            if let Some((_, reference)) = text.split_once("does not support logical expression OuterReferenceColumn(") {
                let column = reference.rsplit("name: \"").next().and_then(|name| name.split('"').next());
                return format!(
                    "a subquery uses the column '{}' of the query around it in a way that is not supported: join the two, \
                     or compute it without a subquery",
                    column.unwrap_or_default()
                );
            }
            text.split("\n\nbacktrace:").next().unwrap_or(&text).trim().to_owned()
        }
    }
}

fn is_broken_pipe(error: &DataFusionError) -> bool {
    matches!(error, DataFusionError::IoError(error) if error.kind() == std::io::ErrorKind::BrokenPipe)
}
