//! Every SQL block of README and docs/ is run over a real run of the standard pipeline, with a server in the models' place.
//! A block marked `no-test` is not. Where an error is shown behind a block, that error must come.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fault_server::FaultServer;
use crate::pipeline::{MODELS, workspace, writer_and_solver};
use crate::scratch::Scratch;

/// A block that is to be run.
struct Block {
    line: usize,
    sql: String,
    /// What the program says instead of a result: the block `text` behind it, where that is an error.
    error: Option<String>,
}

/// The blocks of a Markdown file: line, what stands behind the fence, text.
fn fenced(file: &Path) -> Vec<(usize, String, String)> {
    let text = std::fs::read_to_string(file).unwrap();
    let mut all = Vec::<(usize, String, String)>::new();
    let mut is_open = false;
    for (line, text) in text.lines().enumerate() {
        match text.strip_prefix("```") {
            Some(info) if !is_open => {
                is_open = true;
                all.push((line + 1, info.to_owned(), String::new()));
            }
            Some(_) => is_open = false,
            None if is_open => {
                if let Some((_, _, block)) = all.last_mut() {
                    block.push_str(text);
                    block.push('\n');
                }
            }
            None => {}
        }
    }
    all
}

/// The SQL blocks of a Markdown file.
fn blocks(file: &Path) -> Vec<Block> {
    let all = fenced(file);
    let mut blocks = Vec::<Block>::new();
    for (index, (line, info, block)) in all.iter().enumerate() {
        if info == "sql" {
            let next = all.get(index + 1).filter(|(_, info, text)| info == "text" && text.starts_with("seedmill: "));
            blocks.push(Block { line: *line, sql: block.clone(), error: next.map(|(_, _, text)| text.clone()) });
        }
    }
    blocks
}

fn documents() -> Vec<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let docs = walkdir::WalkDir::new(root.join("docs")).into_iter().map(|entry| entry.unwrap().into_path());
    let mut files: Vec<PathBuf> = docs.filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    files.push(root.join("README.md"));
    files.sort();
    files
}

/// A workspace with the standard pipeline and the models that the documents name.
fn documented(server: &FaultServer) -> Scratch {
    let scratch = workspace(server);
    let settings = std::fs::read_to_string(scratch.path().join("seedmill.toml")).unwrap();
    let model = &settings[..settings.find("[tasks]").unwrap()];
    let names = ["local", "embedder", "big"];
    let more = names.map(|name| model.replace("[models.m]", &format!("[models.{name}]"))).concat();
    scratch.write("seedmill.toml", &format!("{more}{settings}"));
    scratch
}

/// Each document has a workspace of its own, in which a run was made; its blocks build on each other.
#[test]
fn every_shell_block_of_readme_and_docs_runs() {
    let server = FaultServer::start(writer_and_solver);
    let programs = Path::new(env!("CARGO_BIN_EXE_seedmill")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let (mut failed, mut run) = (Vec::new(), 0);
    for file in documents() {
        let blocks: Vec<_> = fenced(&file).into_iter().filter(|(_, info, _)| info == "sh").collect();
        if blocks.is_empty() {
            continue;
        }
        let scratch = documented(&server);
        scratch.ok(&["run", "--quiet", "--limit-seeds", "20"]);
        for (line, _, script) in blocks {
            run += 1;
            let output = Command::new("bash")
                .args(["-euo", "pipefail", "-c", &script])
                .env("PATH", &path)
                .current_dir(scratch.path())
                .output()
                .unwrap();
            if !output.status.success() {
                failed.push(format!("{}:{line}: {}", file.display(), String::from_utf8_lossy(&output.stderr)));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(run >= 8, "{run}");
}

#[test]
fn every_sql_block_of_readme_and_docs_runs() {
    let server = FaultServer::start(writer_and_solver);
    let scratch = documented(&server);
    scratch.ok(&[&["run", "--quiet"], &MODELS[..]].concat());
    let mut failed = Vec::new();
    let mut run = 0;
    for file in documents() {
        for Block { line, sql, error } in blocks(&file) {
            run += 1;
            // `-- seedmill sql --set …` in the first line says how it is run.
            let more = sql.lines().next().and_then(|line| line.strip_prefix("-- seedmill sql ")).unwrap_or_default();
            let more: Vec<&str> = more.split_whitespace().collect();
            let output = scratch.run(&[&["sql", "--quiet"], &MODELS[..], &more, &["-c", &sql]].concat());
            let said = String::from_utf8_lossy(&output.stderr);
            let as_told = match &error {
                Some(error) => !output.status.success() && said.trim() == error.trim(),
                None => output.status.success(),
            };
            if !as_told {
                failed.push(format!("{}:{line}: {said}", file.display()));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(run > 20, "{run}");
}
