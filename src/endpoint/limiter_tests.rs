//! Tests of the limiter, in real but short times.

use std::sync::atomic::AtomicUsize;

use super::*;

fn limiter(max_in_flight: usize) -> Limiter {
    Limiter::new(&ModelConfig { max_in_flight, ..ModelConfig::openai("http://h/v1", "m") })
}

async fn is_free(limiter: &Limiter) -> bool {
    tokio::time::timeout(Duration::from_millis(20), limiter.acquire(0, 0)).await.is_ok()
}

/// Nothing is lost or won: nobody waits, and the free slots are exactly what is allowed.
async fn at_rest(limiter: &Limiter) {
    {
        let state = limiter.0.state();
        assert_eq!((state.in_flight, state.waiting.len()), (0, 0));
    }
    let mut held = Vec::new();
    for _ in 0..limiter.allowed_in_flight() {
        held.push(limiter.acquire(0, 0).await);
    }
    assert!(!is_free(limiter).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_more_are_in_flight_than_allowed_while_the_limit_moves() {
    let limiter = limiter(8);
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut callers = tokio::task::JoinSet::new();
    for i in 0..400 {
        let (limiter, now, most) = (limiter.clone(), now.clone(), most.clone());
        callers.spawn(async move {
            let permit = limiter.acquire(1, 0).await;
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            now.fetch_sub(1, Ordering::SeqCst);
            if i % 7 == 0 { permit.throttled(None) } else { permit.succeeded(1) }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }
    assert!((2..=8).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    at_rest(&limiter).await;
}

#[tokio::test]
async fn a_burst_of_refusals_halves_once_and_successes_bring_it_back() {
    let limiter = limiter(8);
    let mut burst = Vec::new();
    for _ in 0..8 {
        burst.push(limiter.acquire(0, 0).await);
    }
    burst.iter().for_each(|permit| permit.throttled(None));
    assert_eq!(limiter.allowed_in_flight(), 4);
    burst.truncate(4);
    assert!(!is_free(&limiter).await, "four are still in flight");
    burst.pop();
    assert!(is_free(&limiter).await);
    burst.clear();
    for _ in 0..4 {
        limiter.acquire(0, 0).await.succeeded(0);
    }
    assert_eq!(limiter.allowed_in_flight(), 5);
    for _ in 0..100 {
        limiter.acquire(0, 0).await.succeeded(0);
    }
    assert_eq!(limiter.allowed_in_flight(), 8, "never above max_in_flight");
    for _ in 0..10 {
        limiter.acquire(0, 0).await.throttled(None);
    }
    assert_eq!(limiter.allowed_in_flight(), 1, "never none");
}

#[tokio::test]
async fn retry_after_holds_everyone_back() {
    let limiter = limiter(8);
    let start = Instant::now();
    limiter.acquire(0, 0).await.throttled(Some(Duration::from_millis(80)));
    limiter.acquire(0, 0).await;
    assert!(start.elapsed() >= Duration::from_millis(80));
}

/// When the last of so many requests may go, each sent as soon as it may and answered at once: in seconds, by a clock
/// that nothing but that moves.
fn last_may_go(config: &ModelConfig, requests: usize, tokens: u64) -> f64 {
    let start = Instant::now();
    let limiter = Limiter::new(config);
    let last = (0..requests).fold(start, |now, _| {
        let next = limiter.0.state().may_start(tokens, now).expect("a slot is free");
        let _permit = limiter.0.state().start(&limiter.0, tokens, next).sent(next);
        next
    });
    last.duration_since(start).as_secs_f64()
}

#[tokio::test]
async fn requests_and_tokens_keep_to_their_rates() {
    let config = ModelConfig::openai("http://h/v1", "m");
    // 20 a second and as many at once; ten more take half a second.
    let requests = |rate| ModelConfig { requests_per_minute: Some(rate), ..config.clone() };
    let last = last_may_go(&requests(1200), 30, 0);
    assert!((0.499..0.501).contains(&last), "{last}");
    // 1000 tokens a second: 1000 at once, 300 more take 0.3 s.
    let tokens = ModelConfig { tokens_per_minute: Some(60_000), ..config.clone() };
    let last = last_may_go(&tokens, 1, 1300);
    assert!((0.299..0.301).contains(&last), "{last}");

    // And so they are let go: a tenth of a second after the first ones, and not much later where a processor is free.
    let start = Instant::now();
    let limiter = Limiter::new(&requests(6000));
    for _ in 0..110 {
        limiter.acquire(0, 0).await;
    }
    assert!((0.09..3.0).contains(&start.elapsed().as_secs_f64()), "{:?}", start.elapsed());
    let start = Instant::now();
    let limiter = Limiter::new(&tokens);
    limiter.acquire(1100, 0).await;
    assert!((0.09..3.0).contains(&start.elapsed().as_secs_f64()), "{:?}", start.elapsed());
}

#[tokio::test]
async fn tokens_not_used_and_waits_cut_short_are_given_back() {
    let config = ModelConfig { tokens_per_minute: Some(60_000), ..ModelConfig::openai("http://h/v1", "m") };
    let limiter = Limiter::new(&config);
    limiter.acquire(1000, 0).await.succeeded(0);
    assert!(tokio::time::timeout(Duration::from_millis(20), limiter.acquire(100_000, 0)).await.is_err());
    assert!(tokio::time::timeout(Duration::from_millis(200), limiter.acquire(900, 0)).await.is_ok());
}

/// A slot is kept until the answer is durable.
#[tokio::test]
async fn tokens_not_used_are_there_for_those_who_wait_while_the_slot_is_kept() {
    let config = ModelConfig { tokens_per_minute: Some(60_000), ..ModelConfig::openai("http://h/v1", "m") };
    let succeeds: fn(&Permit) = |permit| permit.succeeded(0);
    let fails: fn(&Permit) = |permit| permit.failed(&SendError::new(ErrorKind::Connect, ""));
    for ends in [succeeds, fails] {
        let limiter = Limiter::new(&config);
        let now = Instant::now();
        // It takes a minute's worth.
        let kept = limiter.0.state().start(&limiter.0, 60_000, now).sent(now);
        let mut waits = Box::pin(limiter.acquire(900, 0));
        assert!(futures::poll!(&mut waits).is_pending());
        ends(&kept);
        assert!(futures::poll!(&mut waits).is_ready());
    }
}

#[tokio::test]
async fn an_attempt_gives_back_what_the_server_did_not_use() {
    let kinds = [
        // What happened, and how many requests and tokens of it count.
        (ErrorKind::Connect, 0, 0),
        (ErrorKind::Request, 0, 0),
        (ErrorKind::Busy(429), 1, 60_000),
        (ErrorKind::Busy(500), 1, 0),
        (ErrorKind::Refused(401), 1, 0),
        (ErrorKind::ContextOverflow(Some(400)), 1, 0),
        (ErrorKind::Timeout, 1, 60_000),
        (ErrorKind::TornBody, 1, 60_000),
    ];
    let config = ModelConfig {
        // What counts takes a minute to come in again, so that it is not there for this test's slowness.
        requests_per_minute: Some(1),
        tokens_per_minute: Some(60_000),
        ..ModelConfig::openai("http://h/v1", "m")
    };
    for (kind, requests, tokens) in kinds {
        let limiter = Limiter::new(&config);
        let now = Instant::now();
        let permit = limiter.0.state().start(&limiter.0, 60_000, now).sent(now);
        permit.failed(&SendError::new(kind, ""));
        drop(permit);
        let mut state = limiter.0.state();
        let at = Instant::now();
        let mut is_there = |requests: f64, tokens: f64| {
            let State { requests: calls, tokens: bucket, .. } = &mut *state;
            let calls = calls.as_mut().unwrap().ready(requests, at);
            calls <= at && bucket.as_mut().unwrap().ready(tokens, at) <= at
        };
        assert_eq!(is_there(1.0, 0.0), requests == 0, "{kind:?}");
        assert_eq!(is_there(0.0, 900.0), tokens == 0, "{kind:?}");
    }
}

#[tokio::test]
async fn an_estimate_above_a_minutes_worth_is_no_longer_wait_and_what_was_charged_is_corrected() {
    let config = ModelConfig { tokens_per_minute: Some(60_000), ..ModelConfig::openai("http://h/v1", "m") };
    let limiter = Limiter::new(&config);
    let now = Instant::now();
    let wait = limiter.0.state().may_start(u64::MAX, now).map(|start| start.duration_since(now));
    assert!(wait.is_some_and(|wait| wait <= Duration::from_secs(60)), "{wait:?}");
    let permit = limiter.0.state().start(&limiter.0, 1_000_000, now).sent(now);
    assert_eq!(permit.tokens.load(Ordering::Relaxed), 60_000);
    // Nothing of it was used: the second's worth that was there at first is there again.
    permit.succeeded(0);
    drop(permit);
    let start = limiter.0.state().may_start(1000, now);
    assert!(start.is_some_and(|start| start <= now), "{start:?}");
}

#[tokio::test]
async fn of_those_who_wait_the_latest_stage_goes_first_and_within_it_who_came_first() {
    let limiter = limiter(1);
    let held = limiter.acquire(0, 0).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut callers = tokio::task::JoinSet::new();
    for (depth, name) in [(0, "a"), (2, "b"), (1, "c"), (2, "d"), (0, "e")] {
        let (limiter, order) = (limiter.clone(), order.clone());
        callers.spawn(async move {
            let _permit = limiter.acquire(0, depth).await;
            order.lock().unwrap().push(name);
        });
        // Each is in the queue before the next one comes.
        tokio::task::yield_now().await;
    }
    drop(held);
    callers.join_all().await;
    assert_eq!(*order.lock().unwrap(), ["b", "d", "c", "a", "e"]);
    at_rest(&limiter).await;
}

#[tokio::test]
async fn a_later_stage_goes_first_also_where_everyone_waits_for_a_rate_or_a_pause() {
    let config = ModelConfig::openai("http://h/v1", "m");
    // Ten a second and 64 slots: those who wait for the rate hold none of them.
    let limiter = Limiter::new(&ModelConfig { requests_per_minute: Some(600), ..config });
    for _ in 0..10 {
        limiter.acquire(0, 0).await;
    }
    limiter.acquire(0, 0).await.throttled(Some(Duration::from_millis(50)));
    let earlier: Vec<_> = (0..100).map(|_| Box::pin(limiter.acquire(0, 0))).collect();
    let mut earlier: futures::stream::FuturesUnordered<_> = earlier.into_iter().collect();
    assert!(futures::FutureExt::now_or_never(futures::StreamExt::next(&mut earlier)).is_none());
    let start = Instant::now();
    tokio::select! {
        biased;
        _ = futures::StreamExt::collect::<Vec<_>>(&mut earlier) => panic!("the later stage waited for all others"),
        _ = limiter.acquire(0, 1) => {}
    }
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    drop(earlier);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    at_rest(&limiter).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiters_that_give_up_lose_no_slot_and_wake_the_next() {
    let limiter = limiter(3);
    let mut callers = tokio::task::JoinSet::new();
    for i in 0..3000_u64 {
        let limiter = limiter.clone();
        callers.spawn(async move {
            let acquired = limiter.acquire(1, (i % 4) as usize);
            if i % 3 == 0 {
                // Gives up at some moment: in the queue, on the way to the permit, or with it.
                let patience = Duration::from_micros(i % 977);
                let _ = tokio::time::timeout(patience, acquired).await;
                return 0;
            }
            let permit = acquired.await;
            tokio::task::yield_now().await;
            if i % 50 == 1 {
                permit.throttled(None)
            } else {
                permit.succeeded(1)
            }
            1
        });
        if i % 500 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let served = tokio::time::timeout(Duration::from_secs(60), callers.join_all()).await.expect("all are served");
    assert_eq!(served.into_iter().sum::<i32>(), 2000);
    at_rest(&limiter).await;
}

#[tokio::test]
async fn a_large_waiter_that_gives_up_lets_a_small_one_go() {
    let config = ModelConfig { tokens_per_minute: Some(60_000), ..ModelConfig::openai("http://h/v1", "m") };
    let limiter = Limiter::new(&config);
    let small = {
        let mut large = Box::pin(limiter.acquire(1_000_000, 1));
        assert!(futures::poll!(&mut large).is_pending());
        let mut small = Box::pin(limiter.acquire(10, 0));
        assert!(futures::poll!(&mut small).is_pending(), "the large one is before it");
        small
    };
    assert!(tokio::time::timeout(Duration::from_millis(500), small).await.is_ok());
}

#[tokio::test]
async fn where_the_limit_follows_latency_a_slow_round_cuts_it_by_a_quarter() {
    let config = ModelConfig { max_in_flight: 20, ..ModelConfig::openai("http://h/v1", "m") };
    let after_slow_round = async |adapt_to_latency| {
        let limiter = Limiter::new(&ModelConfig { adapt_to_latency, ..config.clone() });
        let mut latency = Duration::from_millis(20);
        for _ in 0..2 {
            let start = Instant::now();
            let mut round = Vec::new();
            for _ in 0..20 {
                round.push(limiter.acquire(0, 0).await);
            }
            tokio::time::sleep(latency).await;
            round.iter().for_each(|permit| permit.succeeded(0));
            // The second one is slow beside the first, however long that took.
            latency = Duration::from_millis(200).max(4 * start.elapsed());
        }
        limiter.allowed_in_flight()
    };
    assert_eq!(after_slow_round(true).await, 15);
    assert_eq!(after_slow_round(false).await, 20, "only where switched on");
}
