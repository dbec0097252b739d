//! Loads every task config under the configured folders and decides what each is: a row of the table `tasks`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::prelude::SessionContext;
use thiserror::Error;
use walkdir::WalkDir;

use super::classify::{ScoredSplits, groups_of, rejection, train_split, unreadable};
use super::dataset_files::{dataset_config, files_of};
use super::harness_config::{Definitions, Field, HarnessConfig};
use super::known_datasets::{KnownDataset, known_dataset};
use super::task_planner::TaskPlanner;
use super::task_sql::TaskSql;
use super::yaml::YamlReader;
use super::{Capability, Format, Reason, Status, Task, schemas};
use crate::config::TasksConfig;
use crate::lineage::{Licence, Split};

/// A configuration of tasks that cannot be loaded. Single broken configs are rows of `tasks`, not errors.
#[derive(Debug, Error)]
pub enum TasksError {
    #[error("[tasks] from: '{0}' does not exist: name a folder of task configs or a config file")]
    NoSuchPath(PathBuf),
    #[error("the statements for tasks in '{0}' cannot be read: {1}")]
    Sql(PathBuf, std::io::Error),
}

/// All tasks that the configuration names, in order of name.
#[derive(Debug)]
pub struct Catalog {
    tasks: Vec<Task>,
    cache: PathBuf,
}

impl Catalog {
    /// Loads every harness task config (`*.yaml`) under `config.from`, folders with all that is below them. A file that
    /// cannot be read is a task with status 'rejected' and the parser's message.
    ///
    /// # Errors
    /// Only a path of `config.from` that does not exist.
    pub fn load(config: &TasksConfig) -> std::result::Result<Catalog, TasksError> {
        let mut reader = YamlReader::default();
        let mut read = Read::default();
        for from in &config.from {
            if !from.exists() {
                return Err(TasksError::NoSuchPath(from.clone()));
            }
            for file in config_files(from) {
                let family = family(from, &file);
                let definitions = reader.read(&file).and_then(|mapping| Definitions::from_mapping(&mapping, &file));
                read.add(definitions, file, family);
            }
        }
        let sql = match &config.sql {
            Some(folder) => TaskSql::with_folder(folder).map_err(|e| TasksError::Sql(folder.clone(), e))?,
            None => TaskSql::built_in().clone(),
        };
        read.configs.iter_mut().for_each(|(config, _)| sql.serve(config));
        let scored = ScoredSplits::of(read.configs.iter().map(|(config, _)| config), &config.datasets);
        let mut tasks = read.broken;
        let mut first: BTreeMap<String, PathBuf> = BTreeMap::new();
        for (harness, family) in read.configs {
            let mut task = task_of(harness, family, &scored, config);
            task.groups.extend(groups_of(&task.name, &read.groups_by_member));
            task.groups.sort();
            task.groups.dedup();
            if let Some(other) = first.get(&task.name) {
                let message = format!("a task of this name is in '{}' already", other.display());
                task = rejected(task, Reason::BrokenConfig, message);
                task.config = None;
                task.normalizable = false;
            } else {
                first.insert(task.name.clone(), task.file.clone());
            }
            tasks.push(task);
        }
        if !config.only.is_empty() {
            tasks.retain(|task| {
                config.only.iter().any(|only| {
                    *only == task.name || *only == task.family || task.groups.contains(only) || task.tags.contains(only)
                })
            });
        }
        tasks.sort_by(|a, b| (&a.name, &a.file).cmp(&(&b.name, &b.file)));
        Ok(Catalog { tasks, cache: config.cache.clone() })
    }

    /// Every task, in order of name.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// The folder of normalized rows.
    pub(crate) fn cache(&self) -> &Path {
        &self.cache
    }

    /// The task of a name that can be planned; of several with one name the first that was read.
    pub(crate) fn task(&self, name: &str) -> Option<&Task> {
        self.tasks.iter().find(|task| task.name == name && task.config.is_some())
    }

    /// Registers the tables `tasks`, `seeds` and `heldout` in the session's default schema, and the schemas `raw`,
    /// `norm` and `heldout` beside it. Nothing is read or planned before it is asked for.
    pub fn register(self: &Arc<Self>, ctx: &SessionContext) -> Result<()> {
        schemas::register(self, ctx)
    }

    /// The SQL of `norm.<task>`, as `seedmill tasks TASK` prints it: one statement over `raw.<task>`. It depends on the
    /// columns of the task's rows, so its training files are opened.
    ///
    /// # Errors
    /// `Plan` for an unknown or rejected task, one without data, or rows that do not fit the config.
    pub async fn norm_sql(self: &Arc<Self>, ctx: &SessionContext, task: &str) -> Result<String> {
        let Some(task) = self.task(task) else {
            return match self.tasks.iter().find(|known| known.name == task) {
                Some(known) => plan_err!(
                    "the config of the task '{task}' ({}) cannot be used: {}",
                    known.file.display(),
                    known.message.as_deref().unwrap_or_default()
                ),
                None => plan_err!("there is no task '{task}'{}", self.nearest(task)),
            };
        };
        TaskPlanner::new(ctx.runtime_env()).norm_sql(task).await
    }

