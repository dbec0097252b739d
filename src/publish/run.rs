//! The run that a pipeline makes: what the manifest says that a plan does not know, and, once it is published, where
//! it lies. The CLI puts it into the session (`SessionConfig::with_extension(Arc::new(run))`); the sink finds it there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use datafusion::common::{Result, plan_datafusion_err, plan_err};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::staging::Staging;
use super::writing::{AtWork, Course, Writing, probe_name, remove_left, remove_unpublished};
use super::{Attribution, Incomplete, Manifest, StoppedBy};
use crate::endpoint::ModelIdentity;
use crate::lineage::Target;
use crate::stores::{Place, Stores};

/// A configured model, as the manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// The name in `seedmill.toml`.
    pub name: String,
    /// `openai` or `embedded`.
    pub provider: String,
    /// The model's name as sent.
    pub model: String,
    /// The configured revision; for `embedded` the SHA-256 of the weights.
    pub revision: String,
}

impl ModelRecord {
    pub fn new(name: impl Into<String>, identity: &ModelIdentity) -> Self {
        ModelRecord {
            name: name.into(),
            provider: identity.provider.to_string(),
            model: identity.model.to_string(),
            revision: identity.revision.to_string(),
        }
    }

    pub(crate) fn is_embedded(&self) -> bool {
        self.provider == "embedded"
    }
}

/// One run of a pipeline.
#[derive(Debug)]
pub struct Run {
    /// Sortable by time: `20261123T175700Z-` and 6 hex digits.
    pub id: String,
    /// The workspace; a relative target of COPY lies under it.
    pub root: PathBuf,
    /// The pipeline folder; runs of one folder supersede each other's unfinished ones.
    pub pipeline: PathBuf,
    /// Where the workspace's runs lie (`[run] out`, `--out`), and where `runs`, `curated` and `calls gc` look for them.
    pub out: Option<String>,
    /// Whether the command line says so (`--out`): then it stands over the target that COPY names.
    pub out_is_told: bool,
    /// Where targets that are URLs are opened.
    pub stores: Arc<Stores>,
    pub target: Target,
    /// See [`config_sha256`].
    pub config_sha256: String,
    models: OnceLock<Vec<ModelRecord>>,
    notes: Mutex<Vec<String>>,
    /// By task.
    attributions: BTreeMap<String, Attribution>,
    /// Milliseconds since 1970 UTC.
    pub started_ms: i64,
    published: OnceLock<Published>,
    /// The record of a run that has begun.
    begun: Mutex<Option<Incomplete>>,
    writing: Mutex<Option<Writing>>,
    course: Arc<Course>,
}

/// A run that lies published as a whole.
#[derive(Debug, Clone)]
pub struct Published {
    /// The run's folder; a URL where it lies in a store.
    pub path: PathBuf,
    pub place: Place,
    pub manifest: Manifest,
}

impl Run {
    /// A run that starts now, with an id of its own.
    pub fn new(root: impl Into<PathBuf>, target: Target, config_sha256: impl Into<String>) -> Run {
        let now = Utc::now();
        Run {
            id: new_id(now),
            root: root.into(),
            pipeline: PathBuf::new(),
            out: None,
            out_is_told: false,
            stores: Stores::from_env(),
            target,
            config_sha256: config_sha256.into(),
            models: OnceLock::new(),
            notes: Mutex::default(),
            attributions: BTreeMap::new(),
            started_ms: now.timestamp_millis(),
            published: OnceLock::new(),
            begun: Mutex::default(),
            writing: Mutex::default(),
            course: Arc::default(),
        }
    }

    /// Sees to it that the run can be published for the target that COPY names, before anything is paid for. What earlier
    /// runs have left half written is taken away.
    pub async fn check_target(&self, target: &str) -> Result<()> {
        remove_left(&self.root, &self.stores).await;
        let folder = match self.place(target)? {
            Place::Folder(folder) => folder,
            Place::Prefix(prefix) => {
                let tried = prefix.try_write(&probe_name(&self.id)).await;
                return tried.map_err(|e| plan_datafusion_err!("the run cannot be published: {e}"));
            }
        };
        let write = || {
            std::fs::create_dir_all(&folder)?;
            tempfile::tempfile_in(&folder).map(drop)
        };
        write().map_err(|e| {
            plan_datafusion_err!("the run cannot be published in {}: {e}; --out names another folder", folder.display())
        })
    }

    /// Writes down that the run begins: until it is published the table `runs` shows it as incomplete. `target` is as
    /// COPY names it.
    pub fn begin(&self, target: &str) -> Result<()> {
        if self.published().is_some() {
            return Ok(());
        }
        let out = self.place(target)?.name();
        *self.writing() = Some(Writing::begin(&self.root, &self.id, &out)?);
        *self.begun() = Some(Incomplete::begin(self, &out)?);
        Ok(())
    }

