//! What progress shows of each stage: rows done of how many, rates, time left. In: counts at some moments. Out: one
//! view a stage, in the order in which the stages come.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use indicatif::{FormattedDuration, HumanCount};
use serde_json::{Value, json};

use crate::counted::noun;
use crate::model_call::StageCounts;

/// Rates are of the last seconds.
const WINDOW: Duration = Duration::from_secs(10);

/// The time left is judged by a longer stretch: a slow model answers a few times in a window.
const LONG_WINDOW: Duration = Duration::from_secs(60);

/// Looks in the long window at most; more are thinned out by their age.
const LOOKS: u32 = 240;

/// One stage at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct StageView {
    /// The name of the call column.
    pub name: String,
    pub counts: StageCounts,
    /// Rows that the stage will have to do: those that came, or as many as the stages before it let expect.
    pub rows: u64,
    /// Calls that ended at the endpoint, by second.
    pub calls_per_second: f64,
    pub tokens_per_second: f64,
    pub left: Option<Duration>,
}

impl StageView {
    /// The stage without `_call`.
    pub fn title(&self) -> &str {
        self.name.strip_suffix("_call").unwrap_or(&self.name)
    }

    pub fn errors(&self) -> u64 {
        self.counts.errors.values().sum()
    }

    /// All rows that came are done, and no more come.
    pub fn is_finished(&self) -> bool {
        self.counts.open == 0 && self.counts.rows_done == self.counts.rows
    }

    /// `120/200 rows · 31.5 calls/s · 8 in flight · …`.
    pub fn line(&self) -> String {
        let counts = &self.counts;
        let mut parts =
            vec![format!("{}/{} {}", HumanCount(counts.rows_done), HumanCount(self.rows), noun(self.rows == 1, "row"))];
        let finished = self.is_finished();
        if finished {
            parts.push("done".to_owned());
        }
        if counts.replayed > 0 {
            parts.push(format!("{} replayed", HumanCount(counts.replayed)));
        }
        if !finished {
            parts.push(format!("{:.1} calls/s", self.calls_per_second));
            parts.push(format!("{} in flight", counts.in_flight));
        }
        if self.errors() > 0 {
            parts.push(format!("{} {}", HumanCount(self.errors()), noun(self.errors() == 1, "error")));
        }
        if counts.failed > 0 {
            parts.push(format!("{} failed", HumanCount(counts.failed)));
        }
        if !finished {
            parts.push(format!("{:.0} tokens/s", self.tokens_per_second));
        }
        if counts.cost_usd > 0.0 {
            parts.push(format!("${:.4}", counts.cost_usd));
        }
        if let Some(left) = self.left {
            parts.push(format!("about {} left", FormattedDuration(left)));
        }
        parts.join(" · ")
    }

    /// The same for machines.
    pub fn json(&self) -> Value {
        let counts = &self.counts;
        json!({
            "stage": self.name,
            "rows": self.rows,
            "rows_done": counts.rows_done,
            "rows_out": counts.rows_out,
            "calls": counts.calls(),
            "replayed": counts.replayed,
            "failed": counts.failed,
            "unparsed": counts.unparsed,
            "requests": counts.requests,
            "retries": counts.retries,
            "errors": counts.errors,
            "in_flight": counts.in_flight,
            "calls_per_second": self.calls_per_second,
            "tokens_per_second": self.tokens_per_second,
            "prompt_tokens": counts.prompt_tokens,
            "completion_tokens": counts.completion_tokens,
            "cost_usd": counts.cost_usd,
            "limiter_wait_seconds": counts.waited.as_secs_f64(),
            "seconds_left": self.left.map(|left| left.as_secs()),
        })
    }
}

/// Stages by first appearance.
pub type Stages = Vec<(String, StageCounts)>;

/// Makes views out of counts.
#[derive(Debug)]
pub struct StageViews {
    /// The stages of the plan in order, where they are known beforehand.
    planned: Vec<String>,
    /// Rows that reach the first of them.
    seeds: Option<u64>,
    looks: VecDeque<(Instant, Stages)>,
}

impl StageViews {
    pub fn new(planned: Vec<String>, seeds: Option<u64>) -> Self {
        StageViews { planned, seeds, looks: VecDeque::new() }
    }

