//! `seedmill explain`: the whole plan of a pipeline folder and what it would cost, without a call made.
//! With `--count` the part without calls is run, and the first calls are counted against the ledger.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::displayable;

use super::arguments::ExplainArguments;
use super::first_calls::FirstCalls;
use super::prompt_check::check_prompts;
use super::{EXIT_OK, output};
use crate::counted::counted;
use crate::ledger::{Backlog, backlog};
use crate::model_call::{
    CallCount, CallEstimate, CallHistory, CallKind, CallNode, CountedCalls, Dollars, TotalEstimate, call_nodes,
    count_calls, estimate, estimate_counted,
};
use crate::session::{OpenOptions, Workspace};

/// Where a node's text is cut off: prompts are long.
const NODE_CHARS: usize = 400;

/// Bytes of English text a token, as the limiter counts them too.
const TOKEN_BYTES: f64 = 4.0;

pub async fn explain(root: Option<PathBuf>, arguments: ExplainArguments) -> Result<u8> {
    let set = arguments.set.set.into_iter().collect();
    let options = OpenOptions { root, pipeline: arguments.pipeline, set, out: arguments.out, ..OpenOptions::default() };
    let workspace = Workspace::open(options).await?;
    let plan = workspace.register_stages().await?.ok_or_else(|| workspace.no_publishing_statement())?;
    // Shown is the plan as it was written; where the part without calls may be run, what it shares is run once.
    let (plan, shared) = if arguments.count || arguments.limit_seeds.is_some() {
        let FirstCalls { written, shared } = FirstCalls::of(&workspace, plan, arguments.limit_seeds).await?;
        (written, Some(shared))
    } else {
        (plan, None)
    };
    let history = workspace.read_history().await?;
    let optimized = workspace.ctx().state().optimize(&plan)?;
    let physical = workspace.ctx().state().create_physical_plan(&plan).await?;
    let checked = match shared.as_ref().filter(|_| arguments.count) {
        // A template that fails is found here as in a run.
        Some(shared) => {
            let calls = call_nodes(&workspace.ctx().state().optimize(shared)?)?;
            Some((check_prompts(&workspace, shared, &calls).await?, calls))
        }
        None => None,
    };
    let (notes, counts) = match &checked {
        Some((notes, calls)) => (notes.clone(), Some(count(&workspace, calls).await?)),
        None => (Vec::new(), None),
    };
    // A preview has looked for its seeds in all rows.
    if counts.is_some() && arguments.limit_seeds.is_none() {
        workspace.tell_left_out();
    }
    let estimates = match &counts {
        None => estimate(&physical, &history)?,
        Some(counts) => {
            let rows: Vec<_> = counts.iter().map(|(call, count)| (Arc::clone(call.spec()), count.rows)).collect();
            estimate_counted(&physical, &rows, &history)?
        }
    };
    let width = if arguments.full { usize::MAX } else { NODE_CHARS };
    let mut text = String::new();
    // Writing to a String cannot fail.
    Tree { width, estimates: by_stage(&estimates) }.write(&mut text, &optimized, 0);
    if arguments.physical {
        let _ = writeln!(text, "\n{}", displayable(physical.as_ref()).indent(false));
    }
    write_total(&mut text, &estimates, counts.is_some());
    for warning in workspace.warnings().list().into_iter().chain(notes) {
        let _ = writeln!(text, "note: {warning}");
    }
    if let Some(counts) = counts {
        write_counts(&mut text, &workspace, &counts, &history)?;
        if let Some(Backlog { unsent, folder, .. }) = backlog(workspace.ledger()).await?
            && unsent > 0
        {
            let (lie, they_count, them) = match unsent {
                1 => ("lies", "it counts", "it"),
                _ => ("lie", "they count", "them"),
            };
            let _ = writeln!(
                text,
                "{} of answers {lie} in {} and not in the store yet: {they_count} as answered, and the run sends {them} \
                 first",
                counted(unsent, "group"),
                folder.display()
            );
        }
    }
    output::text(&text)?;
    Ok(EXIT_OK)
}

/// A kind of call, its call column and its model.
type Stage = (CallKind, String, String);

fn by_stage(estimates: &[CallEstimate]) -> HashMap<Stage, Vec<&CallEstimate>> {
    let mut stages: HashMap<Stage, Vec<&CallEstimate>> = HashMap::new();
    for estimate in estimates {
        stages.entry((estimate.kind, estimate.stage.clone(), estimate.model.clone())).or_default().push(estimate);
    }
    stages
}

struct Tree<'a> {
    width: usize,
    /// Of each stage and model in the order of the physical plan, the last first.
    estimates: HashMap<Stage, Vec<&'a CallEstimate>>,
}

