//! What holds on a file system of several machines, where a folder may keep its time here when another machine changes it.

use std::time::{Duration, SystemTime};

use super::*;
use crate::ledger::shared::Shared;

/// A ledger on a file system that tells such changes, or does not.
fn opened(folder: &Path, tells_changes: bool) -> Arc<Ledger> {
    let (mut shared, adopted) = Shared::open(folder.to_owned()).unwrap();
    shared.tells_changes = tells_changes;
    Ledger::over(shared, adopted, 1 << 20).unwrap()
}

async fn finds(ledger: &Ledger, n: u32) -> bool {
    matches!(ledger.find_or_claim(&id(n)).await.unwrap(), Lookup::Found(_))
}

#[tokio::test]
async fn what_another_machine_pays_is_found_though_the_folder_keeps_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let [other, networked, local] = [false, false, true].map(|tells_changes| opened(folder.path(), tells_changes));
    let an_hour_ago = SystemTime::now() - Duration::from_secs(3_600);
    let keep_time = || File::open(folder.path()).unwrap().set_modified(an_hour_ago).unwrap();
    // The first claims make a folder there; the second look is the one that could be trusted.
    for _ in 0..2 {
        for ledger in [&other, &networked, &local] {
            assert!(!finds(ledger, 9).await);
        }
        keep_time();
    }
    other.append(whole(0)).await.unwrap(); // in a log that was begun since
    keep_time();
    assert!(!local.shared().others_wrote().unwrap(), "nothing has changed that is seen here");
    assert!(networked.shared().others_wrote().unwrap());
    assert!(networked.claim_at_once(&id(0)).is_none(), "one look tells nothing");
    assert!(finds(&networked, 0).await);
    other.append(whole(1)).await.unwrap(); // behind what was read of it
    keep_time();
    assert!(networked.claim_at_once(&id(1)).is_none());
    assert!(finds(&networked, 1).await);
    other.append(whole(2)).await.unwrap(); // and that is sealed before anyone looks
    other.close().await.unwrap();
    keep_time();
    assert!(finds(&networked, 2).await);
    other.append(whole(3)).await.unwrap(); // in a log that is begun and sealed before anyone looks
    other.close().await.unwrap();
    keep_time();
    assert!(finds(&networked, 3).await);
    // What nobody has paid for is claimed, time after time.
    for _ in 0..2 {
        assert!(!finds(&networked, 4).await);
    }
    assert_finds(&networked, 4).await;
}
