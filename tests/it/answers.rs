//! What becomes of answers: wrong ones are sent back and paid once, short lists are used and counted.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fault_server::{FaultServer, Reply, answer};
use crate::scratch::Scratch;

/// A server whose first `wrong` answers in a conversation miss the column `n`.
fn wrong_first(wrong: usize) -> FaultServer {
    FaultServer::start(move |body, nth| {
        let answered = body["messages"].as_array().unwrap().iter().filter(|m| m["role"] == "assistant").count();
        if answered < wrong {
            return Reply::Answer(format!("{{\"q\": \"wrong {answered}\"}}"), Duration::ZERO);
        }
        answer(body, nth)
    })
}

const PRICED: &str = "price_per_million = { input = 1000000.0, output = 0.0 }\n";

fn sql(repair: u32) -> String {
    format!(
        "SELECT count(*) AS rows, count(q) AS answers, min(generate_call['error']) AS error, \
         sum(generate_call['prompt_tokens']) AS tokens, sum(generate_call['cost_usd']) AS cost, \
         bool_or(generate_call['replayed']) AS replayed \
         FROM generate((SELECT value FROM generate_series(1, 5)), model => 'm', prompt => 'question ' || value, \
         returns => 'q TEXT, n BIGINT', repair => {repair})"
    )
}

fn row(scratch: &Scratch, sql: &str) -> String {
    scratch.ok(&["sql", "--format", "csv", "-c", sql]).lines().nth(1).unwrap().to_owned()
}

#[test]
fn a_wrong_answer_is_sent_back_until_it_is_right_and_every_call_is_paid_once() {
    let server = wrong_first(2);
    let scratch = Scratch::new(server.url(), 4, PRICED);
    let first = row(&scratch, &sql(3));
    assert_eq!(server.count(), 5 * 3, "three calls a row, and no fourth after the right answer");
    let told: u64 = server.asked().iter().map(|asked| prompt_tokens(&asked.body)).sum();
    // The call column has the tokens and the cost of all three.
    assert_eq!(first, format!("5,5,,{told},{told}.0,false"));

    // Each follow-up is a call of its own, and all of them replay.
    assert_eq!(scratch.value("SELECT count(*) FROM calls"), "15");
    assert_eq!(row(&scratch, &sql(3)), first.replace("false", "true"));
    assert_eq!(server.count(), 15);
    assert_eq!(scratch.value("SELECT count(*) FROM attempts"), "15");

    // More repairs than were needed are no other calls, and what was asked without any is there already.
    assert_eq!(row(&scratch, &sql(10)), first.replace("false", "true"));
    scratch.ok(&["sql", "-c", &sql(0)]);
    assert_eq!(server.count(), 15);
    // A run's uses name every call of a chain.
    let uses = "SELECT count(DISTINCT call_id) FROM call_uses WHERE replayed";
    assert_eq!(scratch.value(uses), "15");
}

fn prompt_tokens(body: &Value) -> u64 {
    body["messages"].to_string().split_whitespace().count() as u64
}

/// The words are part of a paid call's identity.
#[test]
fn the_model_is_told_what_it_said_and_what_is_wrong() {
    let server = wrong_first(2);
    let scratch = Scratch::new(server.url(), 1, "");
    scratch.ok(&[
        "sql",
        "-c",
        "SELECT * FROM generate((SELECT 1 AS x), model => 'm', system => 'Be right.', prompt => 'ask', \
         returns => 'q TEXT, n BIGINT', repair => 2, temperature => 0.5, seed => 1)",
    ]);
    let asked = server.asked();
    let told =
        "This answer cannot be used: 'n' is missing. Answer again with the whole corrected JSON and nothing else.";
    assert_eq!(
        asked[2].body["messages"],
        json!([
            {"role": "system", "content": "Be right."},
            {"role": "user", "content": "ask"},
            {"role": "assistant", "content": "{\"q\": \"wrong 0\"}"},
            {"role": "user", "content": told},
            {"role": "assistant", "content": "{\"q\": \"wrong 1\"}"},
            {"role": "user", "content": told},
        ])
    );
    for key in ["temperature", "seed", "response_format"] {
        assert_eq!(asked[0].body[key], asked[2].body[key]);
        assert!(!asked[0].body[key].is_null(), "{key}");
    }
}

#[test]
fn spent_repairs_leave_an_error_row_that_names_the_field() {
    let server = wrong_first(usize::MAX);
    let scratch = Scratch::new(server.url(), 4, "");
    let out = row(&scratch, &sql(2));
    assert!(out.starts_with("5,0,'n' is missing (after 2 repairs),"), "{out}");
    assert_eq!(server.count(), 15);
    scratch.ok(&["sql", "-c", &sql(2)]);
    assert_eq!(server.count(), 15, "wrong answers replay too");
}

