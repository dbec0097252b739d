//! Where a dataset's rows lie: from `[tasks.datasets]` or the config's own `data_files`, by split.

use std::collections::BTreeMap;

use super::harness_config::HarnessConfig;
use crate::config::DatasetConfig;

/// A split's name without the slice that `datasets` allows after it (`train[:90%]`).
pub(crate) fn base_split(split: &str) -> &str {
    split.split('[').next().unwrap_or(split).trim()
}

/// What the user configured for this dataset: the entry for its config, else the one for the whole dataset.
pub(crate) fn dataset_config<'a>(
    config: &HarnessConfig,
    datasets: &'a BTreeMap<String, DatasetConfig>,
) -> Option<&'a DatasetConfig> {
    let path = config.dataset_path.as_deref()?;
    let name = config.dataset_name.as_deref().unwrap_or_default();
    datasets.get(&format!("{path}:{name}")).or_else(|| datasets.get(path))
}

/// The files of a split, local ones that are not there left out.
pub(crate) fn files_of(config: &HarnessConfig, split: &str, datasets: &BTreeMap<String, DatasetConfig>) -> Vec<String> {
    let split = base_split(split);
    let files = match dataset_config(config, datasets) {
        Some(DatasetConfig { files: Some(template), splits, .. }) => {
            let split = splits.get(split).map_or(split, String::as_str);
            let name = config.dataset_name.as_deref().unwrap_or_default();
            vec![template.replace("{split}", split).replace("{config}", name)]
        }
        _ => config.data_files.get(split).cloned().unwrap_or_default(),
    };
    files.into_iter().filter(|file| may_exist(file)).collect()
}

/// Whether a file is there, as far as a look at the local disk can say: URLs and patterns are taken at their word.
fn may_exist(file: &str) -> bool {
    file.contains("://") || file.contains(['*', '?']) || std::path::Path::new(file).exists()
}
