//! Reads `seedmill.toml`.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::{Config, ModelConfig};

/// The value of a variable `@name`; its type is the type it has in SQL.
#[derive(Debug, Clone, PartialEq)]
pub enum Variable {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
}

/// What is wrong with a configuration: one sentence that names file and key.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

impl Config {
    /// The configuration of `root` (a folder): its `seedmill.toml`, or the defaults where it has none.
    pub fn load(root: &Path) -> Result<Config, ConfigError> {
        let _ = (root, ModelConfig::embedded(), PathBuf::new());
        todo!()
    }
}