    /// Counts a writer of the run until it is dropped; an error where the run has been stopped.
    pub(crate) fn writer(&self) -> Result<AtWork> {
        self.course.writer()
    }

    /// Sees to it that the run is not published. `false` where it is, or is just being published.
    pub fn stop(&self) -> bool {
        self.course.stop()
    }

    /// Whether it is just being published.
    pub fn is_publishing(&self) -> bool {
        self.course.is_publishing()
    }

    /// Waits until nothing writes to the run any more. `false` where something still does after `grace`.
    pub async fn written(&self, grace: Duration) -> bool {
        self.course.ended(grace).await
    }

    /// Stops the run, unless it is published, and takes away what it has written, once nothing writes any more. For who
    /// can wait: before [`Self::stopped`]. `false` where something still writes after `grace`, or still publishes; then
    /// nothing is touched.
    pub async fn take_away(&self, grace: Duration) -> bool {
        // Whoever stopped the command has waited for what is still being published.
        let ended = if self.stop() { self.written(grace).await } else { !self.is_publishing() };
        if !ended {
            tracing::warn!("the run is still being written; the next run takes away what this one leaves");
            return false;
        }
        let out = self.begun().as_ref().map(|begun| begun.out.clone());
        let Some(out) = out.filter(|_| self.published().is_none()) else { return true };
        match remove_unpublished(&self.stores.place(&out.to_string_lossy()), &self.id).await {
            Ok(()) => self.writing().take().into_iter().for_each(Writing::end),
            Err(e) => tracing::warn!("{e}; the next run takes away what this one has left"),
        }
        true
    }

    fn writing(&self) -> std::sync::MutexGuard<'_, Option<Writing>> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down why the run ends without being published, and takes away what it has staged, unless that is still
    /// being written. Does nothing for a run that has not begun, has stopped already or is published.
    pub fn stopped(&self, by: StoppedBy, reason: &str) {
        let Some(begun) = self.begun().take().filter(|_| self.published().is_none()) else { return };
        // Files removed under a writer's hands would be missing in what it publishes.
        if !self.course.is_at_work() {
            Staging::remove(&begun.out, &self.id);
        }
        // The run has a better reason to tell; this one only belongs to the record.
        if let Err(error) = begun.stopped(&self.root, by, reason) {
            tracing::warn!("the run is not marked as incomplete: {}", error.strip_backtrace());
        }
    }

    fn begun(&self) -> std::sync::MutexGuard<'_, Option<Incomplete>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says where the rows of tasks come from, for the manifest and the card.
    pub fn attribute(&mut self, task: impl Into<String>, to: Attribution) {
        self.attributions.insert(task.into(), to);
    }

    pub(crate) fn attribution(&self, task: &str) -> Attribution {
        self.attributions.get(task).cloned().unwrap_or_default()
    }

    /// A sentence that the manifest and the card repeat, such as a split that a user declared over our finding.
    pub fn note(&self, note: impl Into<String>) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(note.into());
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The models that the run's plan calls.
    pub fn models(&self) -> &[ModelRecord] {
        self.models.get().map_or(&[], Vec::as_slice)
    }

    /// Names the models of the plan that is about to run. Only the first plan of a run counts: it publishes once.
    pub fn set_models(&self, models: Vec<ModelRecord>) {
        let _ = self.models.set(models);
    }

    /// What was published, once the plan with `STORED AS CURATED` has run to its end.
    pub fn published(&self) -> Option<&Published> {
        self.published.get()
    }

    /// Called by the writer itself: who waits for the run may have been dropped.
    pub(crate) fn set_published(&self, published: Published) {
        // A run publishes once: the sink refuses a second COPY before it writes.
        let _ = self.published.set(published);
        self.course.published();
        self.writing().take().into_iter().for_each(Writing::end);
        if let Some(begun) = self.begun().take()
            && let Err(error) = begun.published(&self.root)
        {
            tracing::warn!("the table runs shows published runs as incomplete: {}", error.strip_backtrace());
        }
    }

    /// The place under which the run is published, for the target that COPY names. The runs of a workspace lie in one
    /// place, where its tables look for them and gc sees which answers they name: `'runs'` stands for it wherever it is,
    /// and a target elsewhere is an error, not passed over.
    pub(crate) fn place(&self, target: &str) -> Result<Place> {
        let Some(out) = &self.out else { return place(target, &self.root, &self.stores) };
        let published = place(out, &self.root, &self.stores)?;
        let named = named(target, &self.root, &self.stores).name();
        if self.out_is_told || named == published.name() || named == self.root.join(RUNS) {
            return Ok(published);
        }
        plan_err!(
            "COPY … TO '{target}' STORED AS CURATED: the runs of this workspace are published in {published}; write TO \
             '{RUNS}', and name another place with out in [run] of seedmill.toml, or with --out"
        )
    }
}

