//! Every way in which a server fails, at 10%, all at once, and nine refusals in ten: each input row comes out once, as
//! an answer or as an error with its kind, nothing hangs, and the ledger has every whole answer that was sent.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use futures::{StreamExt, stream};
use seedmill::session::{OpenOptions, Workspace};
use serde_json::Value;

use crate::fault_server::{FaultServer, Reply, answer, content_key};
use crate::interrupt::{ctrl_c, wait_until};
use crate::scratch::Scratch;

const ROWS: i64 = 200;
const IN_FLIGHT: usize = 16;

/// A name, what is sent, and how the error of a row begins that met it until its retries were spent (`None`: it is an
/// answer).
type Fault = (&'static str, fn() -> Reply, Option<&'static str>);

const QUICK: [Fault; 15] = [
    ("429", || Reply::Status(429, None, "slow down".into()), Some("busy 429: slow down")),
    (
        "429 with Retry-After",
        || Reply::Status(429, Some("0.01".into()), "slow down".into()),
        Some("busy 429: slow down"),
    ),
    ("500", || Reply::Status(500, None, "oops".into()), Some("busy 500: oops")),
    ("503", || Reply::Status(503, None, "loading".into()), Some("busy 503: loading")),
    ("400", || Reply::Status(400, None, "not like this".into()), Some("refused 400: not like this")),
    ("closed before headers", || Reply::CloseBeforeHeaders, Some("reset: the connection to 127.0.0.1:")),
    ("closed mid-body", || Reply::ResetMidBody, Some("reset: the connection to 127.0.0.1:")),
    ("half a JSON", || Reply::TornJson, Some("torn_body: 127.0.0.1:")),
    ("wrong content type", || Reply::AnswerAs(r#"{"q": "a?"}"#.into(), "text/plain"), None),
    (
        "web page",
        || Reply::Foreign("text/html", "<!DOCTYPE html><title>Bad gateway</title>".into()),
        Some("torn_body: 127.0.0.1:"),
    ),
    (
        "no choices",
        || Reply::Foreign("application/json", r#"{"object": "chat.completion", "choices": []}"#.into()),
        Some("torn_body: 127.0.0.1:"),
    ),
    (
        "200 with an error",
        || Reply::Foreign("application/json", r#"{"error": {"message": "upstream is gone"}}"#.into()),
        Some("torn_body: 127.0.0.1:"),
    ),
    ("length", || Reply::Finished(r#"{"q": "a"#.into(), "length"), Some("the answer was cut off at max_tokens: ")),
    (
        "content_filter",
        || Reply::Finished(String::new(), "content_filter"),
        Some("the answer was cut off by a content filter: "),
    ),
    ("wrong types", || Reply::WrongTypes, Some("the answer holds no JSON: '42'")),
];

const SLOW: [Fault; 2] = [
    ("hangs", || Reply::Hang, Some("timeout: 127.0.0.1:")),
    ("drips", || Reply::Drip(Duration::from_millis(100)), Some("timeout: 127.0.0.1:")),
];

/// A server that fails so often (in percent) with one of these faults. Which request fails depends on nothing but what it
/// asks and how often it was asked before.
fn failing(percent: u64, faults: &'static [Fault]) -> FaultServer {
    let seen = Mutex::new(HashMap::<String, u64>::new());
    FaultServer::start(move |body, nth| {
        let key = content_key(body);
        let times = {
            let mut seen = seen.lock().unwrap();
            let times = seen.entry(key.clone()).or_default();
            *times += 1;
            *times
        };
        // With this salt two rows of the 200 fail twice at 10%: there are errors to look at.
        let hash = blake3::hash(format!("x{key} {times}").as_bytes());
        let hash = u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap());
        if hash % 100 >= percent {
            return answer(body, nth);
        }
        faults[(hash / 100) as usize % faults.len()].1()
    })
}

/// What came out: rows with an answer and the errors of the others.
struct Outcome {
    answered: usize,
    errors: Vec<String>,
}

/// What comes of a query, which hangs when no request has come for a minute: how long all of it takes is the disk's.
async fn unless_it_hangs<T>(server: &FaultServer, query: impl Future<Output = T>) -> T {
    let mut query = pin!(query);
    let mut asked = 0;
    loop {
        if let Ok(result) = tokio::time::timeout(Duration::from_secs(60), query.as_mut()).await {
            return result;
        }
        let before = std::mem::replace(&mut asked, server.count());
        // Two requests a row are all that there may be.
        assert!(asked > before && asked <= 2 * ROWS as usize, "it hangs after {asked} requests");
    }
}

/// Asks for every row once and checks what must hold whatever the server does.
async fn run(server: &FaultServer, in_flight: usize, settings: &str) -> Outcome {
    let scratch = Scratch::new(server.url(), in_flight, &format!("retry_base_seconds = 0.005\n{settings}"));
    let options = OpenOptions { root: Some(scratch.path().to_owned()), ..OpenOptions::default() };
    let workspace = Workspace::open(options).await.unwrap();
    let sql = format!(
        "SELECT value, q, generate_call['error'] AS error FROM generate((SELECT value FROM generate_series(1, {ROWS})), \
         model => 'm', prompt => 'question ' || value, returns => 'q TEXT')"
    );
    let rows = workspace.sql(&sql).await.unwrap().collect();
    let batches = unless_it_hangs(server, rows).await.unwrap();
    let (mut values, mut outcome) = (Vec::<i64>::new(), Outcome { answered: 0, errors: Vec::new() });
    for batch in batches {
        values.extend(batch.column(0).as_primitive::<Int64Type>().values());
        let text = |column: usize| cast(batch.column(column), &DataType::Utf8).unwrap();
        let (answers, errors) = (text(1), text(2));
        for pair in answers.as_string::<i32>().iter().zip(errors.as_string::<i32>()) {
            match pair {
                (Some(_), None) => outcome.answered += 1,
                (None, Some(error)) => outcome.errors.push(error.to_owned()),
                other => panic!("an answer or an error, not {other:?}"),
            }
        }
    }
    values.sort_unstable();
    assert_eq!(values, (1..=ROWS).collect::<Vec<_>>(), "every row once");

    let count = async |sql: &str| {
        let batches = workspace.sql(sql).await.unwrap().collect().await.unwrap();
        batches[0].column(0).as_primitive::<Int64Type>().value(0) as u64
    };
    assert_eq!(count("SELECT count(*) FROM calls").await, server.answered(), "every whole answer is in the ledger");
    assert_eq!(count("SELECT count(*) FROM attempts").await, server.count() as u64, "and every attempt");
    assert!(count("SELECT count(*) FROM attempts WHERE billed").await >= server.billed());
    workspace.runtime.finish(Duration::from_secs(10)).await.unwrap();
    outcome
}

async fn check_each(faults: &'static [Fault], settings: &str) {
    let cases = (0..faults.len()).map(|i| async move {
        let (name, _, error) = faults[i];
        let server = failing(10, &faults[i..=i]);
        let outcome = run(&server, IN_FLIGHT, settings).await;
        assert_eq!(outcome.answered + outcome.errors.len(), ROWS as usize, "{name}");
        // About 2% of the rows fail twice; an answer that reads badly is not asked for again, which makes it 10%.
        assert!(outcome.answered >= ROWS as usize * 8 / 10, "{name}: {}", outcome.answered);
        match error {
            None => assert_eq!(outcome.errors, Vec::<String>::new(), "{name}"),
            Some(error) => {
                assert!(!outcome.errors.is_empty(), "{name}: nothing was tested");
                assert!(outcome.errors.iter().all(|e| e.starts_with(error)), "{name}: {:?}", outcome.errors);
            }
        }
    });
    stream::iter(cases).buffer_unordered(4).collect::<Vec<()>>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_at_ten_percent_leaves_every_row_with_an_answer_or_its_error() {
    check_each(&QUICK, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_hang_or_drip_are_given_up_in_time() {
    // Long enough for an answer that is only late: it would be in no ledger.
    check_each(&SLOW, "timeout_seconds = 10").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_faults_at_once_lose_no_row_and_no_answer() {
    static ALL: [Fault; 17] = {
        let mut all = [SLOW[0]; 17];
        let mut i = 0;
        while i < 15 {
            all[i + 2] = QUICK[i];
            i += 1;
        }
        all[1] = SLOW[1];
        all
    };
    let server = failing(50, &ALL);
    // So many at once that those which hang do so together: refusals leave few slots, each of which would wait anew.
    let outcome = run(&server, 128, "timeout_seconds = 10").await;
    assert!(outcome.answered > ROWS as usize / 3, "{}", outcome.answered);
    for error in &outcome.errors {
        assert!(ALL.iter().any(|fault| fault.2.is_some_and(|expected| error.starts_with(expected))), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nine_refusals_in_ten_hold_the_run_up_and_lose_nothing() {
    let server = failing(90, &QUICK[..2]);
    let outcome = run(&server, IN_FLIGHT, "").await;
    // One retry: 0.9 × 0.9 of the rows are given up.
    assert!((10..90).contains(&outcome.answered), "{}", outcome.answered);
    assert!(
        outcome.errors.iter().all(|error| error == "busy 429: slow down (after 2 attempts)"),
        "{:?}",
        outcome.errors
    );
}

/// A workspace whose model has two retries.
fn with_two_retries(server: &FaultServer, max_in_flight: usize) -> Scratch {
    let scratch = Scratch::new(server.url(), max_in_flight, "");
    scratch.write(
        "seedmill.toml",
        &format!(
            "[models.m]\nprovider = \"openai\"\nbase_urls = [\"{}\"]\nmodel = \"m-1\"\nmax_retries = 2\n\
             retry_base_seconds = 0.01\nmax_in_flight = {max_in_flight}\n",
            server.url()
        ),
    );
    scratch
}

/// A server to which one question is always too much. It asks to wait for the retry after the failure of this number,
/// from 0, until a test is long over, and for the others hardly at all.
fn refusing(question: &'static str, far: usize) -> FaultServer {
    let failures = AtomicUsize::new(0);
    FaultServer::start(move |body: &Value, nth| {
        if body["messages"][0]["content"] != question {
            return answer(body, nth);
        }
        let wait = if failures.fetch_add(1, Ordering::SeqCst) == far { "600" } else { "0.01" };
        Reply::Status(500, Some(wait.into()), "oops".into())
    })
}

#[test]
fn while_a_row_waits_for_its_retry_the_others_are_asked() {
    let sql = "SELECT count(completion), min(generate_call['error']) FROM generate((SELECT value FROM \
               generate_series(1, 40)), model => 'm', prompt => 'question ' || value)";
    // One slot: in its first wait as in its second one it is all others', however long they take.
    for far in [0, 1] {
        let server = refusing("question 1", far);
        let scratch = with_two_retries(&server, 1);
        let child = scratch.start(&["sql", "-c", sql]);
        wait_until("all others", || server.count() == 39 + far + 1);
        assert_eq!(server.count_by_key().len(), 40);
        ctrl_c(child);
        assert_eq!(scratch.value(sql), "39,busy 500: oops (after 3 attempts)");
        assert_eq!((server.count(), server.max_in_flight()), (39 + far + 1 + 3, 1));
    }
}

#[test]
fn equal_rows_that_wait_for_one_answer_hold_no_slot_either() {
    let server = refusing("question 0", 0);
    let scratch = with_two_retries(&server, 1);
    let sql = "SELECT count(completion), count(*) FROM generate((SELECT greatest(value - 10, 0) AS n FROM \
               generate_series(1, 40)), model => 'm', prompt => 'question ' || n)";
    let child = scratch.start(&["sql", "-c", sql]);
    // Ten rows are one call while it is on its way.
    wait_until("all others", || server.count() == 30 + 1);
    assert_eq!(server.count_by_key().len(), 30 + 1);
    ctrl_c(child);
    assert_eq!(scratch.value(sql), "30,40");
    assert!(server.count() >= 30 + 1 + 3, "{}", server.count());
}

#[test]
fn rows_that_wait_for_their_retries_are_bounded_and_all_get_through() {
    const ROWS: usize = 300;
    let (seen, start) = (Mutex::new(HashSet::<String>::new()), OnceLock::<Instant>::new());
    let server = FaultServer::start(move |body: &Value, nth| {
        let start = start.get_or_init(Instant::now);
        if !seen.lock().unwrap().insert(content_key(body)) {
            return answer(body, nth);
        }
        // As long as forty requests take on this machine, so that more than a few rows wait.
        let wait = (start.elapsed() * 40 / (nth as u32 + 1)).max(Duration::from_millis(500));
        Reply::Status(500, Some(wait.as_secs_f64().to_string()), "oops".into())
    });
    let sql = "SELECT count(*), count(completion) FROM generate((SELECT value FROM generate_series(1, 300)), \
               model => 'm', prompt => 'question ' || value)";
    assert_eq!(with_two_retries(&server, 2).value(sql), format!("{ROWS},{ROWS}"));
    assert_eq!(server.count(), 2 * ROWS);
    // Rows that were asked once and not yet again.
    let (mut waiting, mut most) = (HashSet::<String>::new(), 0);
    for asked in server.asked() {
        if !waiting.remove(&asked.key) {
            waiting.insert(asked.key);
        }
        most = most.max(waiting.len());
    }
    // Four may ask or wait for a slot, as many again and 64 may wait without one.
    assert!((5..=72).contains(&most), "{most}");
}

/// It answers at once, so that it is the least busy of the two.
#[test]
fn a_server_that_sends_web_pages_or_lacks_the_model_costs_no_row() {
    for reply in [
        Reply::Foreign("text/html", "<html>Log in</html>".into()),
        Reply::Status(404, None, "The model `m-1` does not exist.".into()),
    ] {
        let well = FaultServer::start(|body, nth| match answer(body, nth) {
            Reply::Answer(text, _) => Reply::Answer(text, Duration::from_millis(50)),
            other => other,
        });
        let wrong = {
            let reply = reply.clone();
            FaultServer::start(move |_, _| reply.clone())
        };
        let scratch = Scratch::new(well.url(), 8, "");
        scratch.write(
            "seedmill.toml",
            &format!(
                "[models.m]\nprovider = \"openai\"\nbase_urls = [\"{}\", \"{}\"]\nmodel = \"m-1\"\nmax_retries = 3\n\
                 retry_base_seconds = 0.2\nmax_in_flight = 8\n",
                wrong.url(),
                well.url()
            ),
        );
        let sql = "SELECT count(*), count(completion), min(generate_call['error']) FROM generate((SELECT value FROM \
                   generate_series(1, 100)), model => 'm', prompt => 'question ' || value)";
        assert_eq!(scratch.value(sql), "100,100,", "{reply:?}");
        assert_eq!(well.count(), 100, "{reply:?}");
        // Those on their way when it was taken out, and whoever looked whether it is back.
        assert!((1..=20).contains(&wrong.count()), "{reply:?}: {}", wrong.count());
        assert_eq!(scratch.value("SELECT count(*) FROM attempts WHERE error_kind = 'refused' AND billed"), "0");
    }
}

#[test]
fn an_answer_that_is_nearly_json_is_read_and_paid_once() {
    let server = FaultServer::start(|_, _| {
        let body = r#"{"choices": [{"message": {"content": "half \ud83d of"}, "logprobs": {"mean": NaN},
            "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}"#;
        Reply::Foreign("application/json", body.to_owned())
    });
    let scratch = with_two_retries(&server, 2);
    let sql = "SELECT count(*), min(completion), min(generate_call['error']), sum(generate_call['completion_tokens']) \
               FROM generate((SELECT value FROM generate_series(1, 5)), model => 'm', prompt => 'question ' || value)";
    for _ in 0..2 {
        assert_eq!(scratch.value(sql), "5,half \u{fffd} of,,25");
        assert_eq!(server.count(), 5);
    }
}

#[test]
fn a_prompt_over_the_context_is_a_row_error_without_an_attempt() {
    let server = FaultServer::start(|body: &Value, nth| match body["messages"][0]["content"].as_str() {
        Some(prompt) if prompt.contains("aaaa") => {
            Reply::Status(400, None, "This model's maximum context length is 50 tokens".into())
        }
        _ => answer(body, nth),
    });
    let scratch = Scratch::new(server.url(), 4, "context_length = 50\n[budget]\nmax_calls = 3\n");
    // Twenty that are too long in words, which would stop the run if they said something of the model; one that only the
    // server's tokenizer knows to be too long; one that fits.
    let sql = "SELECT count(*), max(generate_call['error']) FROM generate((SELECT repeat('word ', 51 + value) AS p FROM \
               generate_series(1, 20) UNION ALL SELECT repeat('a', 500) UNION ALL SELECT 'short'), model => 'm', prompt => p) \
               GROUP BY left(generate_call['error'], 20) ORDER BY 1";
    let out = scratch.ok(&["sql", "--format", "csv", "-c", sql]);
    let errors = out.lines().filter(|line| line.contains("context_overflow")).count();
    assert_eq!(errors, 2, "{out}");
    assert!(
        out.contains("20,\"context_overflow: the prompt takes at least") || out.contains("20,context_overflow: the"),
        "{out}"
    );
    assert!(out.contains("1,context_overflow 400: This model's maximum context length is 50 tokens"), "{out}");
    assert_eq!(server.count(), 2);
    assert_eq!(scratch.value("SELECT count(*) FROM attempts WHERE error_kind = 'context_overflow'"), "1");
    assert_eq!(scratch.value("SELECT count(*) FROM attempts"), "2");
}

#[tokio::test]
async fn a_fault_server_counts_what_it_would_bill() {
    let server = FaultServer::start(|body: &Value, nth| match nth {
        0 => answer(body, nth),
        1 => Reply::ResetMidBody,
        2 => Reply::Finished("x".into(), "length"),
        _ => Reply::Status(500, None, "oops".into()),
    });
    let client = reqwest::Client::new();
    for _ in 0..4 {
        let post = client.post(format!("{}/chat/completions", server.url()));
        let response = post.json(&serde_json::json!({"messages": []})).send().await.unwrap();
        let _ = response.bytes().await;
    }
    assert_eq!((server.count(), server.answered(), server.billed()), (4, 2, 3));
}
