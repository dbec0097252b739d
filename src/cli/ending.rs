//! How a command ends that makes calls: what is in flight is waited for, the ledger is closed, a run that is not
//! published is marked as incomplete. In: the result of its work. Out: that result, or the exit code of a stop.

use datafusion::common::{DataFusionError, Result};
use serde_json::json;

use super::console::Console;
use super::interrupt::{GRACE, REASON};
use super::progress::Progress;
use super::stage_view::StageView;
use super::{EXIT_BUDGET, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, is_broken_pipe, sentence};
use crate::counted::counted;
use crate::publish::StoppedBy;
use crate::session::Workspace;

/// How it ended.
pub enum Ending<T> {
    /// With the stages as they ended.
    Complete(T, Vec<StageView>),
    /// Stopped with this exit code; the sentence has been said.
    Stopped(u8),
}

/// Waits for what is in flight and settles the run. `Err` is a failure whose sentence has still to be said.
pub async fn settle<T>(
    workspace: &Workspace,
    console: Console,
    progress: Progress,
    result: Result<T>,
) -> Result<Ending<T>> {
    let runtime = &workspace.runtime;
    let finished = runtime.finish(GRACE).await;
    let views = progress.finish();
    let (result, given_up) = match (result, finished) {
        (result, Ok(given_up)) => (result, given_up),
        (Ok(_), Err(error)) => (Err(error), 0),
        (Err(first), Err(_)) => (Err(first), 0),
    };
    let error = match result {
        Ok(value) if !runtime.interrupt.is_cancelled() || workspace.run.published().is_some() => {
            return Ok(Ending::Complete(value, views));
        }
        Ok(_) => None,
        Err(error) => Some(error),
    };
    let nothing_writes = workspace.run.take_away(GRACE).await;
    let left = left(&views);
    if runtime.interrupt.is_cancelled() {
        workspace.run.stopped(StoppedBy::Interrupted, REASON);
        // What came of requests that were given up is known to the server alone.
        let (given_up, again) = match given_up {
            0 => (String::new(), "run the same command to go on, every answer is kept and none is paid for twice"),
            n => {
                let were = if n == 1 { "was" } else { "were" };
                let again = "run the same command to go on, every answer that came is kept and what was given up is asked \
                             again, though its server may bill it";
                (format!("{} {were} given up; ", counted(n as u64, "request")), again)
            }
        };
        match workspace.run.published() {
            // The statement after it was stopped.
            Some(published) => console.note(format_args!(
                "stopped: {given_up}the run is published in {}; what was to come after it was not done",
                published.path.display()
            )),
            None => console.note(format_args!("stopped: {given_up}{left}{again}")),
        }
        finished_event(workspace, console, &views, Some((StoppedBy::Interrupted, REASON)), EXIT_INTERRUPTED);
        if !nothing_writes {
            // A thread that waits for a store would panic in a runtime that shuts down.
            std::process::exit(i32::from(EXIT_INTERRUPTED));
        }
        return Ok(Ending::Stopped(EXIT_INTERRUPTED));
    }
    if let Some(spent) = runtime.spending.spent().filter(|_| error.is_some()) {
        let reason = format!("{left}{spent}");
        workspace.run.stopped(StoppedBy::Budget, &reason);
        console.error(&reason);
        finished_event(workspace, console, &views, Some((StoppedBy::Budget, &reason)), EXIT_BUDGET);
        return Ok(Ending::Stopped(EXIT_BUDGET));
    }
    let error = error.unwrap_or_else(|| DataFusionError::Execution("the command was stopped".to_owned()));
    let reason = sentence(&error);
    workspace.run.stopped(StoppedBy::Failed, &reason);
    let code = if is_broken_pipe(&error) { EXIT_OK } else { EXIT_FAILED };
    finished_event(workspace, console, &views, Some((StoppedBy::Failed, &reason)), code);
    Err(error)
}

/// The last event of a command: what it came to.
pub fn finished_event(
    workspace: &Workspace,
    console: Console,
    views: &[StageView],
    stopped: Option<(StoppedBy, &str)>,
    exit_code: u8,
) {
    let spending = workspace.runtime.spending.so_far();
    let sum = |value: fn(&StageView) -> u64| views.iter().map(value).sum::<u64>();
    let published = workspace.run.published();
    console.event(
        "run_finished",
        json!({
            "run_id": workspace.run.id,
            "state": if stopped.is_none() { "complete" } else { "incomplete" },
            "stopped_by": stopped.map(|(by, _)| by.as_str()),
            "reason": stopped.map(|(_, reason)| reason),
            "exit_code": exit_code,
            "path": published.map(|published| published.path.display().to_string()),
            "curated_rows": published.map(|published| published.manifest.rows.curated),
            "rejected_rows": published.map(|published| published.manifest.rows.rejected),
            "requests": spending.requests,
            "asked": sum(|view| view.counts.asked),
            "replayed": sum(|view| view.counts.replayed),
            "failed": sum(|view| view.counts.failed),
            "prompt_tokens": sum(|view| view.counts.prompt_tokens),
            "completion_tokens": sum(|view| view.counts.completion_tokens),
            "cost_usd": spending.cost_usd,
        }),
    );
}

/// How far the stages have come, as the beginning of a sentence: `generate has done 50 of 200 rows; `.
fn left(views: &[StageView]) -> String {
    let done = |view: &StageView| {
        format!("{} has done {} of {}", view.title(), view.counts.rows_done, counted(view.rows, "row"))
    };
    let done: Vec<String> = views.iter().filter(|view| view.rows > 0).map(done).collect();
    if done.is_empty() { String::new() } else { format!("{}; ", done.join(", ")) }
}