/// What COPY calls the place of a workspace's runs, and where that is unless `[run] out` says otherwise.
const RUNS: &str = "runs";

/// A target as a place; a relative one lies under `root`.
fn named(target: &str, root: &Path, stores: &Arc<Stores>) -> Place {
    match target.contains("://") {
        true => stores.place(target),
        false => Place::Folder(root.join(target)),
    }
}

/// A target as a place to write to.
pub(crate) fn place(target: &str, root: &Path, stores: &Arc<Stores>) -> Result<Place> {
    if target.trim().is_empty() {
        return plan_err!("COPY … STORED AS CURATED needs a folder to publish to, as in TO '{RUNS}'");
    }
    let place = named(target, root, stores);
    if let Place::Prefix(prefix) = &place {
        let scheme = target.split("://").next().unwrap_or_default();
        if matches!(scheme, "hf" | "http" | "https") {
            return plan_err!(
                "runs are published to folders, s3://, gs:// and az://, not to {scheme}:// (in '{target}')"
            );
        }
        prefix.store()?;
    }
    Ok(place)
}

/// SHA-256, in hex, of a pipeline's text: its SQL, filters and prompts as (name, text), in the order given. Names and
/// texts go in with their lengths.
pub fn config_sha256<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut hasher = Sha256::new();
    for (name, text) in files {
        for part in [name, text] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    hex(&hasher.finalize())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The time to the millisecond, and a hash of the exact time, the process and how many runs it has started.
fn new_id(now: DateTime<Utc>) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static STARTED: AtomicU64 = AtomicU64::new(0);
    let mut hasher = blake3::Hasher::new();
    hasher.update(&now.timestamp_micros().to_le_bytes());
    hasher.update(&now.timestamp_subsec_nanos().to_le_bytes());
    hasher.update(&std::process::id().to_le_bytes());
    hasher.update(&STARTED.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    format!("{}-{}", now.format("%Y%m%dT%H%M%S%3fZ"), &hasher.finalize().to_hex()[..6])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::Variables;

    #[test]
    fn ids_sort_by_time_and_differ_within_a_millisecond() {
        let now = DateTime::from_timestamp(1_795_456_620, 0).unwrap();
        let (a, b) = (new_id(now), new_id(now));
        assert_eq!(&a[..20], "20261123T175700000Z-");
        assert_eq!(a.len(), 26);
        assert_ne!(a, b);
    }

    #[test]
    fn the_boundary_between_files_is_part_of_a_pipelines_hash() {
        assert_ne!(config_sha256([("a", "bc")]), config_sha256([("ab", "c")]));
        assert_ne!(config_sha256([("a", "b"), ("c", "d")]), config_sha256([("c", "d"), ("a", "b")]));
        assert_eq!(config_sha256([]), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn copy_names_the_place_of_the_workspaces_runs_or_is_refused() {
        let run = |out: &str, out_is_told| {
            let run = Run::new("/w", Target::default(), "");
            Run { out: Some(out.to_owned()), out_is_told, ..run }
        };
        let place = |run: &Run, target: &str| run.place(target).map(|place| place.name());
        for target in ["runs", "./runs/", "/w/runs", "/elsewhere", "file:///elsewhere/"] {
            assert_eq!(place(&run("/elsewhere", false), target).unwrap(), Path::new("/elsewhere"), "{target}");
        }
        let error = place(&run("/w/runs", false), "mine").unwrap_err().to_string();
        assert!(error.contains("TO 'mine'") && error.contains("are published in /w/runs;"), "{error}");
        assert!(place(&run("/w/runs", false), "s3://bucket/runs").is_err());
        assert_eq!(place(&run("/told", true), "mine").unwrap(), Path::new("/told"));
    }

    #[test]
    fn a_target_is_a_folder_under_the_workspace_or_a_prefix_that_can_be_written() {
        let aws = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "key")];
        let stores = Stores::new(Variables::of(aws.map(|(name, value)| (name.to_owned(), value.to_owned()))));
        let name = |target| place(target, Path::new("/w"), &stores).map(|place| place.name());
        assert_eq!(name("runs").unwrap(), Path::new("/w/runs"));
        assert_eq!(name("/x/runs").unwrap(), Path::new("/x/runs"));
        assert_eq!(name("file:///x/runs").unwrap(), Path::new("/x/runs"));
        assert_eq!(name("s3://bucket/runs/").unwrap(), Path::new("s3://bucket/runs"));
        for target in ["https://host/runs", "hf://datasets/a/b", "what://x/y"] {
            assert!(name(target).is_err(), "{target}");
        }
    }
}
