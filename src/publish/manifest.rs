//! `manifest.json`: what a run is, as its readers find it. A folder without one is no run.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err};
use serde::{Deserialize, Serialize};

use super::ModelRecord;
use super::staging::at;

pub(crate) const MANIFEST: &str = "manifest.json";

/// The version that this program writes, and the newest that it reads.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// The manifest of a published run. Times are RFC 3339 in UTC, hashes hex.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format_version: u32,
    pub run_id: String,
    /// The version of seedmill that published it.
    pub seedmill: String,
    pub started: String,
    pub finished: String,
    /// The run's licence target.
    pub target: String,
    /// The split the rows may be used as: always `train`.
    pub split: String,
    pub config_sha256: String,
    pub models: Vec<ModelRecord>,
    #[serde(default)]
    pub notes: Vec<String>,
    pub rows: Rows,
    /// Rejected rows by reason; a row with several counts under each.
    pub reasons: BTreeMap<String, u64>,
    pub tasks: BTreeMap<String, Rows>,
    pub licenses: BTreeMap<String, Rows>,
    /// Each task and licence that rows come from: whom to attribute.
    pub sources: Vec<Source>,
    /// Kept rows by language, where rows tell one.
    #[serde(default)]
    pub languages: BTreeMap<String, u64>,
    pub files: Vec<PublishedFile>,
}

/// Rows kept and rejected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    pub curated: u64,
    pub rejected: u64,
}

impl Rows {
    pub(crate) fn add(&mut self, kind: FileKind, rows: u64) {
        match kind {
            FileKind::Curated => self.curated += rows,
            FileKind::Rejected => self.rejected += rows,
        }
    }
}

/// The rows of one task under one licence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub task: String,
    pub license: String,
    pub rows: Rows,
    /// Whom to attribute, where the catalog knows the task.
    #[serde(flatten)]
    pub attribution: Attribution,
}

/// Where a task's rows come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribution {
    /// The dataset, as the harness names it: `path` or `path:name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// Where the licence was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license_evidence: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    Curated,
    Rejected,
}

impl FileKind {
    /// The folder of the kind's files in a run.
    pub fn folder(self) -> &'static str {
        match self {
            FileKind::Curated => "data",
            FileKind::Rejected => "rejected",
        }
    }
}

/// A Parquet file of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedFile {
    /// In the run's folder, with `/`.
    pub path: String,
    pub kind: FileKind,
    pub rows: u64,
    pub bytes: u64,
    pub sha256: String,
}

impl Manifest {
    pub(crate) fn to_json(&self) -> Result<String> {
        let mut json = serde_json::to_string_pretty(self).map_err(|e| DataFusionError::External(Box::new(e)))?;
        json.push('\n');
        Ok(json)
    }
}

/// Reads a run's manifest; `path` is the run's folder or the file itself. A file that is no manifest, or one of a
/// newer seedmill, is an error that says so.
pub fn read_manifest(path: &Path) -> Result<Manifest> {
    let path = if path.is_dir() { path.join(MANIFEST) } else { path.to_owned() };
    let json = fs::read_to_string(&path).map_err(at("cannot read the manifest", &path))?;
    parse_manifest(&json, &path.display())
}

/// `name`: the manifest's, for an error.
pub(crate) fn parse_manifest(json: &str, name: &dyn fmt::Display) -> Result<Manifest> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let foreign = |e: serde_json::Error| exec_datafusion_err!("{name} is no manifest of a run: {e}");
    let Version { format_version } = serde_json::from_str(json).map_err(foreign)?;
    if format_version > FORMAT_VERSION {
        return exec_err!(
            "{name} has format version {format_version}, which a newer seedmill wrote; this one reads up to {FORMAT_VERSION}"
        );
    }
    serde_json::from_str(json).map_err(foreign)
}
