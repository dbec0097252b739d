//! Tests of the limiter, in real but short times.

use std::sync::atomic::AtomicUsize;

use super::*;

fn limiter(max_in_flight: usize) -> Limiter {
    Limiter::new(&ModelConfig { max_in_flight, ..ModelConfig::openai("http://h/v1", "m") })
}

async fn is_free(limiter: &Limiter) -> bool {
    tokio::time::timeout(Duration::from_millis(20), limiter.acquire(0)).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_more_are_in_flight_than_allowed_while_the_limit_moves() {
    let limiter = limiter(8);
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut callers = tokio::task::JoinSet::new();
    for i in 0..400 {
        let (limiter, now, most) = (limiter.clone(), now.clone(), most.clone());
        callers.spawn(async move {
            let permit = limiter.acquire(1).await;
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
    // Nothing is lost or won: at rest, the free slots are what is allowed.
    let state = limiter.0.state();
    assert_eq!((limiter.0.slots.available_permits(), state.owed), (state.allowed, 0));
}

#[tokio::test]
async fn a_burst_of_refusals_halves_once_and_successes_bring_it_back() {
    let limiter = limiter(8);
    let mut burst = Vec::new();
    for _ in 0..8 {
        burst.push(limiter.acquire(0).await);
    }
    burst.iter().for_each(|permit| permit.throttled(None));
    assert_eq!(limiter.allowed_in_flight(), 4);
    burst.truncate(4);
    assert!(!is_free(&limiter).await, "four are still in flight");
    burst.pop();
    assert!(is_free(&limiter).await);
    burst.clear();
    for _ in 0..4 {
        limiter.acquire(0).await.succeeded(0);
    }
    assert_eq!(limiter.allowed_in_flight(), 5);
    for _ in 0..100 {
        limiter.acquire(0).await.succeeded(0);
    }
    assert_eq!(limiter.allowed_in_flight(), 8, "never above max_in_flight");
    for _ in 0..10 {
        limiter.acquire(0).await.throttled(None);
    }
    assert_eq!(limiter.allowed_in_flight(), 1, "never none");
}

#[tokio::test]
async fn retry_after_holds_everyone_back() {
    let limiter = limiter(8);
    let start = Instant::now();
    limiter.acquire(0).await.throttled(Some(Duration::from_millis(80)));
    limiter.acquire(0).await;
    assert!(start.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn requests_and_tokens_keep_to_their_rates() {
    let config = ModelConfig::openai("http://h/v1", "m");
    // 20 a second and as many at once; ten more take half a second.
    let limiter = Limiter::new(&ModelConfig { requests_per_minute: Some(1200), ..config.clone() });
    let start = Instant::now();
    for _ in 0..30 {
        limiter.acquire(0).await;
    }
    assert!((0.45..3.0).contains(&start.elapsed().as_secs_f64()), "{:?}", start.elapsed());

    // 1000 tokens a second: 1000 at once, 300 more take 0.3 s.
    let limiter = Limiter::new(&ModelConfig { tokens_per_minute: Some(60_000), ..config });
    let start = Instant::now();
    limiter.acquire(1300).await;
    assert!((0.28..3.0).contains(&start.elapsed().as_secs_f64()), "{:?}", start.elapsed());
}

#[tokio::test]
async fn tokens_not_used_and_waits_cut_short_are_given_back() {
    let config = ModelConfig { tokens_per_minute: Some(60_000), ..ModelConfig::openai("http://h/v1", "m") };
    let limiter = Limiter::new(&config);
    limiter.acquire(1000).await.succeeded(0);
    assert!(tokio::time::timeout(Duration::from_millis(20), limiter.acquire(100_000)).await.is_err());
    assert!(tokio::time::timeout(Duration::from_millis(200), limiter.acquire(900)).await.is_ok());
}
