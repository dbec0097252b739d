//! Tests of the choice among replicas, with the time in the test's hand.

use std::collections::BTreeSet;

use super::*;

/// Replicas and a clock that stands still unless told.
struct Clock {
    replicas: Replicas,
    now: Instant,
}

fn clock(n: usize) -> Clock {
    let urls: Vec<String> = (0..n).map(|i| format!("http://h{i}/v1")).collect();
    Clock { replicas: Replicas::new(&urls, Api::Chat).unwrap(), now: Instant::now() }
}

impl Clock {
    fn sleep(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    fn choose(&self) -> Visit<'_> {
        self.replicas.choose(self.now).unwrap()
    }

    /// The replica of one request that ends so, and whether another could answer it.
    fn visit(&self, error: Option<ErrorKind>) -> (usize, bool) {
        let visit = self.choose();
        (visit.index, visit.ended(error, self.now))
    }

    /// How many of the next twenty requests, all answered, go to this one.
    fn answered_at(&self, index: usize) -> usize {
        (0..20).filter(|_| self.visit(None).0 == index).count()
    }
}

#[test]
fn a_base_url_becomes_the_address_of_its_api() {
    let url = |base, api| Replica::new(base, api).map(|s| s.url.to_string());
    assert_eq!(url("http://h:1/v1", Api::Chat).unwrap(), "http://h:1/v1/chat/completions");
    assert_eq!(url("https://h/v1/?api-version=2", Api::Completions).unwrap(), "https://h/v1/completions?api-version=2");
    let error = url("http://me:hush@h/v1", Api::Chat).unwrap_err();
    assert!(!error.message.contains("hush"));
    assert!(url("ftp://h", Api::Chat).is_err());
}

#[test]
fn only_addresses_of_this_machine_are_loopback() {
    let loopback = |url: &str| is_loopback(&Replica::new(url, Api::Chat).unwrap().url);
    assert!(loopback("http://127.0.0.1:8000/v1") && loopback("http://[::1]/v1") && loopback("http://localhost/v1"));
    assert!(!loopback("http://10.0.0.1/v1") && !loopback("https://localhost.example/v1"));
}

#[test]
fn the_least_busy_is_asked_and_equally_busy_ones_take_turns() {
    let clock = clock(3);
    let mut held: Vec<_> = (0..6).map(|_| clock.choose()).collect();
    let mut indexes: Vec<_> = held.iter().map(|visit| visit.index).collect();
    indexes.sort_unstable();
    assert_eq!(indexes, [0, 0, 1, 1, 2, 2]);
    let freed = held.remove(1).index;
    assert_eq!(clock.choose().index, freed);
}

#[test]
fn one_that_cannot_be_connected_to_is_out_for_longer_each_time_and_tried_by_one_request() {
    let mut clock = clock(2);
    let (dead, another) = clock.visit(Some(ErrorKind::Connect));
    assert!(another, "the other replica can answer");
    for seconds in [5, 10, 20, 40, 60, 60] {
        clock.sleep(seconds * 1000 - 1);
        assert_eq!(clock.answered_at(dead), 0, "before {seconds} s");
        clock.sleep(1);
        let probe = clock.choose();
        assert_eq!(probe.index, dead, "after {seconds} s");
        assert_eq!(clock.answered_at(dead), 0, "one request tries it, no other");
        assert!(probe.ended(Some(ErrorKind::Connect), clock.now));
    }
    clock.sleep(60_000);
    assert_eq!(clock.visit(None).0, dead);
    assert_eq!(clock.answered_at(dead), 10, "it is back");
}

#[test]
fn a_probe_that_is_given_up_is_made_by_the_next_one() {
    let mut clock = clock(2);
    let (dead, _) = clock.visit(Some(ErrorKind::Connect));
    clock.sleep(5000);
    drop(clock.choose());
    assert_eq!(clock.visit(None).0, dead);
}

