//! Two ledgers open on one folder, as two processes have them.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use tokio::time::timeout;

use super::*;
use crate::ledger::{CallRecord, Record};

fn id(n: u32) -> CallId {
    CallId::from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

fn call(n: u32) -> Vec<Record> {
    vec![Record::Call(CallRecord {
        call_id: id(n),
        provider: "openai".into(),
        model: "writer".into(),
        revision: "".into(),
        variant: "".into(),
        sample: 0,
        messages: "[]".into(),
        parameters: "{}".into(),
        response: format!("answer {n}"),
        finish_reason: None,
        prompt_tokens: None,
        completion_tokens: None,
        cost_usd: 0.0,
        time_ms: 0,
    })]
}

async fn two(folder: &Path) -> (Arc<Ledger>, Arc<Ledger>) {
    (Ledger::open(folder).await.unwrap(), Ledger::open(folder).await.unwrap())
}

/// Asserts that a call's answer is found.
async fn assert_found(ledger: &Ledger, n: u32) {
    let lookup =
        timeout(Duration::from_secs(20), ledger.find_or_claim(&id(n))).await.expect("somebody holds its claim");
    match lookup.unwrap() {
        Lookup::Found(answer) => assert_eq!(answer.response(), format!("answer {n}")),
        Lookup::Claimed(_) => panic!("call {n} is not found"),
    }
}

async fn claim(ledger: &Ledger, n: u32) -> Claim {
    match ledger.find_or_claim(&id(n)).await.unwrap() {
        Lookup::Claimed(claim) => claim,
        Lookup::Found(_) => panic!("call {n} has an answer"),
    }
}

#[tokio::test]
async fn what_another_has_written_since_is_found_in_its_logs_and_segments() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = two(folder.path()).await;
    one.append(call(0)).await.unwrap(); // in a log that was begun since
    assert_found(&two, 0).await;
    one.append(call(1)).await.unwrap(); // behind what was read of it
    assert_found(&two, 1).await;
    one.append(call(2)).await.unwrap(); // and that is sealed before anyone looks
    one.close().await.unwrap();
    assert_found(&two, 2).await;
    one.append(call(3)).await.unwrap(); // in a log begun and sealed before anyone looks
    one.close().await.unwrap();
    assert_found(&two, 3).await;
    two.append(call(4)).await.unwrap(); // the other way round
    assert_found(&one, 4).await;
    drop(one);
    for n in 0..5 {
        assert_found(&two, n).await;
    }
    assert_eq!(two.len(), 5);
    two.close().await.unwrap();
    assert_eq!(Ledger::open(folder.path()).await.unwrap().len(), 5);
}

#[tokio::test]
async fn a_log_that_was_alive_at_opening_is_read_on_where_opening_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let one = Ledger::open(folder.path()).await.unwrap();
    one.append(call(0)).await.unwrap();
    let two = Ledger::open(folder.path()).await.unwrap();
    one.append(call(1)).await.unwrap();
    assert_found(&two, 0).await;
    assert_found(&two, 1).await;
    // A long quiet time: the folder's time of change can be trusted, and the log's length still tells.
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(claim(&two, 2).await);
    drop(claim(&two, 2).await);
    one.append(call(2)).await.unwrap();
    assert_found(&two, 2).await;
}

#[tokio::test]
async fn a_group_half_written_by_another_is_read_when_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = two(folder.path()).await;
    one.append(call(0)).await.unwrap();
    assert_found(&two, 0).await;
    let log = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let log = log.into_iter().find(|path| path.extension().is_some_and(|e| e == "log")).unwrap();
    OpenOptions::new().append(true).open(log).unwrap().write_all(&[40, 0, 0, 0, 1, 2, 3, 4, 0x28, 0xb5]).unwrap();
    drop(claim(&two, 1).await);
    one.append(call(1)).await.unwrap(); // over these bytes
    assert_found(&two, 1).await;
}

#[tokio::test]
async fn a_call_that_another_asks_is_waited_for_and_taken_over_when_it_gives_up() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = two(folder.path()).await;
    let held = [claim(&one, 0).await, claim(&one, 1).await];
    let first = id(0);
    assert!(
        timeout(Duration::from_millis(50), one.find_or_claim(&first)).await.is_err(),
        "another task of the same process waits too"
    );
    if cfg!(target_os = "linux") {
        assert!(
            timeout(Duration::from_millis(50), two.find_or_claim(&first)).await.is_err(),
            "it is being asked by another"
        );
    }
    one.append(call(0)).await.unwrap();
    drop(held);
    assert_found(&two, 0).await;
    let taken_over = timeout(Duration::from_secs(20), claim(&two, 1)).await.unwrap();
    two.append(call(1)).await.unwrap();
    drop(taken_over);
    assert_found(&one, 1).await;
}

#[tokio::test]
async fn a_claim_at_once_is_given_only_where_nobody_has_the_answer_or_asks() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = two(folder.path()).await;
    // The first claim makes a folder; after a while the time of that change can be trusted, once it was looked at.
    drop(claim(&two, 9).await);
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(claim(&two, 9).await);
    let mine = two.claim_at_once(&id(0)).expect("nobody has it");
    assert!(two.claim_at_once(&id(0)).is_none(), "another task asks it");
    assert!(cfg!(not(target_os = "linux")) || one.claim_at_once(&id(0)).is_none(), "another process asks it");
    two.append(call(0)).await.unwrap();
    drop(mine);
    assert!(two.claim_at_once(&id(0)).is_none(), "it is answered here");
    assert!(one.claim_at_once(&id(0)).is_none(), "it was answered elsewhere since");
    assert_found(&one, 0).await;
}
