//! What holds where sealing fails on its way, and for logs that others have sealed.

use std::time::{Duration, SystemTime};

use super::*;

fn unique(log: &Path) -> String {
    log.file_stem().unwrap().to_str().unwrap().strip_prefix("log-").unwrap().to_owned()
}

/// As on a full disk: what was appended is durable, and that is what closing is asked for.
#[tokio::test]
async fn a_log_that_cannot_be_sealed_stays_and_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of(folder.path(), 3).await;
    let log = files(folder.path(), ".log").remove(0);
    let in_the_way = folder.path().join(format!("segment-{}.tmp", unique(&log)));
    fs::write(&in_the_way, "no folder").unwrap();
    ledger.close().await.unwrap();
    assert_finds(&ledger, 3).await;
    assert!(log.exists());
    assert_eq!(counts(folder.path()).await, "3 3 3");
    // It goes on, and seals when it can.
    ledger.append(whole(3)).await.unwrap();
    fs::remove_file(&in_the_way).unwrap();
    ledger.close().await.unwrap();
    assert!(files(folder.path(), ".log").is_empty());
    assert_finds(&Ledger::open(folder.path()).await.unwrap(), 4).await;
}

/// An error right after the commit point: the segment is there, and the log is still held by its writer.
#[tokio::test]
async fn sealing_that_failed_after_its_commit_point_is_finished_by_the_next_try() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of(folder.path(), 4).await;
    let log = files(folder.path(), ".log").remove(0);
    let other = crashed_copy(folder.path());
    Ledger::open(other.path()).await.unwrap().close().await.unwrap();
    let segment = format!("segment-{}", unique(&log));
    fs::rename(other.path().join(&segment), folder.path().join(&segment)).unwrap();
    ledger.close().await.unwrap();
    assert!(!log.exists());
    assert_finds(&ledger, 4).await;
    assert_eq!(counts(folder.path()).await, "4 4 4");
    assert_finds(&Ledger::open(folder.path()).await.unwrap(), 4).await;
}

/// Flips a bit of the group that ends here.
fn damage(log: &Path, end: u64) {
    let mut bytes = fs::read(log).unwrap();
    bytes[end as usize - 5] ^= 1;
    // In place: the file stays the one that its writer has open.
    let mut file = OpenOptions::new().write(true).open(log).unwrap();
    file.write_all(&bytes).unwrap();
}

#[tokio::test]
async fn a_call_of_a_group_that_went_bad_is_found_once_it_is_paid_again() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of(folder.path(), 1).await;
    let log = files(folder.path(), ".log").remove(0);
    let end = end_of(&log);
    ledger.append(whole(1)).await.unwrap();
    damage(&log, end);
    ledger.close().await.unwrap();
    assert!(ledger.find(&id(0)).await.unwrap().is_none());
    assert!(ledger.find(&id(1)).await.unwrap().is_some());
    ledger.append(whole(0)).await.unwrap();
    assert_finds(&ledger, 2).await;
}

/// Each log that is open keeps a descriptor and its room on the disk, though it has been deleted.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn logs_that_others_have_sealed_are_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let following = ledger_of(folder.path(), 1).await;
    for n in 1..20 {
        let other = Ledger::open(folder.path()).await.unwrap();
        other.append(whole(n)).await.unwrap();
        assert!(following.find_of_others(&id(n)).await.unwrap().is_some());
        // Not read here before it is sealed.
        other.append(whole(100 + n)).await.unwrap();
        other.close().await.unwrap();
    }
    assert!(following.find_of_others(&id(1_000)).await.unwrap().is_none());
    let links = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let here = folder.path().canonicalize().unwrap();
    let logs: Vec<_> =
        links.filter(|link| link.starts_with(&here) && link.to_string_lossy().contains("log-")).collect();
    assert!(logs.iter().all(|log| !log.to_string_lossy().ends_with("(deleted)")), "{logs:?}");
    for n in (0..20).chain(101..120) {
        assert!(following.find(&id(n)).await.unwrap().is_some(), "call {n}");
    }
    assert_eq!(following.len(), 39);
}

/// A file system that keeps whole seconds gives a log that begins in the same second no other time.
#[tokio::test]
async fn what_another_pays_within_the_second_of_a_look_is_found_where_times_are_whole_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let set_to = |second: SystemTime| File::open(folder.path()).unwrap().set_modified(second).unwrap();
    let ledger = ledger_of(folder.path(), 1).await;
    let other = Ledger::open(folder.path()).await.unwrap();
    // The first claim makes a folder there.
    drop(ledger.claim_at_once(&id(9)));
    let second = loop {
        let second = SystemTime::UNIX_EPOCH + Duration::from_secs(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs());
        set_to(second);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(ledger.find_of_others(&id(1)).await.unwrap().is_none());
        // A look that came later than two seconds knows that nothing comes with the same time any more.
        if second.elapsed().is_ok_and(|age| age < Duration::from_secs(2)) {
            break second;
        }
    };
    other.append(whole(1)).await.unwrap();
    set_to(second);
    assert!(ledger.claim_at_once(&id(1)).is_none());
    assert!(ledger.find_of_others(&id(1)).await.unwrap().is_some());
}
