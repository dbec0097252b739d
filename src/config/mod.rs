//! `seedmill.toml` as typed values, read once. Unknown keys are errors that name the nearest key.

mod budget;
mod ledger;
mod load;
mod model;
mod nearest;
mod run_code;
mod section;
mod tasks;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use budget::Budget;
pub use ledger::LedgerConfig;
pub use load::{ConfigError, Variable};
pub use model::{Api, ModelConfig, Price, Provider};
pub(crate) use nearest::{did_you_mean, nearest};
pub use run_code::RunCode;
pub use tasks::{DatasetConfig, TasksConfig};

/// The name of a model in `seedmill.toml`, as SQL says it (`model => 'writer'`).
pub type ModelName = String;

/// The file that marks a workspace.
pub const CONFIG_FILE: &str = "seedmill.toml";

/// A workspace's configuration. Every path in it is absolute or a URL.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder of `seedmill.toml`; the current folder where there is none.
    pub root: PathBuf,
    /// Always holds at least `local`, the embedded model.
    pub models: BTreeMap<ModelName, ModelConfig>,
    pub budget: Budget,
    pub ledger: LedgerConfig,
    pub tasks: TasksConfig,
    /// `[tables.<name>] location`: locations that vary, which SQL can only say as literals.
    pub tables: BTreeMap<String, String>,
    /// `[variables]`: defaults of `@name`.
    pub variables: BTreeMap<String, Variable>,
    /// Where runs are published: a folder or a URL.
    pub out: String,
    /// What runs answers that are programs; none are run where it is not set.
    pub run_code: Option<RunCode>,
}
