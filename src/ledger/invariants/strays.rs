//! What holds on an object store for segments that are put and not committed: whatever a clock says of their age, they are
//! deleted only where they can be committed no more.

use chrono::TimeDelta;
use object_store::ObjectStoreExt;
use object_store::path::Path as ObjectPath;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::gated_store::GatedStore;
use super::on_a_store::location_in;
use super::*;
use crate::ledger::generation::generation_name;
use crate::ledger::object_merge::{merge, sources};

/// Merges all that a process knows. It is held up where its segment is put and not committed, until it is told to go on.
async fn held_up(
    store: &GatedStore,
    ledger: &Arc<Ledger>,
) -> (JoinHandle<Result<(), LedgerError>>, oneshot::Sender<()>) {
    let objects = ledger.shared().objects.clone().unwrap();
    let listing = ledger.shared().add_objects(&objects).await.unwrap();
    let (is_there, go_on) = store.hold("put ledger/generation-");
    let ledger = Arc::clone(ledger);
    let merging = tokio::spawn(async move {
        let inputs = sources(&objects, &listing);
        let merged = merge(&objects, ledger.shared(), &listing, &inputs, None).await?;
        objects.delete(merged.replaced).await
    });
    is_there.await.unwrap();
    (merging, go_on)
}

async fn strays(ledger: &Ledger) -> usize {
    let objects = ledger.shared().objects.clone().unwrap();
    objects.list().await.unwrap().strays.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_clock_is_days_ahead_deletes_no_segment_that_is_about_to_be_committed() {
    let (state, store) = (tempfile::tempdir().unwrap(), Arc::<GatedStore>::default());
    let location = location_in(Arc::clone(&store), state.path());
    let one = Ledger::open(&location).await.unwrap();
    one.append(whole(0)).await.unwrap();
    let (merging, go_on) = held_up(&store, &one).await;
    // So all that the store has stamped looks to who is two days ahead of it.
    store.list_as_older("", TimeDelta::days(2));
    compact(&location).await.unwrap();
    assert_eq!(strays(&one).await, 4);
    go_on.send(()).unwrap();
    merging.await.unwrap().unwrap();
    assert_finds(&Ledger::open(&location).await.unwrap(), 1).await;
}

/// It is as old as it looks: a machine was put to sleep before the commit, and wakes up.
#[tokio::test(flavor = "multi_thread")]
async fn a_segment_of_days_ago_is_committed_or_deleted_and_never_both() {
    for is_merged in [false, true] {
        let (state, store) = (tempfile::tempdir().unwrap(), Arc::<GatedStore>::default());
        let location = location_in(Arc::clone(&store), state.path());
        let one = Ledger::open(&location).await.unwrap();
        one.append(whole(0)).await.unwrap();
        let (merging, go_on) = held_up(&store, &one).await;
        store.list_as_older("/segment-", TimeDelta::days(2));
        if is_merged {
            // With one more there is something to merge.
            one.append(whole(1)).await.unwrap();
        }
        compact(&location).await.unwrap();
        assert_eq!(strays(&one).await, if is_merged { 0 } else { 4 });
        go_on.send(()).unwrap();
        let merged = merging.await.unwrap();
        assert_eq!(matches!(merged, Err(LedgerError::Busy { .. })), is_merged, "{merged:?}");
        let calls = 1 + u32::from(is_merged);
        assert_finds(&Ledger::open(&location).await.unwrap(), calls).await;
        assert_finds(&one, calls).await;
        assert_eq!(strays(&one).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_merge_is_deleted_by_one_that_comes_a_day_later_by_the_clock_of_the_store() {
    // The third is a store whose clock is two days behind.
    for (older, days, left) in [("dead", 2, 0), ("dead", 0, 1), ("", 2, 1)] {
        let (state, store) = (tempfile::tempdir().unwrap(), Arc::<GatedStore>::default());
        let location = location_in(Arc::clone(&store), state.path());
        let ledger = Ledger::open(&location).await.unwrap();
        for n in 0..2 {
            ledger.append(whole(n)).await.unwrap();
        }
        store.put(&ObjectPath::from("ledger/segment-dead.keys"), "half".into()).await.unwrap();
        store.list_as_older(older, TimeDelta::days(days));
        compact(&location).await.unwrap();
        assert_eq!(strays(&ledger).await, left, "{older:?} {days}");
        assert_finds(&Ledger::open(&location).await.unwrap(), 2).await;
    }
}

/// The store may have made it and failed to say so; and who is asked again finds another's in its place.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_too_late_is_left_where_a_higher_generation_may_name_it() {
    let (state, store) = (tempfile::tempdir().unwrap(), Arc::<GatedStore>::default());
    let location = location_in(Arc::clone(&store), state.path());
    let one = Ledger::open(&location).await.unwrap();
    one.append(whole(0)).await.unwrap();
    let (merging, go_on) = held_up(&store, &one).await;
    for n in 1..3 {
        one.append(whole(n)).await.unwrap();
        compact(&location).await.unwrap();
    }
    store.put(&ObjectPath::from(format!("ledger/{}", generation_name(1))), "another's".into()).await.unwrap();
    go_on.send(()).unwrap();
    let merged = merging.await.unwrap();
    assert!(matches!(merged, Err(LedgerError::Busy { .. })), "{merged:?}");
    assert_eq!(strays(&one).await, 4);
    assert_finds(&Ledger::open(&location).await.unwrap(), 3).await;
}
