//! Decides which tasks' training rows may seed calls. A split that anything loaded, or any task of the harness, scores
//! on is held out wherever it is called a training split.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::dataset_files::base_split;
use super::harness_config::HarnessConfig;
use super::{Reason, Status, scored_train_splits};
use crate::lineage::Split;
use crate::stores::{FileMap, Stores, Walked};

/// What a dataset is for this purpose, but for its config's name: path and data files, or the function that loads it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct DatasetId {
    /// In lower case; empty where there is none.
    pub path: String,
    /// `split=file split=file`, sorted, or `!` and the loading function; empty for the dataset's own files.
    pub source: String,
}

impl DatasetId {
    pub(crate) fn of(config: &HarnessConfig) -> DatasetId {
        let source = match &config.custom_dataset {
            Some(function) => format!("!{}", function.split(' ').next().unwrap_or_default()),
            None => {
                let files = config.data_files.iter();
                let mut files: Vec<String> =
                    files.flat_map(|(split, files)| files.iter().map(move |file| format!("{split}={file}"))).collect();
                files.sort();
                files.join(" ")
            }
        };
        // A function loads what it likes: the path beside it says nothing.
        let path = config.dataset_path.as_deref().filter(|_| config.custom_dataset.is_none()).unwrap_or_default();
        DatasetId { path: path.to_ascii_lowercase(), source }
    }
}

/// Who scores on the split of a config: its name and the task.
type Scorers = Vec<(Option<String>, String)>;

/// The splits and files that loaded tasks score on, each with the first task that does.
#[derive(Debug)]
pub(crate) struct ScoredSplits {
    splits: HashMap<(DatasetId, String), Scorers>,
    files: FileMap<String>,
    walked: Walked,
}

impl ScoredSplits {
    /// `stores`: where the files of patterns are listed.
    pub(crate) fn new(stores: &Arc<Stores>) -> ScoredSplits {
        ScoredSplits { splits: HashMap::new(), files: FileMap::default(), walked: Walked::new(stores) }
    }

    /// Takes in where links among the files lead to, once all are known.
    pub(crate) fn follow_links(&mut self) {
        self.files.follow_links();
    }

    /// Takes in what `config` scores on, with the files of its validation and test splits.
    pub(crate) fn add<'a>(&mut self, config: &HarnessConfig, files: impl Iterator<Item = &'a String>) {
        let id = DatasetId::of(config);
        for split in [&config.test_split, &config.validation_split].into_iter().flatten() {
            let scorers = self.splits.entry((id.clone(), base_split(split).to_owned())).or_default();
            if !scorers.iter().any(|(name, _)| *name == config.dataset_name) {
                scorers.push((config.dataset_name.clone(), config.task.clone()));
            }
        }
        for file in files {
            self.files.insert(file, config.task.clone());
        }
    }

    /// Who scores on the split that `config` trains on, whose files are `files`.
    fn scorer(&self, config: &HarnessConfig, split: &str, files: &[String]) -> Option<String> {
        let (id, name) = (DatasetId::of(config), &config.dataset_name);
        let split = base_split(split).to_owned();
        if [&config.test_split, &config.validation_split].into_iter().flatten().any(|own| base_split(own) == split) {
            return Some("the task itself scores on it".to_owned());
        }
        if scored_train_splits::is_scored(&id, name.as_deref(), &split) {
            return Some("a task of lm-evaluation-harness 0.4.13 scores on it".to_owned());
        }
        // Of a dataset without a config's name nobody knows which config is meant.
        let scorers = self.splits.get(&(id, split)).into_iter().flatten();
        let mut same = scorers.filter(|(scored, _)| scored == name || scored.is_none() || name.is_none());
        if let Some((_, task)) = same.next() {
            return Some(format!("the task '{task}' scores on it"));
        }
        files.iter().find_map(|file| match self.files.find_any(file, &self.walked) {
            Ok(task) => Some(format!("the task '{}' scores on its file '{file}'", task?)),
            Err(e) => {
                let why = e.strip_backtrace();
                Some(format!("its files '{file}' cannot be listed, and some task may score on one of them: {why}"))
            }
        })
    }
}

/// The split that seeds are taken from: the training split, else few-shot examples from a split called train (the
/// legalbench tasks publish their training rows so).
pub(crate) fn train_split(config: &HarnessConfig) -> Option<&str> {
    config.training_split.as_deref().or_else(|| config.fewshot_split.as_deref().filter(|split| is_train_name(split)))
}

fn is_train_name(split: &str) -> bool {
    Split::from_name(base_split(split)) == Some(Split::Train)
}

