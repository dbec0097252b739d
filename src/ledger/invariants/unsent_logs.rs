//! What holds for logs that lie on this machine until a store has them.

use super::gated_store::GatedStore;
use super::on_a_store::{ledger_logs, location_in};
use super::*;
use crate::ledger::lines::Lines;
use crate::ledger::log::{FrameEncoder, header};

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_beside_unsent_logs_and_is_none_is_neither_sent_nor_deleted() {
    let (state, store) = (tempfile::tempdir().unwrap(), Arc::<GatedStore>::default());
    let location = location_in(Arc::clone(&store), state.path());
    let Location::Store { unsent, .. } = &location else { unreachable!() };
    fs::create_dir_all(unsent.join("older")).unwrap();
    let mut encoder = FrameEncoder::storing();
    let lines = Lines::of(whole(0)).unwrap();
    let log = [&header()[..], encoder.encode([&lines]).unwrap()].concat();
    let name = "log-000000000001-ff-00000001.log";
    for file in [name, "log-000000000001-ff-00000001.log.bak", "mine.log"] {
        fs::write(unsent.join(file), &log).unwrap();
    }
    // Of an append that has not returned.
    fs::write(unsent.join("log-000000000001-ff-00000002.log.new"), &log[..30]).unwrap();

    assert_finds(&Ledger::open_to_look(&location).await.unwrap(), 1).await;
    let ledger = Ledger::open(&location).await.unwrap();
    assert_finds(&ledger, 1).await;
    assert_eq!(ledger_logs(&ledger).await, [name]);
    assert_eq!(names(unsent), ["log-000000000001-ff-00000001.log.bak", "mine.log", "older"]);
}
