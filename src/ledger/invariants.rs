//! Tests of the crash invariants, each named after the one that it holds the ledger to.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;

use super::log::{HEADER_LEN, LogFile};
use super::*;

mod compaction;
mod damage;
mod gated_store;
mod networked;
mod on_a_store;
mod pushdown;
mod replay;
mod sealing;
mod strays;
mod unsent_logs;

fn id(n: u32) -> CallId {
    CallId::from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

fn call_answered(n: u32, response: &str) -> Record {
    Record::Call(CallRecord {
        call_id: id(n),
        provider: "openai".into(),
        model: "writer".into(),
        revision: "".into(),
        variant: "".into(),
        sample: n % 5,
        messages: format!(r#"[{{"role":"user","content":"question {n}"}}]"#),
        parameters: "{}".into(),
        response: response.into(),
        finish_reason: (!n.is_multiple_of(3)).then(|| "stop".into()),
        prompt_tokens: Some(u64::from(n)),
        completion_tokens: (!n.is_multiple_of(4)).then_some(7),
        cost_usd: f64::from(n) / 1_000.0,
        time_ms: 1_700_000_000_000 + i64::from(n),
    })
}

fn call(n: u32) -> Record {
    call_answered(n, &format!("answer {n}"))
}

fn attempt(n: u32) -> Record {
    Record::Attempt(AttemptRecord {
        call_id: id(n),
        model: "writer".into(),
        time_ms: i64::from(n),
        latency_ms: 12,
        status: Some(200),
        error_kind: None,
        error: None,
        billed: true,
        cost_usd: 0.5,
    })
}

fn use_of(n: u32) -> Record {
    Record::Use(UseRecord {
        run_id: "r1".into(),
        call_ids: vec![id(n)],
        stage: "solve".into(),
        replayed: n.is_multiple_of(2),
        time_ms: i64::from(n),
    })
}

fn whole(n: u32) -> Vec<Record> {
    vec![call(n), attempt(n), use_of(n)]
}

/// Asserts that exactly the calls below `n` are found, with all that was stored of them.
async fn assert_finds(ledger: &Ledger, n: u32) {
    for i in 0..n {
        let Record::Call(expected) = call(i) else { unreachable!() };
        let found = ledger.find(&id(i)).await.unwrap().unwrap_or_else(|| panic!("call {i} is lost"));
        assert_eq!((found.response(), found.cost_usd()), (&*expected.response, expected.cost_usd));
    }
    assert!(ledger.find(&id(n)).await.unwrap().is_none());
    assert_eq!(ledger.len(), n as usize);
}

fn session(folder: &Path) -> SessionContext {
    let session = SessionContext::new();
    for (name, table) in tables(folder) {
        session.register_table(name, table).unwrap();
    }
    session
}

async fn query(folder: &Path, sql: &str) -> String {
    let batches = session(folder).sql(sql).await.unwrap().collect().await.unwrap();
    let text = pretty_format_batches(&batches).unwrap().to_string();
    text.lines().skip(3).filter(|l| !l.starts_with('+')).collect::<Vec<_>>().join("\n")
}

/// Rows of `calls`, `attempts` and `call_uses`.
async fn counts(folder: &Path) -> String {
    let sql = "SELECT (SELECT count(*) FROM calls) AS calls, (SELECT count(*) FROM attempts) AS attempts, \
               (SELECT count(*) FROM call_uses) AS uses";
    query(folder, sql).await.split_whitespace().filter(|w| *w != "|").collect::<Vec<_>>().join(" ")
}

fn files(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|path| path.to_str().unwrap().ends_with(suffix));
    paths.sort();
    paths
}

/// Where a log's groups end; behind them is room for more.
fn end_of(log: &Path) -> u64 {
    LogFile::open(log.to_owned()).unwrap().end(HEADER_LEN).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    files(folder, "").iter().map(|p| p.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

/// A copy of a folder as a crash at this moment would leave it: what is written, and nobody's locks.
fn crashed_copy(folder: &Path) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let target = to.join(path.file_name().unwrap());
            if path.is_dir() {
                fs::create_dir(&target).unwrap();
                copy(&path, &target);
            } else {
                fs::copy(&path, target).unwrap();
            }
        }
    }
    let to = tempfile::tempdir().unwrap();
    copy(folder, to.path());
    to
}

