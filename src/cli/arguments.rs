//! The arguments, as clap reads them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::Variable;

/// Turn the training splits of task datasets into new, verified Q&A data: SQL over Parquet, with model calls as
/// table functions.
#[derive(Debug, Parser)]
#[command(
    name = "seedmill",
    version,
    after_help = "\
Try it:
  seedmill run                                  the pipeline folder sql/ with its example tasks; no configuration needed
  seedmill sql -c 'SELECT task, count(*) FROM seeds GROUP BY task'
  seedmill sql -c 'SELECT reason, count(*) FROM (SELECT unnest(reasons) AS reason FROM rejected) GROUP BY reason'

Exit codes: 0 done; 1 failed, with the reason on standard error; 2 wrong arguments; 130 stopped by Ctrl-C (the same
command goes on where it stopped: no answer is lost, and none is paid for twice)."
)]
pub struct Arguments {
    /// The folder of seedmill.toml [default: the nearest above the pipeline folder or the current folder]
    #[arg(short = 'w', long, global = true, value_name = "DIR")]
    pub workspace: Option<PathBuf>,
    /// Log what is retried and why (SEEDMILL_LOG takes a filter such as seedmill=trace)
    #[arg(short, long, global = true)]
    pub verbose: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a pipeline folder from seeds to published Parquet; running it again resumes and replays
    Run(RunArguments),
    /// Print the whole plan of a pipeline folder, with its calls, without making any
    Explain(ExplainArguments),
    /// Run SQL: -c, -f, standard input, or a prompt
    Sql(SqlArguments),
    /// List the tasks of the catalog, or show one
    Tasks(TasksArguments),
    /// Totals of all model calls in the ledger, by model and error
    Calls(CallsArguments),
    /// The embedded model
    #[command(subcommand)]
    Model(ModelCommand),
}

/// `--set`, which several commands share.
#[derive(Debug, Args)]
pub struct SetArguments {
    /// Set the variable @NAME (a number, true, false, or a text), over [variables] of seedmill.toml
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parse_set)]
    pub set: Vec<(String, Variable)>,
}

#[derive(Debug, Args)]
pub struct RunArguments {
    /// The pipeline folder [default: sql/ beside seedmill.toml]
    pub pipeline: Option<PathBuf>,
    #[command(flatten)]
    pub set: SetArguments,
    /// Where the run's folder is made [default: runs/ beside seedmill.toml]
    #[arg(long, value_name = "DIR")]
    pub out: Option<String>,
}

#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// The pipeline folder [default: sql/ beside seedmill.toml]
    pub pipeline: Option<PathBuf>,
    #[command(flatten)]
    pub set: SetArguments,
    /// Print the physical plan too
    #[arg(long)]
    pub physical: bool,
    /// Print every node whole, with its prompts
    #[arg(long)]
    pub full: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Csv,
    Json,
}

#[derive(Debug, Args)]
pub struct SqlArguments {
    /// The statements
    #[arg(short = 'c', long = "command", value_name = "SQL", conflicts_with = "file", allow_hyphen_values = true)]
    pub command: Option<String>,
    /// A file of statements
    #[arg(short = 'f', long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// The pipeline folder whose stages, filters and prompts are there [default: sql/ beside seedmill.toml]
    #[arg(long, value_name = "DIR")]
    pub pipeline: Option<PathBuf>,
    #[command(flatten)]
    pub set: SetArguments,
}

#[derive(Debug, Args)]
pub struct TasksArguments {
    /// Show one task: its row and the SQL that normalizes it
    pub task: Option<String>,
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct CallsArguments {
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    #[command(subcommand)]
    pub command: Option<CallsCommand>,
}

#[derive(Debug, Subcommand)]
pub enum CallsCommand {
    /// Merge the ledger's small files into large ones; other processes may go on
    Compact,
    /// Drop calls that no run has used for long; what a published run names stays, and so does the history of attempts
    Gc(GcArguments),
}

#[derive(Debug, Args)]
pub struct GcArguments {
    /// Drop what no run has used for this long: 12h, 30d, 8w
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub older_than: Duration,
    /// Only say what would go
    #[arg(long)]
    pub dry_run: bool,
    /// Drop it without asking
    #[arg(long, conflicts_with = "dry_run")]
    pub yes: bool,
    /// The folder of the published runs whose calls stay [default: runs/ beside seedmill.toml]
    #[arg(long, value_name = "DIR")]
    pub out: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Fetch the embedded model's weights into the cache
    Fetch,
}

fn parse_set(text: &str) -> Result<(String, Variable), String> {
    let (name, value) = text.split_once('=').ok_or("it has the form NAME=VALUE")?;
    let name = name.trim().trim_start_matches('@');
    if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return Err(format!("'{name}' is no name of a variable"));
    }
    let variable = match value {
        "true" => Variable::Boolean(true),
        "false" => Variable::Boolean(false),
        _ => value
            .parse()
            .map(Variable::Integer)
            .or_else(|_| value.parse().map(Variable::Float))
            .unwrap_or_else(|_| Variable::Text(value.to_owned())),
    };
    Ok((name.to_owned(), variable))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_set_value_has_the_type_it_looks_like() {
        assert_eq!(parse_set("k=3"), Ok(("k".into(), Variable::Integer(3))));
        assert_eq!(parse_set("@k=0.5"), Ok(("k".into(), Variable::Float(0.5))));
        assert_eq!(parse_set("vote=relabel"), Ok(("vote".into(), Variable::Text("relabel".into()))));
        assert!(parse_set("novalue").is_err());
    }
}
