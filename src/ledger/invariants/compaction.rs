//! Tests of compaction and gc: the invariants 7 and 8, at each step at which a crash can stop them.

use std::collections::HashSet;

use super::*;
use crate::ledger::Unused;
use crate::ledger::compact::{Compacted, compact_to};
use crate::ledger::folder;
use crate::ledger::hold::Hold;

/// Waits until the writers of dropped ledgers have ended, and their holds with them.
fn settle(folder: &Path) {
    while Hold::alone(folder).unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// `segments` segments of ten calls each.
async fn ledger_of_segments(folder: &Path, segments: u32) {
    let ledger = Ledger::open(folder).await.unwrap();
    for segment in 0..segments {
        ledger.append((segment * 10..(segment + 1) * 10).flat_map(whole).collect()).await.unwrap();
        ledger.close().await.unwrap();
    }
    drop(ledger);
    settle(folder);
}

async fn assert_holds_thirty(folder: &Path) {
    settle(folder);
    assert_eq!(counts(folder).await, "30 30 30");
    let ledger = Ledger::open(folder).await.unwrap();
    assert_finds(&ledger, 30).await;
    assert_eq!(counts(folder).await, "30 30 30");
    drop(ledger);
    settle(folder);
}

fn segments(folder: &Path) -> Vec<String> {
    folder::list(folder).unwrap().segments.into_iter().collect()
}

#[tokio::test]
async fn small_segments_become_one_with_all_rows() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(compact(&folder.path().join("not there")).await.unwrap(), Compacted::default());
    ledger_of_segments(folder.path(), 3).await;
    let all = "SELECT * FROM calls ORDER BY time";
    let before = query(folder.path(), all).await;
    let done = compact(folder.path()).await.unwrap();
    assert_eq!((done.before.segments, done.after.segments, done.still_held), (3, 1, 0));
    let rows = |t: Totals| (t.calls, t.attempts, t.call_uses);
    assert_eq!((rows(done.before), rows(done.after)), ((30, 30, 30), (30, 30, 30)));
    assert!(done.after.bytes < done.before.bytes, "{done:?}");
    assert_eq!(files(folder.path(), "").iter().filter(|path| path.is_dir()).count(), 1);
    assert_eq!(query(folder.path(), all).await, before);
    assert_holds_thirty(folder.path()).await;

    let again = compact(folder.path()).await.unwrap();
    assert_eq!((again.before, again.after), (done.after, done.after));
    ledger_of_segments(folder.path(), 1).await; // the same calls once more, and their attempts
    compact(folder.path()).await.unwrap();
    assert_eq!(counts(folder.path()).await, "30 40 40");
    assert_eq!(segments(folder.path()).len(), 1);
}

#[tokio::test]
async fn compaction_keeps_the_oldest_answer_and_every_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let one = Ledger::open(folder.path()).await.unwrap();
    one.append(vec![call_answered(1, "paid by one"), attempt(1)]).await.unwrap();
    let two = Ledger::open(folder.path()).await.unwrap();
    two.append(vec![call_answered(1, "paid by two"), call(2), attempt(1)]).await.unwrap();
    two.append(vec![call_answered(1, "paid by two again")]).await.unwrap();
    two.close().await.unwrap();
    // One's log is older and lives: what repeats it is neither dropped nor shown.
    compact(folder.path()).await.unwrap();
    let answers = "SELECT sample, response FROM calls ORDER BY sample";
    let expected = "| 1      | paid by one |\n| 2      | answer 2    |";
    assert_eq!(query(folder.path(), answers).await, expected);
    one.close().await.unwrap();
    assert_eq!(query(folder.path(), answers).await, expected);
    drop((one, two));
    settle(folder.path());
    let done = compact(folder.path()).await.unwrap();
    assert_eq!((done.before.calls, done.after.calls, done.after.attempts), (3, 2, 2));
    assert_eq!(query(folder.path(), answers).await, expected);
    let ledger = Ledger::open(folder.path()).await.unwrap();
    assert_eq!(ledger.find(&id(1)).await.unwrap().unwrap().response(), "paid by one");
}

#[tokio::test]
async fn only_neighbours_in_age_are_merged() {
    let folder = tempfile::tempdir().unwrap();
    ledger_of_segments(folder.path(), 1).await;
    let between = Ledger::open(folder.path()).await.unwrap();
    between.append((10..20).flat_map(whole).collect()).await.unwrap();
    let late = Ledger::open(folder.path()).await.unwrap();
    for n in [20..25, 25..30] {
        late.append(n.flat_map(whole).collect()).await.unwrap();
        late.close().await.unwrap();
    }
    let done = compact(folder.path()).await.unwrap();
    assert_eq!((done.before.segments, done.after.segments, done.still_held), (3, 2, 2));
    assert_eq!(counts(folder.path()).await, "30 30 30");
    between.close().await.unwrap();
    drop((between, late));
    assert_holds_thirty(folder.path()).await;
    let done = compact(folder.path()).await.unwrap();
    assert_eq!((done.before.segments, done.after.segments, done.still_held), (3, 1, 0));
    assert_holds_thirty(folder.path()).await;
}

