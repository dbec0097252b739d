//! Ctrl-C over a server that does not answer any more: when the grace is over, what is in flight is given up.

use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fault_server::{Asked, FaultServer, Reply, answer, embeddings};
use crate::interrupt::signal;
use crate::scratch::Scratch;

const ROWS: usize = 40;

const GENERATE: &str = "SELECT count(completion) FROM generate((SELECT value FROM generate_series(1, 40)), \
                        model => 'm', prompt => 'question ' || value)";

const EMBED: &str = "SELECT count(embedding) FROM embed((SELECT value FROM generate_series(1, 40)), model => 'm', \
                     text => 'the text ' || value)";

/// One program over a server of its own.
struct Case {
    sql: &'static str,
    /// So many requests are answered, and the next ones are not.
    answered: usize,
    in_flight: usize,
    /// What is said of those that are not.
    said: &'static str,
    hangs: Arc<AtomicBool>,
    server: FaultServer,
    scratch: Scratch,
    child: Child,
}

impl Case {
    fn start(
        sql: &'static str,
        usual: fn(&Value, u64) -> Reply,
        answered: usize,
        in_flight: usize,
        said: &'static str,
    ) -> Self {
        let hangs = Arc::new(AtomicBool::new(true));
        let server = {
            let hangs = Arc::clone(&hangs);
            FaultServer::start(move |body, nth| match nth >= answered as u64 && hangs.load(Ordering::SeqCst) {
                true => Reply::Hang,
                false => usual(body, nth),
            })
        };
        let more = "embed_batch_size = 4\nprice_per_million = { input = 1.0, output = 1.0 }\n";
        let scratch = Scratch::new(server.url(), in_flight, more);
        let child = scratch.start(&["sql", "-c", sql]);
        Case { sql, answered, in_flight, said, hangs, server, scratch, child }
    }
}

/// The calls that these requests are for: each text of a batch is one.
fn calls(requests: &[Asked]) -> usize {
    requests.iter().map(|asked| asked.body["input"].as_array().map_or(1, Vec::len)).sum()
}

/// Takes 32 s, since the grace is 30 s and no setting; nearly all of it asleep, and all cases at once.
#[test]
fn what_is_not_answered_in_the_grace_after_ctrl_c_is_given_up_and_asked_by_the_same_command_again() {
    let cases = [
        Case::start(GENERATE, answer, 5, 1, "1 request was given up; "),
        Case::start(GENERATE, answer, 5, 3, "3 requests were given up; "),
        Case::start(EMBED, embeddings, 2, 1, "1 request was given up; "),
    ];
    let start = Instant::now();
    for Case { answered, in_flight, server, .. } in &cases {
        while server.count() < answered + in_flight || server.in_flight() != *in_flight {
            assert!(start.elapsed() < Duration::from_secs(60), "waited in vain for {in_flight} in flight");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let signalled = Instant::now();
    for Case { child, .. } in &cases {
        signal(child, "-INT");
    }
    for Case { sql, answered, in_flight, said, hangs, server, scratch, child } in cases {
        let output = child.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{error}");
        assert!((25..90).contains(&signalled.elapsed().as_secs()), "{:?}", signalled.elapsed());
        for part in ["no new calls", said, "run the same command to go on"] {
            assert!(error.contains(part), "'{part}' is not in {error}");
        }
        // No new call was sent meanwhile, and what was answered before is kept.
        assert_eq!(server.count(), answered + in_flight);
        let (kept, given_up) = (calls(&server.asked()[..answered]), calls(&server.asked()[answered..]));
        assert_eq!(scratch.value("SELECT count(*) FROM calls"), kept.to_string());
        // Its server may bill what was given up: an attempt each, and one of each that was answered.
        let cancelled = "SELECT count(*), count(DISTINCT call_id), bool_and(billed), min(cost_usd) > 0.0, \
                         min(latency_ms) >= 29000, count(status) FROM attempts WHERE error_kind = 'cancelled'";
        assert_eq!(scratch.value(cancelled), format!("{given_up},{given_up},true,true,true,0"));
        assert_eq!(scratch.value("SELECT count(*) FROM attempts"), (kept + given_up).to_string());
        hangs.store(false, Ordering::SeqCst);
        assert_eq!(scratch.value(sql), ROWS.to_string());
        assert_eq!(calls(&server.asked()), ROWS + given_up, "only what was given up is asked for twice");
        let twice = "SELECT count(*) FROM (SELECT call_id FROM attempts GROUP BY call_id HAVING count(*) = 2 AND \
                     count(error_kind) = 1)";
        assert_eq!(scratch.value(twice), given_up.to_string());
    }
}
