//! Normalization over rows as their datasets have them, beside what the harness's own Python makes of them. Golden files have
//! what `process_docs` gave; a dataset's rows may be of another shape.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::python_env::python;
use crate::scratch::Scratch;

/// Of qasper's questions the harness takes yes as right whatever the answer is; sciq's right option is always its last.
const PLACE_IS_ANOTHER: [&str; 2] = ["qasper_bool", "sciq"];

const OF_NO_ACCEPTED_TASK: [&str; 6] = [
    "galician_bench.utils.process_docs_paws",
    "mmlusr.answer_only.utils.process_docs",
    "mmlusr.question_and_answer.utils.process_docs",
    "mmlusr.question_only.utils.process_docs",
    "spanish_bench.utils.process_doc_nli",
    "spanish_bench.utils.process_docs_copa_es",
];

#[test]
fn peers_rows_as_their_datasets_have_them_are_what_the_harness_makes_of_them() {
    let scratch = Scratch::empty();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let harness = Command::new(python())
        .args([folder.join("raw_rows.py"), folder.join("raw_rows.jsonl"), scratch.path().join("data")])
        .output()
        .unwrap();
    assert!(harness.status.success(), "{}", String::from_utf8_lossy(&harness.stderr));
    let mut functions = Value::Null;
    let mut expected = BTreeMap::<String, Vec<Value>>::new();
    for line in String::from_utf8(harness.stdout).unwrap().lines().filter(|line| line.starts_with('{')) {
        let mut row = serde_json::from_str::<Value>(line).unwrap();
        if row["task"].is_null() {
            functions = row["functions"].take();
            continue;
        }
        expected.entry(row["task"].as_str().unwrap().to_owned()).or_default().push(row);
    }

    let library = "import importlib.util; print(importlib.util.find_spec('lm_eval').submodule_search_locations[0])";
    let library = Command::new(python()).args(["-c", library]).output().unwrap().stdout;
    let library = String::from_utf8(library).unwrap();
    let roots = scratch.path().join("data");
    scratch.write(
        "seedmill.toml",
        &format!("[tasks]\nfrom = [{:?}]\n[data]\nroots = [{:?}]\n", library.trim(), roots.to_str().unwrap()),
    );
    let statements = expected.keys().map(|task| {
        format!(
            "SELECT task, prompt_text AS prompt, target_text AS target, cardinality(options) AS options, \
               CASE WHEN options IS NOT NULL THEN answer_index END AS place FROM norm.\"{task}\""
        )
    });
    let sql = statements.collect::<Vec<_>>().join(";\n");
    let mut found = BTreeMap::<String, Vec<Value>>::new();
    for line in scratch.ok(&["sql", "--format", "ndjson", "-c", &sql]).lines() {
        let mut row = serde_json::from_str::<Value>(line).unwrap();
        for column in ["options", "place"] {
            row.as_object_mut().unwrap().entry(column).or_insert(Value::Null);
        }
        found.entry(row["task"].as_str().unwrap().to_owned()).or_default().push(row);
    }
    for (task, rows) in &expected {
        let found = found.get(task).unwrap_or_else(|| panic!("{task} has no row"));
        let has_options = rows.iter().any(|row| !row["options"].is_null());
        let compared = |row: &Value| {
            let has_place = has_options && !PLACE_IS_ANOTHER.contains(&task.as_str());
            // Where the harness has no options, those that a prompt names are ours alone.
            let options = if has_options { &row["options"] } else { &Value::Null };
            let place = if has_place { &row["place"] } else { &Value::Null };
            json!([row["prompt"], row["target"], options, place]).to_string()
        };
        let [harness, ours] = [rows, found].map(|rows| {
            let mut rows = rows.iter().map(compared).collect::<Vec<_>>();
            rows.sort();
            rows
        });
        assert_eq!(ours, harness, "{task}");
    }

    // Each statement for a `process_docs` has rows, but for those that no accepted task reads.
    let last = functions.as_array().unwrap().iter().map(|function| function.as_str().unwrap());
    let tested = last.collect::<BTreeSet<_>>();
    let mut without = BTreeSet::new();
    for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/tasks")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let names = text.lines().filter_map(|line| line.strip_prefix("-- function: "));
        let rows = |name: &&str| {
            let function = name.rsplit('.').next().unwrap();
            function.contains("process_") || function == "filter_dataset"
        };
        without.extend(names.filter(rows).filter(|name| !tested.contains(name)).map(str::to_owned));
    }
    assert_eq!(without.iter().map(String::as_str).collect::<Vec<_>>(), OF_NO_ACCEPTED_TASK);
}