async fn ledger_of(folder: &Path, calls: u32) -> Arc<Ledger> {
    let ledger = Ledger::open(folder).await.unwrap();
    for n in 0..calls {
        ledger.append(whole(n)).await.unwrap();
    }
    ledger
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_that_returned_is_durable_also_among_many_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path()).await.unwrap();
    let appends = (0..600).map(|n| {
        let ledger = Arc::clone(&ledger);
        tokio::spawn(async move {
            ledger.append(whole(n)).await.unwrap();
            assert!(ledger.find(&id(n)).await.unwrap().is_some());
        })
    });
    futures::future::try_join_all(appends).await.unwrap();

    let crashed = crashed_copy(folder.path());
    assert_finds(&Ledger::open(crashed.path()).await.unwrap(), 600).await;
    assert_eq!(counts(crashed.path()).await, "600 600 600");
}

#[tokio::test]
async fn an_answer_is_found_after_close_and_after_reopen() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of(folder.path(), 130).await;
    assert_finds(&ledger, 130).await;
    ledger.close().await.unwrap();
    assert!(files(folder.path(), ".log").is_empty());
    assert_finds(&ledger, 130).await;

    ledger.append(whole(130)).await.unwrap(); // a closed ledger goes on in a new log
    assert_finds(&ledger, 131).await;
    drop(ledger);
    let ledger = Ledger::open(folder.path()).await.unwrap();
    assert_finds(&ledger, 131).await;
    ledger.close().await.unwrap();
    assert_finds(&Ledger::open(folder.path()).await.unwrap(), 131).await;
    assert_eq!(counts(folder.path()).await, "131 131 131");
}

#[tokio::test]
async fn groups_are_atomic() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path()).await.unwrap();
    ledger.append(whole(0)).await.unwrap();
    ledger.append((1..4).flat_map(whole).collect()).await.unwrap();
    let crashed = crashed_copy(folder.path());
    let log = &files(crashed.path(), ".log")[0];
    OpenOptions::new().write(true).open(log).unwrap().set_len(end_of(log) - 1).unwrap();

    assert_eq!(counts(crashed.path()).await, "1 1 1");
    assert_finds(&Ledger::open(crashed.path()).await.unwrap(), 1).await;
    assert_eq!(counts(crashed.path()).await, "1 1 1");
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_what_follows_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of(folder.path(), 3).await;
    let crashed = crashed_copy(folder.path());
    drop(ledger);
    let log = files(crashed.path(), ".log").remove(0);
    let len = end_of(&log);
    assert!(fs::metadata(&log).unwrap().len() > len, "there is no room behind the last group");
    let mut file = OpenOptions::new().write(true).open(&log).unwrap();
    file.seek(SeekFrom::Start(len)).unwrap();
    file.write_all(&[9, 0, 0, 0, 1, 2, 3]).unwrap();
    assert_eq!(counts(crashed.path()).await, "3 3 3");

    let ledger = Ledger::open(crashed.path()).await.unwrap();
    assert_eq!(fs::metadata(&log).unwrap().len(), len);
    ledger.append(whole(3)).await.unwrap();
    ledger.close().await.unwrap();
    assert_finds(&Ledger::open(crashed.path()).await.unwrap(), 4).await;
    assert_eq!(counts(crashed.path()).await, "4 4 4");
}

#[tokio::test]
async fn a_damaged_log_keeps_its_other_groups_and_is_kept_aside() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of(folder.path(), 1).await;
    let first_end = end_of(&files(folder.path(), ".log")[0]) as usize;
    ledger.append(whole(1)).await.unwrap();
    let crashed = crashed_copy(folder.path());
    let log = &files(crashed.path(), ".log")[0];
    let mut bytes = fs::read(log).unwrap();
    bytes[first_end - 5] ^= 1;
    fs::write(log, bytes).unwrap();

    let ledger = Ledger::open(crashed.path()).await.unwrap();
    assert!(ledger.find(&id(0)).await.unwrap().is_none());
    assert!(ledger.find(&id(1)).await.unwrap().is_some());
    ledger.close().await.unwrap();
    assert!(ledger.find(&id(1)).await.unwrap().is_some());
    assert_eq!(counts(crashed.path()).await, "1 1 1");
    assert_eq!(files(crashed.path(), ".damaged").len(), 1);
}

