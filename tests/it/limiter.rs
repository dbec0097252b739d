//! How fast a model is asked, as its server sees it: rates, how many are in flight, `Retry-After`, and whose turn it is.

use std::ops::Range;
use std::time::{Duration, Instant};

use chrono::Utc;
use serde_json::Value;

use crate::fault_server::{FaultServer, Reply, answer, failing_first};
use crate::scratch::Scratch;

/// So much later than it was sent the first request of a run may have come, in seconds: the times of all are told from
/// it.
const LATE: f64 = 1.5;

/// A table of seedmill.toml for the model of this name at this server.
fn table(name: &str, server: &FaultServer, settings: &str) -> String {
    format!(
        "[models.{name}]\nprovider = \"openai\"\nbase_urls = [\"{}\"]\nmodel = \"{name}-1\"\nretry_base_seconds = 0.01\n\
         {settings}\n",
        server.url()
    )
}

/// A workspace whose model `m` is at this server.
fn workspace(server: &FaultServer, settings: &str) -> Scratch {
    let scratch = Scratch::new(server.url(), 1, "");
    scratch.write("seedmill.toml", &table("m", server, settings));
    scratch
}

/// How many of so many rows are answered.
fn answered(rows: usize, more: &str) -> String {
    format!(
        "SELECT count(completion) FROM generate((SELECT value FROM generate_series(1, {rows})), model => 'm', \
         prompt => 'question ' || value{more})"
    )
}

/// The usual answer after so many milliseconds.
fn after(millis: u64, body: &Value, nth: u64) -> Reply {
    match answer(body, nth) {
        Reply::Answer(text, _) => Reply::Answer(text, Duration::from_millis(millis)),
        other => other,
    }
}

/// The seconds at which the requests came after the first one.
fn seconds(server: &FaultServer) -> Vec<f64> {
    let asked = server.asked();
    asked.iter().map(|one| one.at.duration_since(asked[0].at).as_secs_f64()).collect()
}

/// The most that were in flight when these requests came, themselves among them.
fn most_in_flight(server: &FaultServer, requests: Range<usize>) -> usize {
    server.asked()[requests].iter().map(|one| one.under_way).max().unwrap()
}

#[test]
fn requests_keep_to_their_rate_the_repeated_ones_too() {
    // Ten a second, and as many at once. Each of the rows is asked twice.
    let server = FaultServer::start(failing_first(1, Reply::Status(500, None, "oops".into()), answer));
    let scratch = workspace(&server, "max_in_flight = 32\nrequests_per_minute = 600\n");
    assert_eq!(scratch.value(&answered(30, "")), "30");
    let seconds = seconds(&server);
    assert_eq!(seconds.len(), 60);
    for (nth, came) in seconds.iter().enumerate() {
        let due = (nth as f64 + 1.0 - 10.0) / 10.0;
        assert!(came + LATE >= due, "request {nth} came after {came} s, not {due} s: {seconds:?}");
    }
    assert!(seconds[59] < 30.0, "all could be sent in 5 s: {seconds:?}");
}

#[test]
fn tokens_keep_to_their_rate_also_where_answers_are_longer_than_was_expected() {
    // 1000 a second, and as many at once. Each call is expected to take 102, and takes 302.
    let server = FaultServer::start(|_, _| Reply::Answer("word ".repeat(300), Duration::ZERO));
    let scratch = workspace(&server, "max_in_flight = 2\ntokens_per_minute = 60000\n");
    assert_eq!(scratch.value(&answered(20, ", max_tokens => 100")), "20");
    let seconds = seconds(&server);
    assert_eq!(seconds.len(), 20);
    for (nth, came) in seconds.iter().enumerate().skip(1) {
        // What one took is known when it is answered, and of those before this one all are but for one.
        let due = (302.0 * (nth as f64 - 1.0) - 1000.0) / 1000.0;
        assert!(came + LATE >= due, "request {nth} came after {came} s, not {due} s: {seconds:?}");
    }
    assert!(seconds[19] < 30.0, "all could be sent in 5 s: {seconds:?}");
}

#[test]
fn tokens_that_were_expected_and_not_used_hold_nobody_up() {
    // 1000 a second. Each call is expected to take 1002, and takes 10. There are slots for all: they are kept until an
    // answer is durable.
    let server = FaultServer::start(answer);
    let scratch = workspace(&server, "max_in_flight = 60\ntokens_per_minute = 60000\n");
    assert_eq!(scratch.value(&answered(60, ", max_tokens => 1000")), "60");
    let seconds = seconds(&server);
    assert!(seconds[59] < 30.0, "as many as were expected would take 59 s: {seconds:?}");
}

