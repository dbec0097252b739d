//! The arguments, as clap reads them.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::console::Console;
use crate::config::{Budget, Variable};

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

Exit codes: 0 done; 1 failed, with the reason on standard error; 2 wrong arguments, or an estimate above the budget
without --yes; 3 stopped by the budget; 130 stopped by Ctrl-C or SIGTERM (after 3 and 130 the same command goes on
where it stopped: no answer is lost, and none is paid for twice)."
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
    /// Write a working pipeline folder: sql/ with stages, filters, prompts and example tasks, and seedmill.toml
    Init(InitArguments),
    /// Run a pipeline folder from seeds to published Parquet; running it again resumes and replays
    Run(RunArguments),
    /// Print the whole plan of a pipeline folder, with its calls and what they would cost, without making any
    Explain(ExplainArguments),
    /// Run SQL: -c, -f, standard input, or a prompt
    Sql(SqlArguments),
    /// List the tasks of the catalog, or show one
    Tasks(TasksArguments),
    /// List the runs: complete ones with their sizes, incomplete ones with why
    Runs(RunsArguments),
    /// Write one HTML file about a run: funnel, reasons, distributions, costs, items, each figure with its SQL
    Report(ReportArguments),
    /// Totals of all model calls in the ledger, by model and error
    Calls(CallsArguments),
    /// Print the reference of the SQL functions as Markdown
    Functions,
    /// The embedded model
    #[command(subcommand)]
    Model(ModelCommand),
}

#[derive(Debug, Args)]
pub struct InitArguments {
    /// Where to [default: the current folder]
    pub folder: Option<PathBuf>,
}

/// `--set`, which several commands share.
#[derive(Debug, Args)]
pub struct SetArguments {
    /// Set the variable @NAME (a number, true, false, or a text), over [variables] of seedmill.toml
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parse_set)]
    pub set: Vec<(String, Variable)>,
}

/// How much `run` and `sql` say.
#[derive(Debug, Args)]
pub struct ConsoleArguments {
    /// Say nothing but errors and the result
    #[arg(short, long)]
    pub quiet: bool,
    /// Say everything as JSON events on standard error, one a line: run_started, progress, stage_finished, warning,
    /// stopping, error, run_finished
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,
}

impl ConsoleArguments {
    pub fn console(&self) -> Console {
        match (self.quiet, self.json) {
            (true, _) => Console::Quiet,
            (false, true) => Console::Json,
            (false, false) => Console::Plain,
        }
    }
}

/// What `run` and `sql` may spend.
#[derive(Debug, Args)]
pub struct BudgetArguments {
    /// Stop when calls have cost this much, over SET seedmill.max_cost_usd and [budget] of seedmill.toml; none takes the
    /// limit away
    #[arg(long, value_name = "USD", value_parser = Budget::dollars_or_none)]
    pub max_cost_usd: Option<f64>,
    /// Send no more requests than this; answers out of the ledger are free
    #[arg(long, value_name = "N", value_parser = Budget::whole_or_none)]
    pub max_calls: Option<u64>,
    /// Stop when prompts and answers have used so many tokens (1e6 is a number too)
    #[arg(long, value_name = "N", value_parser = Budget::whole_or_none)]
    pub max_tokens: Option<u64>,
}

impl BudgetArguments {
    pub fn budget(&self) -> Budget {
        Budget { max_cost_usd: self.max_cost_usd, max_calls: self.max_calls, max_tokens: self.max_tokens }
    }
}

#[derive(Debug, Args)]
pub struct RunArguments {
    /// The pipeline folder or its URL [default: sql/ beside seedmill.toml]
    pub pipeline: Option<PathBuf>,
    #[command(flatten)]
    pub set: SetArguments,
    /// Where the run's folder is made [default: runs/ beside seedmill.toml]
    #[arg(long, value_name = "DIR")]
    pub out: Option<String>,
    #[command(flatten)]
    pub budget: BudgetArguments,
    /// Start also where the estimate is above the budget; the run still stops at the budget
    #[arg(short, long)]
    pub yes: bool,
    /// Print the plan, how many calls it makes and what they cost, and stop: `seedmill explain --count`
    #[arg(long)]
    pub dry_run: bool,
    /// Run up to this stage (30_solve, 30 or solve) and publish nothing: its answers are in the ledger, where the whole
    /// run finds them
    #[arg(long, value_name = "STAGE", conflicts_with = "dry_run")]
    pub only: Option<String>,
    /// A preview: only so many seeds, the first by seed_id of all that reach a call; where a call's rows have no seed_id,
    /// so many rows of each first call
    #[arg(long, value_name = "N")]
    pub limit_seeds: Option<NonZeroUsize>,
    #[command(flatten)]
    pub console: ConsoleArguments,
}

