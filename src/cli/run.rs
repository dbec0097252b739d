//! `seedmill run`: a pipeline folder from seeds to published Parquet, with progress, a funnel and samples at the end.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::pin::pin;
use std::time::{Duration, Instant};

use datafusion::common::{DataFusionError, Result};
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::LogicalPlan;
use futures::TryStreamExt;
use serde_json::json;
use tokio::time::timeout;

use super::arguments::{ExplainArguments, RunArguments};
use super::budget_check::{self, Estimate};
use super::console::Console;
use super::ending::{Ending, finished_event, settle};
use super::explain::explain;
use super::first_calls::FirstCalls;
use super::interrupt::{interruptible, until_signal};
use super::model::fetch_weights;
use super::progress::Progress;
use super::prompt_check::check_prompts;
use super::{EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, output};
use crate::config::Provider;
use crate::counted::counted;
use crate::curate::check_python;
use crate::model_call::{CallKind, CallNode, call_nodes};
use crate::publish::{Published, Report, Stage, Usage};
use crate::session::{OpenOptions, Workspace};

/// What takes longer than this before the first call is said.
const LONG: Duration = Duration::from_secs(2);

pub async fn run(root: Option<PathBuf>, arguments: RunArguments, console: Console) -> Result<u8> {
    if arguments.dry_run {
        let RunArguments { pipeline, set, limit_seeds, out, .. } = arguments;
        let arguments = ExplainArguments { pipeline, set, physical: false, full: false, count: true, limit_seeds, out };
        return until_signal(explain(root, arguments)).await.unwrap_or(Ok(EXIT_INTERRUPTED));
    }
    let start = Instant::now();
    let Some(prepared) = until_signal(prepare(root, arguments, console)).await else {
        console.note("stopped before the first call: nothing was asked");
        return Ok(EXIT_INTERRUPTED);
    };
    let Some(Prepared { workspace, written, shared, view, calls, seeds }) = prepared? else { return Ok(EXIT_USAGE) };
    let mut stages: Vec<String> = Vec::new();
    for call in &calls {
        if !stages.contains(&call.spec().call_as) {
            stages.push(call.spec().call_as.clone());
        }
    }
    match console {
        Console::Json => {
            console.event("run_started", json!({ "run_id": workspace.run.id, "seeds": seeds, "stages": stages }));
        }
        Console::Plain | Console::Quiet => {
            let seeds = counted(seeds, "seed");
            console.note(format_args!("run {}: {seeds}, stages {}", workspace.run.id, stages.join(" → ")));
        }
    }
    let progress = Progress::start(console, &workspace.runtime, stages, Some(seeds));
    let work = async {
        let mut rows = 0;
        let mut stream = workspace.execute_shared(&written, shared.clone()).await?.execute_stream().await?;
        while let Some(batch) = stream.try_next().await? {
            rows += batch.num_rows() as u64;
        }
        Ok(rows)
    };
    let result = interruptible(&workspace, console, work).await;
    let (rows, views) = match settle(&workspace, console, progress, result).await? {
        Ending::Complete(rows, views) => (rows, views),
        Ending::Stopped(code) => return Ok(code),
    };
    workspace.tell_left_out();
    if let Some(view) = view {
        match console {
            Console::Json => finished_event(&workspace, console, &views, None, EXIT_OK),
            Console::Plain | Console::Quiet => output::text(&preview(&workspace, &view, rows, start))?,
        }
        return Ok(EXIT_OK);
    }
    let published = workspace.run.published().ok_or_else(|| {
        DataFusionError::Plan("the last statement publishes nothing: write COPY … STORED AS CURATED".into())
    })?;
    match console {
        Console::Json => finished_event(&workspace, console, &views, None, EXIT_OK),
        Console::Plain | Console::Quiet => output::text(&report(&workspace, &calls, published, start).await?)?,
    }
    Ok(EXIT_OK)
}

/// All that precedes the first call.
struct Prepared {
    workspace: Workspace,
    written: LogicalPlan,
    shared: LogicalPlan,
    /// Of the stage that it goes up to, where it is not the last.
    view: Option<String>,
    calls: Vec<CallNode>,
    seeds: u64,
}

