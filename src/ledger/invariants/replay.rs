//! What is read back of many calls at once, wherever they lie: each its own answer, and nothing for those without one.

use super::*;

/// Two segments, of which one ends in a part of a block, and a log; ids in no order, some twice, some unknown.
#[tokio::test]
async fn many_calls_are_read_from_segments_and_logs_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(folder.path()).await.unwrap();
    for (calls, sealed) in [(0..2_345, true), (2_345..2_400, true), (2_400..2_500, false)] {
        for first in calls.clone().step_by(200) {
            ledger.append((first..calls.end.min(first + 200)).map(call).collect()).await.unwrap();
        }
        if sealed {
            ledger.close().await.unwrap();
        }
    }
    let ledger = match folder_sources(folder.path()) {
        (2, 1) => Ledger::open(folder.path()).await.unwrap(),
        other => panic!("{other:?} segments and logs"),
    };
    let all: Vec<u32> = (0..2_600).map(|n| n * 1_009 % 2_600).chain([7, 7]).collect();
    // All, then few of each row group, then the half of one, then neighbours of what was read.
    let few: Vec<u32> = (0..2_500).step_by(333).collect();
    let half: Vec<u32> = (1_000..2_000).step_by(100).collect();
    for wanted in [&few, &half, &all, &few] {
        let ids: Vec<CallId> = wanted.iter().map(|&n| id(n)).collect();
        let found = ledger.find_all(&ids).await.unwrap();
        assert_eq!(found.len(), ids.len());
        for (n, found) in wanted.iter().zip(found) {
            let Record::Call(expected) = call(*n) else { unreachable!() };
            let expected = (*n < 2_500).then_some((&*expected.response, expected.cost_usd));
            assert_eq!(found.as_ref().map(|found| (found.response(), found.cost_usd())), expected, "call {n}");
        }
    }
}

/// How many segments and logs there are.
fn folder_sources(folder: &Path) -> (usize, usize) {
    let names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let begin = |start: &str| names.iter().filter(|name| name.to_string_lossy().starts_with(start)).count();
    (begin("segment-"), begin("log-"))
}