    /// A hint at the task that may be meant, or nothing.
    fn nearest(&self, name: &str) -> String {
        let nearest = self.tasks.iter().map(|task| (strsim::jaro_winkler(&task.name, name), &task.name));
        match nearest.max_by(|a, b| a.0.total_cmp(&b.0)) {
            Some((likeness, nearest)) if likeness > 0.8 => format!("; did you mean '{nearest}'?"),
            _ => "; `SELECT task FROM tasks` lists them".into(),
        }
    }
}

/// What all files together define.
#[derive(Default)]
struct Read {
    configs: Vec<(HarnessConfig, Option<String>)>,
    broken: Vec<Task>,
    groups_by_member: HashMap<String, Vec<String>>,
    files: BTreeSet<PathBuf>,
}

impl Read {
    fn add(&mut self, definitions: std::result::Result<Definitions, String>, file: PathBuf, family: Option<String>) {
        if !self.files.insert(file.clone()) {
            return;
        }
        match definitions {
            Ok(definitions) => {
                self.configs.extend(definitions.tasks.into_iter().map(|task| (task, family.clone())));
                for (group, member) in definitions.memberships {
                    self.groups_by_member.entry(member).or_default().push(group);
                }
            }
            Err(message) => {
                let name = file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
                let task = empty_task(name, file, family);
                self.broken.push(rejected(task, Reason::BrokenConfig, message));
            }
        }
    }
}

/// The config files under a folder, in order of path; a file is itself.
fn config_files(from: &Path) -> Vec<PathBuf> {
    let from = std::fs::canonicalize(from).unwrap_or_else(|_| from.to_path_buf());
    if from.is_file() {
        return vec![from];
    }
    // A folder that cannot be opened has no configs to lose: walkdir's errors name entries, not tasks.
    let entries = WalkDir::new(&from).follow_links(true).sort_by_file_name().into_iter().filter_map(|entry| entry.ok());
    entries
        .filter(|entry| entry.file_type().is_file())
        .map(walkdir::DirEntry::into_path)
        .filter(|path| path.extension().is_some_and(|e| e == "yaml" || e == "yml"))
        .collect()
}

/// The top folder under `from`; `None` for a file right in it.
fn family(from: &Path, file: &Path) -> Option<String> {
    let from = std::fs::canonicalize(from).unwrap_or_else(|_| from.to_path_buf());
    let below = file.strip_prefix(&from).ok()?;
    let mut parts = below.components();
    let first = parts.next()?;
    parts.next().map(|_| first.as_os_str().to_string_lossy().into_owned())
}

fn empty_task(name: String, file: PathBuf, family: Option<String>) -> Task {
    Task {
        family: family.unwrap_or_else(|| name.clone()),
        name,
        groups: Vec::new(),
        tags: Vec::new(),
        dataset_path: None,
        dataset_name: None,
        train_split: None,
        validation_split: None,
        test_split: None,
        fewshot_split: None,
        output_type: None,
        format: None,
        capability: None,
        language: None,
        status: Status::Accepted,
        reason: None,
        message: None,
        licence: Licence::unknown(),
        licence_evidence: None,
        file,
        train_files: Vec::new(),
        heldout_files: BTreeMap::new(),
        config: None,
        normalizable: false,
    }
}

fn rejected(mut task: Task, reason: Reason, message: String) -> Task {
    task.status = Status::Rejected;
    task.reason = Some(reason);
    task.message = Some(message);
    task
}

fn task_of(harness: HarnessConfig, family: Option<String>, scored: &ScoredSplits, config: &TasksConfig) -> Task {
    let mut task = empty_task(harness.task.clone(), harness.file.clone(), family);
    let known = harness.dataset_path.as_deref().and_then(|p| known_dataset(p, harness.dataset_name.as_deref()));
    task.groups = harness.groups.clone();
    task.tags = harness.tags.clone();
    task.dataset_path = harness.dataset_path.clone();
    task.dataset_name = harness.dataset_name.clone();
    task.train_split = train_split(&harness).map(str::to_owned);
    task.validation_split = harness.validation_split.clone();
    task.test_split = harness.test_split.clone();
    task.fewshot_split = harness.fewshot_split.clone();
    task.output_type = Some(harness.output_type.clone());
    task.language = harness.metadata.language.clone().or_else(|| known.map(|k| k.language.to_owned()));
    (task.licence, task.licence_evidence) = licence(&harness, known, config);

    let rejection = rejection(&harness, scored, &config.datasets);
    for (split, name) in [(Split::Validation, &harness.validation_split), (Split::Test, &harness.test_split)] {
        if let Some(name) = name {
            add_files(&mut task, split, files_of(&harness, name, &config.datasets));
        }
    }
    if let Some(split) = train_split(&harness) {
        let files = files_of(&harness, split, &config.datasets);
        match &rejection {
            None => task.train_files = files,
            Some((Reason::TrainIsScored | Reason::NotATrainSplit, _)) => add_files(&mut task, Split::Test, files),
            Some(_) => {}
        }
    }
    let (format, capability) = (format_of(&harness, known), capability_of(&harness, known));
    task.format = format.as_ref().ok().copied();
    task.capability = capability.as_ref().ok().copied();
    task.normalizable = unreadable(&harness).is_none();
    task.config = Some(harness);
    if let Some((reason, message)) = rejection {
        return rejected(task, reason, message);
    }
    if let Err(message) = format.map(drop).and(capability.map(drop)) {
        return rejected(task, Reason::BrokenConfig, message);
    }
    if task.train_files.is_empty() {
        task.reason = Some(Reason::NoData);
        task.message = Some(how_to_configure(&task));
    }
    task
}

