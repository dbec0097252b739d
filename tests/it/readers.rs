//! A published run read by what people use: pyarrow, pandas, polars, duckdb, DataFusion's Python package, `datasets` and TRL.

use std::path::Path;
use std::process::Command;

use crate::fault_server::FaultServer;
use crate::pipeline::{MODELS, workspace, writer_and_solver};
use crate::python_env::python;

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
    let readers = said.lines().map(|line| line.split(':').next().unwrap()).collect::<Vec<_>>();
    let all = ["pyarrow", "pandas", "polars", "duckdb", "datafusion", "datasets", "trl", "types and statistics"];
    assert_eq!(readers, all, "{said}");
}
