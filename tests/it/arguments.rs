//! What SQL says of a call is what the server is sent, and rows come as soon as they are there.

use std::time::Duration;

use futures::StreamExt;
use seedmill::session::{OpenOptions, Workspace};
use serde_json::json;

use crate::fault_server::{FaultServer, Reply, answer};
use crate::interrupt::wait_until;
use crate::scratch::Scratch;

#[test]
fn every_argument_reaches_the_server() {
    let server = FaultServer::start(answer);
    let scratch = Scratch::new(server.url(), 2, "");
    scratch.ok(&[
        "sql",
        "-c",
        "SELECT * FROM generate((SELECT 'tea' AS topic), model => 'm', system => 'About ' || topic || '.', prompt => topic, \
         returns => 'q VARCHAR(20)', items => 2, samples => 2, temperature => 0.9, top_p => 0.5, max_tokens => 80, seed => 7, \
         stop => ['END', '##'], extra => '{\"top_k\": 40}')",
    ]);
    let asked = server.asked();
    assert_eq!(asked.len(), 2);
    for asked in &asked {
        let body = &asked.body;
        assert_eq!(body["model"], "m-1");
        assert_eq!(body["messages"][0], json!({"role": "system", "content": "About tea."}));
        assert_eq!(body["messages"][1], json!({"role": "user", "content": "tea"}));
        assert_eq!((&body["temperature"], &body["top_p"]), (&json!(0.9), &json!(0.5)));
        assert_eq!((&body["max_tokens"], &body["top_k"]), (&json!(80), &json!(40)));
        assert_eq!(body["stop"], json!(["END", "##"]));
        let items = &body["response_format"]["json_schema"]["schema"]["properties"]["items"];
        assert_eq!((&items["minItems"], &items["maxItems"]), (&json!(2), &json!(2)));
        assert_eq!(items["items"]["properties"]["q"]["maxLength"], 20);
    }
    // Samples differ on servers that honour the seed.
    assert_ne!(asked[0].body["seed"], asked[1].body["seed"]);
    assert!(asked.iter().all(|asked| asked.body["seed"].is_u64()));
}

#[test]
fn a_row_is_given_out_while_others_are_in_flight() {
    let server = FaultServer::start(|body, nth| match body["messages"][0]["content"].as_str() {
        Some("question 1") => answer(body, nth),
        _ => Reply::Hang,
    });
    let scratch = Scratch::new(server.url(), 8, "");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = OpenOptions { root: Some(scratch.path().to_owned()), ..OpenOptions::default() };
        let workspace = Workspace::open(options).await.unwrap();
        let sql = "SELECT * FROM generate((SELECT value FROM generate_series(1, 5)), model => 'm', prompt => 'question ' || value)";
        let mut rows = workspace.sql(sql).await.unwrap().execute_stream().await.unwrap();
        let batch = tokio::time::timeout(Duration::from_secs(20), rows.next()).await.expect("a row").unwrap().unwrap();
        assert_eq!(batch.num_rows(), 1);
        // It may be out before the last of the others has come to the server.
        wait_until("the others in flight", || server.in_flight() == 4);
    });
    runtime.shutdown_background();
}
