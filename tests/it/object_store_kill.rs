//! Runs with their ledger on an object store, killed while they make calls.

use std::time::Duration;

use crate::object_store::{IN_FLIGHT, ROWS, assert_whole, model, seeds, wait, workspace};
use crate::s3_server::S3Server;

#[test]
fn runs_killed_again_and_again_pay_twice_at_most_for_what_was_in_flight() {
    const KILLS: usize = 3;
    let (model, s3) = (model(), S3Server::start());
    seeds(&s3);
    let scratch = workspace(&model, &s3);
    for kill in 1..=KILLS {
        let mut child = scratch.start(&["run"]);
        wait(&mut child, || model.answered() as usize >= kill * 25);
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success(), "run {kill} ended too early for this test");
        while model.in_flight() > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let durable: usize = scratch.value("SELECT count(*) FROM calls").parse().unwrap();
        let lost = model.count() - durable;
        assert!(lost <= kill * IN_FLIGHT, "{lost} of {} are lost after {kill} kills", model.count());
    }
    scratch.ok(&["run"]);
    assert_eq!(model.count_by_key().len(), ROWS);
    let billed = model.billed() as usize;
    assert!((ROWS..=ROWS + KILLS * IN_FLIGHT).contains(&billed), "{billed} were billed for {ROWS} calls");
    assert_whole(&scratch);
    let asked = model.count();
    scratch.ok(&["run"]);
    assert_eq!(model.count(), asked);
}
