//! `seedmill explain`: the whole plan of a pipeline folder, without a call made.

use std::fmt::Write;
use std::path::PathBuf;

use datafusion::common::Result;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::displayable;

use super::arguments::ExplainArguments;
use super::run::count_seeds;
use super::{EXIT_OK, output};
use crate::model_call::call_nodes;
use crate::session::{OpenOptions, Workspace};

/// Where a node's text is cut off: prompts are long.
const NODE_CHARS: usize = 400;

pub async fn explain(root: Option<PathBuf>, arguments: ExplainArguments) -> Result<u8> {
    let set = arguments.set.set.into_iter().collect();
    let options = OpenOptions { root, pipeline: arguments.pipeline, set, out: None };
    let workspace = Workspace::open(options).await?;
    let plan = workspace.register_stages().await?.ok_or_else(|| workspace.no_publishing_statement())?;
    let optimized = workspace.ctx().state().optimize(&plan)?;
    let width = if arguments.full { usize::MAX } else { NODE_CHARS };
    let mut text = String::new();
    write_tree(&mut text, &optimized, 0, width);
    if arguments.physical {
        let physical = workspace.ctx().state().create_physical_plan(&plan).await?;
        let _ = writeln!(text, "\n{}", displayable(physical.as_ref()).indent(false));
    }
    let calls = call_nodes(&optimized)?;
    let mut stages: Vec<(String, u32)> = Vec::new();
    for spec in calls.iter().map(|call| call.spec()) {
        if !stages.iter().any(|(name, _)| *name == spec.call_as) {
            stages.push((spec.call_as.clone(), spec.sample_count()));
        }
    }
    // Writing to a String cannot fail.
    let _ = writeln!(text, "\n{} seeds reach the first calls. Calls a row:", count_seeds(&workspace, &calls).await?);
    for (name, samples) in stages {
        let _ = writeln!(text, "  {name}: {samples}");
    }
    output::text(&text)?;
    Ok(EXIT_OK)
}

/// One node a line, its inputs indented below it.
fn write_tree(out: &mut String, plan: &LogicalPlan, depth: usize, width: usize) {
    let node = plan.display().to_string();
    let line = node.split_whitespace().collect::<Vec<_>>().join(" ");
    out.push_str(&"  ".repeat(depth));
    match line.char_indices().nth(width) {
        Some((end, _)) => {
            out.push_str(&line[..end]);
            out.push('…');
        }
        None => out.push_str(&line),
    }
    out.push('\n');
    plan.inputs().into_iter().for_each(|input| write_tree(out, input, depth + 1, width));
}