    /// The stages at this moment.
    pub fn look(&mut self, now: Instant, counts: Stages) -> Vec<StageView> {
        while self.looks.front().is_some_and(|(at, _)| now.duration_since(*at) > LONG_WINDOW) && self.looks.len() > 1 {
            self.looks.pop_front();
        }
        let mut stages: Stages = self.planned.iter().map(|name| (name.clone(), StageCounts::default())).collect();
        for (name, counts) in &counts {
            match stages.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => *known = counts.clone(),
                None => stages.push((name.clone(), counts.clone())),
            }
        }
        // Where nothing was looked at in the window, the last look before it.
        let recent = self.looks.partition_point(|(at, _)| now.duration_since(*at) > WINDOW);
        let recent = self.looks.get(recent).or(self.looks.back());
        let earlier = self.looks.front();
        let mut views = Vec::<StageView>::with_capacity(stages.len());
        for (index, (name, counts)) in stages.into_iter().enumerate() {
            let since = |look: Option<&(Instant, Stages)>, value: fn(&StageCounts) -> u64| {
                let Some((at, stages)) = look else { return 0.0 };
                let old = stages.iter().find(|(known, _)| *known == name).map_or(0, |(_, counts)| value(counts));
                let seconds = now.duration_since(*at).as_secs_f64();
                if seconds > 0.0 { value(&counts).saturating_sub(old) as f64 / seconds } else { 0.0 }
            };
            let rate = |value| since(recent, value);
            let expected = match views.last() {
                _ if index == 0 => self.seeds.unwrap_or(0),
                // As many rows for a row as the stage before has given so far; those that it still holds are no loss.
                Some(before) if before.counts.rows_done > 0 && self.planned.contains(&name) => {
                    let share = before.counts.rows_out as f64 / before.counts.rows_done as f64;
                    (before.rows as f64 * share.max(1.0)).round() as u64
                }
                _ => 0,
            };
            let rows = counts.rows.max(expected);
            let rows_per_second = since(earlier, |counts| counts.rows_done);
            let rows_left = rows.saturating_sub(counts.rows_done) as f64;
            let left = (rows_per_second > 0.0).then(|| Duration::from_secs_f64((rows_left / rows_per_second).min(1e9)));
            views.push(StageView {
                calls_per_second: rate(|counts| counts.asked + counts.failed),
                tokens_per_second: rate(|counts| counts.prompt_tokens + counts.completion_tokens),
                left: left.filter(|_| rows_left > 0.0),
                name,
                counts,
                rows,
            });
        }
        let spacing = LONG_WINDOW / LOOKS;
        if self.looks.back().is_none_or(|(at, _)| now.duration_since(*at) >= spacing) {
            self.looks.push_back((now, counts));
        }
        views
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(rows: u64, rows_done: u64, rows_out: u64) -> StageCounts {
        let asked = rows_done;
        StageCounts { rows, rows_done, rows_out, asked, prompt_tokens: 10 * asked, ..StageCounts::default() }
    }

    #[test]
    fn rates_are_of_the_last_seconds_and_later_stages_expect_what_earlier_ones_give() {
        let start = Instant::now();
        let mut views = StageViews::new(vec!["write_call".into(), "solve_call".into()], Some(100));
        let at = |seconds| start + Duration::from_secs(seconds);
        views.look(at(0), vec![("write_call".into(), counts(100, 0, 0))]);
        let stages = vec![("write_call".into(), counts(100, 40, 80)), ("solve_call".into(), counts(80, 10, 10))];
        let seen = views.look(at(4), stages);
        assert_eq!((seen[0].calls_per_second, seen[0].tokens_per_second), (10.0, 100.0));
        assert_eq!(seen[0].left, Some(Duration::from_secs(6)));
        // Two rows a row: 200 in the end, 10 done in 4 seconds.
        assert_eq!((seen[1].rows, seen[1].left), (200, Some(Duration::from_secs(76))));
        assert!(seen[1].line().starts_with("10/200 rows · 2.5 calls/s · 0 in flight"), "{}", seen[1].line());
        // Nothing happened in the last window; what is left is judged by more than that.
        let stages = vec![("write_call".into(), counts(100, 40, 80))];
        views.look(at(15), stages.clone());
        let seen = views.look(at(20), stages);
        assert_eq!((seen[0].calls_per_second, seen[0].left), (0.0, Some(Duration::from_secs(30))));
    }

    #[test]
    fn a_stage_that_is_done_shows_no_rates() {
        let start = Instant::now();
        let mut views = StageViews::new(vec!["write_call".into()], Some(3));
        views.look(start, vec![("write_call".into(), counts(3, 0, 0))]);
        let seen = views.look(start + Duration::from_secs(1), vec![("write_call".into(), counts(3, 3, 3))]);
        assert_eq!(seen[0].line(), "3/3 rows · done");
    }

    #[test]
    fn stages_that_no_plan_named_show_the_rows_that_came() {
        let seen = StageViews::new(Vec::new(), None).look(Instant::now(), vec![("a_call".into(), counts(7, 3, 3))]);
        assert_eq!((seen[0].title(), seen[0].rows, seen[0].left), ("a", 7, None));
    }
}