#[test]
fn three_failures_in_a_row_take_it_out_and_refusals_of_one_request_are_no_failures() {
    for (error, asked) in [
        (ErrorKind::Connect, 1),
        (ErrorKind::Reset, 3),
        (ErrorKind::Timeout, 3),
        (ErrorKind::Busy(500), 3),
        (ErrorKind::Busy(429), 10),
        (ErrorKind::TornBody, 3),
        (ErrorKind::Refused(401), 1),
        (ErrorKind::Refused(403), 1),
        (ErrorKind::Refused(404), 1),
        (ErrorKind::Refused(400), 10),
        (ErrorKind::Refused(422), 10),
    ] {
        let clock = clock(2);
        let bad = (0..20).filter(|_| {
            let visit = clock.choose();
            visit.ended((visit.index == 0).then_some(error), clock.now);
            visit.index == 0
        });
        assert_eq!(bad.count(), asked, "{error:?}");
    }
}

#[test]
fn one_without_the_model_is_passed_over_while_another_is_well_and_asked_last_while_none_is() {
    let mut clock = clock(2);
    let (refuses, another) = clock.visit(Some(ErrorKind::Refused(404)));
    assert!(another, "the other one may have the model");
    assert_eq!(clock.answered_at(refuses), 0);
    clock.sleep(10);
    assert!(!clock.visit(Some(ErrorKind::Connect)).1, "none is well");
    // It would refuse again; the other one may be back.
    for _ in 0..3 {
        clock.sleep(10);
        assert_ne!(clock.visit(Some(ErrorKind::Connect)).0, refuses);
    }
    clock.sleep(5000);
    assert_eq!(clock.visit(Some(ErrorKind::Refused(404))), (refuses, false), "it is tried, and is out for longer");
    assert_ne!(clock.visit(None).0, refuses);
    clock.sleep(10_000);
    assert_eq!(clock.visit(None).0, refuses);
    assert_eq!(clock.answered_at(refuses), 10, "it is back");
}

#[test]
fn what_one_request_is_refused_for_takes_no_replica_out_that_has_answered() {
    let clock = clock(3);
    let at_once = || (0..3).map(|_| clock.choose()).collect::<Vec<_>>();
    let asked = |visits: &[Visit]| visits.iter().map(|visit| visit.index).collect::<BTreeSet<_>>();
    for visit in at_once() {
        visit.ended(None, clock.now);
    }
    // Two in a row at each.
    for _ in 0..6 {
        assert!(!clock.visit(Some(ErrorKind::Refused(403))).1, "it is the answer");
    }
    assert_eq!(asked(&at_once()).len(), 3);
    // A third one, and it is the replica.
    assert!(clock.visit(Some(ErrorKind::Refused(403))).1);
    assert_eq!(asked(&at_once()).len(), 2);
}

#[test]
fn where_all_refuse_the_second_refusal_is_the_answer() {
    let clock = clock(2);
    let refused = Some(ErrorKind::Refused(401));
    assert!(clock.visit(refused).1);
    for _ in 0..5 {
        assert!(!clock.visit(refused).1);
    }
    let one = Replicas::new(&["http://a/v1".into()], Api::Chat).unwrap();
    assert!(!one.choose(clock.now).unwrap().ended(refused, clock.now), "one address is asked as before");
}

#[test]
fn a_burst_of_failures_takes_it_out_once() {
    let mut clock = clock(2);
    let urls = Replicas::new(&["http://a/v1".into(), "http://b/v1".into()], Api::Chat).unwrap();
    let held: Vec<_> = (0..40).map(|_| urls.choose(clock.now).unwrap()).collect();
    for visit in &held {
        clock.sleep(1);
        visit.ended((visit.index == 0).then_some(ErrorKind::Connect), clock.now);
    }
    drop(held);
    clock.replicas = urls;
    clock.sleep(5000);
    assert_eq!(clock.answered_at(0), 10, "it is tried after 5 s and is back");
}

#[test]
fn when_all_are_out_the_one_that_failed_longest_ago_is_asked() {
    let mut clock = clock(3);
    let mut order = Vec::new();
    for n in 1..=3 {
        clock.sleep(10);
        let (index, another) = clock.visit(Some(ErrorKind::Connect));
        assert_eq!(another, n < 3, "there is another while not all are out");
        order.push(index);
    }
    for expected in order {
        clock.sleep(10);
        assert_eq!(clock.visit(Some(ErrorKind::Connect)).0, expected);
    }
}
