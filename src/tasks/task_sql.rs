//! The SQL of `sql/tasks/`: what stands for the Python functions that task configs name, and says what answer and question
//! are where the harness's own target is none. In: a task's config. Out: the statements that its rows go through, in order.
//!
//! A file holds statements, each a SELECT over `rows` that ends with `;` at the end of a line. The comments above it say
//! what it serves:
//!
//! ```sql
//! -- function: hellaswag.utils.process_docs   (module below the tasks folder, and function)
//! -- dataset: allenai/qasper                  (dataset_path, or dataset_path:dataset_name)
//! -- task: sciq                               (a task's name; `*` at its end stands for any more)
//! -- format: yes_no                           (the form of question and answer, where the config says none)
//! SELECT *, … AS query FROM rows;
//! ```
//!
//! A statement for `process_docs` gives the columns that the config's templates read. One for `doc_to_text` (or another
//! key) gives a column of that name. Any may give `seed_question`, `seed_passage`, `seed_options`, `seed_answer`,
//! `seed_answer_index` and `seed_rationale`, which go before what is read from the templates. All must keep `source_row`
//! and `source_json`, which `SELECT *` does. A dataset's or task's statement comes last; of several the most exact is taken.

use std::path::Path;
use std::sync::LazyLock;

use super::harness_config::HarnessConfig;
use super::task_sql_files::FILES;

/// One statement and what it serves.
#[derive(Debug, Clone, PartialEq)]
struct Statement {
    file: String,
    serves: Vec<Serves>,
    format: Option<String>,
    sql: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Serves {
    Function(String),
    Dataset(String),
    Task(String),
}

/// A statement that a task's rows go through.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stage {
    /// The file it is from.
    pub file: String,
    /// A SELECT over `rows`.
    pub sql: String,
    /// The form of question and answer that it makes.
    pub format: Option<String>,
    /// The config keys whose functions it stands for; none for a statement of the dataset or the task.
    pub keys: Vec<String>,
}

/// All statements of a workspace, the user's before ours.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TaskSql {
    statements: Vec<Statement>,
}

impl TaskSql {
    /// What is compiled in.
    pub(crate) fn built_in() -> &'static TaskSql {
        static BUILT_IN: LazyLock<TaskSql> = LazyLock::new(|| TaskSql {
            statements: FILES.iter().flat_map(|(file, text)| statements(file, text)).collect(),
        });
        &BUILT_IN
    }

    /// The files of `folder` in order of name, and after them what is compiled in. No folder is no files.
    ///
    /// # Errors
    /// A file that cannot be read, with its name.
    pub(crate) fn with_folder(folder: &Path) -> std::io::Result<TaskSql> {
        let mut files = Vec::new();
        if folder.is_dir() {
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "sql") {
                    files.push(path);
                }
            }
        }
        files.sort();
        let mut all = Vec::new();
        for path in files {
            let text = std::fs::read_to_string(&path)?;
            all.extend(statements(&path.file_name().unwrap_or_default().to_string_lossy(), &text));
        }
        all.extend(Self::built_in().statements.iter().cloned());
        Ok(TaskSql { statements: all })
    }

    /// Gives a config its statements. One whose functions all have some needs no Python.
    pub(crate) fn serve(&self, config: &mut HarnessConfig) {
        let (stages, missing) = self.stages(config);
        config.stages = stages;
        if let Some((key, function)) = missing.first() {
            config.python = Some(format!("{key}: !function {function}"));
            config.missing = missing.into_iter().map(|(key, _)| key.to_owned()).collect();
            return;
        }
        let by_function = |python: &String| functions(config).any(|(key, _)| python.starts_with(&format!("{key}:")));
        if config.python.as_ref().is_some_and(by_function) {
            config.python = None;
        }
        if config.metadata.format.is_none() {
            config.metadata.format = config.stages.iter().rev().find_map(|stage| stage.format.clone());
        }
    }

    /// The statements that the rows of a task go through, and the functions that none stands for, by key.
    fn stages(&self, config: &HarnessConfig) -> (Vec<Stage>, Vec<(&'static str, String)>) {
        let mut stages: Vec<Stage> = Vec::new();
        let mut missing = Vec::new();
        for (key, function) in functions(config) {
            match self.function(function, &config.file) {
                // How rows are loaded is not ours: a file that names the loader knows its rows.
                Some(_) if key == "custom_dataset" => {}
                // One statement may stand for several functions, but not for one that changes rows and one that reads them.
                Some(statement) => match stages.iter_mut().find(|stage: &&mut Stage| stage.sql == statement.sql) {
                    Some(stage) => stage.keys.push(key.to_owned()),
                    None => stages.push(stage(statement, vec![key.to_owned()])),
                },
                None => missing.push((key, function.clone())),
            }
        }
        stages.extend(self.dataset_or_task(config).map(|statement| stage(statement, Vec::new())));
        (stages, missing)
    }

    fn function(&self, reference: &str, config: &Path) -> Option<&Statement> {
        let dotted = |path: &str| path.replace(['/', '\\'], ".");
        let folder = config.parent().map(|folder| folder.to_string_lossy().into_owned()).unwrap_or_default();
        let names = [dotted(reference), dotted(&format!("{folder}/{reference}"))];
        let exactness = |statement: &Statement| {
            let named = statement.serves.iter().filter_map(|serves| match serves {
                Serves::Function(function) => Some(function),
                _ => None,
            });
            let fits = |function: &String| {
                names.iter().any(|name| {
                    name == function || name.ends_with(function) && name[..name.len() - function.len()].ends_with('.')
                })
            };
            named.filter(|function| fits(function)).map(|function| function.len()).max()
        };
        best(&self.statements, exactness)
    }

    fn dataset_or_task(&self, config: &HarnessConfig) -> Option<&Statement> {
        let path = config.dataset_path.as_deref().unwrap_or_default();
        let with_name = format!("{path}:{}", config.dataset_name.as_deref().unwrap_or_default());
        let exactness = |statement: &Statement| {
            let exact = statement.serves.iter().filter_map(|serves| match serves {
                Serves::Task(task) if *task == config.task => Some(usize::MAX),
                Serves::Task(task) => {
                    let start = task.strip_suffix('*')?;
                    config.task.starts_with(start).then(|| 10_000 + start.len())
                }
                Serves::Dataset(dataset) if *dataset == with_name => Some(2),
                Serves::Dataset(dataset) if dataset == path => Some(1),
                _ => None,
            });
            exact.max()
        };
        best(&self.statements, exactness)
    }
}

