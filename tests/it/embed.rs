//! `embed` over a real socket: batches, their faults, and that no text is paid twice.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use seedmill::session::OpenOptions;
use serde_json::{Value, json};

use crate::closed_port::ClosedPort;
use crate::fault_server::{FaultServer, Reply, embedding, embeddings};
use crate::interrupt::{ctrl_c, wait_until};
use crate::scratch::Scratch;

const ROWS: usize = 1000;

/// Rows, vectors, distinct vectors and the least error.
const SQL: &str = "SELECT count(*), count(embedding), count(DISTINCT embedding), min(embed_call['error']) FROM embed(\
                   (SELECT value FROM generate_series(1, 1000)), model => 'm', text => 'the text ' || value)";

fn row(scratch: &Scratch, sql: &str) -> String {
    scratch.ok(&["sql", "--format", "csv", "-c", sql]).lines().nth(1).unwrap().to_owned()
}

/// How often the server answered each text.
fn answered_texts(server: &FaultServer, answered: impl Fn(&Value) -> bool) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for asked in server.asked().into_iter().filter(|asked| answered(&asked.body)) {
        for text in asked.body["input"].as_array().unwrap() {
            *counts.entry(text.as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    counts
}

#[test]
fn texts_travel_in_batches_and_each_is_a_call_of_its_own() {
    let server = FaultServer::start(embeddings);
    let price = "embed_batch_size = 50\nprice_per_million = { input = 1000000.0, output = 0.0 }\n";
    let scratch = Scratch::new(server.url(), 2, price);
    assert_eq!(row(&scratch, SQL), format!("{ROWS},{ROWS},{ROWS},"));
    assert_eq!(server.asked()[0].path, "/v1/embeddings");
    assert_eq!(answered_texts(&server, |_| true).len(), ROWS);
    let sizes: Vec<usize> = server.asked().iter().map(|asked| asked.body["input"].as_array().unwrap().len()).collect();
    assert_eq!(sizes.iter().max(), Some(&50));
    // Some batches go out before they are full, when the rows come slowly.
    let in_full = 50 * sizes.iter().filter(|size| **size == 50).count();
    assert!(in_full >= ROWS / 2, "{sizes:?}");
    assert!(server.max_in_flight() <= 2);
    // Three words a text: tokens and cost are the server's, shared among its texts.
    let calls = "SELECT count(*) || ' ' || sum(prompt_tokens) || ' ' || sum(cost_usd) FROM calls";
    assert_eq!(scratch.value(calls), "1000 3000 3000.0");
    assert_eq!(scratch.value("SELECT count(*) FROM attempts WHERE billed"), "1000");

    // All of them replay, in whatever batches they would travel now.
    let before = server.count();
    let replayed = format!("{SQL} WHERE embed_call['replayed']");
    assert_eq!(row(&scratch, &replayed), format!("{ROWS},{ROWS},{ROWS},"));
    let more = SQL.replace("1000)", "1010)");
    assert_eq!(row(&scratch, &more), "1010,1010,1010,");
    let new: usize = server.asked()[before..].iter().map(|asked| asked.body["input"].as_array().unwrap().len()).sum();
    assert_eq!(new, 10);
}

#[test]
fn a_vector_is_that_of_its_text_whatever_the_order_of_the_answer() {
    let server = FaultServer::start(embeddings);
    let scratch = Scratch::new(server.url(), 1, "dimensions = 4\n");
    let sql = "SELECT value AS t, embedding AS e, arrow_typeof(embedding) AS ty FROM embed(\
               (SELECT value::TEXT AS value FROM generate_series(1, 20)), model => 'm', text => value)";
    let out = scratch.ok(&["sql", "--format", "ndjson", "-c", sql]);
    let rows: Vec<Value> = match serde_json::from_str::<Value>(&out) {
        Ok(Value::Array(rows)) => rows,
        _ => out.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
    };
    assert_eq!(rows.len(), 20);
    for row in rows {
        assert_eq!(row["e"], embedding(0, row["t"].as_str().unwrap(), 4)["embedding"], "{row}");
        assert_eq!(row["ty"], "FixedSizeList(4 x Float32)");
    }
    // The length that the configuration tells is not sent: many servers refuse it.
    assert!(server.asked().iter().all(|asked| asked.body.get("dimensions").is_none()));
}

#[test]
fn a_batch_too_large_is_halved_and_no_later_one_is_larger() {
    for status in [400, 413] {
        let server = FaultServer::start(move |body, nth| match body["input"].as_array().unwrap().len() {
            n if n > 20 => Reply::Status(status, None, format!("batch size {n} > 20")),
            _ => embeddings(body, nth),
        });
        let scratch = Scratch::new(server.url(), 1, "");
        assert_eq!(row(&scratch, SQL), format!("{ROWS},{ROWS},{ROWS},"));
        let answered = answered_texts(&server, |body| body["input"].as_array().unwrap().len() <= 20);
        assert_eq!((answered.len(), answered.values().max()), (ROWS, Some(&1)));
        // With 64 refused once for each batch that was already on its way, and 16 at a time after that.
        let refused = server.asked().iter().filter(|asked| asked.body["input"].as_array().unwrap().len() > 20).count();
        assert!(refused < server.count() / 2, "{refused} of {}", server.count());
    }
}

/// A vector of 256 numbers takes 3 kB here, and is thought to take more than twice as much; of the longest, 100 kB.
#[test]
fn no_batch_has_more_texts_than_their_vectors_fit_into_an_answer() {
    let of_256 = |body: &Value, nth| {
        let mut body = body.clone();
        body["dimensions"] = json!(256);
        embeddings(&body, nth)
    };
    let cases = [(", dimensions => 256", "", 100_000), ("", "dimensions = 256", 100_000), ("", "", 500_000)];
    for (argument, setting, limit) in cases {
        let server = FaultServer::start(of_256);
        let settings = format!("embed_batch_size = 1000\nmax_response_bytes = {limit}\n{setting}\n");
        let scratch = Scratch::new(server.url(), 1, &settings);
        let sql = format!(
            "SELECT count(*), count(embedding), min(embed_call['error']) FROM embed((SELECT value FROM \
             generate_series(1, 1000)), model => 'm'{argument}, text => 'the text ' || value)"
        );
        assert_eq!(row(&scratch, &sql), format!("{ROWS},{ROWS},"), "{argument} {setting}");
        let texts = answered_texts(&server, |_| true);
        assert_eq!((texts.len(), texts.values().max()), (ROWS, Some(&1)), "{argument} {setting}");
        assert_eq!(scratch.value("SELECT count(*) FROM attempts WHERE error_kind IS NOT NULL"), "0");
        let most = server.asked().iter().map(|asked| asked.body["input"].as_array().unwrap().len()).max();
        assert!(most <= Some(limit / 6_000) && most >= Some(4), "{argument} {setting}: {most:?}");
    }
}

#[test]
fn answers_that_are_too_long_all_the_same_are_paid_for_in_vain_a_few_times_only() {
    let long = |body: &Value| body["input"].as_array().unwrap().len() > 16;
    let server = FaultServer::start(move |body, nth| match embeddings(body, nth) {
        Reply::Answer(text, delay) if long(body) => Reply::Answer(format!("{text}{}", " ".repeat(9_000_000)), delay),
        other => other,
    });
    let scratch = Scratch::new(server.url(), 1, "embed_batch_size = 64\nmax_response_bytes = 8000000\n");
    assert_eq!(row(&scratch, SQL), format!("{ROWS},{ROWS},{ROWS},"));
    let read = answered_texts(&server, |body| !long(body));
    assert_eq!((read.len(), read.values().max()), (ROWS, Some(&1)));
    // Of each batch that was on its way, one of 64 and one of 32.
    let lost = server.asked().iter().filter(|asked| long(&asked.body)).count();
    assert!((1..=6).contains(&lost), "{lost}");
}

#[test]
fn one_text_that_is_refused_is_one_error_row() {
    let server = FaultServer::start(|body, nth| {
        let texts = body["input"].as_array().unwrap();
        match texts.iter().any(|text| text == "the text 777") {
            true => Reply::Status(400, None, "maximum context length exceeded".into()),
            false => embeddings(body, nth),
        }
    });
    let scratch = Scratch::new(server.url(), 2, "");
    // In one session: as many texts as a batch has, the refused one among them, and then a thousand others.
    let [first, others] = ["(750, 813)", "(1001, 2000)"].map(|range| SQL.replace("(1, 1000)", range));
    let out = scratch.ok(&["sql", "--format", "csv", "-c", &format!("{first}; {others}")]);
    let rows: Vec<&str> = out.lines().skip(1).collect();
    assert_eq!(rows, ["64,63,63,context_overflow 400: maximum context length exceeded", "1000,1000,1000,"]);
    assert_eq!(scratch.value("SELECT count(*) FROM calls"), "1063");
    // The refusal of one is no reason to send fewer from then on: half as many, were anything of it remembered.
    let number = |text: &Value| text.as_str().unwrap().trim_start_matches("the text ").parse::<usize>().unwrap();
    let asked = server.asked();
    let batches = asked.iter().map(|asked| asked.body["input"].as_array().unwrap());
    let sizes: Vec<usize> = batches.filter(|texts| number(&texts[0]) > 1000).map(Vec::len).collect();
    assert!(sizes.iter().any(|size| *size > 32), "{sizes:?}");
}

#[test]
fn a_text_over_the_context_is_an_error_row_and_is_not_sent() {
    let server = FaultServer::start(embeddings);
    let scratch = Scratch::new(server.url(), 2, "context_length = 50\n");
    let sql = "SELECT count(*), count(embedding), min(embed_call['error']) FROM embed((SELECT CASE value WHEN 3 THEN \
               repeat('word ', 5000) ELSE 'the text ' || value END AS t FROM generate_series(1, 6)), model => 'm', \
               text => t)";
    let out = row(&scratch, sql);
    assert!(
        out.starts_with("6,5,") && out.contains("context_overflow: the prompt takes at least 5000 tokens"),
        "{out}"
    );
    let answered = answered_texts(&server, |_| true);
    assert_eq!((answered.len(), answered.values().max()), (5, Some(&1)), "{answered:?}");
    assert_eq!(scratch.value("SELECT count(*) FROM attempts"), "5");
}

#[test]
fn embeddings_that_are_wrong_are_errors_of_their_rows() {
    let server = FaultServer::start(|body, _| {
        let texts: Vec<&str> = body["input"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        let mut data: Vec<String> = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            match *text {
                "missing" => {}
                "short" => data.push(embedding(index, text, 3).to_string()),
                "nan" => data.push(format!("{{\"index\": {index}, \"embedding\": [NaN, 1.0, 1.0, 1.0]}}")),
                _ => data.push(embedding(index, text, 4).to_string()),
            }
        }
        Reply::Answer(format!("{{\"data\": [{}]}}", data.join(",")), Duration::ZERO)
    });
    let scratch = Scratch::new(server.url(), 2, "dimensions = 4\n");
    let sql = "SELECT column1, embedding IS NULL, embed_call['error'] FROM embed((SELECT * FROM (VALUES ('a'), ('missing'), \
               ('nan'), ('short'))), model => 'm', text => column1) ORDER BY 1";
    let out = scratch.ok(&["sql", "--format", "csv", "-c", sql]);
    assert_eq!(
        out.lines().skip(1).collect::<Vec<_>>(),
        [
            "a,false,",
            "missing,true,the server gave no embedding of this text",
            "nan,true,the embedding has a value that is no number",
            "short,true,\"the embedding has 3 dimensions, not 4\"",
        ]
    );
    // The short one is an answer, read against a length that may be the wrong one; the other two are none.
    assert_eq!(scratch.value("SELECT count(*) FROM calls"), "2");
    scratch.ok(&["sql", "-c", sql]);
    let again: HashSet<String> =
        server.asked().last().unwrap().body["input"].as_array().unwrap().iter().map(|t| t.to_string()).collect();
    assert!(!again.contains("\"a\"") && !again.contains("\"short\""), "{again:?}");
    let error = scratch.run(&["sql", "-c", &sql.replace("text =>", "on_error => 'fail', text =>")]);
    assert!(String::from_utf8_lossy(&error.stderr).contains("embed (model m) failed for a row"));
}

#[test]
fn with_one_request_in_ten_throttled_every_text_comes_once_and_is_paid_once() {
    let throttled: &'static AtomicUsize = Box::leak(Box::default());
    let seen: &'static Mutex<HashSet<String>> = Box::leak(Box::default());
    let server = FaultServer::start(move |body, nth| {
        // None twice: one retry is all that the model has.
        if nth % 10 == 3 && seen.lock().unwrap().insert(body.to_string()) {
            throttled.fetch_add(1, Ordering::SeqCst);
            return Reply::Status(429, Some("0.01".into()), "slow down".into());
        }
        embeddings(body, nth)
    });
    let scratch = Scratch::new(server.url(), 4, "");
    assert_eq!(row(&scratch, SQL), format!("{ROWS},{ROWS},{ROWS},"));
    assert!(throttled.load(Ordering::SeqCst) >= 1);
    assert_eq!(server.answered() as usize + throttled.load(Ordering::SeqCst), server.count());
    assert_eq!(scratch.value("SELECT count(*) FROM attempts WHERE billed"), "1000");
    assert_eq!(scratch.value("SELECT sum(prompt_tokens) FROM calls"), "3000");
}

#[test]
fn while_batches_wait_for_their_retries_other_texts_are_asked() {
    let fails = |body: &Value| {
        let texts = body["input"].as_array().unwrap();
        texts.iter().any(|text| (1..=8).any(|n| *text == format!("the text {n}")))
    };
    // Until all others were asked no retry is due, however long that takes.
    let wait = Arc::new(Mutex::new("600"));
    let told = Arc::clone(&wait);
    let server = FaultServer::start(move |body, nth| match fails(body) {
        true => Reply::Status(500, Some((*told.lock().unwrap()).into()), "oops".into()),
        false => embeddings(body, nth),
    });
    let scratch = Scratch::new(server.url(), 1, "embed_batch_size = 2\n");
    let sql = SQL.replace("1000)", "40)");
    let child = scratch.start(&["sql", "-c", &sql]);
    // Rows that wait leave their room to others: with it, four rows that wait would be all that there is room for.
    wait_until("every text", || answered_texts(&server, |_| true).len() == 40);
    assert_eq!(answered_texts(&server, |_| true).values().max(), Some(&1));
    ctrl_c(child);
    *wait.lock().unwrap() = "0.01";
    let out = row(&scratch, &sql);
    assert!(out.starts_with("40,") && out.contains("busy 500: oops (after 2 attempts)"), "{out}");
}

#[test]
fn a_text_that_waits_for_its_retry_is_free_when_its_query_has_ended() {
    // Both fail at first; `slow` is to wait for a minute, and `bad` ends the query before that.
    let seen = Mutex::new(HashSet::<String>::new());
    let server = FaultServer::start(move |body, nth| {
        let text = body["input"][0].as_str().unwrap().to_owned();
        let is_first = seen.lock().unwrap().insert(text.clone());
        match (text.as_str(), is_first) {
            ("slow", true) => Reply::Status(500, Some("60".into()), "oops".into()),
            ("bad", true) => Reply::Status(500, Some("0.5".into()), "oops".into()),
            ("bad", false) => Reply::Status(400, None, "not this one".into()),
            _ => embeddings(body, nth),
        }
    });
    let scratch = Scratch::new(server.url(), 4, "embed_batch_size = 1\n");
    let sql = |texts: &str| {
        format!(
            "SELECT count(embedding) FROM embed((SELECT unnest([{texts}]) AS t), model => 'm', text => t, \
             on_error => 'fail')"
        )
    };
    scratch.session(OpenOptions::default(), async |workspace| {
        let error = workspace.sql(&sql("'slow', 'bad'")).await.unwrap().collect().await.unwrap_err().to_string();
        assert!(error.contains("not this one"), "{error}");
        let start = Instant::now();
        workspace.sql(&sql("'slow'")).await.unwrap().collect().await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    });
    let asked = server.asked().iter().filter(|asked| asked.body["input"][0] == "slow").count();
    assert_eq!(asked, 2);
}

/// A failover is no retry: the same batch goes elsewhere at once.
#[test]
fn a_batch_that_goes_to_another_address_is_not_retried() {
    let server = FaultServer::start(embeddings);
    let closed = ClosedPort::hold();
    let scratch = Scratch::new(server.url(), 1, "");
    scratch.write(
        "seedmill.toml",
        &format!(
            "[models.m]\nprovider = \"openai\"\nbase_urls = [\"{}\", \"{}\"]\nmodel = \"m-1\"\nmax_retries = 3\n\
             retry_base_seconds = 60.0\nmax_in_flight = 1\n",
            closed.url(),
            server.url()
        ),
    );
    let sql = "EXPLAIN ANALYZE SELECT embedding FROM embed((SELECT value FROM generate_series(1, 10)), model => 'm', \
               text => 'the text ' || value)";
    let plan = scratch.ok(&["sql", "-c", sql]);
    let node = plan.split("EmbedExec").nth(1).unwrap().split("Exec").next().unwrap();
    for part in ["calls_asked=10,", "errors_connect=1,", "retries=0,"] {
        assert!(node.contains(part), "'{part}' is not in {node}");
    }
}

#[test]
fn what_was_paid_before_a_failure_is_not_paid_again() {
    const FAILING: [&str; 3] = ["the text 100", "the text 300", "the text 500"];
    for fault in [Reply::Status(500, None, "oops".into()), Reply::TornJson] {
        let broken: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(true)));
        let answered: &'static Mutex<BTreeMap<String, usize>> = Box::leak(Box::default());
        let server = FaultServer::start(move |body, nth| {
            // The batches of these texts fail, with their retries, until the server is well.
            let texts = body["input"].as_array().unwrap();
            if broken.load(Ordering::SeqCst) && texts.iter().any(|text| FAILING.contains(&text.as_str().unwrap())) {
                return fault.clone();
            }
            let mut answered = answered.lock().unwrap();
            for text in texts {
                *answered.entry(text.to_string()).or_default() += 1;
            }
            embeddings(body, nth)
        });
        let scratch = Scratch::new(server.url(), 4, "embed_batch_size = 100\n");
        let first = row(&scratch, SQL);
        let paid = answered.lock().unwrap().len();
        assert!(first.starts_with(&format!("{ROWS},{paid},{paid},")) && paid < ROWS, "{first} {paid}");
        assert!(first.contains("(after 2 attempts)"), "{first}");
        broken.store(false, Ordering::SeqCst);
        assert_eq!(row(&scratch, SQL), format!("{ROWS},{ROWS},{ROWS},"));
        let answered = answered.lock().unwrap();
        assert_eq!((answered.len(), answered.values().max()), (ROWS, Some(&1)));
    }
}

