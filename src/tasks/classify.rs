//! Decides which tasks' training rows may seed calls. A split that anything loaded, or any task of the harness, scores
//! on is held out wherever it is called a training split.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use seedmill_udfs::template_variables;

use super::dataset_files::{base_split, files_of};
use super::harness_config::{Field, HarnessConfig};
use super::{Reason, scored_train_splits};
use crate::config::DatasetConfig;
use crate::lineage::Split;

/// What a dataset is for this purpose: path, name and data files.
type DatasetId = (String, Option<String>, BTreeMap<String, Vec<String>>);

/// The splits and files that loaded tasks score on, each with the first task that does.
#[derive(Debug, Default)]
pub(crate) struct ScoredSplits {
    splits: HashMap<DatasetId, HashMap<String, String>>,
    files: HashMap<String, String>,
}

impl ScoredSplits {
    pub(crate) fn of<'a>(
        configs: impl Iterator<Item = &'a HarnessConfig>,
        datasets: &BTreeMap<String, DatasetConfig>,
    ) -> ScoredSplits {
        let mut scored = ScoredSplits::default();
        for config in configs {
            for split in [&config.test_split, &config.validation_split].into_iter().flatten() {
                if let Some(id) = dataset_id(config) {
                    let base = base_split(split).to_owned();
                    scored.splits.entry(id).or_default().entry(base).or_insert_with(|| config.task.clone());
                }
                for file in files_of(config, split, datasets) {
                    scored.files.entry(file).or_insert_with(|| config.task.clone());
                }
            }
        }
        scored
    }

    /// Who scores on the split that `config` trains on.
    fn scorer(&self, config: &HarnessConfig, split: &str, files: &[String]) -> Option<String> {
        if let Some(task) = dataset_id(config).and_then(|id| self.splits.get(&id)?.get(base_split(split)).cloned()) {
            return Some(format!("the task '{task}' scores on it"));
        }
        if let Some((file, task)) = files.iter().find_map(|file| Some((file, self.files.get(file)?))) {
            return Some(format!("the task '{task}' scores on its file '{file}'"));
        }
        let path = config.dataset_path.as_deref()?;
        (base_split(split) == "train" && scored_train_splits::is_scored(path))
            .then(|| "a task of lm-evaluation-harness 0.4.13 scores on it".to_owned())
    }
}

fn dataset_id(config: &HarnessConfig) -> Option<DatasetId> {
    let path = config.dataset_path.as_ref()?.to_ascii_lowercase();
    Some((path, config.dataset_name.clone(), config.data_files.clone()))
}

/// The split that seeds are taken from: the training split, else few-shot examples from a split called train (the
/// legalbench tasks publish their training rows so).
pub(crate) fn train_split(config: &HarnessConfig) -> Option<&str> {
    config.training_split.as_deref().or_else(|| {
        config.fewshot_split.as_deref().filter(|split| Split::from_name(base_split(split)) == Some(Split::Train))
    })
}

/// Why the training rows of `config` may not seed calls, with a sentence; `None` when they may.
pub(crate) fn rejection(
    config: &HarnessConfig,
    scored: &ScoredSplits,
    datasets: &BTreeMap<String, DatasetConfig>,
) -> Option<(Reason, String)> {
    let Some(split) = train_split(config) else {
        return Some((Reason::NoTrainingSplit, "the config names no training_split".into()));
    };
    let files = files_of(config, split, datasets);
    if let Some(scorer) = scored.scorer(config, split, &files) {
        return Some((Reason::TrainIsScored, format!("the split '{split}' is held out: {scorer}")));
    }
    let base = base_split(split);
    if Split::from_name(base).or_else(|| Split::from_file_stem(base)).is_some_and(Split::is_held_out)
        || base.to_ascii_lowercase().starts_with("test")
    {
        return Some((Reason::NotATrainSplit, format!("the training_split '{split}' is named like a held-out split")));
    }
    unreadable(config)
}

/// Why rows of `config`, of whichever split, cannot be made questions and answers; `None` when they can.
pub(crate) fn unreadable(config: &HarnessConfig) -> Option<(Reason, String)> {
    if !matches!(config.output_type.as_str(), "multiple_choice" | "generate_until") {
        let message = format!("the output_type '{}' has no question and answer", config.output_type);
        return Some((Reason::UnsupportedOutputType, message));
    }
    if let Some(key) = &config.python {
        return Some((Reason::PythonFunction, format!("it needs Python to read rows ({key})")));
    }
    let seed = &config.metadata.seed;
    for (missing, key) in [
        (config.dataset_path.is_none(), "dataset_path"),
        (config.doc_to_text.is_none() && !seed.contains_key("question"), "doc_to_text"),
        (config.doc_to_target.is_none() && !seed.contains_key("answer"), "doc_to_target"),
        (config.output_type == "multiple_choice" && config.doc_to_choice.is_none(), "doc_to_choice"),
    ] {
        if missing {
            return Some((Reason::BrokenConfig, format!("the config has no '{key}'")));
        }
    }
    bad_template(config).map(|message| (Reason::BrokenConfig, message))
}

fn bad_template(config: &HarnessConfig) -> Option<String> {
    let keys = [
        ("doc_to_text", &config.doc_to_text),
        ("doc_to_target", &config.doc_to_target),
        ("doc_to_choice", &config.doc_to_choice),
        ("description", &config.description),
    ];
    let own = keys.into_iter().filter_map(|(key, field)| Some((key.to_owned(), field.as_ref()?)));
    let seed = config.metadata.seed.iter().map(|(key, field)| (format!("metadata.seed.{key}"), field));
    own.chain(seed).find_map(|(key, field)| match field {
        Field::Text(template) => {
            template_variables(template).err().map(|e| format!("'{key}': {}", e.strip_backtrace()))
        }
        _ => None,
    })
}

/// The groups that hold `name`, also through other groups. `memberships`: member → groups that list it.
pub(crate) fn groups_of(name: &str, memberships: &HashMap<String, Vec<String>>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![name];
    while let Some(member) = open.pop() {
        for group in memberships.get(member).into_iter().flatten() {
            if found.insert(group.clone()) {
                open.push(group);
            }
        }
    }
    found
}
