//! Ctrl-C over a server that does not answer any more: when the grace is over, what is in flight is given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::fault_server::{FaultServer, Reply, answer};
use crate::interrupt::signal;
use crate::scratch::Scratch;

const ROWS: usize = 40;
/// So many are answered.
const ANSWERED: usize = 5;

const SQL: &str = "SELECT count(completion) FROM generate((SELECT value FROM generate_series(1, 40)), model => 'm', \
                   prompt => 'question ' || value)";

/// Takes 32 s, since the grace is 30 s and no setting; nearly all of it asleep, and both cases at once.
#[test]
fn what_is_not_answered_in_the_grace_after_ctrl_c_is_given_up_and_asked_by_the_same_command_again() {
    let cases = [(1, "1 request was given up; "), (3, "3 requests were given up; ")].map(|(in_flight, said)| {
        let hangs = Arc::new(AtomicBool::new(true));
        let server = {
            let hangs = Arc::clone(&hangs);
            FaultServer::start(move |body, nth| match nth >= ANSWERED as u64 && hangs.load(Ordering::SeqCst) {
                true => Reply::Hang,
                false => answer(body, nth),
            })
        };
        let scratch = Scratch::new(server.url(), in_flight, "");
        let child = scratch.start(&["sql", "-c", SQL]);
        (in_flight, said, hangs, server, scratch, child)
    });
    let start = Instant::now();
    for (in_flight, _, _, server, _, _) in &cases {
        while server.count() < ANSWERED + in_flight || server.in_flight() != *in_flight {
            assert!(start.elapsed() < Duration::from_secs(60), "waited in vain for {in_flight} in flight");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let signalled = Instant::now();
    for (.., child) in &cases {
        signal(child, "-INT");
    }
    for (in_flight, said, hangs, server, scratch, child) in cases {
        let output = child.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{error}");
        assert!((25..90).contains(&signalled.elapsed().as_secs()), "{:?}", signalled.elapsed());
        for part in ["no new calls", said, "run the same command to go on"] {
            assert!(error.contains(part), "'{part}' is not in {error}");
        }
        // No new call was sent meanwhile, and what was answered before is kept.
        assert_eq!(server.count(), ANSWERED + in_flight);
        assert_eq!(scratch.value("SELECT count(*) FROM calls"), ANSWERED.to_string());
        hangs.store(false, Ordering::SeqCst);
        assert_eq!(scratch.value(SQL), ROWS.to_string());
        assert_eq!(server.count(), ROWS + in_flight, "only what was given up is asked for twice");
    }
}