/// The functions of a config that change what a row is, in the order in which the harness calls them, by key.
fn functions(config: &HarnessConfig) -> impl Iterator<Item = (&'static str, &String)> {
    const KEYS: [&str; 7] = [
        "custom_dataset",
        "process_docs",
        "doc_to_text",
        "doc_to_target",
        "doc_to_choice",
        "description",
        "gen_prefix",
    ];
    KEYS.into_iter().filter_map(|key| Some((key, config.function_places.get(key)?)))
}

/// The first of the most exact.
fn best(statements: &[Statement], exactness: impl Fn(&Statement) -> Option<usize>) -> Option<&Statement> {
    let mut best: Option<(&Statement, usize)> = None;
    for statement in statements {
        if let Some(exact) = exactness(statement)
            && best.is_none_or(|(_, known)| exact > known)
        {
            best = Some((statement, exact));
        }
    }
    best.map(|(statement, _)| statement)
}

fn stage(statement: &Statement, keys: Vec<String>) -> Stage {
    Stage { file: statement.file.clone(), sql: statement.sql.clone(), format: statement.format.clone(), keys }
}

fn statements(file: &str, text: &str) -> Vec<Statement> {
    let mut found = Vec::new();
    let mut serves = Vec::new();
    let mut format = None;
    let mut sql = String::new();
    for line in text.lines() {
        if sql.is_empty()
            && let Some(served) = served(line)
        {
            serves.push(served);
        } else if sql.is_empty()
            && let Some(name) = line.strip_prefix("-- format:")
        {
            format = Some(name.trim().to_owned());
        } else if sql.is_empty() && (line.trim().is_empty() || line.starts_with("--")) {
        } else if let Some(last) = line.trim_end().strip_suffix(';') {
            sql.push_str(last);
            let serves = std::mem::take(&mut serves);
            found.push(Statement {
                file: file.to_owned(),
                serves,
                format: format.take(),
                sql: std::mem::take(&mut sql),
            });
        } else {
            sql.push_str(line);
            sql.push('\n');
        }
    }
    found
}

/// What a comment says that the statement below it serves.
fn served(line: &str) -> Option<Serves> {
    let (kind, name) = line.strip_prefix("--")?.trim().split_once(':')?;
    let name = name.trim().to_owned();
    Some(match kind {
        "function" => Serves::Function(name),
        "dataset" => Serves::Dataset(name),
        "task" => Serves::Task(name),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::Format;

    #[test]
    fn every_file_of_the_folder_is_compiled_in_and_every_statement_serves_something() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/tasks");
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".sql"))
            .collect();
        names.sort();
        assert_eq!(names, FILES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for (file, text) in FILES {
            let statements = statements(file, text);
            assert!(!statements.is_empty(), "{file}");
            assert_eq!(text.matches(";\n").count(), statements.len(), "{file}");
            for statement in statements {
                assert!(!statement.serves.is_empty(), "{file}: {}", statement.sql);
                assert!(statement.sql.contains("FROM rows"), "{file}: {}", statement.sql);
                assert!(statement.format.is_none_or(|format| Format::from_name(&format).is_some()), "{file}");
            }
        }
    }

    #[test]
    fn a_function_is_found_by_its_module_below_any_folder() {
        let sql = TaskSql { statements: statements("a.sql", "-- function: a.utils.f\n-- x\nSELECT 1 FROM rows;\n") };
        for reference in ["lm_eval.tasks.a.utils.f", "/x/tasks/a/utils.f", "a.utils.f"] {
            assert!(sql.function(reference, Path::new("t.yaml")).is_some(), "{reference}");
        }
        assert!(sql.function("utils.f", Path::new("/x/a/t.yaml")).is_some());
        assert!(sql.function("utils.f", Path::new("/x/ba/t.yaml")).is_none());
        assert!(sql.function("other_utils.f", Path::new("/x/a/t.yaml")).is_none());
    }
}