#[tokio::test]
async fn what_is_large_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    ledger_of_segments(folder.path(), 3).await;
    let before = segments(folder.path());
    compact_to(folder.path(), 100).await.unwrap();
    assert_eq!(segments(folder.path()), before);
    assert_holds_thirty(folder.path()).await;
}

#[tokio::test]
async fn a_merged_segment_that_was_not_renamed_does_not_count_and_is_swept() {
    let folder = tempfile::tempdir().unwrap();
    ledger_of_segments(folder.path(), 3).await;
    let oldest = segments(folder.path()).remove(0);
    let unfinished = folder::unfinished_compaction_path(folder.path(), &folder::successor(&oldest));
    let half_written = || {
        fs::create_dir(&unfinished).unwrap();
        fs::copy(folder::segment_path(folder.path(), &oldest).join("calls.parquet"), unfinished.join("calls.parquet"))
            .unwrap();
    };
    half_written();
    // Who merges there is alive: nobody sweeps.
    let merging = folder::lock_compaction(folder.path()).unwrap().unwrap();
    assert_holds_thirty(folder.path()).await;
    assert!(unfinished.exists());
    let refused = compact(folder.path()).await.unwrap_err().to_string();
    assert!(refused.contains("is being compacted by another process"), "{refused}");
    drop(merging);
    assert_holds_thirty(folder.path()).await;
    assert!(!unfinished.exists());
    half_written();
    assert_eq!(compact(folder.path()).await.unwrap().after.segments, 1);
    assert!(!unfinished.exists());
    assert_holds_thirty(folder.path()).await;
}

#[tokio::test]
async fn a_merged_segment_replaces_its_inputs_at_once_whatever_is_left_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of(folder.path(), 10).await;
    let log = files(folder.path(), ".log").remove(0);
    let kept_log = fs::read(&log).unwrap();
    ledger.close().await.unwrap();
    drop(ledger);
    let ledger = Ledger::open(folder.path()).await.unwrap();
    for n in [10..20, 20..30] {
        ledger.append(n.flat_map(whole).collect()).await.unwrap();
        ledger.close().await.unwrap();
    }
    let inputs = segments(folder.path());
    let hold = Hold::shared(folder.path()).unwrap();
    drop(ledger);
    // The process dies between the rename and the deletion.
    assert_eq!(compact(folder.path()).await.unwrap().still_held, 3);
    let crashed = crashed_copy(folder.path());
    drop(hold);
    assert_eq!(files(crashed.path(), "").iter().filter(|path| path.is_dir()).count(), 4);
    assert_eq!(counts(crashed.path()).await, "30 30 30");

    // Or in the middle of the deletion, and once an input's log had been left too.
    let half = crashed_copy(crashed.path());
    fs::remove_file(folder::segment_path(half.path(), &inputs[0]).join("attempts.parquet")).unwrap();
    fs::remove_dir_all(folder::segment_path(half.path(), &inputs[1])).unwrap();
    fs::write(half.path().join(log.file_name().unwrap()), kept_log).unwrap();
    assert_eq!(counts(half.path()).await, "30 30 30");
    for folder in [crashed.path(), half.path()] {
        assert_holds_thirty(folder).await;
        assert_eq!(files(folder, "").iter().filter(|path| path.is_dir()).count(), 1);
        assert!(files(folder, ".log").is_empty());
    }
}

#[tokio::test]
async fn a_second_merge_after_a_crash_still_replaces_what_the_first_did() {
    let folder = tempfile::tempdir().unwrap();
    ledger_of_segments(folder.path(), 2).await;
    let hold = Hold::shared(folder.path()).unwrap();
    compact(folder.path()).await.unwrap();
    let late = Ledger::open(folder.path()).await.unwrap();
    late.append((20..30).flat_map(whole).collect()).await.unwrap();
    late.close().await.unwrap();
    drop(late);
    assert_eq!(compact(folder.path()).await.unwrap().still_held, 4);
    let crashed = crashed_copy(folder.path());
    drop(hold);
    // The first merged segment is gone, and with it its list; its inputs are not.
    let first = folder::successor(&folder::list(crashed.path()).unwrap().replaced.first().unwrap()[..]);
    fs::remove_dir_all(folder::segment_path(crashed.path(), &first)).unwrap();
    assert_holds_thirty(crashed.path()).await;
}

