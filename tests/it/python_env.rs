//! A Python with what published runs are read with, and with lm-evaluation-harness.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const PACKAGES: [&str; 9] = [
    "pyarrow==26.0.1",
    "pandas==3.1.1",
    "polars==2.1.0",
    "duckdb==2.0.1",
    "datafusion==55.0.0",
    "datasets==5.2.0",
    "transformers==5.24.0",
    // Chat templates are rendered by it, and transformers does not ask for it.
    "jinja2==3.1.6",
    "lm_eval==0.4.13",
];

/// Installed without torch, which reading needs not.
const WITHOUT_TORCH: [&str; 1] = ["trl==1.16.0"];

/// Its interpreter. Installed once a target folder.
pub fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-env");
        let python = environment.join("bin/python");
        let installed = environment.join("installed.txt");
        let wanted = [&PACKAGES[..], &WITHOUT_TORCH].concat().join("\n");
        if std::fs::read_to_string(&installed).ok().as_deref() != Some(&wanted) {
            let run = |program: &Path, arguments: &[&str]| {
                let status = Command::new(program).args(arguments).status().unwrap();
                assert!(status.success(), "{arguments:?}");
            };
            run(Path::new("python3"), &["-m", "venv", "--clear", environment.to_str().unwrap()]);
            run(&python, &[&["-m", "pip", "install", "--quiet"], &PACKAGES[..]].concat());
            run(&python, &[&["-m", "pip", "install", "--quiet", "--no-deps"], &WITHOUT_TORCH[..]].concat());
            std::fs::write(&installed, wanted).unwrap();
        }
        python
    })
}
