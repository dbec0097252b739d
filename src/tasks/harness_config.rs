//! One task config of lm-evaluation-harness (0.4.13) as typed values: the keys that say where its rows come from and
//! how a row becomes a prompt. Keys that only matter for scoring are not read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_yaml_ng::{Mapping, Value};

use super::task_sql::Stage;

/// What a `doc_to_*` key holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Field {
    /// A column's name or a Jinja template: the rows' columns decide which.
    Text(String),
    List(Vec<String>),
    Index(i64),
    /// `!function module.name`: needs Python.
    Function(String),
}

/// Our own keys inside the harness's free `metadata:` block.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SeedMetadata {
    pub license: Option<String>,
    pub license_evidence: Option<String>,
    pub capability: Option<String>,
    pub format: Option<String>,
    pub language: Option<String>,
    /// `metadata.seed`: a column's name or a template for question, passage, answer, options or rationale.
    pub seed: BTreeMap<String, Field>,
}

/// A leaf task, as its file and what that includes say it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HarnessConfig {
    pub task: String,
    pub file: PathBuf,
    pub groups: Vec<String>,
    pub tags: Vec<String>,
    pub dataset_path: Option<String>,
    pub dataset_name: Option<String>,
    pub revision: Option<String>,
    /// `dataset_kwargs.data_files` by split; local names are absolute.
    pub data_files: BTreeMap<String, Vec<String>>,
    pub training_split: Option<String>,
    pub validation_split: Option<String>,
    pub test_split: Option<String>,
    pub fewshot_split: Option<String>,
    pub output_type: String,
    pub doc_to_text: Option<Field>,
    pub doc_to_target: Option<Field>,
    pub doc_to_choice: Option<Field>,
    pub description: Option<Field>,
    pub gen_prefix: Option<Field>,
    /// What stands between prompt and target, and after the target, in few-shot examples.
    pub target_delimiter: String,
    pub fewshot_delimiter: String,
    /// The keys that name Python functions which change what a row is, in the order in which they are applied.
    pub functions: Vec<(String, String)>,
    /// The statements of `sql/tasks` that rows go through, for the functions and before the templates.
    pub stages: Vec<Stage>,
    /// The first key that needs Python to read the rows, e.g. `process_docs`.
    pub python: Option<String>,
    pub metadata: SeedMetadata,
}

/// What a config file defines.
#[derive(Debug, Default)]
pub(crate) struct Definitions {
    pub tasks: Vec<HarnessConfig>,
    /// Group name and member name (a task or another group).
    pub memberships: Vec<(String, String)>,
}

impl Definitions {
    /// Reads the merged mapping of `file`. A file with neither a task nor a group (a template others include)
    /// defines nothing. The error is a sentence without the file's name.
    pub(crate) fn from_mapping(mapping: &Mapping, file: &Path) -> Result<Definitions, String> {
        let mut found = Definitions::default();
        if let Some(list) = mapping.get("task_list") {
            let entries = list.as_sequence().ok_or("'task_list' is not a list")?;
            for entry in entries {
                let own = entry.as_mapping().ok_or("an entry of 'task_list' is not a mapping")?;
                let mut merged = mapping.clone();
                merged.remove("task_list");
                merged.extend(own.clone());
                found.tasks.push(HarnessConfig::from_mapping(&merged, file)?);
            }
            return Ok(found);
        }
        match (mapping.get("group"), mapping.get("task")) {
            (group, Some(Value::Sequence(members))) => {
                let group = text(group).or_else(|| text(mapping.get("tag"))).ok_or("a list of tasks has no 'group'")?;
                memberships(&group, members, &mut found.memberships);
            }
            (group, Some(Value::String(_))) => {
                let mut config = HarnessConfig::from_mapping(mapping, file)?;
                config.groups = names(group);
                found.tasks.push(config);
            }
            (_, None | Some(Value::Null)) => {}
            (_, Some(_)) => return Err("'task' is neither a name nor a list of names".into()),
        }
        Ok(found)
    }
}

fn memberships(group: &str, members: &[Value], found: &mut Vec<(String, String)>) {
    for member in members {
        if let Some(name) = member.as_str() {
            found.push((group.to_owned(), name.to_owned()));
        } else if let Some(inline) = member.as_mapping() {
            match (text(inline.get("group")), inline.get("task")) {
                (Some(inner), Some(Value::Sequence(inner_members))) => {
                    found.push((group.to_owned(), inner.clone()));
                    memberships(&inner, inner_members, found);
                }
                (Some(name), _) => found.push((group.to_owned(), name)),
                (None, Some(Value::String(name))) => found.push((group.to_owned(), name.clone())),
                (None, _) => {}
            }
        }
    }
}

