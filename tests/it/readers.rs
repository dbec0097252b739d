//! A published run read by what people use: pyarrow, pandas, polars, duckdb, DataFusion's Python package, `datasets` and TRL.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fault_server::FaultServer;
use crate::pipeline::{MODELS, workspace, writer_and_solver};

const READERS: [&str; 7] = [
    "pyarrow==26.0.1",
    "pandas==3.1.1",
    "polars==2.1.0",
    "duckdb==2.0.1",
    "datafusion==55.0.0",
    "datasets==5.2.0",
    "transformers==5.24.0",
];

/// Installed without torch, which reading needs not.
const WITHOUT_TORCH: [&str; 1] = ["trl==1.16.0"];

/// A Python with the readers, made once a target folder.
fn python() -> PathBuf {
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("readers-env");
    let python = environment.join("bin/python");
    let installed = environment.join("installed.txt");
    let wanted = [&READERS[..], &WITHOUT_TORCH].concat().join("\n");
    if std::fs::read_to_string(&installed).ok().as_deref() != Some(&wanted) {
        let run = |program: &Path, arguments: &[&str]| {
            let status = Command::new(program).args(arguments).status().unwrap();
            assert!(status.success(), "{arguments:?}");
        };
        run(Path::new("python3"), &["-m", "venv", "--clear", environment.to_str().unwrap()]);
        run(&python, &[&["-m", "pip", "install", "--quiet"], &READERS[..]].concat());
        run(&python, &[&["-m", "pip", "install", "--quiet", "--no-deps"], &WITHOUT_TORCH[..]].concat());
        std::fs::write(&installed, wanted).unwrap();
    }
    python
}

#[test]
fn peers_a_published_run_opens_unchanged_in_what_people_read_it_with() {
    let server = FaultServer::start(writer_and_solver);
    let scratch = workspace(&server);
    scratch.ok(&[&["run", "--quiet"], &MODELS[..]].concat());
    let [kept, rejected] = ["curated", "rejected"].map(|table| scratch.value(&format!("SELECT count(*) FROM {table}")));
    assert_ne!((kept.as_str(), rejected.as_str()), ("0", "0"));
    let run = std::fs::read_dir(scratch.path().join("runs")).unwrap().map(|entry| entry.unwrap().path());
    let run = run.into_iter().find(|path| path.join("manifest.json").is_file()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/readers.py");
    let output = Command::new(python())
        .arg(script)
        .args([run.to_str().unwrap(), &kept, &rejected])
        .env("HF_HUB_OFFLINE", "1")
        .env("HF_HOME", scratch.path().join("hf"))
        .current_dir(scratch.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.lines().count(), READERS.len() + 1, "{said}");
}