#[tokio::test]
async fn a_segment_replaces_its_log_when_the_deletion_did_not_happen() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of(folder.path(), 5).await;
    let log = files(folder.path(), ".log").remove(0);
    let kept = fs::read(&log).unwrap();
    ledger.close().await.unwrap();
    fs::write(&log, kept).unwrap();

    assert_eq!(counts(folder.path()).await, "5 5 5");
    assert_finds(&Ledger::open(folder.path()).await.unwrap(), 5).await;
    assert!(!log.exists());
    assert_eq!(counts(folder.path()).await, "5 5 5");
}

#[tokio::test]
async fn a_segment_that_was_not_renamed_does_not_count_and_is_swept() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of(folder.path(), 5).await;
    let crashed = crashed_copy(folder.path());
    ledger.close().await.unwrap();
    // The segment was written as a whole, or in part; the crash came before the rename.
    let segment = files(folder.path(), "").remove(0);
    let unfinished = crashed.path().join(format!("{}.tmp", segment.file_name().unwrap().to_str().unwrap()));
    fs::rename(&segment, &unfinished).unwrap();
    let foreign = crashed.path().join("segment-00-dead.tmp");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("calls.parquet"), "PAR1").unwrap();

    assert_eq!(counts(crashed.path()).await, "5 5 5");
    let ledger = Ledger::open(crashed.path()).await.unwrap();
    assert!(!foreign.exists());
    assert_finds(&ledger, 5).await;
    ledger.close().await.unwrap();
    assert_eq!(names(crashed.path()), [segment.file_name().unwrap().to_str().unwrap()]);
    assert_eq!(counts(crashed.path()).await, "5 5 5");
    assert_finds(&Ledger::open(crashed.path()).await.unwrap(), 5).await;
}

#[tokio::test]
async fn a_log_has_one_writer_and_two_ledgers_share_one_folder() {
    let folder = tempfile::tempdir().unwrap();
    let one = Ledger::open(folder.path()).await.unwrap();
    one.append(vec![call_answered(0, "paid by one")]).await.unwrap();
    let two = Ledger::open(folder.path()).await.unwrap();
    assert_eq!(two.find(&id(0)).await.unwrap().unwrap().response(), "paid by one");
    // Both pay for call 1, and only afterwards could they know of each other.
    one.append(vec![call_answered(1, "paid by one")]).await.unwrap();
    two.append(vec![call_answered(1, "paid by two")]).await.unwrap();
    two.append(vec![call_answered(2, "paid by two")]).await.unwrap();
    assert_eq!(files(folder.path(), ".log").len(), 2);

    let sql = "SELECT sample, response FROM calls ORDER BY sample";
    let expected = "| 0      | paid by one |\n| 1      | paid by one |\n| 2      | paid by two |";
    assert_eq!(query(folder.path(), sql).await, expected);
    two.close().await.unwrap(); // the younger is sealed first: the older answer is still the one shown
    assert_eq!(query(folder.path(), sql).await, expected);
    assert!(one.find(&id(0)).await.unwrap().is_some());
    one.close().await.unwrap();
    assert_eq!(query(folder.path(), sql).await, expected);
    let both = Ledger::open(folder.path()).await.unwrap();
    assert_eq!(both.len(), 3);
    assert_eq!(both.find(&id(1)).await.unwrap().unwrap().response(), "paid by one");
    assert!(two.find(&id(0)).await.unwrap().is_some(), "the other's log stays readable after it was sealed");
}

