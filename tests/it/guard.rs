//! The guard across processes: what one session writes, another knows.

use crate::fault_server::{FaultServer, answer};
use crate::scratch::Scratch;

#[test]
fn held_out_rows_stay_held_out_through_a_file() {
    let server = FaultServer::start(answer);
    let scratch = Scratch::new(server.url(), 2, "");
    scratch.write("t.test.jsonl", "{\"q\": \"held?\"}\n");
    let copy =
        "CREATE EXTERNAL TABLE h STORED AS JSON LOCATION 't.test.jsonl'; COPY (SELECT q FROM h) TO 'plain.parquet'";
    scratch.ok(&["sql", "-c", copy]);
    let read = "CREATE EXTERNAL TABLE p STORED AS PARQUET LOCATION 'plain.parquet'";
    let output = scratch.run(&["sql", "-c", &format!("{read}; SELECT * FROM generate(p, model => 'm', prompt => q)")]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("p holds held-out rows (split test, says its file's footer)"), "{error}");
    // A user who knows better says so.
    let own = "CREATE EXTERNAL TABLE p STORED AS PARQUET LOCATION 'plain.parquet' OPTIONS ('seedmill.split' 'train')";
    scratch.ok(&["sql", "-c", &format!("{own}; SELECT * FROM generate(p, model => 'm', prompt => q)")]);
    assert_eq!(server.count(), 1);
}

#[test]
fn the_licence_gate_goes_by_the_variable_target_wherever_it_is_set() {
    let server = FaultServer::start(answer);
    let variable = "[tasks]\nfrom = [\"tasks\"]\n[variables]\ntarget = \"commercial\"\n";
    let scratch = Scratch::new(server.url(), 2, variable);
    scratch.write(
        "tasks/closed/closed.yaml",
        "task: closed\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    train: train.jsonl\n\
         output_type: generate_until\ntraining_split: train\ndoc_to_text: \"{{q}}\"\ndoc_to_target: \"{{a}}\"\n\
         metadata:\n  license: CC-BY-NC-4.0\n  capability: knowledge\n",
    );
    scratch.write("tasks/closed/train.jsonl", "{\"q\": \"Is it free?\", \"a\": \"no\"}\n");
    let sql = "SELECT completion FROM generate((SELECT q FROM raw.closed), model => 'm', prompt => q)";
    let unknown = "is unknown; use 'research' or 'commercial'";
    for (set, sentence) in [
        (&["--set", "target=5"][..], unknown),
        (&["--set", "target=true"], unknown),
        (&["--set", "target=resaerch"], unknown),
        (&[], "CC-BY-NC-4.0, which does not permit a commercial run"),
    ] {
        let output = scratch.run(&[&["sql", "-c", sql], set].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{set:?}: {error}");
        assert!(error.contains(sentence), "{set:?}: {error}");
    }
    assert_eq!(server.count(), 0);
    // The command line stands over the file.
    scratch.ok(&["sql", "--set", "target=research", "-c", sql]);
    assert_eq!(server.count(), 1);
}