impl HarnessConfig {
    pub(crate) fn from_mapping(mapping: &Mapping, file: &Path) -> Result<HarnessConfig, String> {
        let task = text(mapping.get("task")).ok_or("'task' is not a name")?;
        let kwargs = mapping.get("dataset_kwargs").and_then(Value::as_mapping);
        let data_files = match kwargs.and_then(|k| k.get("data_files")) {
            Some(value) => data_files(value, file.parent().unwrap_or(Path::new(".")))?,
            None => BTreeMap::new(),
        };
        Ok(HarnessConfig {
            task,
            file: file.to_path_buf(),
            groups: Vec::new(),
            tags: names(mapping.get("tag")),
            dataset_path: text(mapping.get("dataset_path")),
            dataset_name: text(mapping.get("dataset_name")),
            revision: kwargs.and_then(|k| text(k.get("revision"))),
            data_files,
            training_split: text(mapping.get("training_split")),
            validation_split: text(mapping.get("validation_split")),
            test_split: text(mapping.get("test_split")),
            fewshot_split: text(mapping.get("fewshot_split"))
                .or_else(|| text(mapping.get("fewshot_config").and_then(|f| f.get("split")))),
            // The harness's own default.
            output_type: text(mapping.get("output_type")).unwrap_or_else(|| "generate_until".into()),
            doc_to_text: field(mapping, "doc_to_text")?,
            doc_to_target: field(mapping, "doc_to_target")?,
            doc_to_choice: field(mapping, "doc_to_choice")?,
            description: field(mapping, "description")?,
            gen_prefix: field(mapping, "gen_prefix")?,
            // The harness's own defaults.
            target_delimiter: text(mapping.get("target_delimiter")).unwrap_or_else(|| " ".into()),
            fewshot_delimiter: text(mapping.get("fewshot_delimiter")).unwrap_or_else(|| "\n\n".into()),
            functions: functions(mapping),
            stages: Vec::new(),
            python: python_key(mapping),
            metadata: metadata(mapping)?,
        })
    }
}

/// The keys whose functions change what a row is; functions in metrics and filters do not matter here.
fn python_key(mapping: &Mapping) -> Option<String> {
    const KEYS: [&str; 9] = [
        "class",
        "custom_dataset",
        "process_docs",
        "doc_to_text",
        "doc_to_target",
        "doc_to_choice",
        "description",
        "gen_prefix",
        "use_prompt",
    ];
    KEYS.into_iter().find_map(|key| match mapping.get(key) {
        Some(Value::Tagged(tagged)) => {
            let function = tagged.value.as_str().unwrap_or_default();
            Some(format!("{key}: {} {function}", tagged.tag))
        }
        Some(Value::String(_)) if key == "use_prompt" => Some("use_prompt (promptsource)".to_owned()),
        _ => None,
    })
}

fn functions(mapping: &Mapping) -> Vec<(String, String)> {
    const KEYS: [&str; 7] = [
        "custom_dataset",
        "process_docs",
        "doc_to_text",
        "doc_to_target",
        "doc_to_choice",
        "description",
        "gen_prefix",
    ];
    let function = |key: &str| match mapping.get(key) {
        Some(Value::Tagged(tagged)) => Some((key.to_owned(), tagged.value.as_str().unwrap_or_default().to_owned())),
        _ => None,
    };
    KEYS.into_iter().filter_map(function).collect()
}

fn metadata(mapping: &Mapping) -> Result<SeedMetadata, String> {
    let Some(block) = mapping.get("metadata").and_then(Value::as_mapping) else { return Ok(SeedMetadata::default()) };
    let mut seed = BTreeMap::new();
    if let Some(overrides) = block.get("seed").and_then(Value::as_mapping) {
        const KEYS: [&str; 5] = ["question", "passage", "answer", "options", "rationale"];
        for key in overrides.keys().filter_map(Value::as_str) {
            if !KEYS.contains(&key) {
                return Err(format!("'metadata.seed.{key}' is unknown; there are {}", KEYS.join(", ")));
            }
            if let Some(value) = field(overrides, key)? {
                seed.insert(key.to_owned(), value);
            }
        }
    }
    Ok(SeedMetadata {
        license: text(block.get("license")),
        license_evidence: text(block.get("license_evidence")),
        capability: text(block.get("capability")),
        format: text(block.get("format")),
        language: text(block.get("language")),
        seed,
    })
}

fn field(mapping: &Mapping, key: &str) -> Result<Option<Field>, String> {
    match mapping.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(n)) => match n.as_i64() {
            Some(index) => Ok(Some(Field::Index(index))),
            None => Err(format!("'{key}' is a number that is no index")),
        },
        Some(Value::Sequence(items)) => {
            Ok(Some(Field::List(items.iter().map(|item| text(Some(item)).unwrap_or_default()).collect())))
        }
        // The harness takes the values of a mapping, in order.
        Some(Value::Mapping(entries)) => {
            Ok(Some(Field::List(entries.values().map(|item| text(Some(item)).unwrap_or_default()).collect())))
        }
        Some(Value::Tagged(tagged)) => Ok(Some(Field::Function(tagged.value.as_str().unwrap_or_default().to_owned()))),
        Some(value) => Ok(text(Some(value)).map(Field::Text)),
    }
}

/// A scalar as the text that Python's `str` would give it.
fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(s) => Some(s.clone()),
        Value::Number(n) => Some(n.to_string()),
        Value::Bool(true) => Some("True".into()),
        Value::Bool(false) => Some("False".into()),
        _ => None,
    }
}

fn names(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Sequence(items)) => items.iter().filter_map(|item| text(Some(item))).collect(),
        other => text(other).into_iter().collect(),
    }
}

fn data_files(value: &Value, folder: &Path) -> Result<BTreeMap<String, Vec<String>>, String> {
    let located =
        |value: &Value| -> Vec<String> { names(Some(value)).into_iter().map(|name| located(&name, folder)).collect() };
    Ok(match value {
        Value::Mapping(by_split) => {
            by_split.iter().filter_map(|(split, files)| Some((text(Some(split))?, located(files)))).collect()
        }
        // `datasets` calls the split of unnamed files 'train'.
        Value::String(_) | Value::Sequence(_) => BTreeMap::from([("train".to_owned(), located(value))]),
        _ => return Err("'dataset_kwargs.data_files' is neither a file name nor a mapping of splits to files".into()),
    })
}

/// A file's name as an absolute path, or the URL it is.
fn located(name: &str, folder: &Path) -> String {
    if name.contains("://") { name.to_owned() } else { folder.join(name).to_string_lossy().into_owned() }
}
