//! How far a command is, while it runs: on a terminal a bar a stage, else a line a stage every ten seconds, or events.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{FormattedDuration, ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::console::{BARS, Console};
use super::stage_view::{StageView, StageViews};
use crate::model_call::CallRuntime;

/// How often bars are drawn anew.
const DRAW_EVERY: Duration = Duration::from_millis(250);

/// How often lines go to a log, where standard error is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How often machines are told.
const EVENT_EVERY: Duration = Duration::from_secs(1);

/// Shows progress until it is finished or dropped.
pub struct Progress {
    shown: Arc<Mutex<Shown>>,
    task: Option<JoinHandle<()>>,
}

struct Shown {
    console: Console,
    runtime: Arc<CallRuntime>,
    /// What was counted before belongs to other statements.
    since: usize,
    views: StageViews,
    bars: Vec<ProgressBar>,
    /// By stage: its end was told.
    told: Vec<String>,
    start: Instant,
    last: Instant,
}

impl Progress {
    /// `stages`: the call columns in plan order and the rows that reach the first, where they are known.
    pub fn start(console: Console, runtime: &Arc<CallRuntime>, stages: Vec<String>, seeds: Option<u64>) -> Self {
        let start = Instant::now();
        let shown = Arc::new(Mutex::new(Shown {
            console,
            runtime: Arc::clone(runtime),
            since: runtime.progress.execs(),
            views: StageViews::new(stages, seeds),
            bars: Vec::new(),
            told: Vec::new(),
            start,
            last: start,
        }));
        let task = (console != Console::Quiet).then(|| {
            let shown = Arc::clone(&shown);
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(DRAW_EVERY).await;
                    shown.lock().unwrap_or_else(PoisonError::into_inner).show();
                }
            })
        });
        Progress { shown, task }
    }

    /// Ends the display; machines are told how every stage ended.
    pub fn finish(self) -> Vec<StageView> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let views = shown.look();
        shown.tell_progress(&views);
        for view in &views {
            shown.tell_finished(view);
        }
        drop(shown);
        views
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for bar in shown.bars.drain(..) {
            bar.finish_and_clear();
            BARS.remove(&bar);
        }
    }
}

impl Shown {
    fn look(&mut self) -> Vec<StageView> {
        self.views.look(Instant::now(), self.runtime.progress.stages_since(self.since))
    }

    fn show(&mut self) {
        let views = self.look();
        match self.console {
            Console::Quiet => {}
            Console::Json => {
                for view in views.iter().filter(|view| view.counts.rows > 0 && view.is_finished()) {
                    self.tell_finished(view);
                }
                if self.is_time(EVENT_EVERY) {
                    self.tell_progress(&views);
                }
            }
            Console::Plain if BARS.is_hidden() => {
                if self.is_time(LINE_EVERY) {
                    let elapsed = FormattedDuration(self.start.elapsed());
                    for view in views.iter().filter(|view| view.counts.rows > 0) {
                        // Of a stage that stays done there is nothing new to say.
                        let told = self.told.contains(&view.name);
                        if !(told && view.is_finished()) {
                            eprintln!("{elapsed} {}: {}", view.title(), view.line());
                        }
                        self.told.retain(|name| *name != view.name);
                        if view.is_finished() {
                            self.told.push(view.name.clone());
                        }
                    }
                }
            }
            Console::Plain => self.draw(&views),
        }
    }

    fn draw(&mut self, views: &[StageView]) {
        let width = views.iter().map(|view| view.title().chars().count()).max().unwrap_or(0);
        for (index, view) in views.iter().enumerate() {
            if index == self.bars.len() {
                let bar = BARS.add(ProgressBar::new(0));
                if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:20} {msg}") {
                    bar.set_style(style);
                }
                self.bars.push(bar);
            }
            let bar = &self.bars[index];
            bar.set_prefix(format!("{:width$}", view.title()));
            // An empty bar is full.
            bar.set_length(view.rows.max(1));
            bar.set_position(view.counts.rows_done);
            bar.set_message(view.line());
        }
    }

    fn is_time(&mut self, every: Duration) -> bool {
        let due = self.last.elapsed() >= every;
        if due {
            self.last = Instant::now();
        }
        due
    }

    fn tell_progress(&self, views: &[StageView]) {
        let stages: Vec<Value> = views.iter().map(StageView::json).collect();
        self.console.event("progress", json!({ "seconds": self.start.elapsed().as_secs_f64(), "stages": stages }));
    }

    fn tell_finished(&mut self, view: &StageView) {
        if !self.told.contains(&view.name) {
            self.told.push(view.name.clone());
            self.console.event("stage_finished", view.json());
        }
    }
}
