//! Rows a second of the processor through the `norm` views, one core, beside lm-evaluation-harness's own Python and beside Jinja2 with
//! compiled templates over the same rows (benches/normalize/harness.py; it needs python3 and pip).
//!
//!     cargo bench --bench normalize [-- ROWS] [-- ours]
//!
//! ROWS: of each task, 200,000 unless said otherwise: a million in all. The harness is given 2,000 of them. Rows are those
//! of golden/real.jsonl of the shared data (SEEDMILL_SHARED), repeated; without it, texts of the same length. The harness
//! is installed from PyPI into target/normalize-env the first time; SEEDMILL_BENCH_PYTHON names another interpreter that
//! has lm_eval==0.4.13. `ours` leaves the Python out.

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;
use seedmill::config::TasksConfig;
use seedmill::tasks::Catalog;
use serde_json::{Map, Value, json};

/// Rows of each task that the harness is given.
const HARNESS_ROWS: usize = 2_000;
const LM_EVAL: &str = "lm_eval==0.4.13";

/// Name, config keys, and a row for those who lack the shared data.
fn tasks() -> Vec<(&'static str, Value, Value)> {
    let text = |words: usize| "the quick brown fox jumps over it ".repeat(words / 7 + 1);
    vec![
        (
            "gsm8k",
            json!({"dataset_path": "openai/gsm8k", "dataset_name": "main",
                   "doc_to_text": "Question: {{question}}\nAnswer:", "doc_to_target": "{{answer}}"}),
            json!({"question": text(45), "answer": format!("{}\n#### 72", text(50))}),
        ),
        (
            "openbookqa",
            json!({"dataset_path": "allenai/openbookqa", "dataset_name": "main", "output_type": "multiple_choice",
                   "doc_to_text": "question_stem", "doc_to_target": "{{choices.label.index(answerKey.lstrip())}}",
                   "doc_to_choice": "{{choices.text}}"}),
            json!({"id": "7-980", "question_stem": text(10), "answerKey": "C",
                   "choices": {"text": [text(3), text(2), text(4), text(3)], "label": ["A", "B", "C", "D"]}}),
        ),
        (
            "pubmedqa",
            json!({"dataset_path": "bigbio/pubmed_qa", "dataset_name": "pubmed_qa_labeled_fold0_source",
                   "output_type": "multiple_choice", "doc_to_target": "final_decision",
                   "doc_to_text": "!function pubmedqa.preprocess_pubmedqa.doc_to_text", "doc_to_choice": ["yes", "no", "maybe"]}),
            json!({"QUESTION": text(14), "CONTEXTS": [text(70), text(70), text(70)], "LABELS": ["A", "B", "C"], "MESHES": ["m"],
                   "YEAR": "2010", "reasoning_required_pred": "yes", "reasoning_free_pred": "yes", "final_decision": "yes",
                   "LONG_ANSWER": text(40)}),
        ),
        (
            "mutual",
            json!({"dataset_path": "EleutherAI/mutual", "dataset_name": "mutual", "output_type": "multiple_choice",
                   "process_docs": "!function mutual.utils.process_docs", "doc_to_text": "{{article}}",
                   "doc_to_target": "{{['A', 'B', 'C', 'D'].index(answers)}}", "doc_to_choice": "{{options}}"}),
            json!({"answers": "A", "options": [text(14), text(14), text(14), text(14)], "article": text(80), "id": "train_1"}),
        ),
        (
            "ja_leaderboard_jcommonsenseqa",
            json!({"dataset_path": "Rakuten/JGLUE", "dataset_name": "JCommonsenseQA", "output_type": "multiple_choice",
                   "process_docs": "!function japanese_leaderboard.ja_leaderboard_jcommonsenseqa.process_docs",
                   "doc_to_text": "### 指示：\n与えられた選択肢の中から、最適な答えを選んでください。\n\n出力は以下から選択してください：\n\
                                   {% for choice in choices %}- {{ choice }}\n{% endfor %}\n### 入力：\n{{ question }}\n\n### 応答：",
                   "doc_to_target": "label", "doc_to_choice": "choices",
                   "description": "以下は、タスクを説明する指示と、文脈のある入力の組み合わせです。要求を適切に満たす応答を書きなさい。\n\n"}),
            json!({"q_id": 1, "question": "主に子ども向けのもので、イラストのついた物語が書かれているものはどれ？", "choice0": "世界",
                   "choice1": "写真集", "choice2": "絵本", "choice3": "論文", "choice4": "図鑑", "label": 2}),
        ),
    ]
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let rows = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(200_000);
    let folder = tempfile::tempdir().expect("a folder");
    let found = shared_rows();
    for (name, config, sample) in tasks() {
        let docs = found.get(name).cloned().unwrap_or_else(|| vec![sample]);
        write_rows(&folder.path().join(format!("{name}.jsonl")), &docs, rows);
        write_config(folder.path(), name, &config);
    }
    println!("rows of {}", if found.is_empty() { "the bench's own" } else { "the shared data" });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ours = runtime.block_on(measure(folder.path()));
    let theirs =
        if arguments.iter().any(|argument| argument == "ours") { BTreeMap::new() } else { harness(folder.path()) };
    println!(
        "{:<32}{:>12}{:>12}{:>12}{:>12}{:>12}",
        "rows/s on one core", "seedmill", "harness", "jinja2", "× harness", "× jinja2"
    );
    let mut seconds = [0.0; 3];
    for (name, rate) in &ours {
        let Some([harness, jinja2]) = theirs.get(*name) else {
            println!("{name:<32}{rate:>12.0}");
            continue;
        };
        println!("{name:<32}{rate:>12.0}{harness:>12.0}{jinja2:>12.0}{:>12.0}{:>12.0}", rate / harness, rate / jinja2);
        for (sum, rate) in seconds.iter_mut().zip([rate, harness, jinja2]) {
            *sum += 1.0 / rate;
        }
    }
    if !theirs.is_empty() {
        let [own, harness, jinja2] = seconds.map(|seconds| ours.len() as f64 / seconds);
        println!(
            "{:<32}{own:>12.0}{harness:>12.0}{jinja2:>12.0}{:>12.0}{:>12.0}",
            "all, as many of each",
            own / harness,
            own / jinja2
        );
    }
}