/// What another process writes while a ledger is open is found right before a call would be paid for.
#[tokio::test]
async fn what_another_process_has_paid_for_since_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let before = ledger_of(folder.path(), 1).await;
    let ledger = Ledger::open(folder.path()).await.unwrap();
    assert!(ledger.find_of_others(&id(1)).await.unwrap().is_none());
    // A log that was there at opening, one begun since, and one begun and sealed since.
    before.append(whole(1)).await.unwrap();
    let since = Ledger::open(folder.path()).await.unwrap();
    since.append(whole(2)).await.unwrap();
    let sealed = Ledger::open(folder.path()).await.unwrap();
    sealed.append(whole(3)).await.unwrap();
    sealed.close().await.unwrap();
    assert!(ledger.find(&id(1)).await.unwrap().is_none());
    for n in 0..4 {
        let Record::Call(expected) = call(n) else { unreachable!() };
        let found = ledger.find_of_others(&id(n)).await.unwrap();
        assert_eq!(found.as_ref().map(StoredAnswer::response), Some(&*expected.response), "call {n}");
    }
    assert!(ledger.find_of_others(&id(4)).await.unwrap().is_none());
    since.append(whole(4)).await.unwrap();
    assert!(ledger.find_of_others(&id(4)).await.unwrap().is_some());
    // Both paid for 5; what this one paid repeats nothing that is older, and is shown once.
    since.append(whole(5)).await.unwrap();
    assert!(ledger.find_of_others(&id(5)).await.unwrap().is_some());
    ledger.append(vec![call(5), call(6)]).await.unwrap();
    for open in [&before, &since, &sealed, &ledger] {
        open.close().await.unwrap();
        assert_eq!(query(folder.path(), "SELECT count(*) FROM calls").await.trim_matches(['|', ' ']), "7");
    }
    drop(Ledger::open(folder.path()).await.unwrap());
    assert_eq!(query(folder.path(), "SELECT count(*) FROM calls").await.trim_matches(['|', ' ']), "7");
    assert!(ledger.find(&id(2)).await.unwrap().is_some(), "the other's log stays readable after it was sealed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_whole_groups_only_while_a_writer_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(counts(&folder.path().join("not yet")).await, "0 0 0");
    let ledger = Ledger::open(folder.path()).await.unwrap();
    let writer = tokio::spawn(async move {
        for n in 0..40 {
            ledger.append((n * 10..(n + 1) * 10).flat_map(whole).collect()).await.unwrap();
            if n % 10 == 9 {
                ledger.close().await.unwrap();
            }
        }
    });
    let mut last = 0;
    loop {
        let ended = writer.is_finished();
        let sql = "SELECT count(*) AS n FROM calls";
        let seen: usize = query(folder.path(), sql).await.trim_matches(['|', ' ']).parse().unwrap();
        assert!(seen.is_multiple_of(10) && seen >= last, "{seen} calls after {last}");
        last = seen;
        if ended {
            break;
        }
    }
    writer.await.unwrap();
    assert_eq!(last, 400);
    assert_eq!(counts(folder.path()).await, "400 400 400");
}

#[tokio::test]
async fn a_planned_query_survives_the_sealing_of_the_logs_that_it_reads() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of(folder.path(), 3).await;
    let session = session(folder.path());
    let plan = session.sql("SELECT call_id FROM calls").await.unwrap().create_physical_plan().await.unwrap();
    ledger.append(whole(3)).await.unwrap();
    ledger.close().await.unwrap();
    let batches = datafusion::physical_plan::collect(plan, session.task_ctx()).await.unwrap();
    assert_eq!(batches.iter().map(|b| b.num_rows()).sum::<usize>(), 3);
}