#[test]
fn a_wrong_key_stops_the_query_with_that_reason() {
    let server = FaultServer::start(|_, _| Reply::Status(401, None, "no such key".into()));
    let scratch = Scratch::new(server.url(), 2, "");
    let output = scratch.run(&["sql", "-c", SQL]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("the first 10 calls of model m all failed alike") && error.contains("no such key"),
        "{error}"
    );
    assert!(server.count() <= 16, "{}", server.count());
}

#[test]
fn texts_that_are_refused_again_and_again_stop_no_run_whose_others_are_in_the_ledger() {
    let server = FaultServer::start(|body, nth| {
        let refused = |text: &Value| text.as_str().unwrap().ends_with("50");
        match body["input"].as_array().unwrap().iter().any(refused) {
            true => Reply::Status(400, None, "not this one".into()),
            false => embeddings(body, nth),
        }
    });
    let scratch = Scratch::new(server.url(), 2, "embed_batch_size = 10\n");
    // Of two thousand.
    let sql = SQL.replace("1000)", "2000)");
    for _ in 0..2 {
        assert_eq!(row(&scratch, &sql), "2000,1980,1980,refused 400: not this one");
    }
    assert_eq!(scratch.value("SELECT count(*) FROM calls"), "1980");
}

#[test]
fn every_text_counts_as_a_call_of_the_budget() {
    let server = FaultServer::start(embeddings);
    let scratch = Scratch::new(server.url(), 4, "[budget]\nmax_calls = 100\n");
    let output = scratch.run(&["sql", "-c", SQL]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("the budget max_calls = 100 is spent"), "{error}");
    assert_eq!(answered_texts(&server, |_| true).len(), 100);
    assert_eq!(scratch.value("SELECT count(*) FROM calls"), "100");
}

