//! Finds the task configs of a folder: of lm-evaluation-harness (an installed package or a checkout) or of the user's
//! own. In: a path. Out: the config files in the harness's order and the family of each.

use std::path::{Path, PathBuf};

use walkdir::WalkDir;

/// The folder of task configs that a path means: `lm_eval/tasks` in a checkout, a package or a virtual environment,
/// else the path itself.
pub(crate) fn tasks_folder(from: &Path) -> PathBuf {
    let from = std::fs::canonicalize(from).unwrap_or_else(|_| from.to_path_buf());
    let mut places = vec![from.join("lm_eval/tasks")];
    if from.file_name().is_some_and(|name| name == "lm_eval") {
        places.push(from.join("tasks"));
    }
    if let Ok(entries) = std::fs::read_dir(from.join("lib")) {
        let mut pythons: Vec<_> = entries.flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
        pythons.sort();
        places.extend(pythons.iter().map(|python| python.join("site-packages/lm_eval/tasks")));
    }
    places.into_iter().find(|place| place.is_dir()).unwrap_or(from)
}

/// The config files (`*.yaml`) under a folder, by path as the harness sorts them; a file is itself.
pub(crate) fn config_files(folder: &Path) -> Vec<PathBuf> {
    if folder.is_file() {
        return vec![folder.to_path_buf()];
    }
    const PASSED_OVER: [&str; 2] = ["__pycache__", ".ipynb_checkpoints"];
    // A folder that cannot be opened has no configs to lose: walkdir's errors name entries, not tasks.
    let entries = WalkDir::new(folder)
        .follow_links(true)
        .into_iter()
        .filter_entry(|entry| !PASSED_OVER.iter().any(|name| entry.file_name() == *name))
        .filter_map(Result::ok);
    let mut files: Vec<PathBuf> = entries
        .filter(|entry| entry.file_type().is_file())
        .map(walkdir::DirEntry::into_path)
        .filter(|path| path.extension().is_some_and(|e| e == "yaml" || e == "yml"))
        .collect();
    // As text, where '-' comes before '/': of two tasks with one name the first is taken.
    files.sort_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
    files
}

/// The top folder of a config: below `lm_eval/tasks` where it is in one, else below `folder`; `None` for a file right
/// in it.
pub(crate) fn family(folder: &Path, file: &Path) -> Option<String> {
    let harness = file.to_str().and_then(|file| file.split_once("/lm_eval/tasks/")).map(|(_, below)| Path::new(below));
    let below = harness.or_else(|| file.strip_prefix(folder).ok())?;
    let mut parts = below.components();
    let first = parts.next()?;
    parts.next().map(|_| first.as_os_str().to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkout_a_package_and_an_environment_mean_the_tasks_in_them() {
        let root = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(root.path()).unwrap();
        let tasks = root.join("env/lib/python3.11/site-packages/lm_eval/tasks");
        std::fs::create_dir_all(&tasks).unwrap();
        for from in ["env", "env/lib/python3.11/site-packages", "env/lib/python3.11/site-packages/lm_eval"] {
            assert_eq!(tasks_folder(&root.join(from)), tasks, "{from}");
        }
        assert_eq!(tasks_folder(&tasks), tasks);
        assert_eq!(family(&tasks.join("gsm8k"), &tasks.join("gsm8k/a.yaml")).as_deref(), Some("gsm8k"));
        assert_eq!(family(Path::new("/own"), Path::new("/own/set/a.yaml")).as_deref(), Some("set"));
        assert_eq!(family(Path::new("/own"), Path::new("/own/a.yaml")), None);
    }

    #[test]
    fn files_come_in_the_order_of_their_paths_as_text() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a/z.yaml", "a-b/a.yaml", "__pycache__/c.yaml", "a/x_yaml", "b.yaml"] {
            let file = root.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        }
        let found = config_files(root.path());
        let names: Vec<_> = found.iter().map(|f| f.strip_prefix(root.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a-b/a.yaml", "a/z.yaml", "b.yaml"]);
    }
}