#[tokio::test]
async fn every_column_reads_the_same_from_a_log_and_from_a_segment() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path()).await.unwrap();
    let mut failed = attempt(9);
    if let Record::Attempt(attempt) = &mut failed {
        attempt.status = None;
        attempt.error_kind = Some("timeout".into());
        attempt.error = Some("no answer within 60 s".into());
        attempt.billed = false;
    }
    ledger.append([whole(0), whole(5), vec![failed]].concat()).await.unwrap();
    let queries = ["calls", "attempts", "call_uses"].map(|t| format!("SELECT * FROM {t} ORDER BY time"));
    let mut before = Vec::new();
    for sql in &queries {
        before.push(query(folder.path(), sql).await);
    }
    insta::assert_snapshot!(before.join("\n"), @r#"
    | ec2bd03bf86b935fa34d71ad7ebb049f1f10f87d343e521511d8f9e6625620cd | openai   | writer |          |         | 0      | [{"role":"user","content":"question 0"}] | {}         | answer 0 |               | 0             |                   | 0.0      | 2023-11-14T22:13:20Z     | 2023-11-14T22:13:20Z     | 2023-11-14T22:13:20Z     |
    | e84248fb50d0833361d0417df114b0b3b34408fff97c39cd0de963b09a9aebb8 | openai   | writer |          |         | 0      | [{"role":"user","content":"question 5"}] | {}         | answer 5 | stop          | 5             | 7                 | 0.005    | 2023-11-14T22:13:20.005Z | 2023-11-14T22:13:20.005Z | 2023-11-14T22:13:20.005Z |
    | ec2bd03bf86b935fa34d71ad7ebb049f1f10f87d343e521511d8f9e6625620cd | writer | 1970-01-01T00:00:00Z     | 12         | 200    |            |                       | true   | 0.5      |
    | e84248fb50d0833361d0417df114b0b3b34408fff97c39cd0de963b09a9aebb8 | writer | 1970-01-01T00:00:00.005Z | 12         | 200    |            |                       | true   | 0.5      |
    | f57b151e8a6dfbc520c29ccc134c8f0b5357cdd96058ecd185f0787f480b07a6 | writer | 1970-01-01T00:00:00.009Z | 12         |        | timeout    | no answer within 60 s | false  | 0.5      |
    | r1     | ec2bd03bf86b935fa34d71ad7ebb049f1f10f87d343e521511d8f9e6625620cd | solve | true     | 1970-01-01T00:00:00Z     |
    | r1     | e84248fb50d0833361d0417df114b0b3b34408fff97c39cd0de963b09a9aebb8 | solve | false    | 1970-01-01T00:00:00.005Z |
    "#);
    ledger.close().await.unwrap();
    for (sql, before) in queries.iter().zip(before) {
        assert_eq!(query(folder.path(), sql).await, before);
    }
}

/// More calls than a row group holds, sealed by itself when the log is full.
#[tokio::test]
async fn a_full_log_is_sealed_while_the_ledger_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open_with(folder.path(), 400_000).await.unwrap();
    for n in 0..25 {
        ledger.append((n * 100..(n + 1) * 100).flat_map(whole).collect()).await.unwrap();
    }
    ledger.append(vec![call(7)]).await.unwrap(); // one call twice in different logs
    ledger.close().await.unwrap();
    let segments = files(folder.path(), "").len();
    assert!((2..=10).contains(&segments), "{segments} segments");
    assert_finds(&ledger, 2_500).await;
    assert_finds(&Ledger::open(folder.path()).await.unwrap(), 2_500).await;
    assert_eq!(counts(folder.path()).await, "2500 2500 2500");
}

/// More full logs at once than may wait for a processor that nobody wants, and `close` while they are being sealed.
#[tokio::test]
async fn logs_that_fill_faster_than_they_are_sealed_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open_with(folder.path(), 20_000).await.unwrap();
    let append = async |numbers: std::ops::Range<u32>| {
        for n in numbers {
            ledger.append((n * 100..(n + 1) * 100).flat_map(whole).collect()).await.unwrap();
        }
    };
    append(0..20).await;
    ledger.close().await.unwrap();
    append(20..40).await;
    assert_finds(&ledger, 4_000).await;
    ledger.close().await.unwrap();
    assert!(files(folder.path(), ".log").is_empty() && files(folder.path(), ".tmp").is_empty());
    assert_finds(&ledger, 4_000).await;
    assert_finds(&Ledger::open(folder.path()).await.unwrap(), 4_000).await;
    assert_eq!(counts(folder.path()).await, "4000 4000 4000");
}

#[tokio::test]
async fn a_segment_of_several_row_groups_gives_every_row_back() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path()).await.unwrap();
    ledger.append((0..2_345).flat_map(whole).collect()).await.unwrap();
    ledger.append(whole(5)).await.unwrap(); // again: its log is sealed with one row for it
    ledger.close().await.unwrap();
    assert_finds(&Ledger::open(folder.path()).await.unwrap(), 2_345).await;
    assert_eq!(counts(folder.path()).await, "2345 2346 2346");
}

#[tokio::test]
async fn a_foreign_log_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    File::create(folder.path().join("log-1.log")).unwrap().write_all(b"this is somebody else's log").unwrap();
    let error = Ledger::open(folder.path()).await.unwrap_err().to_string();
    assert!(error.contains("log-1.log") && error.contains("does not begin as a log"), "{error}");
}
