//! `seedmill calls`, `calls compact` and `calls gc` over ledgers that real requests filled.

use std::time::Duration;

use crate::fault_server::{FaultServer, Reply, answer};
use crate::scratch::Scratch;

const PRICED: &str = "price_per_million = { input = 1.0, output = 2.0 }\n";

fn ask(first: usize, last: usize) -> String {
    format!(
        "SELECT count(*) FROM generate((SELECT value FROM generate_series({first}, {last})), model => 'm', \
         prompt => 'question ' || value)"
    )
}

/// The lines of a text, words set apart by single spaces.
fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn totals_tell_by_model_and_error_what_was_paid_and_what_failed() {
    let server = FaultServer::start(|body, nth| {
        let text = body["messages"][0]["content"].as_str().unwrap();
        match text {
            "question 2" => Reply::Status(400, None, "no".into()),
            "question 3" => Reply::TornJson,
            _ => answer(body, nth),
        }
    });
    let scratch = Scratch::new(server.url(), 4, PRICED);
    let nothing = lines(&scratch.ok(&["calls"]));
    assert_eq!(nothing.len(), 3, "{nothing:?}");
    scratch.ok(&["sql", "-c", &ask(1, 1204)]);
    let text = scratch.ok(&["calls"]);
    let totals = lines(&text);
    // A torn answer is asked again once (max_retries = 1), and both may have been billed.
    assert_eq!(
        totals[0],
        "model calls prompt tokens completion tokens attempts failed billed failures cost first last"
    );
    assert!(totals[1].starts_with("m-1 1,202 "), "{text}");
    let (prompt, completion) = (2 * 1202, 8 * 1202);
    let tokens = scratch.value("SELECT sum(prompt_tokens) || ' ' || sum(completion_tokens) FROM calls");
    assert_eq!(tokens, format!("{prompt} {completion}"));
    assert!(totals[1].contains(" 2,404 9,616 1,205 3 2 $0.02"), "{text}");
    let errors: Vec<&str> = totals[4..].iter().map(|line| line.rsplit_once(' ').unwrap().0).collect();
    assert!(errors[0].starts_with("m-1 answered 1,202 1,202 $0.02"), "{text}");
    assert!(errors.iter().any(|line| line.ends_with(" 1 0 $0")), "{text}");
    assert!(errors.iter().any(|line| line.ends_with(" 2 2 $0")), "{text}");
    let json = scratch.ok(&["calls", "--format", "json"]);
    assert!(json.contains(r#""calls":1202"#) && json.contains(r#""billed_failures":2"#), "{json}");
}

#[test]
fn compact_says_what_there_was_and_what_there_is() {
    let server = FaultServer::start(answer);
    let scratch = Scratch::new(server.url(), 4, PRICED);
    let empty = lines(&scratch.ok(&["calls", "compact"]));
    assert_eq!(empty[2], "after 0 0 0 0 0 B");
    for part in 0..3 {
        scratch.ok(&["sql", "-c", &ask(part * 5 + 1, part * 5 + 5)]);
    }
    let text = scratch.ok(&["calls", "compact"]);
    let totals = lines(&text);
    assert_eq!(totals[0], "segments calls attempts uses bytes");
    assert!(totals[1].starts_with("before 3 15 15 15 "), "{text}");
    assert!(totals[2].starts_with("after 1 15 15 15 "), "{text}");
    scratch.ok(&["sql", "-c", &ask(1, 15)]);
    assert_eq!(server.count(), 15);
}

#[test]
fn gc_drops_nothing_unasked_and_keeps_what_was_used_and_what_runs_name() {
    let server = FaultServer::start(answer);
    let scratch = Scratch::new(server.url(), 4, PRICED);
    scratch.ok(&["sql", "-c", &ask(1, 10)]);
    let publish = "COPY (SELECT 'q ' || value AS question, 'a' AS answer_text, 't' AS task, 'MIT' AS license, \
                   [named_struct('stage', 'generate_call', 'call_id', generate_call['call_id'])] AS calls, \
                   CAST([] AS TEXT[]) AS reasons FROM generate((SELECT value FROM generate_series(9, 12)), model => 'm', \
                   prompt => 'question ' || value)) TO 'runs' STORED AS CURATED";
    scratch.ok(&["sql", "-c", publish]);
    std::thread::sleep(Duration::from_millis(1_100));
    scratch.ok(&["sql", "-c", &ask(3, 4)]);

    let old = ["calls", "gc", "--older-than", "1h"];
    assert!(scratch.ok(&old).starts_with("no call goes"), "{}", scratch.ok(&old));
    // Nobody can say yes here, so these two only tell.
    for arguments in [&["calls", "gc", "--older-than", "1s"][..], &["calls", "gc", "--older-than", "1s", "--dry-run"]] {
        let text = scratch.ok(arguments);
        let told = lines(&text);
        assert!(told[0].starts_with("calls that no run has used since "), "{text}");
        assert!(told[2].starts_with("m-1 6 ") && told[2].contains('$'), "{text}");
        assert!(told[3].starts_with("kept: 4 unused calls that published runs in "), "{text}");
        assert_eq!(text.contains("nothing was dropped"), arguments.len() == 4, "{text}");
        assert_eq!(scratch.value("SELECT count(*) FROM calls"), "12");
    }
    let text = scratch.ok(&["calls", "gc", "--older-than", "1s", "--yes"]);
    assert!(lines(&text)[2].starts_with("m-1 6 ") && text.contains("dropped; the ledger took"), "{text}");
    assert_eq!(scratch.value("SELECT count(*) FROM calls"), "6");
    assert_eq!(scratch.value("SELECT count(*) FROM attempts"), "12");
    assert_eq!(server.count(), 12);
    scratch.ok(&["sql", "-c", &ask(1, 12)]);
    assert_eq!(server.count(), 18);

    let wrong = scratch.run(&["calls", "gc", "--older-than", "soon"]);
    assert_eq!(wrong.status.code(), Some(2));
    let manifest = std::fs::read_dir(scratch.path().join("runs")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(manifest.join("manifest.json"), "{}").unwrap();
    let refused = scratch.run(&["calls", "gc", "--older-than", "0s", "--yes"]);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && error.contains("is no manifest of a run"), "{error}");
    assert_eq!(scratch.value("SELECT count(*) FROM calls"), "12");
}