#[test]
fn after_refusals_fewer_are_in_flight_and_later_nearly_as_many_as_before() {
    let server = FaultServer::start(|body, nth| match nth {
        // They meet.
        0..12 => after(2_000, body, nth),
        12..48 => Reply::Status(if nth % 2 == 0 { 429 } else { 503 }, None, "too much".into()),
        _ => after(200, body, nth),
    });
    let scratch = workspace(&server, "max_in_flight = 12\nmax_retries = 20\n");
    assert_eq!(scratch.value(&answered(120, "")), "120");
    assert_eq!(server.count(), 120 + 36);
    let most = |requests| most_in_flight(&server, requests);
    let (before, refused, recovered) = (most(0..12), most(48..60), most(116..156));
    // Halved again and again: 1 is left when the last one is refused, and each round of answers makes it one more.
    assert!(before >= 9 && refused <= 6 && recovered >= 9, "{before}, {refused}, {recovered}: {:?}", {
        server.asked().iter().map(|one| one.under_way).collect::<Vec<_>>()
    });
    assert_eq!(scratch.value("SELECT count(*) FROM attempts WHERE error_kind = 'busy'"), "36");
}

#[test]
fn retry_after_of_one_call_holds_all_of_its_model_back_and_no_other_model() {
    /// Six seconds at the least, also as a date, which has no fractions.
    const WAIT: Duration = Duration::from_millis(5950);
    let cases: [(u16, fn() -> String); 2] = [
        (429, || "6".to_owned()),
        (503, || (Utc::now() + chrono::Duration::seconds(7)).format("%a, %d %b %Y %H:%M:%S GMT").to_string()),
    ];
    for (status, retry_after) in cases {
        let server = FaultServer::start(move |body, nth| match nth {
            0 => Reply::Status(status, Some(retry_after()), "later".into()),
            // It keeps its slot until the refusal has been read.
            1 => after(3_000, body, nth),
            _ => answer(body, nth),
        });
        let other = FaultServer::start(|body, nth| after(300, body, nth));
        let scratch = Scratch::new(server.url(), 1, "");
        let tables = [table("m", &server, "max_in_flight = 2\n"), table("n", &other, "max_in_flight = 4\n")];
        scratch.write("seedmill.toml", &tables.concat());
        let of_other = answered(60, "").replace("'m'", "'n'");
        let sql = format!("{} UNION ALL {of_other}", answered(8, ""));
        let out = scratch.ok(&["sql", "--format", "csv", "-c", &sql]);
        let mut counts: Vec<&str> = out.lines().skip(1).collect();
        counts.sort_unstable();
        assert_eq!(counts, ["60", "8"], "{status}");

        let asked = server.asked();
        assert_eq!(asked.len(), 9, "{status}");
        let refused = asked[0].at;
        let is_in_pause = |at: Instant| at > refused && at < refused + WAIT;
        // One may have been on its way already.
        let early = asked[1..].iter().filter(|one| is_in_pause(one.at)).count();
        assert!(early <= 1, "{status}: {early} requests came in the pause, {:?}", seconds(&server));
        // More than could be on their way when it began, by the time at which this model was asked again.
        let meanwhile = other.asked().iter().filter(|one| one.at > refused && one.at < asked[2].at).count();
        assert!(meanwhile > 4, "{status}: the other model was asked {meanwhile} times in the pause");
    }
}

#[test]
fn calls_of_a_later_stage_go_before_those_of_an_earlier_one_that_came_first() {
    let is_later = |body: &Value| body["messages"][0]["content"].as_str().unwrap().starts_with("answer ");
    let server = FaultServer::start(move |body, nth| after(if is_later(body) { 20 } else { 200 }, body, nth));
    let scratch = Scratch::new(server.url(), 2, "");
    // The 16 rows of the first seed go on when the 16 calls of the second wait for their turn already.
    let sql = "SELECT count(answer) FROM enrich((SELECT * FROM generate((SELECT value FROM generate_series(1, 2)), \
               model => 'm', samples => 16, prompt => 'question ' || value || ' ' || sample, \
               returns => 'question TEXT')), model => 'm', prompt => 'answer ' || question, returns => 'answer TEXT')";
    assert_eq!(scratch.value(sql), "32");
    let later: Vec<bool> = server.asked().iter().map(|asked| is_later(&asked.body)).collect();
    assert_eq!(later.len(), 64);
    let first_later = later.iter().position(|later| *later).unwrap();
    let last_earlier = later.iter().rposition(|later| !later).unwrap();
    // In the order in which they came all 32 of the first stage would be first.
    assert!((16..26).contains(&first_later), "{first_later}: {later:?}");
    let before = later[..last_earlier].iter().filter(|later| **later).count();
    assert!(before >= 6, "{before}: {later:?}");
}

#[test]
fn where_the_limit_follows_latency_fewer_are_in_flight_at_a_server_that_has_become_slow() {
    let server = FaultServer::start(|body, nth| after(if nth < 64 { 50 } else { 600 }, body, nth));
    let scratch = workspace(&server, "max_in_flight = 16\nadapt_to_latency = true\n");
    assert_eq!(scratch.value(&answered(160, "")), "160");
    // Each slow round of answers takes a quarter, and each round gives one back.
    let (most, slow) = (server.max_in_flight(), most_in_flight(&server, 144..160));
    assert!(slow <= 13 && slow < most, "{most}, {slow}");
}
