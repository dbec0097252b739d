//! A chain of calls is a stream: the first rows come out long before the last call is made, and what is held between
//! the stages does not grow with the input.

use std::time::Duration;

use futures::StreamExt;
use seedmill::session::OpenOptions;

use crate::fault_server::{FaultServer, Reply, answer};
use crate::scratch::Scratch;

const IN_FLIGHT: usize = 8;

/// What one chain generate → enrich over so many rows was seen to do.
#[derive(Debug)]
struct Seen {
    /// Calls of the first stage when the first row came out of the second.
    first_calls_at_first_row: usize,
    /// The most rows that had come out of the first stage and not yet out of the second.
    most_between: usize,
    rows: usize,
}

fn run(rows: usize) -> Seen {
    let server = FaultServer::start(|body, nth| match answer(body, nth) {
        Reply::Answer(text, _) => Reply::Answer(text, Duration::from_millis(25)),
        other => other,
    });
    let scratch = Scratch::new(server.url(), IN_FLIGHT, "");
    let sql = format!(
        "SELECT answer FROM enrich((SELECT * FROM generate((SELECT value FROM generate_series(1, {rows})), model => 'm', \
         prompt => 'question ' || value, returns => 'question TEXT')), model => 'm', prompt => 'answer ' || question, \
         returns => 'answer TEXT')"
    );
    let seen = scratch.session(OpenOptions::default(), async |workspace| {
        workspace.sql("SET datafusion.execution.batch_size = 32").await.unwrap();
        let mut stream = workspace.sql(&sql).await.unwrap().execute_stream().await.unwrap();
        let mut seen = Seen { first_calls_at_first_row: 0, most_between: 0, rows: 0 };
        while let Some(batch) = stream.next().await {
            let stages = workspace.runtime.progress.stages();
            let first = stages["generate_call"].calls() as usize;
            if seen.rows == 0 {
                seen.first_calls_at_first_row = first;
            }
            seen.most_between = seen.most_between.max(first - seen.rows);
            seen.rows += batch.unwrap().num_rows();
        }
        seen
    });
    println!("{rows} rows: {seen:?}");
    assert_eq!(seen.rows, rows);
    assert_eq!(server.count(), 2 * rows);
    seen
}

#[test]
fn first_rows_are_out_long_before_the_last_call_and_rows_between_stages_are_bounded() {
    // The first rows come out after some tenths of a second, so that half of all calls take more than one. Both at once:
    // they do little but wait.
    let (few, many) = std::thread::scope(|scope| {
        let few = scope.spawn(|| run(400));
        let many = run(1200);
        (few.join().unwrap(), many)
    });
    for (seen, rows) in [(&few, 400), (&many, 1200)] {
        assert!(seen.first_calls_at_first_row < rows / 2, "{seen:?}");
    }
    // Rows wait in both pumps (each twice the slots), in the channel between them, and while a batch is collected,
    // 100 ms at most. None of that knows how many rows there are in all.
    assert!(many.most_between <= 2 * few.most_between.max(12 * IN_FLIGHT), "{few:?} {many:?}");
}