#[test]
fn a_repair_that_fails_is_asked_again_by_the_next_run_and_the_first_answer_is_not() {
    let broken = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let down = broken.clone();
    let server = FaultServer::start(move |body, nth| match body["messages"].as_array().unwrap().len() {
        1 => Reply::Answer("no idea".into(), Duration::ZERO),
        _ if down.load(std::sync::atomic::Ordering::SeqCst) => Reply::Status(422, None, "not now".into()),
        _ => answer(body, nth),
    });
    let scratch = Scratch::new(server.url(), 4, "");
    let out = row(&scratch, &sql(1));
    let error = "the answer holds no JSON: 'no idea'; the call to repair it failed: refused 422: not now";
    assert!(out.starts_with(&format!("5,0,{error},")), "{out}");
    assert_eq!(server.count(), 10);
    broken.store(false, std::sync::atomic::Ordering::SeqCst);
    assert!(row(&scratch, &sql(1)).starts_with("5,5,,"));
    assert_eq!(server.count(), 15);
}

#[test]
fn repairs_keep_to_the_budget() {
    let server = wrong_first(usize::MAX);
    let scratch = Scratch::new(server.url(), 1, "[budget]\nmax_calls = 4\n");
    let output = scratch.run(&["sql", "-c", &sql(10)]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("the budget max_calls = 4 is spent"));
    assert!(server.count() <= 5, "{}", server.count());
}

#[test]
fn a_list_of_another_length_is_used_and_what_is_missing_is_counted() {
    let server = FaultServer::start(|body, _| {
        let n: usize = body["messages"][0]["content"].as_str().unwrap().parse().unwrap();
        let items: Vec<Value> = (0..n).map(|i| json!({"q": format!("{n}.{i}")})).collect();
        Reply::Answer(json!({"items": items}).to_string(), Duration::ZERO)
    });
    let scratch = Scratch::new(server.url(), 4, "");
    let sql = "SELECT generate_call['item'] AS item, count(*) AS n, count(q) AS q \
               FROM generate((SELECT value FROM generate_series(0, 4)), model => 'm', prompt => value::TEXT, \
               returns => 'q TEXT', items => 3) GROUP BY 1 ORDER BY 1 NULLS LAST";
    let out = scratch.ok(&["sql", "--format", "csv", "-c", sql]);
    // Lists of 1 to 4 items, and an error row for the empty one.
    assert_eq!(out.lines().skip(1).collect::<Vec<_>>(), ["0,4,4", "1,3,3", "2,2,2", "3,1,1", ",1,0"]);
    let analyzed = scratch.ok(&["sql", "-c", &format!("EXPLAIN ANALYZE {sql}")]);
    assert!(analyzed.contains("items_short=3") && analyzed.contains("answers_unparsed=1"), "{analyzed}");
    assert_eq!(server.count(), 5);
}

#[test]
fn every_type_comes_back_through_schema_and_server() {
    let server = FaultServer::start(answer);
    let scratch = Scratch::new(server.url(), 1, "");
    let out = scratch.ok(&[
        "sql",
        "--format",
        "ndjson",
        "-c",
        "SELECT t, b, i, n, d, l, k, s FROM generate((SELECT 'x' AS p), model => 'm', prompt => p, returns => \
         't TEXT NOT NULL, b BOOLEAN, i BIGINT, n INT NULL, d DOUBLE, l VARCHAR(5)[2], \
         k TEXT CHECK (k IN (''yes'', ''no'')), s STRUCT<a TEXT NULL, f STRUCT<g DOUBLE>[1]>[2]')",
    ]);
    let text = out.trim().lines().collect::<String>();
    let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {out}"));
    let row = value.get(0).unwrap_or(&value);
    let schema = &server.asked()[0].body["response_format"]["json_schema"];
    assert_eq!(schema["strict"], true);
    assert_eq!(schema["schema"]["required"], json!(["t", "b", "i", "n", "d", "l", "k", "s"]));
    assert_eq!(schema["schema"]["properties"]["n"], json!({"type": ["integer", "null"]}));
    assert!(row["t"].is_string() && row["b"].is_boolean() && row["i"].is_i64() && row["n"].is_i64(), "{row}");
    assert!(row["d"].is_f64() && row["l"].as_array().unwrap().len() == 2, "{row}");
    assert!(["yes", "no"].contains(&row["k"].as_str().unwrap()), "{row}");
    assert!(row["s"][1]["a"].is_string() && row["s"][0]["f"][0]["g"].is_f64(), "{row}");
}
