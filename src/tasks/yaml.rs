//! Reads the YAML of task configs the way the harness does: `include` is followed (later overrides earlier, local
//! keys win), a key written twice holds its last value, and `!function` stays a tag because nothing here runs Python.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{Deserialize, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde_yaml_ng::value::{Tag, TaggedValue};
use serde_yaml_ng::{Mapping, Value};

/// Reads config files and keeps the included ones, which many tasks share.
#[derive(Default)]
pub(crate) struct YamlReader {
    included: HashMap<PathBuf, Mapping>,
}

impl YamlReader {
    /// The mapping of a config file with its includes merged in; the error is a sentence without the file's name.
    pub(crate) fn read(&mut self, file: &Path) -> Result<Mapping, String> {
        self.merged(file, &mut Vec::new())
    }

    fn merged(&mut self, file: &Path, above: &mut Vec<PathBuf>) -> Result<Mapping, String> {
        if above.iter().any(|seen| seen == file) {
            return Err(format!("it includes itself through '{}'", file.display()));
        }
        if let Some(known) = self.included.get(file) {
            return Ok(known.clone());
        }
        let text = std::fs::read_to_string(file).map_err(|e| format!("'{}' cannot be read: {e}", file.display()))?;
        let mut own = parse(&text).map_err(|e| match above.is_empty() {
            true => e,
            false => format!("in the included '{}': {e}", file.display()),
        })?;
        let includes = match own.remove("include") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::String(one)) => vec![one],
            Some(Value::Sequence(many)) => many.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
            Some(_) => return Err("'include' is neither a file name nor a list of file names".into()),
        };
        let merged = if includes.is_empty() {
            own
        } else {
            above.push(file.to_path_buf());
            let folder = file.parent().unwrap_or(Path::new("."));
            let mut merged = Mapping::new();
            for include in includes {
                let mut included = self.merged(&normal(&folder.join(include)), above)?;
                included.remove("task_list");
                merged.extend(included);
            }
            above.pop();
            merged.extend(own);
            merged
        };
        if !above.is_empty() {
            self.included.insert(file.to_path_buf(), merged.clone());
        }
        Ok(merged)
    }
}

/// A path without `.` and `..`, so that one included file has one name.
fn normal(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf())
}

/// Parses one document that must be a mapping.
pub(crate) fn parse(text: &str) -> Result<Mapping, String> {
    let LastWins(mut value) = serde_yaml_ng::from_str(text).map_err(|e| format!("it is not valid YAML: {e}"))?;
    value.apply_merge().map_err(|e| format!("it is not valid YAML: {e}"))?;
    match value {
        Value::Mapping(mapping) => Ok(mapping),
        _ => Err("it is not a mapping of keys to values".into()),
    }
}

/// A YAML value whose mappings may name a key twice; `serde_yaml_ng::Value` itself refuses that.
struct LastWins(Value);

impl<'de> Deserialize<'de> for LastWins {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LastWinsVisitor).map(LastWins)
    }
}

struct LastWinsVisitor;

impl<'de> Visitor<'de> for LastWinsVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(LastWins(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Sequence(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut mapping = Mapping::new();
        while let Some((LastWins(key), LastWins(value))) = entries.next_entry()? {
            mapping.insert(key, value);
        }
        Ok(Value::Mapping(mapping))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Value, A::Error> {
        let (tag, contents): (String, _) = data.variant()?;
        if tag.is_empty() {
            return Err(A::Error::custom("empty YAML tag"));
        }
        let LastWins(value) = contents.newtype_variant()?;
        Ok(Value::Tagged(Box::new(TaggedValue { tag: Tag::new(tag), value })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_written_twice_holds_its_last_value_and_functions_stay_tags() {
        let mapping = parse("task: a\ntask: b\ndoc_to_text: !function utils.text\n").unwrap();
        assert_eq!(mapping.get("task").unwrap().as_str(), Some("b"));
        assert!(matches!(mapping.get("doc_to_text"), Some(Value::Tagged(t)) if t.tag == "!function"));
        assert!(parse("- a list").is_err());
        assert!(parse("task: [").unwrap_err().contains("not valid YAML"));
    }

    #[test]
    fn local_keys_win_over_includes_and_later_includes_over_earlier() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("a_yaml", "one: a\ntwo: a\nthree: a\n");
        write("b_yaml", "two: b\nthree: b\n");
        write("task.yaml", "include: [a_yaml, b_yaml]\nthree: own\n");
        write("cycle.yaml", "include: cycle.yaml\n");
        let mut reader = YamlReader::default();
        let merged = reader.read(&normal(&folder.path().join("task.yaml"))).unwrap();
        let value = |key: &str| merged.get(key).unwrap().as_str().unwrap().to_owned();
        assert_eq!((value("one"), value("two"), value("three")), ("a".into(), "b".into(), "own".into()));
        assert!(reader.read(&normal(&folder.path().join("cycle.yaml"))).unwrap_err().contains("includes itself"));
    }
}
