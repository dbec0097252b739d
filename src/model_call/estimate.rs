//! What a plan would cost, before it is run: rows, calls, tokens and dollars of each call node.
//! In: a physical plan and the history of earlier calls. Out: one estimate a call, and their total.

use std::fmt;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::physical_plan::{ExecutionPlan, StatisticsArgs, StatisticsContext};

use super::exec::CallExec;
use super::history::CallHistory;
use super::spec::{CallKind, CallSpec};
use crate::config::ModelName;
use crate::counted::counted;
use crate::endpoint::Model;

/// What the tokens of an estimate rest on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Basis {
    /// The average of this many calls of the same stage and model in the ledger.
    Stage(u64),
    /// The average of this many calls of the model in the ledger, in other stages.
    Model(u64),
    /// Nothing but `max_tokens`: the most that an answer can have. Prompts are not counted.
    MaxTokens(u32),
    /// Nothing is known.
    Nothing,
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Basis::Stage(calls) => write!(f, "the average of {} of this stage", counted(*calls, "call")),
            Basis::Model(calls) => write!(f, "the average of {} of this model", counted(*calls, "call")),
            Basis::MaxTokens(_) => f.write_str("max_tokens; no call to go by yet"),
            Basis::Nothing => f.write_str("nothing: no call to go by yet, and no max_tokens"),
        }
    }
}

/// One call node. Calls count whether the ledger has their answers or not, so a run that is resumed costs less.
#[derive(Debug, Clone, PartialEq)]
pub struct CallEstimate {
    pub kind: CallKind,
    pub model: ModelName,
    /// The name of the call column.
    pub stage: String,
    /// Rows that reach the node. Rows without a prompt are among them.
    pub rows: Precision<usize>,
    /// Rows × samples.
    pub calls: Precision<usize>,
    pub prompt_tokens: Option<f64>,
    pub completion_tokens: Option<f64>,
    pub cost_usd: Option<f64>,
    /// Prompt and completion tokens of one call.
    pub tokens_a_call: (Option<f64>, Option<f64>),
    pub basis: Basis,
}

impl CallEstimate {
    pub(super) fn of(call: &CallExec, statistics: &StatisticsContext, history: &CallHistory) -> Result<Self> {
        let said = statistics.compute(call.input().as_ref(), &StatisticsArgs::new())?.num_rows;
        Ok(Self::new(call.spec(), call.model(), call.input_rows(said), history))
    }

    fn new(spec: &CallSpec, model: &Model, rows: Precision<usize>, history: &CallHistory) -> Self {
        let calls = times(rows, spec.sample_count() as usize);
        let sent_as = &model.endpoint.identity().model;
        let (prompt, completion, basis) = if let Some(average) = history.of_stage(&spec.call_as, sent_as) {
            (Some(average.prompt_tokens), Some(average.completion_tokens), Basis::Stage(average.calls))
        } else if let Some(average) = history.of_model(sent_as) {
            (Some(average.prompt_tokens), Some(average.completion_tokens), Basis::Model(average.calls))
        } else if let Some(max) = spec.max_tokens {
            (None, Some(f64::from(max)), Basis::MaxTokens(max))
        } else {
            (None, None, Basis::Nothing)
        };
        let all = |tokens: Option<f64>| Some(tokens? * *calls.get_value()? as f64);
        let (prompt_tokens, completion_tokens) = (all(prompt), all(completion));
        let price = &model.config.price_per_million;
        let cost_usd = if price.input == 0.0 && price.output == 0.0 {
            Some(0.0)
        } else {
            completion_tokens
                .map(|completion| (prompt_tokens.unwrap_or(0.0) * price.input + completion * price.output) / 1e6)
        };
        Self {
            kind: spec.kind,
            model: spec.model.clone(),
            stage: spec.call_as.clone(),
            rows,
            calls,
            prompt_tokens,
            completion_tokens,
            cost_usd,
            tokens_a_call: (prompt, completion),
            basis,
        }
    }
}

/// As a plan shows it: `rows~120, calls~240, tokens~9600 in + 4800 out, cost~$0.0048 (the average of …)`. `=` stands
/// where the number of rows is known, `~` where it is estimated.
impl fmt::Display for CallEstimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rows{}, calls{}", Count(self.rows), Count(self.calls))?;
        let (prompt, completion, each) = match self.calls {
            Precision::Absent => (self.tokens_a_call.0, self.tokens_a_call.1, " a call"),
            _ => (self.prompt_tokens, self.completion_tokens, ""),
        };
        match (prompt, completion) {
            (Some(prompt), Some(completion)) => write!(f, ", tokens~{prompt:.0} in + {completion:.0} out{each}")?,
            (None, Some(completion)) => write!(f, ", tokens<={completion:.0} out{each}")?,
            _ => f.write_str(", tokens unknown")?,
        }
        match self.cost_usd {
            Some(cost) => write!(f, ", cost~{}", Dollars(cost))?,
            None => f.write_str(", cost unknown")?,
        }
        write!(f, " ({})", self.basis)
    }
}

/// `=3`, `~3` or ` unknown`.
struct Count(Precision<usize>);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Precision::Exact(n) => write!(f, "={n}"),
            Precision::Inexact(n) => write!(f, "~{n}"),
            Precision::Absent => f.write_str(" unknown"),
        }
    }
}

/// Dollars with as many digits as say something: `$0`, `$0.0048`, `$12.34`.
pub struct Dollars(pub f64);

