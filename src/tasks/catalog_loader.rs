//! Reads every task config under the configured folders and decides what each task is: a row of the table `tasks`.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use super::classify::{ScoredSplits, groups_of, needs_sql_override, status, train_split, unreadable};
use super::config_folder::tasks_folder;
use super::config_reader::{ConfigFile, read_configs};
use super::dataset_facts::{capability_of, format_of, language, licence};
use super::dataset_files::DatasetFiles;
use super::harness_config::HarnessConfig;
use super::task_sql::TaskSql;
use super::{Reason, Status, Task};
use crate::config::TasksConfig;
use crate::lineage::{Licence, Split};
use crate::stores::{Stores, Variables};

/// The tasks that `config` names, in order of name. Of several configs with one name the first of a folder is taken, and
/// of several folders the last, as the harness does; the others are rejected rows.
///
/// # Errors
/// A root in a store that cannot be listed: held-out files in it would not be known.
pub(crate) fn load(config: &TasksConfig, sql: &TaskSql, stores: &Arc<Stores>) -> Result<Vec<Task>, String> {
    let mut read = Read::default();
    for from in &config.from {
        read.begin_folder();
        for file in read_configs(&tasks_folder(from), &config.cache) {
            read.add(file);
        }
    }
    read.configs.iter_mut().for_each(|found| sql.serve(&mut found.harness));
    let files =
        DatasetFiles::new(&config.datasets, &config.roots, stores, read.configs.iter().map(|found| &found.harness));
    let held_out: Vec<Vec<(Split, Vec<String>)>> =
        read.configs.iter().map(|found| held_out_files(&found.harness, &files)).collect();
    let mut scored = ScoredSplits::new(stores);
    for (found, held_out) in read.configs.iter().zip(&held_out) {
        scored.add(&found.harness, held_out.iter().flat_map(|(_, files)| files));
    }
    scored.follow_links();
    let mut tasks = read.broken;
    for (found, held_out) in read.configs.into_iter().zip(held_out) {
        let other = found.other;
        let mut task = task_of(found.harness, found.family, held_out, &scored, &files);
        task.groups.extend(groups_of(&task.name, &task.tags, &read.groups_by_member));
        task.groups.sort();
        task.groups.dedup();
        if let Some(other) = other {
            let message = format!("the task of this name in '{}' is taken", other.display());
            task = rejected(task, Reason::DuplicateName, message);
            task.config = None;
            task.normalizable = false;
            task.train_files.clear();
        }
        tasks.push(task);
    }
    if let Some(failed) = files.failed() {
        return Err(failed);
    }
    if !config.only.is_empty() {
        tasks.retain(|task| {
            config.only.iter().any(|only| {
                *only == task.name || *only == task.family || task.groups.contains(only) || task.tags.contains(only)
            })
        });
    }
    tasks.sort_by(|a, b| (&a.name, &a.file).cmp(&(&b.name, &b.file)));
    Ok(tasks)
}

/// A task's config as it was found.
struct Found {
    harness: HarnessConfig,
    family: Option<String>,
    /// The file whose task of the same name is taken instead.
    other: Option<PathBuf>,
}

/// What all files together define.
#[derive(Default)]
struct Read {
    configs: Vec<Found>,
    broken: Vec<Task>,
    groups_by_member: HashMap<String, Vec<String>>,
    /// The config that each name means, and whether it is of the folder that is being read.
    by_name: HashMap<String, (usize, bool)>,
    files: std::collections::HashSet<PathBuf>,
}

impl Read {
    fn begin_folder(&mut self) {
        self.by_name.values_mut().for_each(|(_, of_this_folder)| *of_this_folder = false);
    }

    fn add(&mut self, file: ConfigFile) {
        if !self.files.insert(file.path.clone()) {
            return;
        }
        match file.definitions {
            Ok(definitions) => {
                for harness in definitions.tasks {
                    self.add_task(harness, file.family.clone());
                }
                for (group, member) in definitions.memberships {
                    self.groups_by_member.entry(member).or_default().push(group);
                }
            }
            Err(message) => {
                let name = file.path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
                let task = empty_task(name, file.path, file.family);
                self.broken.push(rejected(task, Reason::BrokenConfig, message));
            }
        }
    }