/// `None` where the run would cost more than it may; the sentence has been said.
async fn prepare(root: Option<PathBuf>, arguments: RunArguments, console: Console) -> Result<Option<Prepared>> {
    let names: Vec<String> = arguments.set.set.iter().map(|(name, _)| name.clone()).collect();
    let options = OpenOptions {
        root,
        pipeline: arguments.pipeline,
        set: arguments.set.set.into_iter().collect(),
        out: arguments.out,
        ..OpenOptions::default()
    };
    let workspace = Workspace::open(options).await?;
    workspace.warnings().listen(move |warning| console.note(format_args!("note: {warning}")));
    workspace.pipeline.need_stages()?;
    workspace.limit(arguments.budget.budget());
    let (plan, view) = match &arguments.only {
        Some(stage) => workspace.register_stages_to(stage).await.map(|(plan, view)| (plan, Some(view)))?,
        None => (workspace.register_stages().await?.ok_or_else(|| workspace.no_publishing_statement())?, None),
    };
    // Everything is checked before the first call: the whole plan is analyzed, optimized and made physical.
    let state = workspace.ctx().state();
    let models: Vec<_> = call_nodes(&state.optimize(&plan)?)?.iter().map(|call| call.spec().model.clone()).collect();
    let mut unused = workspace.variables.unused(names.iter().map(String::as_str));
    // Stages that are not run may use them.
    unused.retain(|name| view.is_none() || !workspace.pipeline.names_variable(name));
    if !unused.is_empty() {
        return Err(DataFusionError::Plan(format!(
            "--set {}: no statement of {} uses this variable",
            unused.join(", "),
            workspace.pipeline.location.display()
        )));
    }
    for model in &models {
        let model = workspace.runtime.models.config(model);
        if model.is_ok_and(|model| model.provider == Provider::Embedded && model.weights.is_none()) {
            fetch_weights(console).await?;
            break;
        }
    }
    // What is quickly found is found before the seeds are read.
    if let LogicalPlan::Copy(copy) = &plan {
        workspace.run.check_target(&copy.output_url).await?;
    }
    if let Some(settings) = &workspace.config.run_code {
        check_python(settings).await?;
    }
    let FirstCalls { written, shared } = {
        let mut first_calls = pin!(FirstCalls::of(&workspace, plan, arguments.limit_seeds));
        match timeout(LONG, first_calls.as_mut()).await {
            Ok(first_calls) => first_calls?,
            Err(_) => {
                if let Console::Plain = console {
                    console.note("reading what the first calls are made from; none is made before that");
                }
                first_calls.await?
            }
        }
    };
    let calls = call_nodes(&state.optimize(&shared)?)?;
    for note in check_prompts(&workspace, &shared, &calls).await? {
        console.note(format_args!("note: {note}"));
    }
    need_models(&workspace, &calls)?;
    let seeds = count_seeds(&workspace, &calls).await?;
    let estimate = Estimate::of(&workspace, &calls).await?;
    if let Some(sentence) = estimate.over(&workspace.budget())
        && !arguments.yes
        && !budget_check::confirmed(console, sentence.clone()).await
    {
        console.error(format_args!("{sentence}; start with --yes to go as far as the budget does, or raise it"));
        return Ok(None);
    }
    Ok(Some(Prepared { workspace, written, shared, view, calls, seeds }))
}

/// How many rows reach the first calls: a count that makes none.
pub(super) async fn count_seeds(workspace: &Workspace, calls: &[CallNode]) -> Result<u64> {
    let mut seeds = 0;
    for call in calls {
        if call_nodes(call.input())?.is_empty() {
            let frame = DataFrame::new(workspace.ctx().state(), call.input().clone());
            seeds += frame.count().await? as u64;
        }
    }
    Ok(seeds)
}

/// Has the models of these calls looked for before the first request of all.
fn need_models(workspace: &Workspace, calls: &[CallNode]) -> Result<()> {
    let names: BTreeSet<&str> = calls.iter().map(|call| call.spec().model.as_str()).collect();
    let models = names.into_iter().map(|name| workspace.runtime.models.get(name));
    let models = models.collect::<Result<_, _>>().map_err(|e| DataFusionError::Plan(e.to_string()))?;
    workspace.runtime.readiness.need(models);
    Ok(())
}

/// What a run up to one stage has come to.
fn preview(workspace: &Workspace, view: &str, rows: u64, start: Instant) -> String {
    let total = workspace.runtime.progress.total();
    format!(
        "{} of {view}; {} asked and {} replayed, {} + {}, ${:.4}, {:.1} s\n\
         nothing is published; look at the rows with: seedmill sql -c 'SELECT * FROM {view} LIMIT 10'\n",
        counted(rows, "row"),
        counted(total.asked, "call"),
        total.replayed,
        total.prompt_tokens,
        counted(total.completion_tokens, "token"),
        total.cost_usd,
        start.elapsed().as_secs_f64(),
    )
}

/// What the run has come to, as text.
async fn report(workspace: &Workspace, calls: &[CallNode], published: &Published, start: Instant) -> Result<String> {
    let counts = workspace.runtime.progress.stages();
    let mut stages = Vec::new();
    let mut named: Vec<&str> = Vec::new();
    for spec in calls.iter().map(CallNode::spec) {
        let Some(stage) = counts.get(&spec.call_as).filter(|_| !named.contains(&spec.call_as.as_str())) else {
            continue;
        };
        named.push(&spec.call_as);
        let name = spec.call_as.trim_end_matches("_call");
        match spec.kind {
            CallKind::Generate => {
                stages.push(Stage { name: "seeds".into(), rows: stage.rows });
                stages.push(Stage { name: "generated".into(), rows: stage.rows_out });
                stages.push(Stage {
                    name: "parsed".into(),
                    rows: stage.rows_out.saturating_sub(stage.unparsed + stage.failed),
                });
            }
            // Rows with reasons pass a stage without a call.
            CallKind::Enrich | CallKind::Embed => {
                let rows = stage.calls() / u64::from(spec.sample_count());
                stages.push(Stage { name: past(name), rows });
            }
        }
    }
    stages.push(Stage { name: "kept".into(), rows: published.manifest.rows.curated });
    let total = workspace.runtime.progress.total();
    let usage = Usage {
        calls: total.asked,
        replayed: total.replayed,
        prompt_tokens: total.prompt_tokens,
        completion_tokens: total.completion_tokens,
        cost_usd: total.cost_usd,
        time: start.elapsed(),
    };
    Ok(Report::read(published, stages, usage).await?.render(width()))
}

/// `solve` → `solved`, `enrich` → `enriched`, `embed` → `embedded`.
fn past(name: &str) -> String {
    if name == "embed" {
        return "embedded".to_owned();
    }
    if name.ends_with('e') { format!("{name}d") } else { format!("{name}ed") }
}

/// Columns of the terminal, as the shell says them.
fn width() -> usize {
    std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).unwrap_or(100)
}
