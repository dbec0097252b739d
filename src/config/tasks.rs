//! The `[tasks]` table of `seedmill.toml`: which task configs there are and where their datasets lie.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::lineage::Target;

/// Where one dataset's files lie and what its licence is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DatasetConfig {
    /// A path or URL in which `{split}` and `{config}` (the harness's `dataset_name`) are filled in,
    /// e.g. `data/gsm8k/{split}.jsonl`.
    pub files: Option<String>,
    /// Names of splits that differ from the file names, e.g. `validation = "dev"`.
    pub splits: BTreeMap<String, String>,
    /// Overrides the licence of the catalog (SPDX identifier), with the user as the evidence.
    pub license: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct TasksConfig {
    /// Folders (or files) of lm-evaluation-harness task configs.
    pub from: Vec<PathBuf>,
    /// Only tasks whose name, family, group or tag is listed; empty for all.
    pub only: Vec<String>,
    /// By `dataset_path`, or `dataset_path:dataset_name` for one config.
    pub datasets: BTreeMap<String, DatasetConfig>,
    /// `[data] roots`: folders (or URLs) that hold datasets, tried in order.
    pub roots: Vec<String>,
    pub target: Target,
    /// The pipeline folder's own statements for tasks (`sql/tasks`), which go before ours.
    pub sql: Option<PathBuf>,
    /// Where normalized seeds are cached (`.seedmill/seeds`).
    pub cache: PathBuf,
}
