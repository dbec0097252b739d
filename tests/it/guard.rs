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
