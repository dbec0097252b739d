//! A pipeline folder: its stages in name order, its filters, its prompts.

use std::path::{Path, PathBuf};

use datafusion::common::{DataFusionError, Result, plan_err};

use super::dialect::parse;
use datafusion::sql::parser::Statement;

use crate::config::nearest;

/// One SQL file.
#[derive(Debug, Clone)]
pub struct SqlFile {
    /// Relative to the pipeline folder, with `/`.
    pub name: String,
    pub text: String,
}

impl SqlFile {
    /// The file's statements; an error names the file.
    pub fn statements(&self) -> Result<Vec<Statement>> {
        parse(&self.text).map_err(|e| e.context(self.name.clone()))
    }
}

/// A pipeline folder as it was read. Empty where the folder does not exist.
#[derive(Debug, Clone, Default)]
pub struct Pipeline {
    pub folder: PathBuf,
    /// As it was given, a path or URL.
    pub location: PathBuf,
    /// `*.sql` of the folder itself, by name.
    pub stages: Vec<SqlFile>,
    /// `filters/*.sql`, by name.
    pub filters: Vec<SqlFile>,
    /// `prompts/*.jinja`, by name.
    prompts: Vec<SqlFile>,
}

impl Pipeline {
    /// Reads a folder, or its `sql/` where that holds the stages (as `seedmill init` writes it); only an unreadable file is
    /// an error. `location` is what messages call it.
    pub fn read(folder: &Path, location: &Path) -> Result<Self> {
        let mut folder = folder.to_owned();
        let mut stages = read_files(&folder, "", "sql")?;
        if stages.is_empty() {
            stages = read_files(&folder.join("sql"), "", "sql")?;
            if !stages.is_empty() {
                folder.push("sql");
            }
        }
        Ok(Pipeline {
            stages,
            filters: read_files(&folder, "filters/", "sql")?,
            prompts: read_files(&folder, "prompts/", "jinja")?,
            folder,
            location: location.to_owned(),
        })
    }

    /// An error where there are no stages.
    pub fn need_stages(&self) -> Result<()> {
        if !self.folder.is_dir() {
            return plan_err!("the pipeline folder {} does not exist", self.location.display());
        }
        if self.stages.is_empty() {
            return plan_err!(
                "{} holds no stages; a pipeline folder has files such as 10_seeds.sql, 20_generate.sql, 60_publish.sql",
                self.location.display()
            );
        }
        Ok(())
    }

    /// The place of a stage by its file's name: `30_solve.sql`, `30_solve`, `30` or `solve`.
    pub fn stage(&self, name: &str) -> Result<usize> {
        let stem = |file: &SqlFile| file.name.trim_end_matches(".sql").to_owned();
        let wanted = name.trim_end_matches(".sql");
        let is_named = |file: &SqlFile| {
            let stem = stem(file);
            stem == wanted || stem.split_once('_').is_some_and(|(number, rest)| number == wanted || rest == wanted)
        };
        if let Some(stage) = self.stages.iter().position(is_named) {
            return Ok(stage);
        }
        let names: Vec<String> = self.stages.iter().map(stem).collect();
        let near = nearest(wanted, names.iter().map(String::as_str));
        let near = near.map_or(String::new(), |near| format!("did you mean '{near}'? "));
        plan_err!("there is no stage '{name}'; {near}{} has {}", self.location.display(), names.join(", "))
    }

    /// Whether any of its files names the variable `@name`.
    pub fn names_variable(&self, name: &str) -> bool {
        let is_whole = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        let variable = format!("@{name}");
        let names = |file: &SqlFile| file.text.split(&variable).skip(1).any(is_whole);
        self.stages.iter().chain(&self.filters).any(names)
    }

    pub fn prompts_folder(&self) -> PathBuf {
        self.folder.join("prompts")
    }

    /// SHA-256 of every file's name and text: what the pipeline was when a run was made.
    pub fn sha256(&self) -> String {
        use sha2::{Digest, Sha256};
        let mut hasher = Sha256::new();
        for file in self.stages.iter().chain(&self.filters).chain(&self.prompts) {
            for part in [file.name.as_bytes(), file.text.as_bytes()] {
                hasher.update((part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        }
        hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn read_files(folder: &Path, sub: &str, extension: &str) -> Result<Vec<SqlFile>> {
    let Ok(entries) = std::fs::read_dir(folder.join(sub)) else { return Ok(Vec::new()) };
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file() && path.extension().is_some_and(|e| e == extension))
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path)
                .map_err(|e| DataFusionError::Execution(format!("{} cannot be read: {e}", path.display())))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            Ok(SqlFile { name: format!("{sub}{name}"), text })
        })
        .collect()
}
