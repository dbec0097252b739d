//! What a grown input and a changed query cost: only the calls that were never made.

use std::time::Duration;

use crate::fault_server::{FaultServer, Reply, answer};
use crate::scratch::Scratch;

const SEEDS: usize = 300;
const APPENDED: usize = SEEDS / 100;

fn seed(n: usize) -> String {
    format!("{{\"seed_id\": \"s{n}\", \"topic\": \"topic {n}\", \"grade\": {}}}\n", n % 7)
}

/// Two calls a seed: a question, and its answer.
const CHAIN: &str = "enrich((SELECT seed_id, topic, grade, question, generate_call FROM generate((SELECT * FROM mine), \
                     model => 'm', prompt => 'Ask about ' || topic, returns => 'question TEXT', seed => 1)), \
                     model => 'm', prompt => 'Answer ' || question, returns => 'answer TEXT')";

fn workspace(server: &FaultServer) -> Scratch {
    let scratch = Scratch::new(server.url(), 16, "[tables.mine]\nlocation = \"mine.jsonl\"\n");
    scratch.write("mine.jsonl", &(0..SEEDS).map(seed).collect::<String>());
    scratch
}

#[test]
fn one_percent_more_seeds_are_one_percent_more_calls() {
    let server = FaultServer::start(answer);
    let scratch = workspace(&server);
    let sql = format!("SELECT seed_id, answer FROM {CHAIN} WHERE answer IS NOT NULL");
    assert_eq!(scratch.texts(&sql).len(), SEEDS);
    assert_eq!(server.count(), 2 * SEEDS);
    // Appended, and then standing before and between the others: a place in the file is no part of a call.
    for places in [[SEEDS; APPENDED], [0, 100, 200]] {
        let before = server.count();
        let path = scratch.path().join("mine.jsonl");
        let mut lines: Vec<String> =
            std::fs::read_to_string(&path).unwrap().lines().map(|l| format!("{l}\n")).collect();
        for (nth, place) in places.into_iter().enumerate() {
            lines.insert(place, seed(lines.len() + 1_000 * place + nth));
        }
        std::fs::write(&path, lines.concat()).unwrap();
        assert_eq!(scratch.texts(&sql).len(), lines.len());
        assert_eq!(server.count() - before, 2 * APPENDED);
    }
    // Fewer seeds ask nothing, and what was asked for the others is kept.
    let before = server.count();
    scratch.write("mine.jsonl", &(0..SEEDS / 2).map(seed).collect::<String>());
    assert_eq!(scratch.texts(&sql).len(), SEEDS / 2);
    assert_eq!(server.count(), before);
    assert_eq!(scratch.number("SELECT count(*) FROM calls"), 2 * (SEEDS + 2 * APPENDED));
}

#[test]
fn another_filter_parser_or_set_of_columns_asks_nothing() {
    let server = FaultServer::start(answer);
    let scratch = workspace(&server);
    let own_function = "CREATE FUNCTION is_short(s TEXT) RETURNS BOOLEAN RETURN length($s) <";
    scratch.write("sql/filters/short.sql", &format!("{own_function} 20;"));
    let all = format!("SELECT * FROM {CHAIN}");
    assert_eq!(scratch.texts(&all).len(), SEEDS);
    let asked = server.count();
    assert_eq!(asked, 2 * SEEDS);

    let cases = [
        ("a filter on a seed's column", format!("SELECT question FROM {CHAIN} WHERE grade = 3"), SEEDS / 7),
        ("a filter on the first answer", format!("SELECT answer FROM {CHAIN} WHERE question IS NULL"), 0),
        ("a filter on the second answer", format!("SELECT seed_id FROM {CHAIN} WHERE length(answer) > 5"), SEEDS),
        ("a filter of one's own", format!("SELECT seed_id FROM {CHAIN} WHERE is_short(answer)"), 0),
        (
            "a parser over the answer",
            format!(
                "SELECT regexp_replace(upper(answer), '[AEIOU]', '', 'g'), split_part(answer, ' ', 2) FROM {CHAIN}"
            ),
            SEEDS,
        ),
        (
            "a parser over the raw answers",
            "SELECT json_get_str(response, 'choices', 0, 'message', 'content') FROM calls".into(),
            2 * SEEDS,
        ),
        ("one column", format!("SELECT answer FROM {CHAIN}"), SEEDS),
        ("other columns", format!("SELECT topic, generate_call['call_id'], enrich_call FROM {CHAIN}"), SEEDS),
        (
            "a column more of the input",
            format!("SELECT * FROM {}", CHAIN.replace("SELECT * FROM mine", "SELECT *, grade * 2 AS twice FROM mine")),
            SEEDS,
        ),
        ("groups", format!("SELECT grade, count(answer) FROM {CHAIN} GROUP BY grade"), 7),
        ("an order and a limit", format!("SELECT answer FROM {CHAIN} ORDER BY seed_id DESC LIMIT 5"), 5),
        ("a filter below the calls", all.replace("SELECT * FROM mine", "SELECT * FROM mine WHERE grade < 2"), 86),
    ];
    for (case, sql, rows) in cases {
        let found = scratch.texts(&sql).len();
        assert!(found.abs_diff(rows) <= usize::from(rows == SEEDS / 7), "{case}: {found} rows");
        assert_eq!(server.count(), asked, "{case}");
    }
    // The filter itself changed in its file.
    scratch.write("sql/filters/short.sql", &format!("{own_function} 2000;"));
    assert_eq!(scratch.texts(&format!("SELECT seed_id FROM {CHAIN} WHERE is_short(answer)")).len(), SEEDS);
    assert_eq!(server.count(), asked);
}

/// Shells allow few open files, and each call in flight is one.
#[cfg(target_os = "linux")]
#[test]
fn more_calls_are_in_flight_than_files_may_be_open_at_first() {
    let server = FaultServer::start(|body, nth| match answer(body, nth) {
        Reply::Answer(text, _) => Reply::Answer(text, Duration::from_millis(300)),
        other => other,
    });
    let scratch = Scratch::new(server.url(), 200, "");
    let sql = "SELECT count(*) AS n, count(generate_call['error']) AS errors FROM generate((SELECT value FROM \
               generate_series(1, 200)), model => 'm', prompt => 'question ' || value)";
    let run = format!("ulimit -S -n 100; exec {} sql --format csv -c \"{sql}\"", env!("CARGO_BIN_EXE_seedmill"));
    let output = std::process::Command::new("sh").args(["-c", &run]).current_dir(scratch.path()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "n,errors\n200,0\n", "{error}");
    assert_eq!(server.count(), 200, "{error}");
}