/// Whether the training rows of `config`, which lie in `files`, may seed calls; if not, why and in a sentence.
pub(crate) fn status(
    config: &HarnessConfig,
    scored: &ScoredSplits,
    files: &[String],
) -> Result<Status, (Reason, String)> {
    if let Some(media) = &config.media {
        return Err((Reason::NotText, format!("its rows are more than text ({media})")));
    }
    if let Some(class) = &config.class {
        return Err((Reason::PythonClass, format!("its rows are made by the Python class {}", class.name)));
    }
    // Whether or not the config calls them training rows as well.
    let mut scored_splits = [&config.test_split, &config.validation_split].into_iter().flatten();
    if let Some(own) = scored_splits.find(|own| Split::from_file_stem(base_split(own)) == Some(Split::Train)) {
        return Err((Reason::TrainIsScored, format!("the split '{own}' is held out: the task itself scores on it")));
    }
    let Some(split) = train_split(config) else {
        return Err((Reason::NoTrainingSplit, "the config names no training_split".into()));
    };
    if let Some(scorer) = scored.scorer(config, split, files) {
        return Err((Reason::TrainIsScored, format!("the split '{split}' is held out: {scorer}")));
    }
    let base = base_split(split);
    if Split::from_name(base).or_else(|| Split::from_file_stem(base)).is_some_and(Split::is_held_out)
        || base.to_ascii_lowercase().starts_with("test")
    {
        return Err((Reason::NotATrainSplit, format!("the split '{split}' is named like a held-out split")));
    }
    if let Some(file) = config.data_files.get(base).into_iter().flatten().find(|file| is_held_out_file(file)) {
        return Err((Reason::NotATrainSplit, format!("the split '{split}' is the file '{file}', which is held out")));
    }
    match unreadable(config) {
        Some(rejection) => Err(rejection),
        None if config.training_split.is_some() => Ok(Status::Accepted),
        None => Ok(Status::AcceptedFewshotTrain),
    }
}

/// Whether a file that a config calls its training data has the name of another split: the training split of a task may
/// be a benchmark's development set. Only the file's own stem is read, and `train` in it says more than the rest.
fn is_held_out_file(file: &str) -> bool {
    let name = file.rsplit(['/', '\\']).next().unwrap_or(file);
    let stem = name.split('.').next().unwrap_or(name);
    let words = || stem.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_ascii_lowercase);
    if words().any(|word| word == "train" || word == "training") {
        return false;
    }
    words().any(|word| matches!(word.as_str(), "dev" | "val" | "valid" | "validation" | "test" | "heldout" | "eval"))
}

/// Why rows of `config`, of whichever split, are no questions and answers; `None` where they are.
pub(crate) fn unreadable(config: &HarnessConfig) -> Option<(Reason, String)> {
    if !matches!(config.output_type.as_str(), "multiple_choice" | "generate_until") {
        let message = format!("the output_type '{}' has no question and answer", config.output_type);
        return Some((Reason::UnsupportedOutputType, message));
    }
    let seed = &config.metadata.seed;
    for (missing, key) in [
        (config.dataset_path.is_none() && config.custom_dataset.is_none() && config.class.is_none(), "dataset_path"),
        (config.class.is_none() && config.doc_to_text.is_none() && !seed.contains_key("question"), "doc_to_text"),
        (config.class.is_none() && config.doc_to_target.is_none() && !seed.contains_key("answer"), "doc_to_target"),
        (config.output_type == "multiple_choice" && config.doc_to_choice.is_none(), "doc_to_choice"),
    ] {
        if missing {
            return Some((Reason::BrokenConfig, format!("the config has no '{key}'")));
        }
    }
    config.bad_template.clone().map(|message| (Reason::BrokenConfig, message))
}

/// What keeps rows of `config` from being read without Python, in a sentence.
pub(crate) fn needs_sql_override(config: &HarnessConfig) -> Option<String> {
    config.python.as_ref().map(|key| format!("it needs Python to read rows ({key})"))
}

/// The groups that hold `name`, also through other groups and through tags. `memberships`: member → groups that list it.
pub(crate) fn groups_of(name: &str, tags: &[String], memberships: &HashMap<String, Vec<String>>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = tags.iter().map(String::as_str).chain([name]).collect();
    while let Some(member) = open.pop() {
        for group in memberships.get(member).into_iter().flatten() {
            if found.insert(group.clone()) {
                open.push(group);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_training_file_that_is_a_development_set_is_held_out() {
        assert!(is_held_out_file("answer_only_dev/answer_only_abstract_algebra_dev.csv"));
        assert!(is_held_out_file("https://host/a/test-00000-of-00001.parquet"));
        assert!(!is_held_out_file("hf://datasets/PlanTL-GOB-ES/wnli-es/wnli-train-es.csv"));
        assert!(!is_held_out_file("/data/dev/rows.jsonl"));
        assert!(!is_held_out_file("train_of_test_drives.csv"));
        assert!(!is_held_out_file("latest.jsonl"));
    }
}