/// The raw rows of the shared golden file by task; none where it is not there.
fn shared_rows() -> BTreeMap<String, Vec<Value>> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let shared = std::env::var_os("SEEDMILL_SHARED").map_or(default, PathBuf::from);
    let Ok(file) = File::open(shared.join("golden/real.jsonl")) else { return BTreeMap::new() };
    let mut features: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let mut rows: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in BufReader::new(file).lines() {
        let row: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        let task = row["task"].as_str().expect("a task").to_owned();
        if row["header"] == true {
            features.insert(task, row["features"].as_object().expect("features").clone());
        } else if let Some(doc) = row["doc"].as_object() {
            let raw = features[&task].keys().filter_map(|name| Some((name.clone(), doc.get(name)?.clone())));
            rows.entry(task.clone()).or_default().push(Value::Object(raw.collect()));
        }
    }
    rows
}

fn write_rows(file: &Path, docs: &[Value], rows: usize) {
    let mut out = BufWriter::new(File::create(file).expect("a file"));
    for doc in docs.iter().cycle().take(rows) {
        writeln!(out, "{doc}").expect("a row");
    }
    out.flush().expect("the rows");
}

fn write_config(folder: &Path, name: &str, config: &Value) {
    let mut text = format!("task: {name}\ntraining_split: train\n");
    for (key, value) in config.as_object().expect("a config") {
        let value = match value.as_str().and_then(|value| value.strip_prefix("!function ")) {
            Some(function) => format!("!function {function}"),
            // JSON is YAML.
            None => value.to_string(),
        };
        text.push_str(&format!("{key}: {value}\n"));
    }
    std::fs::create_dir_all(folder.join("configs")).expect("a folder");
    std::fs::write(folder.join("configs").join(format!("{name}.yaml")), text).expect("a config");
}

