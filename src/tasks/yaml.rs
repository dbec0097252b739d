//! Reads the YAML of task configs the way the harness does: `include` is followed (later overrides earlier, local
//! keys win), a key written twice holds its last value, and `!function` stays a tag because nothing here runs Python.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::de::{Deserialize, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde_yaml_ng::value::{Tag, TaggedValue};
use serde_yaml_ng::{Mapping, Value};

/// What a file held when it was read, as BLAKE3 in hexadecimal; `None` for a file that was not there.
pub(crate) type ContentHash = Option<String>;

pub(crate) fn content_hash(content: Option<&[u8]>) -> ContentHash {
    content.map(|content| blake3::hash(content).to_hex().to_string())
}

/// Reads config files, from several threads at once. The included ones, which many tasks share, are read once.
#[derive(Default)]
pub(crate) struct YamlReader {
    included: Mutex<HashMap<PathBuf, Arc<Mapping>>>,
    seen: Mutex<BTreeMap<PathBuf, ContentHash>>,
}

impl YamlReader {
    /// The mapping of a config file with its includes merged in; the error is a sentence without the file's name.
    /// The value of each `!function` has the folder of the file that says it before it.
    pub(crate) fn read(&self, file: &Path) -> Result<Mapping, String> {
        self.merged(file, &mut Vec::new()).map(Arc::unwrap_or_clone)
    }

    /// Every file that was read or looked for, with what it held.
    pub(crate) fn seen(self) -> BTreeMap<PathBuf, ContentHash> {
        self.seen.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down that what was read rests on this file too.
    pub(crate) fn note(&self, file: &Path, content: Option<&[u8]>) {
        let hash = content_hash(content);
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(file.to_path_buf(), hash);
    }

    fn merged(&self, file: &Path, above: &mut Vec<PathBuf>) -> Result<Arc<Mapping>, String> {
        if above.iter().any(|seen| seen == file) {
            return Err(format!("it includes itself through '{}'", file.display()));
        }
        if let Some(known) = self.included.lock().unwrap_or_else(PoisonError::into_inner).get(file) {
            return Ok(Arc::clone(known));
        }
        let content = std::fs::read(file);
        self.note(file, content.as_deref().ok());
        let content = content.map_err(|e| format!("'{}' cannot be read: {e}", file.display()))?;
        let within = |e: String| match above.is_empty() {
            true => e,
            false => format!("in the included '{}': {e}", file.display()),
        };
        let text = text(&content).map_err(within)?;
        let folder = file.parent().unwrap_or(Path::new("."));
        let mut own = parse(&text, folder).map_err(within)?;
        let includes = match own.remove("include") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::String(one)) => vec![one],
            Some(Value::Sequence(many)) => many.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
            Some(_) => return Err(within("'include' is neither a file name nor a list of file names".into())),
        };
        let merged = if includes.is_empty() {
            own
        } else {
            above.push(file.to_path_buf());
            let mut merged = Mapping::new();
            for include in includes {
                let included = self.merged(&normal(&folder.join(include)), above)?;
                merged.extend(
                    included
                        .iter()
                        .filter(|(key, _)| key.as_str() != Some("task_list"))
                        .map(|(key, value)| (key.clone(), value.clone())),
                );
            }
            above.pop();
            merged.extend(own);
            merged
        };
        let merged = Arc::new(merged);
        if !above.is_empty() {
            let mut included = self.included.lock().unwrap_or_else(PoisonError::into_inner);
            included.insert(file.to_path_buf(), Arc::clone(&merged));
        }
        Ok(merged)
    }
}

/// A path without `.` and `..`, so that one included file has one name.
fn normal(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf())
}

/// YAML is UTF-8 here, with or without a byte order mark.
fn text(content: &[u8]) -> Result<String, String> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    match std::str::from_utf8(content) {
        Ok(text) => Ok(text.to_owned()),
        Err(e) => {
            let line = content[..e.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
            Err(format!("it is not UTF-8 text (line {line})"))
        }
    }
}

/// Parses one document that must be a mapping. `folder` is written before the value of each `!function`.
pub(crate) fn parse(text: &str, folder: &Path) -> Result<Mapping, String> {
    let LastWins(mut value) = serde_yaml_ng::from_str(text).map_err(|e| format!("it is not valid YAML: {e}"))?;
    if text.contains("<<") {
        value.apply_merge().map_err(|e| format!("it is not valid YAML: {e}"))?;
    }
    match value {
        Value::Mapping(mut mapping) => {
            if text.contains("!function") {
                mapping.values_mut().for_each(|value| place_functions(value, folder));
            }
            Ok(mapping)
        }
        _ => Err("it is not a mapping of keys to values".into()),
    }
}

