//! One task config of lm-evaluation-harness (0.4.13) as typed values: the keys that say where its rows come from and
//! how a row becomes a prompt. Keys that only matter for scoring are not read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use seedmill_udfs::template_variables;
use serde::{Deserialize, Serialize};
use serde_yaml_ng::{Mapping, Value};

use super::python_class::PythonClass;
use super::task_sql::Stage;

/// What a `doc_to_*` key holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Field {
    /// A column's name or a Jinja template: the rows' columns decide which.
    Text(String),
    List(Vec<String>),
    Index(i64),
    /// `!function module.name`: needs Python. [`HarnessConfig::function_places`] says beside which file.
    Function(String),
}

/// Our own keys inside the harness's free `metadata:` block.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct HarnessConfig {
    pub task: String,
    pub file: PathBuf,
    pub groups: Vec<String>,
    pub tags: Vec<String>,
    pub dataset_path: Option<String>,
    pub dataset_name: Option<String>,
    pub revision: Option<String>,
    /// `dataset_kwargs.data_files` by split; local names are absolute, names in a Hub dataset are as written.
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
    /// The statements of `sql/tasks` that rows go through, for functions and before the templates.
    #[serde(skip)]
    pub stages: Vec<Stage>,
    /// The keys whose functions have none.
    #[serde(skip)]
    pub missing: Vec<String>,
    /// The first key that needs Python to read the rows, e.g. `process_docs`, and has nothing that takes its place.
    pub python: Option<String>,
    /// Whether a key needs Python to read the rows, whatever takes its place.
    pub needs_python: bool,
    /// Each `!function` of a key by where its file is, e.g. `process_docs` -> `arc/de/utils.process_docs`: the folder
    /// of the file that says it (seen from `lm_eval/tasks`, absolute elsewhere), module and name.
    pub function_places: BTreeMap<String, String>,
    /// `class: !function module.Class`: a task that is a Python class.
    pub class: Option<PythonClass>,
    /// `custom_dataset: !function module.name`, as in [`Self::function_places`], with its `dataset_kwargs`: where rows come
    /// from in place of `dataset_path`.
    pub custom_dataset: Option<String>,
    /// The key that shows images or sound, e.g. `doc_to_image`.
    pub media: Option<String>,
    /// What is wrong with a template, in a sentence.
    pub bad_template: Option<String>,
    pub metadata: SeedMetadata,
}

/// What a config file defines.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Definitions {
    pub tasks: Vec<HarnessConfig>,
    pub groups: Vec<String>,
    /// Group name and member name (a task or another group).
    pub memberships: Vec<(String, String)>,
}

