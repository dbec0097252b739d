//! What holds where a part of a log cannot be read: it is damaged, or a newer program has written it.

use std::collections::HashSet;

use futures::StreamExt;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};

use super::gated_store::GatedStore;
use super::on_a_store::{ledger_logs, location_in};
use super::*;
use crate::ledger::gc::GarbageCollector;
use crate::ledger::lines::Lines;
use crate::ledger::log::{FrameEncoder, header};

/// A group that is whole, with a record of a kind that is not known here.
fn newer_group() -> Vec<u8> {
    let bytes = b"{\"vote\":{\"winner\":\"b\"}}\n".to_vec();
    let lines = Lines { bytes, records: 1, calls: Vec::new() };
    let mut encoder = FrameEncoder::storing();
    encoder.encode([&lines]).unwrap().to_vec()
}

fn assert_newer(error: impl std::fmt::Display) {
    let error = error.to_string();
    assert!(error.contains("was it written by a newer seedmill?") && error.contains(".log"), "{error}");
}

/// An older program that steps over such a group would pay for its calls again, and seal its log without them.
#[tokio::test]
async fn a_group_of_a_newer_program_stops_who_opens_reads_follows_or_compacts() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of(folder.path(), 2).await;
    let crashed = crashed_copy(folder.path());
    let log = files(crashed.path(), ".log").remove(0);
    let mut bytes = fs::read(&log).unwrap();
    bytes.truncate(end_of(&log) as usize);
    bytes.extend(newer_group());
    fs::write(&log, &bytes).unwrap();

    assert_newer(Ledger::open(crashed.path()).await.unwrap_err());
    assert_newer(compact(crashed.path()).await.unwrap_err());
    let rows = session(crashed.path()).sql("SELECT call_id FROM attempts").await.unwrap().collect().await;
    assert_newer(rows.unwrap_err());
    assert_eq!(fs::read(&log).unwrap(), bytes);
    assert!(names(crashed.path()).iter().all(|name| !name.starts_with("segment-")), "{:?}", names(crashed.path()));

    // In a log that another process begins while this one has the ledger open.
    let newer = folder.path().join("log-000000000001-0000000000000001.log");
    fs::write(&newer, [&header()[..], &newer_group()].concat()).unwrap();
    assert_newer(ledger.find_of_others(&id(9)).await.unwrap_err());
    ledger.close().await.unwrap();
    assert!(newer.exists());
}

/// A newer format whose groups can be read as if they were of this one.
#[tokio::test]
async fn a_log_of_a_newer_format_stops_who_follows_it_too() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of(folder.path(), 1).await;
    let mut bytes = fs::read(files(folder.path(), ".log").remove(0)).unwrap();
    bytes[8] = 2;
    let newer = folder.path().join("log-000000000001-0000000000000001.log");
    fs::write(&newer, &bytes).unwrap();
    let error = ledger.find_of_others(&id(9)).await.unwrap_err().to_string();
    assert!(error.contains("version 2") && error.contains("reads version 1"), "{error}");
    ledger.close().await.unwrap();
    assert_eq!(fs::read(&newer).unwrap(), bytes);
}

fn at(name: &str) -> ObjectPath {
    ObjectPath::from(format!("ledger/{name}"))
}

async fn object(store: &GatedStore, name: &str) -> Vec<u8> {
    store.get(&at(name)).await.unwrap().bytes().await.unwrap().to_vec()
}

async fn objects_named(store: &GatedStore, end: &str) -> Vec<String> {
    let listed = store.list(None).map(|meta| meta.unwrap().location.filename().unwrap().to_owned());
    let mut names: Vec<String> = listed.collect().await;
    names.retain(|name| name.ends_with(end));
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_of_a_store_is_copied_aside_before_it_is_merged_and_stays_there() {
    let (state, store) = (tempfile::tempdir().unwrap(), Arc::<GatedStore>::default());
    let location = location_in(Arc::clone(&store), state.path());
    let ledger = Ledger::open(&location).await.unwrap();
    for n in 0..4 {
        ledger.append(whole(n)).await.unwrap();
    }
    let logs = ledger_logs(&ledger).await;
    assert_eq!(logs.len(), 4);
    drop(ledger);
    // Of two groups in one object the first is damaged; of the only group of another the last byte is missing.
    let header_len = HEADER_LEN as usize;
    let mut damaged = object(&store, &logs[0]).await;
    damaged.extend_from_slice(&object(&store, &logs[1]).await[header_len..]);
    damaged[header_len + 20] ^= 1;
    let mut torn = object(&store, &logs[2]).await;
    torn.pop();
    store.delete(&at(&logs[1])).await.unwrap();
    store.put(&at(&logs[0]), damaged.clone().into()).await.unwrap();
    store.put(&at(&logs[2]), torn.clone().into()).await.unwrap();

    let compacted = compact(&location).await.unwrap();
    assert_eq!((compacted.after.segments, compacted.after.calls), (1, 2));
    assert_eq!(objects_named(&store, ".log").await, [""; 0]);
    let kept = [&logs[0], &logs[2]].map(|log| log.replace(".log", ".damaged"));
    assert_eq!(objects_named(&store, ".damaged").await, kept);
    assert_eq!(object(&store, &kept[0]).await, damaged);
    assert_eq!(object(&store, &kept[1]).await, torn);

    // What was lost is asked again, and what is kept aside is never read, merged or deleted.
    let ledger = Ledger::open(&location).await.unwrap();
    for (n, is_there) in [(0, false), (1, true), (2, false), (3, true)] {
        assert_eq!(ledger.find(&id(n)).await.unwrap().is_some(), is_there, "call {n}");
    }
    ledger.append([whole(0), whole(2)].concat()).await.unwrap();
    assert_finds(&ledger, 4).await;
    drop(ledger);
    compact(&location).await.unwrap();
    assert_finds(&Ledger::open(&location).await.unwrap(), 4).await;
    let collector = GarbageCollector::alone(&location).unwrap();
    let unused = collector.unused_since(4_000_000_000_000, &HashSet::from([id(3)])).await.unwrap();
    assert_eq!(collector.collect(unused).await.unwrap().after.calls, 1);
    assert_eq!(objects_named(&store, ".damaged").await, kept);
}

/// A process of an older program on a shared bucket.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_a_newer_program_on_a_store_is_neither_merged_nor_paid_for_again() {
    let (state, store) = (tempfile::tempdir().unwrap(), Arc::<GatedStore>::default());
    let location = location_in(Arc::clone(&store), state.path());
    let ledger = Ledger::open(&location).await.unwrap();
    ledger.append(whole(0)).await.unwrap();
    let newer = "log-000000000001-ff-00000001.log";
    let bytes = [&header()[..], &newer_group()].concat();
    store.put(&at(newer), bytes.clone().into()).await.unwrap();

    assert_newer(ledger.find_of_others(&id(9)).await.unwrap_err());
    assert_newer(Ledger::open(&location).await.unwrap_err());
    assert_newer(compact(&location).await.unwrap_err());
    assert_eq!(object(&store, newer).await, bytes);
    assert_eq!(objects_named(&store, "").await.len(), 2);
}
