//! What holds on an object store, over one in memory.

use std::collections::{BTreeSet, HashSet};

use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionConfig;
use futures::StreamExt;
use url::Url;

use super::gated_store::GatedStore;
use super::*;
use crate::ledger::gc::GarbageCollector;
use crate::ledger::object_merge::{Dropping, merge, sources};
use crate::ledger::object_rewrite::Input;
use crate::ledger::objects::Listing;
use crate::stores::{Stores, Variables};

/// A place in a store of its own, and for what has not been sent.
fn location(state: &Path) -> Location {
    location_in(Arc::default(), state)
}

pub(super) fn location_in(store: Arc<GatedStore>, state: &Path) -> Location {
    let stores = Stores::new(Variables::of([]));
    stores.register_store(&Url::parse("s3://bucket").unwrap(), store);
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
            assert_eq!((answer.response(), ledger.len()), ("one's", 3), "{by_owner}");
        }
    }
}

pub(super) async fn ledger_logs(ledger: &Ledger) -> Vec<String> {
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

fn session_of(location: &Location) -> SessionContext {
    let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(3).with_batch_size(100));
    for (name, table) in tables(location) {
        session.register_table(name, table).unwrap();
    }
    session
}

async fn rows_of(location: &Location, sql: &str) -> String {
    let batches = session_of(location).sql(sql).await.unwrap().collect().await.unwrap();
    let text = pretty_format_batches(&batches).unwrap().to_string();
    text.lines().skip(3).filter(|line| !line.starts_with('+')).collect::<Vec<_>>().join("\n")
}

/// The lines of a plan that name one of these.
async fn plan_of(location: &Location, sql: &str, names: &[&str]) -> Vec<String> {
    let plan = rows_of(location, &format!("EXPLAIN FORMAT INDENT {sql}")).await;
    plan.lines().filter(|line| names.iter().any(|name| line.contains(name))).map(str::to_owned).collect()
}