impl Definitions {
    /// Reads the merged mapping of `file`. A file with neither a task nor a group (a template others include)
    /// defines nothing. The error is a sentence without the file's name.
    pub(crate) fn from_mapping(mapping: &Mapping, file: &Path) -> Result<Definitions, String> {
        let mut found = Definitions::default();
        if mapping.contains_key("class") {
            found.tasks.push(HarnessConfig::from_mapping(mapping, file)?);
            return Ok(found);
        }
        match (mapping.get("group"), mapping.get("task")) {
            (group, Some(Value::Sequence(members))) => {
                let group = text(group).or_else(|| text(mapping.get("tag"))).ok_or("a list of tasks has no 'group'")?;
                memberships(&group, members, &mut found.memberships);
                found.groups.push(group);
            }
            (group, Some(Value::String(_) | Value::Number(_))) => {
                let mut config = HarnessConfig::from_mapping(mapping, file)?;
                config.groups = names(group);
                found.tasks.push(config);
            }
            (Some(group), None | Some(Value::Null)) => found.groups.extend(text(Some(group))),
            (None, None | Some(Value::Null)) => {
                let Some(list) = mapping.get("task_list") else { return Ok(found) };
                for entry in list.as_sequence().ok_or("'task_list' is not a list")? {
                    let own = entry.as_mapping().ok_or("an entry of 'task_list' is not a mapping")?;
                    let mut merged = mapping.clone();
                    merged.remove("task_list");
                    merged.extend(own.clone());
                    found.tasks.push(HarnessConfig::from_mapping(&merged, file)?);
                }
            }
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
        let class = match mapping.get("class") {
            Some(Value::Tagged(tagged)) => Some(PythonClass::read(tagged.value.as_str().unwrap_or_default())),
            Some(_) => Some(PythonClass::default()),
            None => None,
        };
        let of_class = class.as_ref();
        let dataset_path = text(mapping.get("dataset_path"))
            .or_else(|| of_class.and_then(|class| class.dataset_path.clone()))
            .or_else(|| kwargs.and_then(|k| text(k.get("dataset_repo"))));
        let dataset_name = text(mapping.get("dataset_name"))
            .or_else(|| of_class.and_then(|class| class.dataset_name.clone()))
            .or_else(|| kwargs.and_then(|k| text(k.get("dataset_name"))));
        let data_files = match kwargs.and_then(|k| k.get("data_files")) {
            Some(value) => {
                let local = dataset_path.as_deref().is_some_and(is_file_loader);
                data_files(value, file.parent().filter(|_| local))?
            }
            None => BTreeMap::new(),
        };
        let split = |key: &str, of_class: fn(&PythonClass) -> bool, name: &str| {
            text(mapping.get(key)).or_else(|| class.as_ref().filter(|c| of_class(c)).map(|_| name.to_owned()))
        };
        let custom_dataset = function(mapping.get("custom_dataset")).map(|(place, _)| {
            let kwargs = kwargs.and_then(|kwargs| serde_json::to_string(kwargs).ok()).unwrap_or_default();
            format!("{place} {kwargs}")
        });
        let mut config = HarnessConfig {
            task,
            file: file.to_path_buf(),
            groups: Vec::new(),
            tags: names(mapping.get("tag")),
            revision: kwargs.and_then(|k| text(k.get("revision"))),
            data_files,
            training_split: split("training_split", |c| c.training, "train"),
            validation_split: split("validation_split", |c| c.validation, "validation"),
            test_split: split("test_split", |c| c.test, "test"),
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
            stages: Vec::new(),
            missing: Vec::new(),
            python: python_key(mapping),
            needs_python: python_key(mapping).is_some(),
            function_places: mapping
                .iter()
                .filter_map(|(key, value)| Some((key.as_str()?.to_owned(), function(Some(value))?.0)))
                .collect(),
            custom_dataset,
            media: ["doc_to_image", "doc_to_audio"]
                .into_iter()
                .find(|key| mapping.get(*key).is_some_and(|value| !value.is_null()))
                .map(str::to_owned)
                .or_else(|| of_class.filter(|c| c.name.ends_with("MultiModal")).map(|c| format!("class {}", c.name))),
            bad_template: None,
            metadata: metadata(mapping)?,
            dataset_path,
            dataset_name,
            class,
        };
        config.bad_template = bad_template(&config);
        Ok(config)
    }
}

/// Names that `datasets` takes for readers of files; with any other `dataset_path` the files are the dataset's own.
pub(crate) fn is_file_loader(dataset_path: &str) -> bool {
    matches!(dataset_path, "json" | "csv" | "parquet" | "text" | "arrow" | "pandas" | "xml" | "webdataset")
}

fn bad_template(config: &HarnessConfig) -> Option<String> {
    let keys = [
        ("doc_to_text", &config.doc_to_text),
        ("doc_to_target", &config.doc_to_target),
        ("doc_to_choice", &config.doc_to_choice),
        ("description", &config.description),
    ];
    let own = keys.into_iter().filter_map(|(key, field)| Some((key.to_owned(), field.as_ref()?)));
    let seed = config.metadata.seed.iter().map(|(key, field)| (format!("metadata.seed.{key}"), field));
    own.chain(seed).find_map(|(key, field)| match field {
        Field::Text(template) if template.contains('{') => {
            template_variables(template).err().map(|e| format!("'{key}': {}", e.strip_backtrace()))
        }
        _ => None,
    })
}

/// The place of a `!function` value (the reader writes its folder before it) and the reference as the file has it.
fn function(value: Option<&Value>) -> Option<(String, &str)> {
    let Some(Value::Tagged(tagged)) = value else { return None };
    let place = tagged.value.as_str()?;
    let place = place.split_once("/lm_eval/tasks/").map_or(place, |(_, below)| below);
    Some((place.to_owned(), reference(tagged.value.as_str()?)))
}

/// `module.name` of a place.
fn reference(place: &str) -> &str {
    place.rsplit('/').next().unwrap_or(place)
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
            let function = reference(tagged.value.as_str().unwrap_or_default());
            Some(format!("{key}: {} {function}", tagged.tag))
        }
        Some(Value::String(_)) if key == "use_prompt" => Some("use_prompt (promptsource)".to_owned()),
        _ => None,
    })
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
        Some(Value::Tagged(tagged)) => {
            Ok(Some(Field::Function(reference(tagged.value.as_str().unwrap_or_default()).to_owned())))
        }
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

/// `folder`: what local names are beside; `None` where they are names in a dataset of the Hub.
fn data_files(value: &Value, folder: Option<&Path>) -> Result<BTreeMap<String, Vec<String>>, String> {
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
fn located(name: &str, folder: Option<&Path>) -> String {
    match folder {
        Some(folder) if !name.contains("://") => folder.join(name).to_string_lossy().into_owned(),
        _ => name.to_owned(),
    }
}