#[tokio::test]
async fn planned_queries_and_open_ledgers_survive_a_compaction() {
    let folder = tempfile::tempdir().unwrap();
    ledger_of_segments(folder.path(), 3).await;
    let ledger = Ledger::open(folder.path()).await.unwrap();
    let session = session(folder.path());
    let plan = session.sql("SELECT call_id, response FROM calls").await.unwrap().create_physical_plan().await.unwrap();
    assert_eq!(compact(folder.path()).await.unwrap().still_held, 3);
    assert_finds(&ledger, 30).await;
    drop(ledger);
    let batches = datafusion::physical_plan::collect(plan, session.task_ctx()).await.unwrap();
    assert_eq!(batches.iter().map(|b| b.num_rows()).sum::<usize>(), 30);
    // Now nobody reads the old segments any more.
    assert_holds_thirty(folder.path()).await;
    assert_eq!(files(folder.path(), "").iter().filter(|path| path.is_dir()).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_goes_on_beside_writers_and_readers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let writer = tokio::spawn(async move {
        for n in 0..12 {
            let ledger = Ledger::open(&path).await.unwrap();
            ledger.append((n * 10..(n + 1) * 10).flat_map(whole).collect()).await.unwrap();
            assert_finds(&ledger, (n + 1) * 10).await;
            if n % 4 != 3 {
                ledger.close().await.unwrap();
            }
        }
    });
    let path = folder.path().to_owned();
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let merger = tokio::spawn(async move {
        while stopped.try_recv().is_err() {
            compact(&path).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    let mut last = 0;
    while !writer.is_finished() {
        let seen: usize =
            query(folder.path(), "SELECT count(*) FROM calls").await.trim_matches(['|', ' ']).parse().unwrap();
        assert!(seen.is_multiple_of(10) && seen >= last, "{seen} calls after {last}");
        last = seen;
    }
    writer.await.unwrap();
    stop.send(()).unwrap();
    merger.await.unwrap();
    compact(folder.path()).await.unwrap();
    assert_eq!(counts(folder.path()).await, "120 120 120");
    assert_eq!(segments(folder.path()).len(), 1);
    assert_finds(&Ledger::open(folder.path()).await.unwrap(), 120).await;
}

/// Calls `n` have the time 1,700,000,000,000 + n, uses the time n.
#[tokio::test]
async fn gc_drops_unused_calls_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    ledger_of_segments(folder.path(), 3).await;
    let ledger = Ledger::open(folder.path()).await.unwrap();
    let last_use = |n| {
        let Record::Use(used) = use_of(n) else { unreachable!() };
        Record::Use(UseRecord { time_ms: 1_700_000_000_100, ..used })
    };
    // 5 is used again later, and 7 was paid for twice.
    ledger.append(vec![last_use(5), call_answered(7, "paid again")]).await.unwrap();
    ledger.close().await.unwrap();
    let before = 1_700_000_000_020;
    let named = HashSet::from([id(3)]);

    let refused = GarbageCollector::alone(folder.path()).unwrap_err().to_string();
    assert!(refused.contains("is in use by another process"), "{refused}");
    let dry = GarbageCollector::dry(folder.path()).unwrap().unused_since(before, &named).await.unwrap();
    assert_eq!((dry.by_model["writer"].calls, dry.named.calls), (18, 1));
    drop(ledger);
    settle(folder.path());
    let collector = GarbageCollector::alone(folder.path()).unwrap();
    let unused = collector.unused_since(before, &named).await.unwrap();
    // The order of a sum is not fixed, and so neither are its last bits.
    let share = |unused: &Unused| (unused.by_model["writer"].calls, unused.by_model["writer"].text_bytes);
    assert_eq!(share(&unused), share(&dry));
    assert!((unused.by_model["writer"].cost_usd - 0.182).abs() < 1e-9, "{unused:?}");
    let crashed = crashed_copy(folder.path());
    let done = collector.collect(unused).await.unwrap();
    assert_eq!(done.after.calls, 12);

    assert_eq!(counts(crashed.path()).await, "30 30 31");
    assert_eq!(counts(folder.path()).await, "12 30 31");
    let left = query(
        folder.path(),
        "SELECT min(prompt_tokens) AS a, count(*) FILTER (WHERE prompt_tokens < 20) AS b FROM calls",
    );
    assert_eq!(left.await, "| 3 | 2 |");
    let ledger = Ledger::open(folder.path()).await.unwrap();
    for n in 0..30 {
        let stays = n >= 20 || n == 3 || n == 5;
        assert_eq!(ledger.find(&id(n)).await.unwrap().is_some(), stays, "call {n}");
    }
}

#[tokio::test]
async fn first_and_last_time_are_those_of_asking_and_of_the_latest_use() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of(folder.path(), 2).await;
    let Record::Use(used) = use_of(1) else { unreachable!() };
    ledger.append(vec![Record::Use(UseRecord { time_ms: 1_700_000_009_000, ..used })]).await.unwrap();
    for sealed in [false, true] {
        if sealed {
            ledger.close().await.unwrap();
        }
        let sql = "SELECT last_time, sample, first_time FROM calls ORDER BY sample";
        let rows = query(folder.path(), sql).await;
        insta::allow_duplicates! {
            insta::assert_snapshot!(rows, @"
            | 2023-11-14T22:13:20Z | 0      | 2023-11-14T22:13:20Z     |
            | 2023-11-14T22:13:29Z | 1      | 2023-11-14T22:13:20.001Z |
            ");
        }
        let sql = "SELECT sample FROM calls WHERE last_time > first_time AND first_time = time AND model = 'writer'";
        assert_eq!(query(folder.path(), sql).await, "| 1      |");
        assert_eq!(query(folder.path(), "SELECT max(first_time) = max(time) AS a FROM calls").await, "| true |");
    }
}
