//! Ctrl-C: the first stops new calls and waits for those in flight, the second ends the process at once.

use std::sync::Arc;
use std::time::Duration;

use crate::model_call::CallRuntime;

use super::EXIT_INTERRUPTED;

/// How long requests in flight are waited for.
pub const GRACE: Duration = Duration::from_secs(30);

/// Watches for Ctrl-C in the background until the process ends.
pub fn watch(runtime: Arc<CallRuntime>) {
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_err() {
            return;
        }
        runtime.interrupt.cancel();
        eprintln!(
            "\nstopping: no new calls; those in flight get {} s and are recorded (Ctrl-C again stops at once)",
            GRACE.as_secs()
        );
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(i32::from(EXIT_INTERRUPTED));
        }
    });
}
