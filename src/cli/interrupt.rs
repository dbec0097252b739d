//! Ctrl-C and SIGTERM: the first stops new calls and waits for those in flight, the second gives these up and ends the
//! process at once.
//! A run that is just being published is waited for: it cannot be stopped halfway.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{Result, exec_err};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::console::Console;
use super::{EXIT_INTERRUPTED, EXIT_OK};
use crate::model_call::{CallRuntime, INTERRUPTED};
use crate::publish::{Run, StoppedBy};
use crate::session::Workspace;

/// How long requests in flight are waited for.
pub const GRACE: Duration = Duration::from_secs(30);

/// How long the second signal waits for what is being written; what takes longer stays for the next run to take away.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// How long the second signal waits until what it gives up is written down.
pub const LAST_RECORDS: Duration = Duration::from_secs(1);

/// How long a command gets to end by itself whose run has just been published.
const AFTERWARDS: Duration = Duration::from_secs(2);

/// Why a run is incomplete that was interrupted.
pub const REASON: &str = "interrupted";

/// Runs what precedes the first call. `None` where a signal came: it is dropped, with the files that it has written for
/// itself; a second one ends the process at once.
pub async fn until_signal<T>(work: impl Future<Output = T>) -> Option<T> {
    let Ok(mut signals) = Signals::new() else { return Some(work.await) };
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let _watch = SpawnedTask::spawn(async move {
        signals.next().await;
        stop.cancel();
        signals.next().await;
        std::process::exit(i32::from(EXIT_INTERRUPTED));
    });
    stopped.run_until_cancelled(work).await
}

/// Runs `work` until a signal comes: then it is dropped, and what it has sent is still waited for and recorded. Work
/// that has begun to publish its run comes to its end. Signals are watched from here until the process ends.
pub async fn interruptible<T>(
    workspace: &Workspace,
    console: Console,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    watch(Arc::clone(&workspace.runtime), Arc::clone(&workspace.run), console);
    let mut work = pin!(work);
    tokio::select! {
        biased;
        () = workspace.runtime.interrupt.cancelled() => {}
        result = work.as_mut() => return result,
    }
    let run = &workspace.run;
    if run.stop() {
        return exec_err!("{INTERRUPTED}");
    }
    let published = async {
        if run.written(GRACE).await {
            tokio::time::sleep(AFTERWARDS).await;
        }
    };
    tokio::select! {
        biased;
        result = work.as_mut() => result,
        () = published => exec_err!("{INTERRUPTED}"),
    }
}

fn watch(runtime: Arc<CallRuntime>, run: Arc<Run>, console: Console) {
    tokio::spawn(async move {
        let Ok(mut signals) = Signals::new() else { return };
        signals.next().await;
        run.stop();
        runtime.interrupt.cancel();
        let grace = GRACE.as_secs();
        match console {
            Console::Json => console.event("stopping", json!({ "grace_seconds": grace })),
            Console::Plain | Console::Quiet if run.is_publishing() => {
                console.note("\nthe run is being published; that is not stopped halfway");
            }
            Console::Plain | Console::Quiet => console.note(format_args!(
                "\nstopping: no new calls; those in flight get {grace} s and are recorded (Ctrl-C again stops at once)"
            )),
        }
        signals.next().await;
        let publishing = run.is_publishing();
        let mut code = EXIT_INTERRUPTED;
        if run.written(LAST_WRITES).await && publishing && run.published().is_some() {
            tokio::time::sleep(AFTERWARDS).await;
            code = EXIT_OK;
        }
        // First: once nothing is in flight any more the command ends by itself, and would be cut off while it writes this.
        run.stopped(StoppedBy::Interrupted, REASON);
        runtime.give_up(LAST_RECORDS).await;
        std::process::exit(i32::from(code));
    });
}

/// SIGTERM ends the shell, wherever it is: what is in flight is recorded first, and a run that is being published is
/// published.
pub fn end_on_terminate(workspace: &Workspace) {
    let (runtime, run) = (Arc::clone(&workspace.runtime), Arc::clone(&workspace.run));
    tokio::spawn(async move {
        let Ok(mut signals) = Signals::new() else { return };
        signals.terminate().await;
        let is_stopped = run.stop();
        runtime.interrupt.cancel();
        // The process ends in any case; what cannot be sealed is sealed by the next one.
        let _ = runtime.finish(GRACE).await;
        if !is_stopped {
            run.written(GRACE).await;
        }
        std::process::exit(i32::from(EXIT_INTERRUPTED));
    });
}

/// Ctrl-C and, where there is such a thing, SIGTERM: schedulers send that.
pub struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    pub fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    #[cfg(not(unix))]
    pub fn new() -> io::Result<Self> {
        Ok(Signals {})
    }

    /// Waits for the next one.
    #[cfg(unix)]
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    #[cfg(unix)]
    async fn terminate(&mut self) {
        self.terminate.recv().await;
    }

    #[cfg(not(unix))]
    async fn terminate(&mut self) {
        std::future::pending().await
    }

    #[cfg(not(unix))]
    pub async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