impl Tree<'_> {
    /// One node a line, its inputs indented below it.
    fn write(&mut self, out: &mut String, plan: &LogicalPlan, depth: usize) {
        let node = plan.display().to_string();
        let line = node.split_whitespace().collect::<Vec<_>>().join(" ");
        out.push_str(&"  ".repeat(depth));
        match line.char_indices().nth(self.width) {
            Some((end, _)) => {
                out.push_str(&line[..end]);
                out.push('…');
            }
            None => out.push_str(&line),
        }
        if let LogicalPlan::Extension(extension) = plan
            && let Some(call) = extension.node.as_any().downcast_ref::<CallNode>()
        {
            let spec = call.spec();
            let stage = (spec.kind, spec.call_as.clone(), spec.model.clone());
            if let Some(estimate) = self.estimates.get_mut(&stage).and_then(Vec::pop) {
                let _ = write!(out, " [{estimate}]");
            }
        }
        out.push('\n');
        plan.inputs().into_iter().for_each(|input| self.write(out, input, depth + 1));
    }
}

fn write_total(out: &mut String, estimates: &[CallEstimate], is_counted: bool) {
    let total = TotalEstimate::of(estimates);
    let at_least = if total.is_partial { " at least, since a part is unknown" } else { "" };
    let _ = writeln!(
        out,
        "\nAll calls together, answers in the ledger included: {}, {:.0} tokens, {}{at_least}",
        counted(total.calls, "call"),
        total.tokens,
        Dollars(total.cost_usd)
    );
    let advice = if is_counted {
        "Rows at the first calls are counted; further up they are estimated from there"
    } else {
        "Rows are estimated from the tables' statistics; --count counts the rows and calls that come first"
    };
    let _ = writeln!(out, "{advice}");
}

/// Counts the first calls: those whose input has none. Answers that are not in the ledger's store yet count as there.
async fn count<'a>(workspace: &Workspace, calls: &'a [CallNode]) -> Result<Vec<(&'a CallNode, CallCount)>> {
    workspace.runtime.look_into_ledger().await?;
    let (mut counts, mut counted) = (Vec::new(), CountedCalls::default());
    for call in calls {
        if call_nodes(call.input())?.is_empty() {
            counts.push((call, count_calls(workspace.ctx(), &workspace.runtime, call, &mut counted).await?));
        }
    }
    Ok(counts)
}

fn write_counts(
    out: &mut String,
    workspace: &Workspace,
    counts: &[(&CallNode, CallCount)],
    history: &CallHistory,
) -> Result<()> {
    let mut table = vec![
        ["stage", "model", "rows", "calls", "repeated", "in the ledger", "to ask", "tokens", "cost"].map(str::to_owned),
    ];
    for (call, count) in counts {
        let (tokens, cost) = cost_to_ask(workspace, call, count, history)?;
        table.push([
            count.stage.clone(),
            count.model.clone(),
            count.rows.to_string(),
            count.calls.to_string(),
            count.repeated.to_string(),
            count.in_ledger.to_string(),
            count.to_ask().to_string(),
            tokens,
            cost,
        ]);
    }
    let _ = writeln!(out, "\nThe first calls, counted:");
    write_table(out, &table);
    let to_ask = counts.iter().map(|(_, count)| count.to_ask()).sum::<u64>();
    let _ = writeln!(out, "{} {} to be asked", counted(to_ask, "call"), if to_ask == 1 { "is" } else { "are" });
    Ok(())
}

/// Prompt tokens from the messages themselves; completion tokens from earlier calls, else from `max_tokens`.
fn cost_to_ask(
    workspace: &Workspace,
    call: &CallNode,
    count: &CallCount,
    history: &CallHistory,
) -> Result<(String, String)> {
    let spec = call.spec();
    let model = workspace.runtime.models.get(&spec.model);
    let model = model.map_err(|e| DataFusionError::Plan(e.to_string()))?;
    let sent_as = &model.endpoint.identity().model;
    let average = history.of_stage(&spec.call_as, sent_as).or_else(|| history.of_model(sent_as));
    let prompt = count.prompt_bytes as f64 / TOKEN_BYTES;
    let (sign, completion) = match (average, spec.max_tokens) {
        (Some(average), _) => ("~", average.completion_tokens),
        (None, Some(max)) => ("<=", f64::from(max)),
        (None, None) => return Ok((format!("~{prompt:.0} in"), "unknown".to_owned())),
    };
    let completion = completion * count.to_ask() as f64;
    let price = &model.config.price_per_million;
    let cost = (prompt * price.input + completion * price.output) / 1e6;
    Ok((format!("~{prompt:.0} in {sign}{completion:.0} out"), format!("{sign}{}", Dollars(cost))))
}

/// Columns as wide as they need to be; numbers to the right.
fn write_table<const N: usize>(out: &mut String, rows: &[[String; N]]) {
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .enumerate()
            .map(
                |(column, (cell, width))| {
                    if column < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
                },
            )
            .collect();
        let _ = writeln!(out, "  {}", cells.join("  "));
    }
}
