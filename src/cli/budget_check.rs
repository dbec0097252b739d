//! Before a run with a budget: what it will take, at a guess, and whether to start where that is more than the budget.

use std::io::{self, BufRead, IsTerminal, Write};

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::Float64Type;
use datafusion::common::{DataFusionError, Result};
use indicatif::HumanCount;

use super::console::Console;
use crate::config::Budget;
use crate::counted::noun;
use crate::model_call::{CallKind, CallNode, CountedCalls, call_nodes, count_calls};
use crate::session::Workspace;

/// Bytes of English text a token, as the limiter counts them too.
const TOKEN_BYTES: f64 = 4.0;

/// Tokens of an answer where neither the ledger nor max_tokens says anything.
const ANSWER_TOKENS: f64 = 512.0;

/// What a run will take.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Estimate {
    pub calls: f64,
    pub tokens: f64,
    pub cost_usd: f64,
}

impl Estimate {
    /// Calls of the first stages are counted, those in the ledger left out. Later stages get all rows that the stages right
    /// below them give out, whether those had a call, a new one or a replayed one: another stage may ask for other columns
    /// of theirs. What the ledger has of that is not known yet. Tokens are those of earlier calls of the model, else of
    /// prompts and `max_tokens`. Without a budget nothing is estimated.
    pub async fn of(workspace: &Workspace, calls: &[CallNode]) -> Result<Estimate> {
        let mut estimate = Estimate::default();
        if workspace.budget() == Budget::default() {
            return Ok(estimate);
        }
        let mut counted = CountedCalls::default();
        // Of each stage so far: the rows that it gives out, and the number of stages below it.
        let mut stages: Vec<(f64, usize)> = Vec::new();
        for call in calls {
            let spec = call.spec();
            let (samples, items) = (f64::from(spec.sample_count()), f64::from(spec.items.unwrap_or(1)));
            let below = call_nodes(call.input())?.len();
            // Rows, those of them that have calls, calls that are asked, and tokens of a prompt.
            let (rows, called, asked, prompt_tokens) = if below == 0 {
                let first = count_calls(workspace.ctx(), &workspace.runtime, call, &mut counted).await?;
                let asked = first.to_ask() as f64;
                let prompt_tokens = first.prompt_bytes as f64 / TOKEN_BYTES / asked.max(1.0);
                (first.rows as f64, first.calls as f64 / samples, asked, prompt_tokens)
            } else {
                let rows = rows_in(&stages, below);
                (rows, rows, rows * samples, 0.0)
            };
            let rows_out = match spec.kind {
                CallKind::Generate => called * samples * items + (rows - called),
                CallKind::Enrich | CallKind::Embed => rows,
            };
            stages.push((rows_out, below));
            let model = workspace.runtime.models.get(&spec.model);
            let model = model.map_err(|e| DataFusionError::Plan(e.to_string()))?;
            let price = &model.config.price_per_million;
            let (prompt, answer) = match average(workspace, &model.endpoint.identity().model).await? {
                Some(average) => average,
                None => (prompt_tokens, spec.max_tokens.map_or(ANSWER_TOKENS, f64::from)),
            };
            estimate.calls += asked;
            estimate.tokens += asked * (prompt + answer);
            estimate.cost_usd += asked * (prompt * price.input + answer * price.output) / 1e6;
        }
        Ok(estimate)
    }

    /// The sentence about the limits that it passes; `None` where it passes none.
    pub fn over(&self, budget: &Budget) -> Option<String> {
        let mut over = Vec::new();
        let about = |n: f64, one: &str| format!("about {} {}", HumanCount(n as u64), noun(n as u64 == 1, one));
        if let Some(max) = budget.max_calls.filter(|max| self.calls > *max as f64) {
            over.push(format!("{}, above max_calls = {max}", about(self.calls, "call")));
        }
        if let Some(max) = budget.max_tokens.filter(|max| self.tokens > *max as f64) {
            over.push(format!("{}, above max_tokens = {max}", about(self.tokens, "token")));
        }
        if let Some(max) = budget.max_cost_usd.filter(|max| self.cost_usd > *max) {
            over.push(format!("about ${:.4}, above max_cost_usd = {max}", self.cost_usd));
        }
        (!over.is_empty()).then(|| format!("this run will take {}", over.join("; ")))
    }
}

/// The rows that reach the stage after these, which has the last so many of them below it: of those right below it, each of
/// which stands right after its own.
fn rows_in(stages: &[(f64, usize)], below: usize) -> f64 {
    let (mut rows, mut end) = (0.0, stages.len());
    let start = end.saturating_sub(below);
    while end > start {
        let (rows_out, below_it) = stages[end - 1];
        rows += rows_out;
        end = end.saturating_sub(1 + below_it);
    }
    rows
}

/// Tokens of prompt and answer of a call of this model, on average over the ledger.
async fn average(workspace: &Workspace, model: &str) -> Result<Option<(f64, f64)>> {
    let model = model.replace('\'', "''");
    let sql = format!("SELECT avg(prompt_tokens), avg(completion_tokens) FROM calls WHERE model = '{model}'");
    let batches = workspace.sql(&sql).await?.collect().await?;
    let Some(batch) = batches.first().filter(|batch| batch.num_rows() == 1) else { return Ok(None) };
    let value = |column: usize| {
        let column = batch.column(column).as_primitive_opt::<Float64Type>()?;
        column.is_valid(0).then(|| column.value(0))
    };
    Ok(value(0).zip(value(1)))
}

/// Asks whether to start all the same. Where nobody sits at a terminal nobody is asked.
pub async fn confirmed(console: Console, sentence: String) -> bool {
    // Off the thread that takes Ctrl-C for an answer, too.
    tokio::task::spawn_blocking(move || ask(console, &sentence)).await.unwrap_or(false)
}

fn ask(console: Console, sentence: &str) -> bool {
    if console != Console::Plain || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return false;
    }
    eprint!("{sentence}. It will stop there. Start? [y/N] ");
    let mut answer = String::new();
    io::stderr().flush().is_ok()
        && io::stdin().lock().read_line(&mut answer).is_ok()
        && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_from_the_stages_right_below() {
        // Two first stages, one above both of them; one more first stage, and one above that.
        let stages = [(20.0, 0), (5.0, 0), (25.0, 2), (7.0, 0), (70.0, 1)];
        assert_eq!(rows_in(&stages[..2], 2), 25.0);
        assert_eq!(rows_in(&stages[..2], 1), 5.0);
        assert_eq!(rows_in(&stages[..4], 1), 7.0);
        assert_eq!(rows_in(&stages, 5), 95.0);
    }

    #[test]
    fn only_limits_that_are_passed_are_named() {
        let estimate = Estimate { calls: 1200.0, tokens: 5000.0, cost_usd: 0.5 };
        assert_eq!(estimate.over(&Budget { max_calls: Some(1200), ..Budget::default() }), None);
        let budget = Budget { max_calls: Some(100), max_cost_usd: Some(0.25), max_tokens: Some(9000) };
        assert_eq!(
            estimate.over(&budget).unwrap(),
            "this run will take about 1,200 calls, above max_calls = 100; about $0.5000, above max_cost_usd = 0.25"
        );
    }
}