#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// The pipeline folder or its URL [default: sql/ beside seedmill.toml]
    pub pipeline: Option<PathBuf>,
    #[command(flatten)]
    pub set: SetArguments,
    /// Print the physical plan too
    #[arg(long)]
    pub physical: bool,
    /// Print every node whole, with its prompts
    #[arg(long)]
    pub full: bool,
    /// Run the part without calls and count the first calls: how many there are, and how many the ledger has already
    #[arg(long)]
    pub count: bool,
    /// As `run` with it: so many seeds
    #[arg(long, value_name = "N")]
    pub limit_seeds: Option<NonZeroUsize>,
    /// Of `run --dry-run --out`: a target that the run takes is no error here
    #[arg(skip)]
    pub out: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    Csv,
    /// One list
    Json,
    /// One object a line
    Ndjson,
    Markdown,
    /// Into a file or a pipe
    Parquet,
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
    /// Write the results into this file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The pipeline folder whose stages, filters and prompts are there [default: sql/ beside seedmill.toml]
    #[arg(long, value_name = "DIR")]
    pub pipeline: Option<PathBuf>,
    #[command(flatten)]
    pub set: SetArguments,
    #[command(flatten)]
    pub budget: BudgetArguments,
    #[command(flatten)]
    pub console: ConsoleArguments,
}

#[derive(Debug, Args)]
pub struct RunsArguments {
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// The folder of the runs [default: runs/ beside seedmill.toml]
    #[arg(long, value_name = "DIR")]
    pub out: Option<String>,
}

#[derive(Debug, Args)]
pub struct ReportArguments {
    /// The run: its id or its folder [default: the newest]
    pub run: Option<String>,
    /// The file to write [default: <run_id>.html in the current folder]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// The folder of the runs [default: runs/ beside seedmill.toml]
    #[arg(long, value_name = "DIR")]
    pub runs: Option<String>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct TasksArguments {
    /// Show one task, as `tasks show` does
    pub task: Option<String>,
    /// Task configs in place of [tasks] from: a folder, or an installed package or checkout of lm-evaluation-harness
    #[arg(long, value_name = "PATH")]
    pub from: Vec<PathBuf>,
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// List the tasks whose rows could seed calls if a statement in sql/tasks stood for their Python functions
    #[arg(long, conflicts_with = "task")]
    pub missing: bool,
    #[command(subcommand)]
    pub command: Option<TasksCommand>,
}

#[derive(Debug, Subcommand)]
pub enum TasksCommand {
    /// Show one task: its row and the SQL that normalizes it
    Show {
        task: String,
        /// Task configs in place of [tasks] from
        #[arg(long, value_name = "PATH")]
        from: Vec<PathBuf>,
    },
    /// Compare our normalization with what the harness rendered, over files of its renderings
    Check(CheckArguments),
}

#[derive(Debug, Args)]
pub struct CheckArguments {
    /// JSON lines: for each task a header with its config, and rows with a doc and what the harness made of it
    #[arg(required = true, value_name = "GOLDEN.jsonl")]
    pub golden: Vec<PathBuf>,
    /// Take the task configs from this folder of the harness and not from the headers
    #[arg(long, value_name = "PATH")]
    pub from: Option<PathBuf>,
    /// How many differences to print in full
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub show: usize,
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

fn older_than(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|e| format!("it must be a time such as 12h, 30d or 8w ({e})"))
}

#[derive(Debug, Args)]
pub struct GcArguments {
    /// Drop what no run has used for this long: 12h, 30d, 8w
    #[arg(long, value_name = "DURATION", value_parser = older_than)]
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