/// A ledger with a segment for each range of calls.
async fn segments(location: &Location, ranges: &[std::ops::Range<u32>]) -> Arc<Ledger> {
    let ledger = Ledger::open(location).await.unwrap();
    for range in ranges {
        ledger.append(range.clone().flat_map(whole).collect()).await.unwrap();
        merge_in(&ledger, |_| true).await;
    }
    ledger
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_are_spread_over_partitions_and_read_without_ids_where_there_are_no_logs() {
    let state = tempfile::tempdir().unwrap();
    let location = location(state.path());
    let ledger = segments(&location, &[0..30, 30..50, 50..60, 60..70]).await;
    let sum = "SELECT model, count(*) AS n, sum(cost_usd) AS s FROM calls WHERE prompt_tokens < 20 GROUP BY model";
    let scans = plan_of(&location, sum, &["ObjectSegmentsExec", "DataSourceExec", "LogScanExec"]).await;
    assert!(scans[0].contains("ObjectSegmentsExec: table=calls, segments=4") && scans.len() == 2, "{scans:#?}");
    assert!(scans[1].contains("file_groups={3 groups"), "{scans:#?}");
    assert!(scans[1].contains("projection=[model, prompt_tokens, cost_usd, log]"), "{scans:#?}");
    assert!(scans[1].contains("predicate=prompt_tokens@10 < 20"), "{scans:#?}");
    assert_eq!(rows_of(&location, sum).await, "| writer | 20 | 0.19 |");
    // Their number is in the generation.
    assert!(plan_of(&location, "SELECT count(*) FROM attempts", &["ObjectSegmentsExec"]).await.is_empty());
    assert_eq!(rows_of(&location, "SELECT count(*) AS n FROM calls").await, "| 70 |");

    // A log may hold what a segment has, and a filter must not choose between two answers.
    ledger.append([vec![call_answered(3, "paid again")], whole(70)].concat()).await.unwrap();
    let scans = plan_of(&location, sum, &["DataSourceExec", "LogScanExec", "DistinctCallsExec"]).await;
    assert_eq!(scans.len(), 4, "{scans:#?}");
    assert!(scans[2].contains("projection=[call_id, log]"), "{scans:#?}");
    assert_eq!(rows_of(&location, sum).await, "| writer | 20 | 0.19 |");
    assert_eq!(rows_of(&location, "SELECT response FROM calls WHERE response LIKE 'paid%'").await, "");
    assert_eq!(rows_of(&location, "SELECT count(*) AS n FROM calls").await, "| 71 |");
    assert_eq!(
        rows_of(&location, "SELECT count(*) AS n, max(call_id) < 'g' AS b FROM call_uses").await,
        "| 71 | true |"
    );
}

/// Merges all that counts into one segment, and deletes what that replaces.
async fn compact(ledger: &Ledger) {
    let objects = ledger.shared().objects.clone().unwrap();
    let listing = ledger.shared().add_objects(&objects).await.unwrap();
    let merged = merge(&objects, ledger.shared(), &listing, &sources(&objects, &listing), None).await.unwrap();
    objects.delete(merged.replaced).await.unwrap();
}

/// The rows of a query that is planned, and of which so many batches are read, before the rest of this happens.
async fn rows_with(
    location: &Location,
    sql: &str,
    batches: usize,
    then: impl AsyncFnOnce(),
) -> datafusion::error::Result<usize> {
    let session = session_of(location);
    let plan = session.sql(sql).await?.create_physical_plan().await?;
    let mut started = match batches {
        0 => None,
        _ => Some(execute_stream(Arc::clone(&plan), session.task_ctx())?),
    };
    let mut count = 0;
    for _ in 0..batches {
        let Some(rows) = &mut started else { break };
        count += rows.next().await.map_or(Ok(0), |batch| batch.map(|batch| batch.num_rows()))?;
    }
    then().await;
    let mut rows = started.map_or_else(|| execute_stream(plan, session.task_ctx()), Ok)?;
    while let Some(batch) = rows.next().await {
        count += batch?.num_rows();
    }
    Ok(count)
}

/// The segments and logs are gone before they are read, or in the middle of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_query_gives_each_row_once_also_where_what_it_reads_is_merged_meanwhile() {
    for (sql, expected) in [
        ("SELECT call_id FROM calls", 4_010),
        ("SELECT model FROM calls", 4_010),
        ("SELECT prompt_tokens FROM calls WHERE prompt_tokens >= 1000 AND cost_usd < 3.9", 2_900),
        ("SELECT call_id FROM attempts", 4_010),
        ("SELECT call_id, time FROM call_uses WHERE replayed", 2_005),
    ] {
        for batches in [0, 12] {
            let state = tempfile::tempdir().unwrap();
            let location = location(state.path());
            let ledger = segments(&location, &[0..1_500, 1_500..3_000, 3_000..4_000]).await;
            for n in 4_000..4_005 {
                ledger.append([whole(n), whole(n + 5)].concat()).await.unwrap();
            }
            let merges = async || {
                compact(&ledger).await;
                // Younger than the query.
                ledger.append((4_010..4_020).flat_map(whole).collect()).await.unwrap();
                compact(&ledger).await;
            };
            let count = rows_with(&location, sql, batches, merges).await.unwrap();
            let younger = if sql.contains("FROM calls") && !sql.contains("WHERE") { 0..=10 } else { 0..=0 };
            let more = count.checked_sub(expected);
            assert!(more.is_some_and(|more| younger.contains(&more)), "{sql}: {count} rows, {batches} batches before");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_of_calls_that_gc_goes_through_says_so() {
    for (sql, fails) in [("SELECT response FROM calls", true), ("SELECT call_id FROM attempts", false)] {
        let state = tempfile::tempdir().unwrap();
        let location = location(state.path());
        let ledger = segments(&location, &[0..1_500, 1_500..3_000]).await;
        let drop_one = async || {
            let objects = ledger.shared().objects.clone().unwrap();
            let listing = ledger.shared().add_objects(&objects).await.unwrap();
            let dropping = Dropping {
                keys: &HashSet::from([crate::ledger::index::key(&id(7))]),
                logs: &BTreeSet::new(),
                number: 2,
            };
            let inputs = sources(&objects, &listing);
            let merged = merge(&objects, ledger.shared(), &listing, &inputs, Some(&dropping)).await.unwrap();
            objects.delete(merged.replaced).await.unwrap();
        };
        match rows_with(&location, sql, 1, drop_one).await {
            Ok(rows) => assert!(!fails && rows == 3_000, "{sql}: {rows}"),
            Err(e) => assert!(fails && e.to_string().contains("gc has dropped calls of the ledger in s3://"), "{e}"),
        }
        assert_eq!(rows_of(&location, "SELECT count(*) AS n FROM calls").await, "| 2999 |");
    }
}

/// Between the creation of a generation and the look at what stands above it, another process may build on it.
#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_a_later_merge_has_built_on_is_not_taken_away_by_its_writer() {
    let (state, store) = (tempfile::tempdir().unwrap(), Arc::<GatedStore>::default());
    let location = location_in(Arc::clone(&store), state.path());
    let slow = Ledger::open(&location).await.unwrap();
    slow.append(whole(0)).await.unwrap();
    let of_slow = ledger_logs(&slow).await;
    let objects = slow.shared().objects.clone().unwrap();
    let listing = slow.shared().add_objects(&objects).await.unwrap();

    let (is_there, go_on) = store.hold("list");
    let merging = {
        let slow = Arc::clone(&slow);
        tokio::spawn(async move {
            let inputs = sources(&objects, &listing);
            merge(&objects, slow.shared(), &listing, &inputs, None).await.map(|merged| merged.listing.number)
        })
    };
    is_there.await.unwrap();
    let quick = Ledger::open(&location).await.unwrap();
    quick.append(whole(1)).await.unwrap();
    let after = merge_in(&quick, |log| !of_slow.contains(&log.to_owned())).await;
    assert_eq!((after.number, after.generation.segments.len()), (2, 2));
    go_on.send(()).unwrap();
    let merged = merging.await.unwrap();
    assert!(matches!(merged, Err(LedgerError::Busy { .. })), "{merged:?}");
    assert_finds(&Ledger::open(&location).await.unwrap(), 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gc_drops_nothing_if_a_use_was_put_and_merged_since_it_looked() {
    let state = tempfile::tempdir().unwrap();
    let location = location(state.path());
    let ledger = segments(&location, &[0..5, 5..10]).await;
    let collector = GarbageCollector::alone(&location).unwrap();
    let unused = collector.unused_since(4_000_000_000_000, &HashSet::new()).await.unwrap();
    assert_eq!(unused.by_model["writer"].calls, 10);
    ledger.append(vec![use_of(7)]).await.unwrap();
    merge_in(&ledger, |_| true).await;
    let collected = collector.collect(unused).await;
    assert!(matches!(collected, Err(LedgerError::Busy { .. })), "{collected:?}");
    assert_finds(&Ledger::open(&location).await.unwrap(), 10).await;
}

/// Two have paid for call 5. While one reads what the other has merged, its own answer is put.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_put_while_its_segment_is_read_stands_in_one_segment() {
    let (state, store) = (tempfile::tempdir().unwrap(), Arc::<GatedStore>::default());
    let location = location_in(Arc::clone(&store), state.path());
    let one = Ledger::open(&location).await.unwrap();
    let two = segments(&location, &[5..6, 6..7]).await;
    let (is_there, go_on) = store.hold(".keys");
    let looking = {
        let one = Arc::clone(&one);
        tokio::spawn(async move {
            let objects = one.shared().objects.clone().unwrap();
            one.shared().add_objects(&objects).await.map(drop)
        })
    };
    is_there.await.unwrap();
    one.append(whole(5)).await.unwrap();
    go_on.send(()).unwrap();
    looking.await.unwrap().unwrap();
    merge_in(&one, |_| true).await;
    drop(two);
    let sql = "SELECT count(*) AS n, count(DISTINCT call_id) AS d FROM calls";
    assert_eq!(rows_of(&location, sql).await, "| 2 | 2 |");
    assert!(one.find(&id(5)).await.unwrap().is_some());
    assert_eq!(one.len(), 2);
}