fn place_functions(value: &mut Value, folder: &Path) {
    match value {
        Value::Tagged(tagged) if tagged.tag == "!function" => {
            if let Value::String(reference) = &mut tagged.value {
                *reference = format!("{}/{}", folder.display(), reference.trim());
            }
        }
        Value::Mapping(entries) => entries.values_mut().for_each(|value| place_functions(value, folder)),
        Value::Sequence(items) => items.iter_mut().for_each(|value| place_functions(value, folder)),
        _ => {}
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
    fn a_key_written_twice_holds_its_last_value_and_functions_stay_tags_with_their_folder() {
        let parse = |text| parse(text, Path::new("/tasks/a"));
        let mapping = parse("task: a\ntask: b\ndoc_to_text: !function utils.text\n").unwrap();
        assert_eq!(mapping.get("task").unwrap().as_str(), Some("b"));
        assert!(matches!(mapping.get("doc_to_text"), Some(Value::Tagged(t))
            if t.tag == "!function" && t.value.as_str() == Some("/tasks/a/utils.text")));
        assert!(parse("- a list").is_err());
        assert!(parse("task: [").unwrap_err().contains("not valid YAML"));
    }

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = folder.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        folder
    }

    #[test]
    fn local_keys_win_over_includes_and_later_includes_over_earlier() {
        let folder = folder(&[
            ("a_yaml", b"one: a\ntwo: a\nthree: a\ntask_list: [x]\n"),
            ("b_yaml", b"two: b\nthree: b\n"),
            ("task.yaml", b"include: [a_yaml, b_yaml]\nthree: own\n"),
            ("cycle.yaml", b"include: cycle.yaml\n"),
        ]);
        let reader = YamlReader::default();
        let merged = reader.read(&normal(&folder.path().join("task.yaml"))).unwrap();
        let value = |key: &str| merged.get(key).unwrap().as_str().unwrap().to_owned();
        assert_eq!((value("one"), value("two"), value("three")), ("a".into(), "b".into(), "own".into()));
        assert!(!merged.contains_key("task_list"));
        assert!(reader.read(&normal(&folder.path().join("cycle.yaml"))).unwrap_err().contains("includes itself"));
    }

    #[test]
    fn a_function_is_beside_the_file_that_says_it_not_beside_the_one_that_includes_it() {
        let folder = folder(&[
            ("base/_shared_yaml", b"process_docs: !function utils.docs\nfilter: [{function: !function utils.pick}]\n"),
            ("leaf/leaf.yaml", b"include: ../base/_shared_yaml\ndoc_to_text: !function utils.text\n"),
        ]);
        let root = normal(folder.path());
        let merged = YamlReader::default().read(&root.join("leaf/leaf.yaml")).unwrap();
        let place = |value: &Value| match value {
            Value::Tagged(t) => t.value.as_str().unwrap().strip_prefix(root.to_str().unwrap()).unwrap().to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(place(&merged["process_docs"]), "/base/utils.docs");
        assert_eq!(place(&merged["filter"][0]["function"]), "/base/utils.pick");
        assert_eq!(place(&merged["doc_to_text"]), "/leaf/utils.text");
    }

    #[test]
    fn a_file_that_is_no_text_or_includes_a_missing_one_is_a_sentence_with_the_place() {
        let folder = folder(&[
            ("latin.yaml", b"task: a\ndescription: caf\xe9\n"),
            ("bom.yaml", b"\xef\xbb\xbftask: a\n"),
            ("lost.yaml", b"include: not_there_yaml\ntask: a\n"),
            ("outer.yaml", b"include: inner_yaml\ntask: a\n"),
            ("inner_yaml", b"a: [\n"),
        ]);
        let reader = YamlReader::default();
        let read = |name: &str| reader.read(&normal(folder.path()).join(name));
        assert_eq!(read("latin.yaml").unwrap_err(), "it is not UTF-8 text (line 2)");
        assert_eq!(read("bom.yaml").unwrap()["task"].as_str(), Some("a"));
        assert!(read("lost.yaml").unwrap_err().contains("not_there_yaml' cannot be read"));
        let inner = read("outer.yaml").unwrap_err();
        assert!(inner.contains("in the included '") && inner.contains("line 2"), "{inner}");
        assert_eq!(reader.seen().values().filter(|hash| hash.is_none()).count(), 1);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[ -~\n\t\u{e9}\u{1f600}]{0,200}") {
            let _ = parse(&text, Path::new("/"));
        }

        #[test]
        fn no_near_yaml_makes_the_reader_panic(
            lines in proptest::collection::vec(
                "(task|group|include|class|<<|doc_to_text|- x|  a|\\?|&a|\\*a|!function)(:| )?(| \\[| \\{a: 1\\}| !function u.f| \\||\"| 'b'| \\*a| &a x)",
                0..12,
            ),
        ) {
            let text = lines.join("\n");
            if let Ok(mapping) = parse(&text, Path::new("/")) {
                let _ = super::super::harness_config::Definitions::from_mapping(&mapping, Path::new("/t.yaml"));
            }
        }
    }
}
