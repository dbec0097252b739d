//! Training splits that some task of lm-evaluation-harness 0.4.13 scores on: their rows are held out, whichever tasks
//! are loaded. `scored_train_splits.tsv` was taken from the resolved configs of that release: every `validation_split`
//! and `test_split` whose name begins with `train`. Columns: dataset_path (empty for a task that loads its rows
//! itself), split, data files (`split=file …`, or `!` and the loading function), names of configs (empty: none given).

use std::collections::HashMap;
use std::sync::LazyLock;

use super::classify::DatasetId;

const TABLE: &str = include_str!("scored_train_splits.tsv");

/// A split that some task scores on, and the names of the configs.
type ScoredSplit = (&'static str, Vec<&'static str>);

/// By dataset without its config's name.
static SCORED: LazyLock<HashMap<(String, String), Vec<ScoredSplit>>> = LazyLock::new(|| {
    let mut scored: HashMap<_, Vec<_>> = HashMap::new();
    for line in TABLE.lines() {
        let mut cells = line.split('\t');
        let mut cell = || cells.next().unwrap_or_default();
        let (path, split, source, names) = (cell(), cell(), cell(), cell());
        let key = (path.to_ascii_lowercase(), source.to_owned());
        scored.entry(key).or_default().push((split, names.split(' ').collect()));
    }
    scored
});

/// Whether some task of the harness scores on this split of the dataset. Of a dataset without a config's name, here or
/// there, nobody knows which config is meant: it is taken to be the same.
pub(crate) fn is_scored(id: &DatasetId, name: Option<&str>, split: &str) -> bool {
    let Some(known) = SCORED.get(&(id.path.clone(), id.source.clone())) else { return false };
    known.iter().any(|(scored, names)| {
        *scored == split && name.is_none_or(|name| names.iter().any(|known| known.is_empty() || *known == name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(path: &str, name: Option<&str>, source: &str) -> bool {
        is_scored(&DatasetId { path: path.to_owned(), source: source.to_owned() }, name, "train")
    }

    #[test]
    fn a_dataset_is_its_path_its_config_and_its_files() {
        assert!(scored("idavidrein/gpqa", None, ""));
        assert!(scored("idavidrein/gpqa", Some("gpqa_main"), ""));
        assert!(scored("nyu-mll/blimp", Some("adjunct_island"), ""));
        assert!(scored("masakhane/injongointent", Some("eng"), ""));
        assert!(!scored("masakhane/injongointent", Some("amh"), ""));
        assert!(!scored("openai/gsm8k", Some("main"), ""));
        // Datasets that only share the name of a reader of files, or have none.
        assert!(!scored("csv", None, "train=hf://datasets/PlanTL-GOB-ES/wnli-es/wnli-train-es.csv"));
        assert!(!scored("", None, "!catalan_bench/cieacova/utils.load_cieacova_dataset"));
        assert!(scored("", None, "!graphwalks/utils.load_dataset"));
        assert_eq!(SCORED.values().flatten().map(|(_, names)| names.len()).sum::<usize>(), 396);
    }
}
