//! One table of `seedmill.toml` while it is read: each key is taken once, by name and type.
//! What is left when the reader is done is unknown, and an error that names the nearest key that was asked for.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Number};
use toml::{Table, Value};

use super::CONFIG_FILE;
use super::load::{ConfigError, Variable};
use super::nearest::nearest;

/// A type that a key can have.
pub(super) trait FromToml: Sized {
    /// What an error says is expected.
    const EXPECTED: &'static str;
    fn from_toml(value: Value) -> Option<Self>;
}

pub(super) struct Section {
    /// The table's path, e.g. `models.writer`; empty for the file itself.
    path: String,
    table: Table,
    known: Vec<&'static str>,
}

impl Section {
    pub fn new(path: impl Into<String>, table: Table) -> Self {
        Section { path: path.into(), table, known: Vec::new() }
    }

    /// The value of a key; `None` where the table has no such key.
    pub fn take<T: FromToml>(&mut self, key: &'static str) -> Result<Option<T>, ConfigError> {
        self.take_if(key, T::EXPECTED, |_| true)
    }

    /// [`Self::take`] for a value that must also pass `accept`.
    pub fn take_if<T: FromToml>(
        &mut self,
        key: &'static str,
        expected: &str,
        accept: impl FnOnce(&T) -> bool,
    ) -> Result<Option<T>, ConfigError> {
        self.known.push(key);
        let Some(value) = self.table.remove(key) else { return Ok(None) };
        let found = described(&value);
        match T::from_toml(value) {
            Some(value) if accept(&value) => Ok(Some(value)),
            Some(_) => Err(self.error(format!("'{key}' must be {expected}"))),
            None => Err(self.error(format!("'{key}' must be {expected}, not {found}"))),
        }
    }

    /// A table below this one, empty where the file has none.
    pub fn section(&mut self, key: &'static str) -> Result<Section, ConfigError> {
        let table = self.take::<Table>(key)?.unwrap_or_default();
        Ok(Section::new(self.below(key), table))
    }

    /// The rest of the table as named tables, e.g. the models of `[models]`.
    pub fn sections(self) -> Result<Vec<(String, Section)>, ConfigError> {
        self.values::<Table>()?
            .into_iter()
            .map(|(name, table)| {
                let key = if bare(&name) { name.clone() } else { format!("{name:?}") };
                let section = Section::new(self.below(&key), table);
                Ok((name, section))
            })
            .collect()
    }

    /// The rest of the table as values of one type under names that the user chose.
    pub fn values<T: FromToml>(&self) -> Result<BTreeMap<String, T>, ConfigError> {
        self.table
            .iter()
            .map(|(name, value)| {
                let found = described(value);
                let value = T::from_toml(value.clone())
                    .ok_or_else(|| self.error(format!("'{name}' must be {}, not {found}", T::EXPECTED)))?;
                Ok((name.clone(), value))
            })
            .collect()
    }

    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Refuses the keys that nobody asked for.
    pub fn finish(self) -> Result<(), ConfigError> {
        let Some(key) = self.table.keys().next() else { return Ok(()) };
        let known = self.known.iter().copied();
        let advice = match nearest(key, known) {
            Some(near) => format!("did you mean '{near}'?"),
            None => format!("it takes {}", self.known.join(", ")),
        };
        Err(match self.path.as_str() {
            "" => ConfigError(format!("{CONFIG_FILE}: there is no table or key '{key}'; {advice}")),
            path => ConfigError(format!("{CONFIG_FILE}: [{path}] has no key '{key}'; {advice}")),
        })
    }

    /// A sentence about this table, with its place in front.
    pub fn error(&self, sentence: impl std::fmt::Display) -> ConfigError {
        match self.path.as_str() {
            "" => ConfigError(format!("{CONFIG_FILE}: {sentence}")),
            path => ConfigError(format!("{CONFIG_FILE}: [{path}] {sentence}")),
        }
    }

