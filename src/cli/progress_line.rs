//! One line that says how far a run is: rows by stage, calls, tokens, cost, time left.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;

use crate::model_call::{CallRuntime, StageCounts};

/// How often the line is written anew.
const EVERY: Duration = Duration::from_millis(250);

/// How often a line goes to a log, where standard error is no terminal.
const LOG_EVERY: Duration = Duration::from_secs(30);

/// A line that writes itself until it is dropped.
pub struct ProgressLine {
    task: JoinHandle<()>,
    bar: ProgressBar,
}

impl ProgressLine {
    /// `stages`: the call columns in plan order; `seeds`: the rows that reach the first of them.
    pub fn start(runtime: Arc<CallRuntime>, stages: Vec<String>, seeds: u64) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
            bar.set_style(style);
        }
        let task = tokio::spawn({
            let bar = bar.clone();
            async move {
                let start = std::time::Instant::now();
                let mut logged = start;
                loop {
                    tokio::time::sleep(EVERY).await;
                    let line = line(&runtime, &stages, seeds, start.elapsed());
                    if bar.is_hidden() {
                        if logged.elapsed() >= LOG_EVERY {
                            logged = std::time::Instant::now();
                            eprintln!("{} {line}", HumanDuration(start.elapsed()));
                        }
                    } else {
                        bar.tick();
                        bar.set_message(line);
                    }
                }
            }
        });
        ProgressLine { task, bar }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.task.abort();
        self.bar.finish_and_clear();
    }
}

fn line(runtime: &CallRuntime, stages: &[String], seeds: u64, elapsed: Duration) -> String {
    let counts = runtime.progress.stages();
    let stage = |name: &String| counts.get(name).cloned().unwrap_or_default();
    let mut parts: Vec<String> = stages
        .iter()
        .map(|name| format!("{} {}", name.trim_end_matches("_call"), HumanCount(stage(name).rows_out)))
        .collect();
    let total = runtime.progress.total();
    parts.push(format!("{} calls ({} replayed)", HumanCount(total.calls()), HumanCount(total.replayed)));
    if total.failed > 0 {
        parts.push(format!("{} failed", HumanCount(total.failed)));
    }
    parts.push(format!("{} tokens", HumanCount(total.prompt_tokens + total.completion_tokens)));
    if total.cost_usd > 0.0 {
        parts.push(format!("${:.4}", total.cost_usd));
    }
    let stages: Vec<StageCounts> = stages.iter().map(stage).collect();
    if let Some(left) = time_left(&stages, seeds, elapsed) {
        parts.push(format!("about {} left", HumanDuration(left)));
    }
    parts.join(" · ")
}

/// From the share of rows that have left their stage. The first stage gives the later ones as many rows for a seed
/// as it has given so far.
fn time_left(stages: &[StageCounts], seeds: u64, elapsed: Duration) -> Option<Duration> {
    let first = stages.first()?;
    if first.rows_out == 0 || first.rows == 0 || elapsed < Duration::from_secs(3) {
        return None;
    }
    let finished_first = (first.rows_out as f64 / first.rows as f64).max(1.0);
    let expected = finished_first * seeds.max(first.rows) as f64;
    let done: f64 = stages.iter().map(|stage| (stage.rows_out as f64 / expected).min(1.0)).sum();
    let share = done / stages.len() as f64;
    (share > 0.02).then(|| elapsed.mul_f64(((1.0 - share) / share).min(1e6)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_the_rows_take_as_long_again() {
        let stage = |rows, rows_out| StageCounts { rows, rows_out, ..StageCounts::default() };
        let elapsed = Duration::from_secs(60);
        assert_eq!(time_left(&[stage(10, 20), stage(0, 0)], 10, elapsed), Some(elapsed));
        assert_eq!(time_left(&[stage(0, 0)], 10, elapsed), None);
        assert_eq!(time_left(&[], 10, elapsed), None);
    }
}
