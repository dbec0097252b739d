//! `seedmill init`: a pipeline folder out of the binary.

use std::process::Command;

use crate::scratch::Scratch;

#[test]
fn what_init_writes_is_planned_anywhere_and_nothing_is_written_twice() {
    let scratch = Scratch::new("http://127.0.0.1:1/v1", 1, "");
    let folder = scratch.path().join("mill");
    let seedmill = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_seedmill")).args(arguments).current_dir(scratch.path()).output().unwrap()
    };
    assert!(seedmill(&["init", "mill"]).status.success());
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/sql");
    for file in ["10_seeds.sql", "filters/form.sql", "prompts/solve_open.jinja"] {
        let (written, source) = (folder.join("sql").join(file), std::path::Path::new(own).join(file));
        assert_eq!(std::fs::read(written).unwrap(), std::fs::read(source).unwrap(), "{file}");
    }
    let plan = seedmill(&["-w", "mill", "explain"]);
    assert!(plan.status.success(), "{}", String::from_utf8_lossy(&plan.stderr));
    assert!(String::from_utf8_lossy(&plan.stdout).contains("Generate"));
    let seeds = seedmill(&["-w", "mill", "sql", "--format", "csv", "-c", "SELECT count(*) > 100 AS many FROM seeds"]);
    assert_eq!(String::from_utf8_lossy(&seeds.stdout), "many\ntrue\n");

    std::fs::write(folder.join("sql/10_seeds.sql"), "-- mine").unwrap();
    let again = seedmill(&["init", "mill"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("is there already, and nothing was written"));
    assert_eq!(std::fs::read_to_string(folder.join("sql/10_seeds.sql")).unwrap(), "-- mine");
}