    fn below(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// Parses a file's text. The error names the line and never shows it: a line may hold a secret.
pub(super) fn parse(path: &Path, text: &str) -> Result<Section, ConfigError> {
    let table = text.parse::<Table>().map_err(|e| {
        let line = e.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let place = line.map_or(String::new(), |line| format!(", line {line}"));
        ConfigError(format!("{}{place}: {}", path.display(), e.message().replace('\n', " ")))
    })?;
    Ok(Section::new("", table))
}

fn bare(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// What was found where something else was expected: its kind, since it may be a secret; of numbers below 0 that.
fn described(found: &Value) -> String {
    match (found, found.type_str()) {
        (Value::Integer(..0), _) => "a number below 0".to_owned(),
        (_, kind @ ("integer" | "array")) => format!("an {kind}"),
        (_, kind) => format!("a {kind}"),
    }
}

impl FromToml for String {
    const EXPECTED: &'static str = "a string";
    fn from_toml(value: Value) -> Option<Self> {
        if let Value::String(text) = value { Some(text) } else { None }
    }
}

impl FromToml for bool {
    const EXPECTED: &'static str = "true or false";
    fn from_toml(value: Value) -> Option<Self> {
        value.as_bool()
    }
}

impl FromToml for u64 {
    const EXPECTED: &'static str = "a whole number";
    fn from_toml(value: Value) -> Option<Self> {
        value.as_integer().and_then(|n| n.try_into().ok())
    }
}

impl FromToml for u32 {
    const EXPECTED: &'static str = "a whole number";
    fn from_toml(value: Value) -> Option<Self> {
        value.as_integer().and_then(|n| n.try_into().ok())
    }
}

impl FromToml for f64 {
    const EXPECTED: &'static str = "a number";
    fn from_toml(value: Value) -> Option<Self> {
        value.as_float().or_else(|| value.as_integer().map(|n| n as f64)).filter(|n| n.is_finite())
    }
}

/// One string stands for a list of one.
impl FromToml for Vec<String> {
    const EXPECTED: &'static str = "a list of strings";
    fn from_toml(value: Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(vec![text]),
            Value::Array(values) => values.into_iter().map(String::from_toml).collect(),
            _ => None,
        }
    }
}

impl FromToml for Table {
    const EXPECTED: &'static str = "a table";
    fn from_toml(value: Value) -> Option<Self> {
        if let Value::Table(table) = value { Some(table) } else { None }
    }
}

impl FromToml for BTreeMap<String, String> {
    const EXPECTED: &'static str = "a table of strings";
    fn from_toml(value: Value) -> Option<Self> {
        Table::from_toml(value)?.into_iter().map(|(key, value)| Some((key, String::from_toml(value)?))).collect()
    }
}

impl FromToml for Map<String, serde_json::Value> {
    const EXPECTED: &'static str = "a table of JSON values";
    fn from_toml(value: Value) -> Option<Self> {
        Table::from_toml(value)?.into_iter().map(|(key, value)| Some((key, json(value)?))).collect()
    }
}

impl FromToml for Variable {
    const EXPECTED: &'static str = "a string, a number, true or false";
    fn from_toml(value: Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Variable::Text(text)),
            Value::Integer(n) => Some(Variable::Integer(n)),
            Value::Float(n) => Some(Variable::Float(n)),
            Value::Boolean(b) => Some(Variable::Boolean(b)),
            Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
        }
    }
}

/// A date is its text in JSON; `nan` and `inf` are no JSON.
fn json(value: Value) -> Option<serde_json::Value> {
    Some(match value {
        Value::String(text) => text.into(),
        Value::Integer(n) => n.into(),
        Value::Float(n) => serde_json::Value::Number(Number::from_f64(n)?),
        Value::Boolean(b) => b.into(),
        Value::Datetime(time) => time.to_string().into(),
        Value::Array(values) => serde_json::Value::Array(values.into_iter().map(json).collect::<Option<_>>()?),
        table @ Value::Table(_) => serde_json::Value::Object(Map::from_toml(table)?),
    })
}
