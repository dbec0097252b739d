//! SQL-visible behaviour: every file of `tests/sql/*.slt` in a fresh workspace whose models are servers on a socket.
//! The server `echo` answers with what it was asked: each text of the schema is the last message, each number its length.

#[path = "it/fault_server.rs"]
#[allow(dead_code)]
mod fault_server;

use std::path::{Path, PathBuf};
use std::time::Duration;

use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::DataFusionError;
use fault_server::{FaultServer, Reply};
use seedmill::session::{OpenOptions, Workspace};
use serde_json::{Map, Value, json};
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};

struct Session {
    workspace: Workspace,
}

#[async_trait::async_trait]
impl AsyncDB for Session {
    type Error = DataFusionError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, DataFusionError> {
        let frame = self.workspace.sql(sql).await?;
        let columns = frame.schema().fields().len();
        let batches = frame.collect().await?;
        if columns == 0 {
            return Ok(DBOutput::StatementComplete(0));
        }
        let options = FormatOptions::default().with_null("NULL");
        let mut rows = Vec::new();
        for batch in &batches {
            let formatters: Vec<ArrayFormatter> = batch
                .columns()
                .iter()
                .map(|column| ArrayFormatter::try_new(column, &options))
                .collect::<Result<_, _>>()?;
            for row in 0..batch.num_rows() {
                let cells = formatters.iter().map(|f| f.value(row).to_string().replace('\n', "\\n"));
                rows.push(cells.map(|cell| if cell.is_empty() { "(empty)".into() } else { cell }).collect());
            }
        }
        Ok(DBOutput::Rows { types: vec![DefaultColumnType::Any; columns], rows })
    }

    async fn shutdown(&mut self) {}
}

/// What the server `echo` answers.
fn echo(body: &Value, nth: u64) -> Reply {
    if body.get("input").is_some() {
        return fault_server::embeddings(body, nth);
    }
    let asked = body["messages"].as_array().and_then(|m| m.last()).map_or("", |m| m["content"].as_str().unwrap_or(""));
    if let Some(status) = asked.strip_prefix("status ").and_then(|s| s.parse().ok()) {
        return Reply::Status(status, None, "as asked".into());
    }
    let text = match body.pointer("/response_format/json_schema/schema") {
        _ if asked.starts_with("prose") => asked.to_owned(),
        Some(schema) => follow(schema, asked).to_string(),
        None => asked.to_owned(),
    };
    Reply::Answer(text, Duration::ZERO)
}

fn follow(schema: &Value, asked: &str) -> Value {
    let kind = &schema["type"];
    match kind.as_str().or_else(|| kind.get(0)?.as_str()) {
        Some("object") => {
            let properties = schema["properties"].as_object().cloned().unwrap_or_default();
            Value::Object(properties.iter().map(|(k, v)| (k.clone(), follow(v, asked))).collect::<Map<_, _>>())
        }
        Some("array") => {
            let n = schema["minItems"].as_u64().unwrap_or(0);
            (0..n).map(|i| follow(&schema["items"], &format!("{asked}{i}"))).collect()
        }
        Some("integer") => json!(asked.chars().count()),
        Some("number") => json!(asked.chars().count() as f64 / 2.0),
        Some("boolean") => json!(asked.len().is_multiple_of(2)),
        _ => schema["enum"].get(0).cloned().unwrap_or_else(|| json!(asked)),
    }
}

/// A workspace with the models `echo` and `other`, a pipeline folder with a prompt and a filter, and one task.
fn workspace(root: &Path, server: &FaultServer) {
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let model = |name: &str| {
        format!(
            "[models.{name}]\nprovider = \"openai\"\nbase_urls = [\"{}\"]\nmodel = \"{name}-1\"\nmax_retries = 1\n",
            server.url()
        )
    };
    write(
        "seedmill.toml",
        &format!(
            "{}{}[tasks]\nfrom = [\"tasks\"]\n[variables]\nwriter = \"echo\"\nk = 2\nshare = 0.5\nflag = true\n",
            model("echo"),
            model("other")
        ),
    );
    write("sql/prompts/ask.jinja", "{{ topic }}, please ({{ sample }})");
    write("sql/prompts/typo.jinja", "{{ topci }}");
    write(
        "sql/filters/short.sql",
        "CREATE FUNCTION is_short(s TEXT) RETURNS BOOLEAN RETURN length($s) < 5;\n\
         CREATE FUNCTION is_short_or_blank(s TEXT) RETURNS BOOLEAN RETURN is_short($s) OR trim($s) = '';",
    );
    write(
        "tasks/capitals/capitals.yaml",
        "task: capitals\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    train: train.jsonl\n    test: test.jsonl\n\
         output_type: multiple_choice\ntraining_split: train\ntest_split: test\n\
         doc_to_text: \"Question: {{question}}\\nAnswer:\"\ndoc_to_choice: \"{{choices}}\"\ndoc_to_target: label\n\
         metadata:\n  version: 1.0\n  license: CC0-1.0\n  capability: knowledge\n  format: multiple_choice\n  language: en\n",
    );
    let row = |question: &str, label: u8| {
        json!({"question": question, "choices": ["Paris", "Rome", "Oslo"], "label": label}).to_string() + "\n"
    };
    write(
        "tasks/capitals/train.jsonl",
        &[row("Capital of France?", 0), row("Capital of Italy?", 1), row("Capital of Norway?", 2)].concat(),
    );
    write("tasks/capitals/test.jsonl", &row("Seat of Norway's parliament?", 2));
    // A held-out file of the catalog whose name does not say so; the task's other held-out rows are in test.jsonl.
    write(
        "tasks/quiz/quiz.yaml",
        "task: quiz\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    validation: ../capitals/quiz.jsonl\n\
         output_type: loglikelihood\nvalidation_split: validation\n",
    );
    write("tasks/capitals/quiz.jsonl", &row("Capital of Spain?", 0));
    let mine = "{\"q\": \"mine?\"}\n";
    for file in [
        "exam.test.jsonl",
        "mixed/a.json",
        "mixed/b.valid.json",
        "parts/year=2024/a.json",
        "parts/year=2025/test2.json",
        "rows.jsonl",
        "test/rows.jsonl",
        "latest_contest.jsonl",
        "dev.jsonl",
    ] {
        write(&format!("files/{file}"), mine);
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink(root.join("files/exam.test.jsonl"), root.join("files/link.jsonl")).unwrap();
}

fn copy_folder(from: &Path, to: &Path) {
    let Ok(entries) = std::fs::read_dir(from) else { return };
    std::fs::create_dir_all(to).unwrap();
    for entry in entries {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn sql_behaves_as_the_files_in_tests_sql_say() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut files: Vec<PathBuf> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "slt"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    let mut failures = Vec::new();
    for file in files {
        let server = FaultServer::start(echo);
        let root = tempfile::tempdir().unwrap();
        workspace(root.path(), &server);
        // What a file needs beside is in the folder of its name.
        copy_folder(&file.with_extension(""), root.path());
        let options = OpenOptions { root: Some(root.path().to_owned()), ..OpenOptions::default() };
        let mut runner = Runner::new(|| async {
            let workspace = Workspace::open(options.clone()).await?;
            Ok(Session { workspace })
        });
        runner.set_var("WS".to_owned(), root.path().to_string_lossy().into_owned());
        if let Err(error) = runtime.block_on(runner.run_file_async(&file)) {
            failures.push(error.display(false).to_string());
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
