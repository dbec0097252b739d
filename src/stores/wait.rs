//! A request to a store from code that does not wait by itself, on whatever thread it runs.

use std::future::Future;
use std::io;

use tokio::runtime::{Builder, Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// Waits for the future's end.
pub fn wait<T: Send>(future: impl Future<Output = T> + Send) -> io::Result<T> {
    match Handle::try_current() {
        Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::MultiThread => {
            Ok(block_in_place(|| runtime.block_on(future)))
        }
        // A runtime of one thread would wait for itself.
        _ => std::thread::scope(|scope| {
            let waiting = scope.spawn(|| Ok(Builder::new_current_thread().enable_all().build()?.block_on(future)));
            waiting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        }),
    }
}