impl fmt::Display for Dollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0.0 => f.write_str("$0"),
            cost if cost < 1.0 => write!(f, "${cost:.4}"),
            cost => write!(f, "${cost:.2}"),
        }
    }
}

/// All calls of a plan together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TotalEstimate {
    pub calls: u64,
    pub tokens: f64,
    pub cost_usd: f64,
    /// Whether a part of some call is unknown, so that the sums are too low.
    pub is_partial: bool,
}

impl TotalEstimate {
    pub fn of(estimates: &[CallEstimate]) -> Self {
        let mut total = TotalEstimate::default();
        for estimate in estimates {
            total.calls += estimate.calls.get_value().map_or(0, |calls| *calls as u64);
            total.tokens += estimate.prompt_tokens.unwrap_or(0.0) + estimate.completion_tokens.unwrap_or(0.0);
            total.cost_usd += estimate.cost_usd.unwrap_or(0.0);
            total.is_partial |= estimate.prompt_tokens.is_none() || estimate.cost_usd.is_none();
        }
        total
    }
}

/// The calls of a physical plan, the first to be made first. It reads nothing but the plan's statistics.
pub fn estimate(plan: &Arc<dyn ExecutionPlan>, history: &CallHistory) -> Result<Vec<CallEstimate>> {
    let (statistics, mut estimates) = (StatisticsContext::new(), Vec::new());
    plan.apply(|node| {
        if let Some(call) = node.downcast_ref::<CallExec>() {
            estimates.push(CallEstimate::of(call, &statistics, history)?);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    estimates.reverse();
    Ok(estimates)
}

/// The same where the rows that reach the first calls have been counted, as [`super::count_calls`] and a plain count
/// do: what is above them is estimated from there, also where the input itself says nothing of its rows.
pub fn estimate_counted(
    plan: &Arc<dyn ExecutionPlan>,
    counted: &[(Arc<CallSpec>, u64)],
    history: &CallHistory,
) -> Result<Vec<CallEstimate>> {
    let mut counted = counted.to_vec();
    let plan = Arc::clone(plan).transform_up(|node| {
        let Some(call) = node.downcast_ref::<CallExec>() else { return Ok(Transformed::no(node)) };
        // A view that is used twice has one spec in two places, and two counts.
        let Some(place) = counted.iter().position(|(spec, _)| Arc::ptr_eq(spec, call.spec())) else {
            return Ok(Transformed::no(node));
        };
        let rows = usize::try_from(counted.remove(place).1).unwrap_or(usize::MAX);
        Ok(Transformed::yes(Arc::new(call.with_counted_rows(rows))))
    })?;
    estimate(&plan.data, history)
}

/// How many rows a call gives for so many: exact only where a row is always one row.
pub(super) fn output_rows(spec: &CallSpec, rows: Precision<usize>) -> Precision<usize> {
    let made = spec.sample_count() as usize * spec.items.unwrap_or(1) as usize;
    times(rows, if spec.kind == CallKind::Generate { made } else { 1 }).to_inexact()
}

fn times(rows: Precision<usize>, factor: usize) -> Precision<usize> {
    rows.multiply(&Precision::Exact(factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimated(basis: Basis, calls: Precision<usize>, cost_usd: Option<f64>) -> CallEstimate {
        CallEstimate {
            kind: CallKind::Generate,
            model: "writer".into(),
            stage: "generate_call".into(),
            rows: calls,
            calls,
            prompt_tokens: None,
            completion_tokens: cost_usd.map(|_| 1000.0),
            cost_usd,
            tokens_a_call: (Some(40.0), None),
            basis,
        }
    }

    #[test]
    fn an_estimate_says_what_is_known_and_what_it_rests_on() {
        let known = CallEstimate {
            prompt_tokens: Some(9600.4),
            ..estimated(Basis::Stage(20), Precision::Inexact(240), Some(0.0048))
        };
        assert_eq!(
            known.to_string(),
            "rows~240, calls~240, tokens~9600 in + 1000 out, cost~$0.0048 (the average of 20 calls of this stage)"
        );
        assert_eq!(
            estimated(Basis::MaxTokens(100), Precision::Exact(10), Some(12.345)).to_string(),
            "rows=10, calls=10, tokens<=1000 out, cost~$12.35 (max_tokens; no call to go by yet)"
        );
        assert_eq!(
            estimated(Basis::Nothing, Precision::Absent, None).to_string(),
            "rows unknown, calls unknown, tokens unknown, cost unknown (nothing: no call to go by yet, and no max_tokens)"
        );
        let average = CallEstimate {
            tokens_a_call: (Some(40.2), Some(8.0)),
            ..estimated(Basis::Model(5), Precision::Absent, None)
        };
        assert_eq!(
            average.to_string(),
            "rows unknown, calls unknown, tokens~40 in + 8 out a call, cost unknown (the average of 5 calls of this model)"
        );
    }

    #[test]
    fn a_total_says_when_it_is_too_low() {
        let known =
            CallEstimate { prompt_tokens: Some(500.0), ..estimated(Basis::Model(3), Precision::Exact(10), Some(2.0)) };
        let total = TotalEstimate::of(&[known.clone(), known.clone()]);
        assert_eq!(total, TotalEstimate { calls: 20, tokens: 3000.0, cost_usd: 4.0, is_partial: false });
        let total = TotalEstimate::of(&[known, estimated(Basis::Nothing, Precision::Absent, None)]);
        assert_eq!(total, TotalEstimate { calls: 10, tokens: 1500.0, cost_usd: 2.0, is_partial: true });
    }
}