/// Rows a second of every `norm` view, all of its columns, from Parquet.
async fn measure(folder: &Path) -> Vec<(&'static str, f64)> {
    let mut measured = Vec::new();
    for (name, config, _) in tasks() {
        let parquet = folder.join(format!("{name}.parquet"));
        let json = folder.join(format!("{name}.jsonl"));
        let context = SessionContext::new();
        let options =
            datafusion::prelude::JsonReadOptions::default().file_extension("jsonl").schema_infer_max_records(1000);
        let rows = context.read_json(json.to_string_lossy().into_owned(), options).await.expect("rows");
        rows.write_parquet(&parquet.to_string_lossy(), Default::default(), None).await.expect("a file");
        let path = config["dataset_path"].as_str().expect("a path").to_owned();
        let files = Some(parquet.to_string_lossy().into_owned());
        let tasks = TasksConfig {
            from: vec![folder.join("configs").join(format!("{name}.yaml"))],
            datasets: BTreeMap::from([(path, seedmill::config::DatasetConfig { files, ..Default::default() })]),
            cache: folder.join("cache"),
            ..TasksConfig::default()
        };
        let catalog = Arc::new(Catalog::load(&tasks, &seedmill::stores::Stores::from_env()).expect("a catalog"));
        let config = SessionConfig::new().with_target_partitions(1);
        let context = SessionContext::new_with_config_rt(config, Arc::new(RuntimeEnv::default()));
        catalog.register(&context).expect("tables");
        let frame = context.sql(&format!("SELECT * FROM norm.{name}")).await.expect("a plan");
        let start = processor_seconds();
        let mut stream = frame.execute_stream().await.expect("a stream");
        let mut rows = 0;
        while let Some(batch) = stream.next().await {
            rows += batch.expect("rows").num_rows();
        }
        measured.push((name, rows as f64 / (processor_seconds() - start)));
    }
    measured
}

/// What this process has used of processors, all threads together; the clock where the system does not say.
fn processor_seconds() -> f64 {
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    // utime and stime in hundredths of a second: the 14th and 15th field, of which the second may hold anything in brackets.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    match (fields.get(11).and_then(|f| f.parse::<f64>().ok()), fields.get(12).and_then(|f| f.parse::<f64>().ok())) {
        (Some(user), Some(system)) => (user + system) / 100.0,
        _ => BEGIN.elapsed().as_secs_f64(),
    }
}

/// Rows a second of the harness and of Jinja2 by task.
fn harness(folder: &Path) -> BTreeMap<String, [f64; 2]> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = std::env::var_os("SEEDMILL_BENCH_PYTHON").map_or_else(|| install(root), PathBuf::from);
    let script = root.join("benches/normalize/harness.py");
    let output = Command::new(python).arg(script).arg(folder).arg(HARNESS_ROWS.to_string()).output().expect("python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("text");
    let rate = |line: &str| {
        let measured: Value = serde_json::from_str(line).expect("JSON");
        let number = |key: &str| measured[key].as_f64().expect("a number");
        let rates = [number("rows") / number("harness"), number("rows") / number("jinja2")];
        (measured["task"].as_str().expect("a task").to_owned(), rates)
    };
    lines.lines().filter(|line| line.starts_with('{')).map(rate).collect()
}

/// An interpreter that has the harness, installed from PyPI the first time.
fn install(root: &Path) -> PathBuf {
    let environment = root.join("target/normalize-env");
    let python = environment.join("bin/python");
    if !python.exists() {
        println!("installing {LM_EVAL} from PyPI into {}", environment.display());
        let made = Command::new("python3").args(["-m", "venv"]).arg(&environment).status().expect("python3");
        let installed = Command::new(&python).args(["-m", "pip", "install", "--quiet", LM_EVAL]).status().expect("pip");
        assert!(made.success() && installed.success(), "{LM_EVAL} cannot be installed");
    }
    python
}