/// The task of a config alone, outside of any catalog.
pub(crate) fn config_task(config: HarnessConfig) -> Task {
    task_of(config, None, &ScoredSplits::default(), &TasksConfig::default())
}

/// A file that serves two splits is listed once.
fn add_files(task: &mut Task, split: Split, files: Vec<String>) {
    for file in files {
        if !task.heldout_files.values().flatten().any(|known| *known == file) {
            task.heldout_files.entry(split).or_default().push(file);
        }
    }
}

/// What to write into seedmill.toml so that a dataset's rows are found.
pub(crate) fn how_to_configure(task: &Task) -> String {
    let path = task.dataset_path.as_deref().unwrap_or_default();
    let split = task.train_split.as_deref().unwrap_or("train");
    format!(
        "no file is known for the split '{split}' of '{}': write [tasks.datasets.\"{path}\"] \
         files = \"<folder>/{{config}}/{{split}}.jsonl\" (or .parquet) into seedmill.toml",
        task.dataset()
    )
}

/// The user's word, else the config's own metadata, else the table of known datasets; with where it was read.
fn licence(harness: &HarnessConfig, known: Option<&KnownDataset>, config: &TasksConfig) -> (Licence, Option<String>) {
    if let Some(license) = dataset_config(harness, &config.datasets).and_then(|d| d.license.as_deref()) {
        return (Licence::new(license), Some(crate::config::CONFIG_FILE.to_owned()));
    }
    if let Some(license) = &harness.metadata.license {
        let file = harness.file.file_name().unwrap_or_default().to_string_lossy();
        let evidence = harness.metadata.license_evidence.clone();
        return (Licence::new(license), Some(evidence.unwrap_or_else(|| format!("metadata of {file}"))));
    }
    match known {
        Some(known) => (Licence::new(known.license), Some(known.license_evidence.to_owned())),
        None => (Licence::unknown(), None),
    }
}

fn format_of(harness: &HarnessConfig, known: Option<&KnownDataset>) -> std::result::Result<Format, String> {
    if let Some(name) = &harness.metadata.format {
        return Format::from_name(name)
            .ok_or_else(|| format!("'metadata.format: {name}' is none of {}", Format::NAMES.join(", ")));
    }
    if let Some(known) = known {
        return Ok(known.format);
    }
    let names = |field: &Option<Field>, words: &[&str]| match field {
        Some(Field::Text(template)) => words.iter().all(|word| template.contains(word)),
        _ => false,
    };
    if names(&harness.doc_to_text, &["premise", "hypothesis"]) {
        return Ok(Format::Nli);
    }
    if harness.output_type == "multiple_choice" {
        let labels = match &harness.doc_to_choice {
            Some(Field::List(labels)) => labels.iter().map(|l| l.trim().to_ascii_lowercase()).collect(),
            _ => Vec::new(),
        };
        let all = |set: &[&str]| !labels.is_empty() && labels.iter().all(|label| set.contains(&label.as_str()));
        return Ok(match () {
            () if all(&["yes", "no", "true", "false", "maybe"]) => Format::YesNo,
            () if all(&["entailment", "neutral", "contradiction", "not_entailment"]) => Format::Nli,
            () => Format::MultipleChoice,
        });
    }
    Ok(match () {
        () if names(&harness.doc_to_target, &["####"]) => Format::Numeric,
        () if names(&harness.doc_to_target, &["code"]) || names(&harness.doc_to_target, &["canonical_solution"]) => {
            Format::Code
        }
        () => Format::ShortAnswer,
    })
}

fn capability_of(harness: &HarnessConfig, known: Option<&KnownDataset>) -> std::result::Result<Capability, String> {
    if let Some(name) = &harness.metadata.capability {
        return Capability::from_name(name)
            .ok_or_else(|| format!("'metadata.capability: {name}' is none of {}", Capability::NAMES.join(", ")));
    }
    if let Some(known) = known {
        return Ok(known.capability);
    }
    Ok(match format_of(harness, None) {
        Ok(Format::Numeric | Format::Code | Format::Nli) => Capability::Reasoning,
        _ => Capability::Knowledge,
    })
}

impl From<TasksError> for DataFusionError {
    fn from(error: TasksError) -> Self {
        DataFusionError::External(Box::new(error))
    }
}
