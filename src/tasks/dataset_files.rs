//! Where a dataset's rows lie, by split: what `[tasks.datasets]` says, else the config's own `data_files`, else what is
//! found under `[data] roots`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::data_roots::{DataRoots, Wanted};
use super::harness_config::{HarnessConfig, is_file_loader};
use crate::config::DatasetConfig;
use crate::stores::{Location, Stores};

/// A split's name without the slice that `datasets` allows after it (`train[:90%]`).
pub(crate) fn base_split(split: &str) -> &str {
    split.split('[').next().unwrap_or(split).trim()
}

/// What the user configured for this dataset: the entry for its config, else the one for the whole dataset.
pub(crate) fn dataset_config<'a>(
    config: &HarnessConfig,
    datasets: &'a BTreeMap<String, DatasetConfig>,
) -> Option<&'a DatasetConfig> {
    if datasets.is_empty() {
        return None;
    }
    let path = config.dataset_path.as_deref()?;
    let name = config.dataset_name.as_deref().unwrap_or_default();
    datasets.get(&format!("{path}:{name}")).or_else(|| datasets.get(path))
}

/// Finds the files of datasets.
pub(crate) struct DatasetFiles<'a> {
    datasets: &'a BTreeMap<String, DatasetConfig>,
    roots: DataRoots,
    /// The names of configs that loaded tasks use of each dataset.
    names: HashMap<String, BTreeSet<Option<String>>>,
}

impl<'a> DatasetFiles<'a> {
    /// `configs`: all that are loaded.
    pub(crate) fn new<'c>(
        datasets: &'a BTreeMap<String, DatasetConfig>,
        roots: &[String],
        stores: &Arc<Stores>,
        configs: impl Iterator<Item = &'c HarnessConfig>,
    ) -> DatasetFiles<'a> {
        let roots = DataRoots::new(roots, stores);
        let mut names: HashMap<String, BTreeSet<Option<String>>> = HashMap::new();
        if !roots.is_empty() {
            for config in configs {
                if let Some(path) = &config.dataset_path {
                    names.entry(path.clone()).or_default().insert(config.dataset_name.clone());
                }
            }
        }
        DatasetFiles { datasets, roots, names }
    }

    /// Why a root could not be listed.
    pub(crate) fn failed(&self) -> Option<String> {
        self.roots.failed()
    }

    pub(crate) fn datasets(&self) -> &'a BTreeMap<String, DatasetConfig> {
        self.datasets
    }

    /// The files of a split, local ones that are not there left out. `held_out`: rather too many than too few.
    pub(crate) fn of(&self, config: &HarnessConfig, split: &str, held_out: bool) -> Vec<String> {
        let split = base_split(split);
        if let Some(DatasetConfig { files: Some(template), splits, .. }) = dataset_config(config, self.datasets) {
            let split = splits.get(split).map_or(split, String::as_str);
            let name = config.dataset_name.as_deref().unwrap_or_default();
            let file = template.replace("{split}", split).replace("{config}", name);
            return Some(file).filter(|file| may_exist(file)).into_iter().collect();
        }
        let path = config.dataset_path.as_deref().unwrap_or_default();
        if !config.data_files.is_empty() {
            let files = config.data_files.get(split).into_iter().flatten();
            return files.filter_map(|file| self.data_file(path, file, config)).collect();
        }
        if self.roots.is_empty() || path.is_empty() || is_file_loader(path) {
            return Vec::new();
        }
        let name = config.dataset_name.as_deref();
        let only = self.names.get(path).is_none_or(|names| names.len() < 2)
            || name.is_some_and(|name| path.rsplit('/').next() == Some(name) || name == "default");
        self.roots.find(Wanted { dataset_path: path, config: name, split, unnamed_config: only || held_out })
    }

    /// One of a config's `data_files`: a local file or a pattern as it is; a file of a Hub dataset as a root has it, or
    /// as it lies beside the config.
    fn data_file(&self, dataset_path: &str, file: &str, config: &HarnessConfig) -> Option<String> {
        if let Some(hub) = file.strip_prefix("hf://datasets/") {
            let mut parts = hub.splitn(3, '/');
            let (owner, name, inner) = (parts.next()?, parts.next()?, parts.next()?);
            let name = name.split('@').next().unwrap_or(name);
            return self.roots.file(&format!("{owner}/{name}"), inner);
        }
        if file.contains("://") {
            // What a config would fetch from the web counts as not there; a bucket is somebody's own.
            let own = ["file://", "s3://", "s3a://", "gs://", "az://", "abfs://", "abfss://"];
            return own.iter().any(|scheme| file.starts_with(scheme)).then(|| file.to_owned());
        }
        if is_file_loader(dataset_path) {
            return may_exist(file).then(|| file.to_owned());
        }
        self.roots.file(dataset_path, file).or_else(|| {
            let beside = config.file.parent()?.join(file);
            self.roots.is_there(&beside).then(|| beside.to_string_lossy().into_owned())
        })
    }

    /// Why a dataset's split has no files, and what to write so that it has: one line.
    pub(crate) fn how_to_find(&self, config: &HarnessConfig, split: &str) -> String {
        let path = config.dataset_path.as_deref().unwrap_or_default();
        let split = base_split(split);
        let dataset = match &config.dataset_name {
            Some(name) => format!("{path}:{name}"),
            None => path.to_owned(),
        };
        if let Some(DatasetConfig { files: Some(template), .. }) = dataset_config(config, self.datasets) {
            return format!(
                "no file is known for the split '{split}' of '{dataset}': '{template}' in [tasks.datasets] of \
                 seedmill.toml names none that is there"
            );
        }
        let tried = match self.roots.places(path) {
            places if places.is_empty() || path.is_empty() => String::new(),
            places => format!(" (looked in {})", places.join(", ")),
        };
        format!(
            "no file is known for the split '{split}' of '{dataset}'{tried}: put its files under a folder of [data] roots \
             as {path}/<config>/{split}.parquet (or .jsonl), or write [tasks.datasets.\"{path}\"] \
             files = \"<folder>/{{config}}/{{split}}.jsonl\" into seedmill.toml"
        )
    }
}

/// Whether a file is there, as far as a look at the local disk can say: URLs and patterns are taken at their word.
fn may_exist(file: &str) -> bool {
    file.contains("://")
        || std::path::Path::new(file).exists()
        || Location::of(file).is_ok_and(|location| location.is_pattern())
}
