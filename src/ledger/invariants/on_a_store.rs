//! What holds on an object store, over one in memory.

use datafusion::execution::object_store::ObjectStoreRegistry;
use object_store::memory::InMemory;
use url::Url;

use super::*;
use crate::ledger::object_merge::{merge, sources};
use crate::ledger::object_rewrite::Input;
use crate::ledger::objects::Listing;
use crate::stores::{Stores, Variables};

/// A place in a store of its own, and for what has not been sent.
fn location(state: &Path) -> Location {
    let stores = Stores::new(Variables::of([]));
    stores.register_store(&Url::parse("s3://bucket").unwrap(), Arc::new(InMemory::new()));
    Location::new(stores.place("s3://bucket/ledger"), state)
}

/// Merges the logs that a process picks, in that process.
async fn merge_in(ledger: &Ledger, picks: impl Fn(&str) -> bool) -> Listing {
    let objects = ledger.shared().objects.clone().unwrap();
    let listing = ledger.shared().add_objects(&objects).await.unwrap();
    let mut inputs = sources(&objects, &listing);
    inputs.retain(|input: &Input| input.log_name().is_some_and(&picks));
    assert!(!inputs.is_empty());
    merge(&objects, ledger.shared(), &listing, &inputs, None).await.unwrap();
    ledger.shared().add_objects(&objects).await.unwrap()
}

/// Two processes have paid for call 0, and each knows its own answer first. Whoever merges whichever log, the call
/// stands in one segment then, and all find it.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_two_have_paid_for_stands_in_one_segment_and_is_known_to_all_whoever_merges_what() {
    for by_owner in [true, false] {
        let state = tempfile::tempdir().unwrap();
        let location = location(state.path());
        let one = Ledger::open(&location).await.unwrap();
        let two = Ledger::open(&location).await.unwrap();
        let put = async |ledger: &Ledger, n: u32, answer: &str| {
            ledger.append(vec![call_answered(0, answer), call(n)]).await.unwrap();
        };
        put(&one, 1, "one's").await;
        let of_one = ledger_logs(&two).await;
        put(&two, 2, "two's").await;
        let (first, second) = if by_owner { (&one, &two) } else { (&two, &one) };
        merge_in(first, |log| of_one.contains(&log.to_owned())).await;
        // The other one has seen one's segment only, or nothing yet.
        let listing = merge_in(second, |log| !of_one.contains(&log.to_owned())).await;
        assert_eq!((listing.number, listing.logs.len()), (2, 0));
        assert_eq!(listing.generation.segments.iter().map(|segment| segment.calls).sum::<u64>(), 3);
        let three = Ledger::open(&location).await.unwrap();
        for ledger in [&one, &two, &three] {
            for n in 0..3 {
                assert!(ledger.find_of_others(&id(n)).await.unwrap().is_some(), "{by_owner}: call {n} is lost");
            }
            let answer = ledger.find(&id(0)).await.unwrap().unwrap();
            assert_eq!((&*answer.response, ledger.len()), ("one's", 3), "{by_owner}");
        }
    }
}

async fn ledger_logs(ledger: &Ledger) -> Vec<String> {
    let objects = ledger.shared().objects.clone().unwrap();
    objects.list().await.unwrap().logs.iter().map(|log| log.name.clone()).collect()
}

/// A commit that comes too late leaves nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_merges_of_one_generation_the_second_changes_nothing() {
    let state = tempfile::tempdir().unwrap();
    let location = location(state.path());
    let ledger = Ledger::open(&location).await.unwrap();
    for n in 0..3 {
        ledger.append(whole(n)).await.unwrap();
    }
    let objects = ledger.shared().objects.clone().unwrap();
    let listing = ledger.shared().add_objects(&objects).await.unwrap();
    let late = Ledger::open(&location).await.unwrap();
    let late_objects = late.shared().objects.clone().unwrap();
    merge(&objects, ledger.shared(), &listing, &sources(&objects, &listing), None).await.unwrap();
    let again = merge(&late_objects, late.shared(), &listing, &sources(&late_objects, &listing), None).await;
    assert!(matches!(again, Err(LedgerError::Busy { .. })));
    let now = objects.list().await.unwrap();
    assert_eq!((now.number, now.generation.segments.len(), now.logs.len(), now.strays.len()), (1, 1, 0, 0));
    assert_finds(&Ledger::open(&location).await.unwrap(), 3).await;
    assert_finds(&late, 3).await;
}
