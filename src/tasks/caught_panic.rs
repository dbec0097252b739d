//! Runs a decoder that may panic on bytes which it does not expect. In: a future. Out: its result, or [`Panicked`]. Nothing
//! is printed of a panic that is caught here; all others are reported as before.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Once;

use futures::future::poll_fn;

/// The future panicked.
#[derive(Debug, PartialEq)]
pub(super) struct Panicked;

thread_local! {
    /// Whether a panic of this thread is caught here.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// The result of a future whose panics are errors of its data. It must not be used again after one.
pub(super) async fn caught<T>(future: impl Future<Output = T>) -> Result<T, Panicked> {
    quiet_where_caught();
    let mut future = pin!(future);
    poll_fn(|context| {
        // A future may be polled inside of another's poll.
        let outer = CAUGHT.replace(true);
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        CAUGHT.set(outer);
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(_) => std::task::Poll::Ready(Err(Panicked)),
        }
    })
    .await
}

/// The hook runs before a panic is caught and in the thread that panics, so it can see that flag.
fn quiet_where_caught() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !CAUGHT.get() {
                report(panic);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_and_the_thread_reports_the_next_one_again() {
        let inner = caught(async { assert_eq!(caught(async { panic!("inside") }).await, Err::<(), _>(Panicked)) });
        assert_eq!(inner.await, Ok(()));
        assert!(!CAUGHT.get());
        let waits = async {
            tokio::task::yield_now().await;
            assert!(CAUGHT.get());
            panic!("after a wait")
        };
        assert_eq!(caught(waits).await, Err::<(), _>(Panicked));
        assert!(!CAUGHT.get());
        assert_eq!(caught(async { 1 }).await, Ok(1));
    }
}
