//! A harness task that is a Python class (`class: !function module.Class`): what its source says of the dataset and of
//! the splits there are. The source is read as text; nothing runs Python.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What is known of a task's class.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PythonClass {
    /// The class as the config names it, e.g. `task.SQuAD2`.
    pub name: String,
    /// The file that is read for the rest.
    pub source: Option<PathBuf>,
    pub dataset_path: Option<String>,
    pub dataset_name: Option<String>,
    /// Whether the class says that it has documents of a split.
    pub training: bool,
    pub validation: bool,
    pub test: bool,
}

impl PythonClass {
    /// Reads the class at `place`, `<folder>/<module>.<Class>`. Of a source that is not there, or says nothing, only the
    /// name is known.
    pub(crate) fn read(place: &str) -> PythonClass {
        let (folder, name) = place.rsplit_once('/').unwrap_or((".", place));
        let mut class = PythonClass { name: name.to_owned(), ..PythonClass::default() };
        class.source = source_file(name).map(|file| Path::new(folder).join(file));
        if let Some(source) = class.source.as_ref().and_then(|file| std::fs::read_to_string(file).ok()) {
            let class_name = name.rsplit('.').next().unwrap_or(name);
            class.dataset_path = text(&source, class_name, "DATASET_PATH");
            class.dataset_name = text(&source, class_name, "DATASET_NAME");
            class.training = says_yes(&source, class_name, "has_training_docs");
            class.validation = says_yes(&source, class_name, "has_validation_docs");
            class.test = says_yes(&source, class_name, "has_test_docs");
        }
        class
    }
}

/// The source of a class, seen from the folder of its config.
fn source_file(name: &str) -> Option<String> {
    let (module, _) = name.rsplit_once('.')?;
    Some(format!("{}.py", module.replace('.', "/")))
}

/// The lines of a class's body and the name of its first base.
fn body<'a>(source: &'a str, class: &str) -> Option<(Vec<&'a str>, &'a str)> {
    let mut lines = source.lines();
    let base = lines.find_map(|line| {
        let rest = line.strip_prefix("class ")?.strip_prefix(class)?;
        match rest.chars().next()? {
            '(' => rest[1..].split([',', ')']).next().map(str::trim),
            ':' => Some(""),
            _ => None,
        }
    })?;
    let body = lines.take_while(|line| line.is_empty() || line.starts_with([' ', '\t', '#', ')'])).collect();
    Some((body, base))
}

/// A class and its bases in the same source, nearest first.
fn bodies<'a>(source: &'a str, class: &'a str) -> impl Iterator<Item = Vec<&'a str>> {
    let mut next = class;
    // A class cannot be its own base; a source that says so is wrong and must not hang us.
    (0..16).map_while(move |_| {
        let (lines, base) = body(source, next)?;
        next = base;
        Some(lines)
    })
}

/// The string that a class attribute holds; `None` where it is `None` or is not there.
fn text(source: &str, class: &str, attribute: &str) -> Option<String> {
    let value = bodies(source, class).find_map(|lines| {
        lines.iter().find_map(|line| line.trim().strip_prefix(attribute)?.trim_start().strip_prefix('=').map(str::trim))
    })?;
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    value[1..].split(quote).next().map(str::to_owned)
}

/// Whether a method answers `True`, or asks the dataset itself (which is then taken at its word).
fn says_yes(source: &str, class: &str, method: &str) -> bool {
    let start = format!("def {method}(");
    bodies(source, class)
        .find_map(|lines| {
            let at = lines.iter().position(|line| line.trim().starts_with(&start))?;
            lines[at + 1..].iter().map(|line| line.trim()).find(|line| line.starts_with("return "))
        })
        .is_some_and(|answer| answer == "return True" || answer.contains(" in self.dataset"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_read_with_what_its_bases_say() {
        let source = "class _Base(ConfigurableTask):\n    DATASET_PATH = \"org/set\"\n    DATASET_NAME = None\n\n    \
                      def has_training_docs(self):\n        return True\n\n    def has_test_docs(self):\n        return False\n\n\n\
                      def helper():\n    DATASET_PATH = 'no'\n\nclass Basely(_Base):\n    pass\n\n\
                      class Part(_Base):\n    \"\"\"One part.\"\"\"\n    DATASET_NAME = 'part'\n\n    def has_validation_docs(self):\n        \
                      return \"validation\" in self.dataset\n";
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("task.py"), source).unwrap();
        let class = PythonClass::read(&format!("{}/task.Part", folder.path().display()));
        assert_eq!((class.dataset_path.as_deref(), class.dataset_name.as_deref()), (Some("org/set"), Some("part")));
        assert!(class.training && class.validation && !class.test);
        assert_eq!(PythonClass::read("/nowhere/task.Part").name, "task.Part");
        assert_eq!(text("class A(A):\n    x = 1\n", "A", "DATASET_PATH"), None);
    }
}