#[test]
fn texts_whose_tokens_nobody_counts_cost_what_their_length_says() {
    let server = FaultServer::start(|body, nth| match embeddings(body, nth) {
        Reply::Answer(text, delay) => {
            let mut whole: Value = serde_json::from_str(&text).unwrap();
            whole.as_object_mut().unwrap().remove("usage");
            Reply::Answer(whole.to_string(), delay)
        }
        other => other,
    });
    let scratch = Scratch::new(server.url(), 2, "price_per_million = { input = 1000000.0, output = 0.0 }\n");
    // Three tokens and one to be on the safe side.
    let sql = "SELECT count(embedding), sum(embed_call['cost_usd']) FROM embed((SELECT 'a text of ' || value AS t FROM \
               generate_series(10, 19)), model => 'm', text => t)";
    assert_eq!(row(&scratch, sql), "10,40.0");
    assert_eq!(scratch.value("SELECT sum(cost_usd), count(prompt_tokens) FROM calls"), "40.0,0");
    assert_eq!(scratch.value("SELECT sum(cost_usd) FROM attempts"), "40.0");
}

#[test]
fn equal_texts_at_once_are_one_text_of_one_request() {
    let server = FaultServer::start(|body, nth| match embeddings(body, nth) {
        Reply::Answer(text, _) => Reply::Answer(text, Duration::from_millis(50)),
        other => other,
    });
    let scratch = Scratch::new(server.url(), 4, "");
    let one = "SELECT count(embedding) AS n FROM embed((SELECT 'same' AS t FROM generate_series(1, 100)), model => 'm', text => t)";
    let out = scratch.ok(&["sql", "--format", "csv", "-c", &format!("{one} UNION ALL {one}")]);
    assert_eq!(out.lines().skip(1).collect::<Vec<_>>(), ["100", "100"]);
    assert_eq!(server.count(), 1);
    assert_eq!(server.asked()[0].body["input"], json!(["same"]));
}