    fn add_task(&mut self, harness: HarnessConfig, family: Option<String>) {
        let at = self.configs.len();
        let mut other = None;
        match self.by_name.get(&harness.task) {
            Some(&(first, true)) => other = Some(self.configs[first].harness.file.clone()),
            Some(&(earlier, false)) => self.configs[earlier].other = Some(harness.file.clone()),
            None => {}
        }
        if other.is_none() {
            self.by_name.insert(harness.task.clone(), (at, true));
        }
        self.configs.push(Found { harness, family, other });
    }
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
        status: Status::Rejected,
        reason: None,
        message: None,
        needs_sql_override: false,
        licence: Licence::unknown(),
        licence_evidence: None,
        licence_source: None,
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

/// The files of the splits that a config scores on.
fn held_out_files(harness: &HarnessConfig, files: &DatasetFiles<'_>) -> Vec<(Split, Vec<String>)> {
    [(Split::Validation, &harness.validation_split), (Split::Test, &harness.test_split)]
        .into_iter()
        .filter_map(|(split, name)| Some((split, files.of(harness, name.as_ref()?, true))))
        .collect()
}

fn task_of(
    harness: HarnessConfig,
    family: Option<String>,
    held_out: Vec<(Split, Vec<String>)>,
    scored: &ScoredSplits,
    files: &DatasetFiles<'_>,
) -> Task {
    let mut task = empty_task(harness.task.clone(), harness.file.clone(), family);
    task.groups = harness.groups.clone();
    task.tags = harness.tags.clone();
    task.dataset_path = harness.dataset_path.clone();
    task.dataset_name = harness.dataset_name.clone();
    task.train_split = train_split(&harness).map(str::to_owned);
    task.validation_split = harness.validation_split.clone();
    task.test_split = harness.test_split.clone();
    task.fewshot_split = harness.fewshot_split.clone();
    task.output_type = Some(harness.output_type.clone());
    task.language = language(&harness);
    let found = licence(&harness, files.datasets());
    (task.licence, task.licence_evidence, task.licence_source) = (found.licence, found.evidence, found.source);

    for (split, found) in held_out {
        add_files(&mut task, split, found);
    }
    let train_files = match &task.train_split {
        Some(split) => files.of(&harness, split, false),
        None => Vec::new(),
    };
    let verdict = status(&harness, scored, &train_files);
    match &verdict {
        Ok(_) => task.train_files = train_files,
        Err((Reason::TrainIsScored | Reason::NotATrainSplit, _)) => add_files(&mut task, Split::Test, train_files),
        Err(_) => {}
    }
    let (format, capability) = (format_of(&harness), capability_of(&harness));
    task.format = format.as_ref().ok().copied();
    task.capability = capability.as_ref().ok().copied();
    let needs = needs_sql_override(&harness);
    task.needs_sql_override = harness.needs_python;
    task.normalizable = needs.is_none() && unreadable(&harness).is_none();
    let without_data = (verdict.is_ok() && task.train_files.is_empty()).then(|| {
        let split = task.train_split.as_deref().unwrap_or("train");
        files.how_to_find(&harness, split)
    });
    task.config = Some(harness);
    match verdict {
        Ok(status) => task.status = status,
        Err((reason, message)) => return rejected(task, reason, message),
    }
    if let Err(message) = format.map(drop).and(capability.map(drop)) {
        return rejected(task, Reason::BrokenConfig, message);
    }
    (task.reason, task.message) = match (needs, without_data) {
        (Some(needs), Some(message)) => (Some(Reason::PythonFunction), Some(format!("{needs}; {message}"))),
        (Some(message), None) => (Some(Reason::PythonFunction), Some(message)),
        (None, Some(message)) => (Some(Reason::NoData), Some(message)),
        (None, None) => (None, None),
    };
    task
}

/// The task of a config alone, outside of any catalog.
pub(crate) fn config_task(config: HarnessConfig) -> Task {
    let datasets = BTreeMap::new();
    let stores = Stores::new(Variables::default());
    let files = DatasetFiles::new(&datasets, &[], &stores, std::iter::empty());
    task_of(config, None, Vec::new(), &ScoredSplits::new(&stores), &files)
}

/// A file that serves two splits is listed once.
fn add_files(task: &mut Task, split: Split, files: Vec<String>) {
    for file in files {
        if !task.heldout_files.values().flatten().any(|known| *known == file) {
            task.heldout_files.entry(split).or_default().push(file);
        }
    }
}
