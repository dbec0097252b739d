//! Runs that began and are not published: one small file each, `.seedmill/runs/<run_id>.json` in the workspace, from
//! the first row on. Publishing takes the run's own file away, and those of earlier runs of the same pipeline.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{SecondsFormat, Utc};
use datafusion::common::{DataFusionError, Result};
use serde::{Deserialize, Serialize};

use super::Run;
use super::staging::at;

/// Under the workspace.
const FOLDER: &str = ".seedmill/runs";

/// What ended a run early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoppedBy {
    /// A limit of the budget was met.
    Budget,
    /// Ctrl-C or SIGTERM.
    Interrupted,
    /// An error.
    Failed,
}

impl StoppedBy {
    pub fn as_str(self) -> &'static str {
        match self {
            StoppedBy::Budget => "budget",
            StoppedBy::Interrupted => "interrupted",
            StoppedBy::Failed => "failed",
        }
    }
}

/// A run that is not published. Times are RFC 3339 in UTC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incomplete {
    pub run_id: String,
    pub started: String,
    /// `None` while the run goes on, and for ever where its process was killed.
    #[serde(default)]
    pub stopped: Option<String>,
    #[serde(default)]
    pub stopped_by: Option<StoppedBy>,
    /// Why, in one sentence.
    #[serde(default)]
    pub reason: Option<String>,
    /// The pipeline folder.
    pub pipeline: PathBuf,
    /// The folder that it would be published under.
    pub out: PathBuf,
    pub target: String,
    #[serde(default)]
    pub models: Vec<String>,
}

impl Incomplete {
    pub(crate) fn begin(run: &Run, out: &Path) -> Result<Incomplete> {
        let started = chrono::DateTime::from_timestamp_millis(run.started_ms).unwrap_or_default();
        let begun = Incomplete {
            run_id: run.id.clone(),
            started: started.to_rfc3339_opts(SecondsFormat::Millis, true),
            stopped: None,
            stopped_by: None,
            reason: None,
            pipeline: run.pipeline.clone(),
            out: out.to_owned(),
            target: run.target.as_str().to_owned(),
            models: run.models().iter().map(|model| model.name.clone()).collect(),
        };
        begun.write(&run.root)?;
        Ok(begun)
    }

    pub(crate) fn stopped(mut self, root: &Path, by: StoppedBy, reason: &str) -> Result<()> {
        self.stopped = Some(Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true));
        self.stopped_by = Some(by);
        self.reason = Some(reason.to_owned());
        self.write(root)
    }

    /// The run is published: it and what earlier runs of its pipeline left unfinished are history.
    pub(crate) fn published(&self, root: &Path) -> Result<()> {
        for other in incomplete_runs(root, &self.out)? {
            // By milliseconds: of two runs of one second the ids say nothing.
            if other.pipeline == self.pipeline && other.started <= self.started {
                let path = file(root, &other.run_id);
                fs::remove_file(&path).map_err(at("cannot remove", &path))?;
            }
        }
        Ok(())
    }

    fn write(&self, root: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).map_err(|e| DataFusionError::External(Box::new(e)))?;
        let path = file(root, &self.run_id);
        let written = path.with_extension("tmp");
        let folder = path.parent().unwrap_or(root);
        fs::create_dir_all(folder).map_err(at("cannot make the folder", folder))?;
        fs::write(&written, json + "\n").and_then(|()| fs::rename(&written, &path)).map_err(at("cannot write", &path))
    }
}

fn file(root: &Path, run_id: &str) -> PathBuf {
    root.join(FOLDER).join(format!("{run_id}.json"))
}

/// The runs of a workspace that would have been published under `out` and are not, oldest first. A file that cannot
/// be read is a warning.
pub(crate) fn incomplete_runs(root: &Path, out: &Path) -> Result<Vec<Incomplete>> {
    let folder = root.join(FOLDER);
    let entries = match fs::read_dir(&folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(at("cannot list", &folder))?,
    };
    let mut runs: Vec<Incomplete> = Vec::new();
    for entry in entries {
        let path = entry.map_err(at("cannot list", &folder))?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let read = fs::read_to_string(&path).map_err(|e| e.to_string());
        match read.and_then(|json| serde_json::from_str::<Incomplete>(&json).map_err(|e| e.to_string())) {
            Ok(run) if run.out == out => runs.push(run),
            Ok(_) => {}
            // A run that has just been published takes its file away.
            Err(_) if !path.exists() => {}
            Err(error) => tracing::warn!("{} is no record of a run: {error}", path.display()),
        }
    }
    runs.sort_by(|a, b| a.run_id.cmp(&b.run_id));
    Ok(runs)
}
