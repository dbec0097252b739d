//! A workspace opened: its configuration, its pipeline folder and the one DataFusion session over them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, TableReference, plan_err};
use datafusion::dataframe::DataFrame;
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::cache::cache_manager::CacheManagerConfig;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::var_provider::VarType;
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::optimizer::{Analyzer, AnalyzerRule};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;

use super::dialect::parse;
use super::external_table::CatalogFiles;
use super::file_tables;
use super::join_keys;
use super::kept_tables;
use super::macros::{InlineMacros, MacroFactory};
use super::pipeline::{Pipeline, SqlFile};
use super::pipeline_url;
use super::run_schemas;
use super::stage_views::{StageViews, defines_nothing};
use super::staged_copy;
use super::statements;
use super::variables::{FoldVariables, Variables};
use crate::config::{Budget, CONFIG_FILE, Config, Variable};
use crate::curate::{self, CurateExtensionPlanner, CuratePlanner};
use crate::endpoint::Models;
use crate::guard::{
    CountLeftOut, HeldOutGuard, HeldOutOutflow, LeftOut, LicenceGate, LicencePermits, LoadHeldOutRows, RowGate,
    held_out_copy, held_out_row,
};
use crate::ledger::{self, Location};
use crate::lineage::{Licence, Lineage, Origin, Target, lineage_of};
use crate::model_call::{
    CallHistory, CallPlanner, CallQueryPlanner, CallRuntime, Prompts, RefuseVolatileInput, Render, Settings,
    SharedHistory, WarnUnorderedInput, Warnings, call_nodes, optimizer_rules, physical_optimizer_rules,
};
use crate::publish::{self, Attribution, ModelRecord, Run};
use crate::stores::Stores;
use crate::tasks::{Catalog, HeldOutCoverage, HeldOutRows};

/// What is opened, and how it differs from `seedmill.toml`.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// The pipeline folder or its URL; the workspace's `sql/` by default.
    pub pipeline: Option<PathBuf>,
    /// The folder of `seedmill.toml`; found from the pipeline folder and the current folder by default.
    pub root: Option<PathBuf>,
    /// `--set name=value`.
    pub set: BTreeMap<String, Variable>,
    /// `--out`: where runs are published.
    pub out: Option<String>,
    /// `--from`: task configs in place of `[tasks] from`.
    pub tasks_from: Vec<PathBuf>,
    /// The object stores; those of the environment by default.
    pub stores: Option<Arc<Stores>>,
}

/// An open workspace.
pub struct Workspace {
    pub config: Config,
    pub pipeline: Pipeline,
    pub runtime: Arc<CallRuntime>,
    pub catalog: Arc<Catalog>,
    /// The run that this session makes: its id is on every use of a call.
    pub run: Arc<Run>,
    pub variables: Arc<Variables>,
    notes: PlanNotes,
    pub(super) stage_views: StageViews,
    ctx: SessionContext,
}

/// What plans read and say beside their rows.
#[derive(Debug, Default)]
struct PlanNotes {
    warnings: Arc<Warnings>,
    history: SharedHistory,
    left_out: Arc<LeftOut>,
}

impl Workspace {
    /// Opens a workspace: reads its files, registers tables and functions, loads `filters/*.sql`. Makes no call and
    /// writes nothing.
    pub async fn open(options: OpenOptions) -> Result<Workspace> {
        let stores = options.stores.clone().unwrap_or_else(Stores::from_env);
        let url = options.pipeline.as_deref().and_then(pipeline_url::url);
        let root = match &options.root {
            Some(root) => root.clone(),
            None => find_root(options.pipeline.as_deref().filter(|_| url.is_none()))?,
        };
        // What is read lies in the pipeline's folder, what is written in the workspace's.
        let fetched = match url {
            Some(url) => Some(pipeline_url::fetch(url, &stores, &root.join(STATE)).await?),
            None => None,
        };
        let told = fetched.as_deref().filter(|folder| folder.join(CONFIG_FILE).is_file());
        let config = Config::load_apart(told.unwrap_or(&root), &root);
        let mut config = config.map_err(|e| DataFusionError::Plan(e.to_string()))?;
        if told.is_some() {
            // Only a file of the user's own has programs run here.
            config.run_code = None;
        }
        if let Some(out) = &options.out {
            // As a user of the command line means it: from the folder that they are in.
            config.out = match std::path::absolute(out) {
                Ok(folder) if !out.contains("://") => folder.to_string_lossy().into_owned(),
                _ => out.clone(),
            };
        }
        if !options.tasks_from.is_empty() {
            config.tasks.from.clone_from(&options.tasks_from);
        }
        let mut values = config.variables.clone();
        values.extend(options.set.clone());
        // Whoever sets it means the gate: what it cannot be is refused, never passed over.
        if let Some(target) = values.get(TARGET) {
            config.tasks.target = variable_text(target).parse::<Target>().map_err(DataFusionError::Plan)?;
        }
        values.insert(TARGET.to_owned(), Variable::Text(config.tasks.target.to_string()));
        let variables = Arc::new(Variables::new(values));
        let location = options.pipeline.clone().unwrap_or_else(|| root.join("sql"));
        let pipeline = Pipeline::read(fetched.as_deref().unwrap_or(&location), &location)?;
        config.tasks.sql = Some(pipeline.folder.join("tasks"));
        let catalog =
            Arc::new(Catalog::load(&config.tasks, &stores).map_err(|e| DataFusionError::Plan(e.to_string()))?);
        let models = Arc::new(Models::new(&config));
        let mut run = Run::new(&config.root, config.tasks.target, pipeline.sha256());
        run.out = Some(config.out.clone());
        run.out_is_told = options.out.is_some();
        run.stores = Arc::clone(&stores);
        for task in catalog.tasks() {
            let of = Attribution {
                dataset: task.dataset_path.as_ref().filter(|path| !is_loader(path)).map(|_| task.dataset()),
                license_evidence: match (&task.licence_evidence, &task.licence_source) {
                    (Some(evidence), Some(source)) => Some(format!("{evidence}, {source}")),
                    (evidence, _) => evidence.clone(),
                },
            };
            run.attribute(task.name.clone(), of);
        }
        // However it is written on the command line. A folder that is not there has no stages and publishes nothing.
        run.pipeline = match url {
            Some(url) => url.into(),
            None => std::fs::canonicalize(&pipeline.folder).unwrap_or_else(|_| pipeline.folder.clone()),
        };
        let run = Arc::new(run);
        let ledger = ledger_location(&config, &stores);
        let runtime = Arc::new(CallRuntime::new(Arc::clone(&models), &ledger, run.id.clone(), config.budget));
        let notes = PlanNotes::default();
        let ctx = context(&pipeline, &models, &variables, &catalog, &runtime, &run, &notes)?;
        ctx.register_udf(curate::run_python(config.run_code.clone()));
        ctx.state_ref().write().config_mut().options_mut().extensions.insert(Settings::new(config.budget));
        let stage_views = StageViews::default();
        let workspace = Workspace { config, pipeline, runtime, catalog, run, variables, notes, stage_views, ctx };
        workspace.register_tables().await?;
        for file in &workspace.pipeline.filters {
            for statement in file.statements()? {
                workspace.execute(statement).await.map_err(|e| e.context(file.name.clone()))?;
            }
        }
        Ok(workspace)
    }

    /// Where the ledger lies.
    pub fn ledger(&self) -> Location {
        ledger_location(&self.config, &self.run.stores)
    }

    /// The DataFusion session.
    pub fn ctx(&self) -> &SessionContext {
        &self.ctx
    }

    /// Limits that stand over SET and seedmill.toml.
    pub fn limit(&self, budget: Budget) {
        let state = self.ctx.state_ref();
        if let Some(settings) = state.write().config_mut().options_mut().extensions.get_mut::<Settings>() {
            settings.set_flags(budget);
        }
    }

    /// The limits that hold for what is executed next.
    pub fn budget(&self) -> Budget {
        let state = self.ctx.state();
        state.config_options().extensions.get::<Settings>().map_or(self.config.budget, Settings::budget)
    }

    /// The statements of a text.
    pub fn parse(&self, sql: &str) -> Result<Vec<Statement>> {
        parse(sql)
    }

    pub async fn plan(&self, statement: Statement) -> Result<LogicalPlan> {
        if !defines_nothing(&statement) {
            self.create_stage_views().await;
        }
        statements::plan(&self.ctx, statement).await
    }

    pub async fn execute(&self, statement: Statement) -> Result<DataFrame> {
        self.execute_plan(self.plan(statement).await?).await
    }

    pub async fn execute_plan(&self, plan: LogicalPlan) -> Result<DataFrame> {
        self.execute_shared(&plan.clone(), plan).await
    }

    /// Executes a plan of which parts have been run already; `written` is the whole one, with the tables that it reads.
    pub async fn execute_shared(&self, written: &LogicalPlan, plan: LogicalPlan) -> Result<DataFrame> {
        // Of a statement that failed, or of a count before this one.
        self.notes.left_out.take();
        if let LogicalPlan::Copy(copy) = &plan {
            let mut names: Vec<String> = call_nodes(&plan)?.iter().map(|call| call.spec().model.clone()).collect();
            names.sort();
            names.dedup();
            let record = |name: String| {
                let model = self.runtime.models.get(&name).ok()?;
                Some(ModelRecord::new(name, model.endpoint.identity()))
            };
            let calls = !names.is_empty();
            // Before a call is paid for; without one the writer says it soon enough.
            if calls
                && copy.file_type.get_ext() == "csv"
                && let Some(field) = copy.input.schema().fields().iter().find(|field| field.data_type().is_nested())
            {
                let (to, name) = (&copy.output_url, field.name());
                return plan_err!(
                    "COPY to '{to}': CSV has no place for '{name}', a list or struct; leave it out, pick from it \
                     ({name}['…']), or write Parquet or JSON"
                );
            }
            if publishes(&plan) {
                // Those of the run are the ones that this statement calls, whatever was copied before it.
                self.run.set_models(names.into_iter().filter_map(record).collect());
                declared_over(written)?.into_iter().for_each(|note| self.run.note(note));
                self.run.begin(&copy.output_url)?;
            } else if calls {
                return staged_copy::staged(&self.ctx, copy, &self.run.id);
            }
        }
        if matches!(plan, LogicalPlan::Explain(_) | LogicalPlan::Analyze(_)) {
            self.read_history().await?;
        }
        let frame = statements::execute(&self.ctx, plan).await?;
        // CREATE TABLE AS has run.
        self.tell_left_out();
        Ok(frame)
    }

    /// Tells which rows the row guard has left out of what has been run.
    pub fn tell_left_out(&self) {
        self.notes.left_out.take().into_iter().for_each(|note| self.notes.warnings.tell(note));
    }

    /// What planning has to say that is no error.
    pub fn warnings(&self) -> &Warnings {
        &self.notes.warnings
    }

    /// What the ledger says of earlier calls, as it is now. Plans made from now on show estimates that rest on it.
    pub async fn read_history(&self) -> Result<Arc<CallHistory>> {
        let history = Arc::new(CallHistory::read(&self.ledger()).await?);
        self.notes.history.set(Arc::clone(&history));
        Ok(history)
    }

    /// Runs all statements of a text; the result is the last one's.
    pub async fn sql(&self, sql: &str) -> Result<DataFrame> {
        let mut last = None;
        for statement in parse(sql)? {
            last = Some(self.execute(statement).await?);
        }
        last.ok_or_else(|| DataFusionError::Plan("there is no statement in the SQL".to_owned()))
    }

    /// Runs the pipeline folder's stages in name order and gives the plan of the last statement where that is the
    /// COPY that publishes. Views are planned; nothing is run and no call is made.
    pub async fn register_stages(&self) -> Result<Option<LogicalPlan>> {
        // A COPY into a plain file is not it: it would pay for its calls and publish nothing.
        Ok(self.register(&self.pipeline.stages).await?.0.filter(publishes))
    }

    /// Makes the views of the pipeline folder's stages known: each is planned when a statement first names it, where the
    /// stages only create views; else their statements are run.
    pub async fn offer_stages(&self) -> Result<()> {
        let options = self.ctx.state().config_options().catalog.clone();
        let schema = self.ctx.catalog(&options.default_catalog).and_then(|c| c.schema(&options.default_schema));
        match schema {
            Some(schema) if self.stage_views.wait(&self.pipeline.stages, schema.as_ref())? => Ok(()),
            _ => self.register_stages().await.map(|_| ()),
        }
    }

    /// Creates the stages' views that nothing has named yet: what they name and call is what was there before them. One
    /// that cannot be planned says so when it is named.
    async fn create_stage_views(&self) {
        for name in self.stage_views.names() {
            let _ = self.stage_views.create(&name, || Ok(self.ctx.clone())).await;
        }
    }

    /// Runs the stages up to one, and gives the plan of all rows of the last view that it creates: `SELECT * FROM solved`
    /// for `30_solve.sql`, and the view's name.
    pub async fn register_stages_to(&self, stage: &str) -> Result<(LogicalPlan, String)> {
        let last = self.pipeline.stage(stage)?;
        let views = self.register(&self.pipeline.stages[..last]).await?.1;
        let of_stage = self.register(&self.pipeline.stages[last..=last]).await?.1;
        let Some(view) = of_stage.last() else {
            let before = views.last().map_or(String::new(), |view| format!("; the last one before it is {view}"));
            return plan_err!("{} creates no view{before}", self.pipeline.stages[last].name);
        };
        let plan = self.ctx.table(view.clone()).await?.into_unoptimized_plan();
        Ok((plan, view.to_string()))
    }

    /// The plan of the COPY that these files end with, if they do, and the views that they create.
    async fn register(&self, files: &[SqlFile]) -> Result<(Option<LogicalPlan>, Vec<TableReference>)> {
        let (mut publishing, mut views) = (None, Vec::new());
        for file in files {
            for statement in file.statements()? {
                if publishing.is_some() {
                    return plan_err!("{}: nothing can follow the COPY that publishes", file.name);
                }
                let plan = self.plan(statement).await.map_err(|e| e.context(file.name.clone()))?;
                match plan {
                    LogicalPlan::Copy(copy) => publishing = Some(LogicalPlan::Copy(copy)),
                    other => {
                        if let LogicalPlan::Ddl(DdlStatement::CreateView(view)) = &other {
                            views.push(view.name.clone());
                        }
                        self.execute_plan(other).await.map_err(|e| e.context(file.name.clone()))?;
                    }
                }
            }
        }
        Ok((publishing, views))
    }

    /// The error of a pipeline folder that publishes nothing.
    pub fn no_publishing_statement(&self) -> DataFusionError {
        DataFusionError::Plan(format!(
            "{} ends without a COPY (SELECT … ) TO 'runs' STORED AS CURATED: there is nothing to run",
            self.pipeline.location.display()
        ))
    }

    async fn register_tables(&self) -> Result<()> {
        kept_tables::remember_home(&self.ctx);
        self.catalog.register(&self.ctx)?;
        for (name, table) in ledger::tables(self.ledger()) {
            self.ctx.register_table(name, table)?;
        }
        let out = self.run.stores.place(&self.config.out);
        run_schemas::register(&self.ctx, &out)?;
        self.ctx.register_table("runs", publish::runs_table(&out, &self.config.root))?;
        file_tables::register(&self.ctx, self.config.tables.clone(), out, self.stage_views.clone())
    }
}

/// Whether a plan is a COPY … STORED AS CURATED.
fn publishes(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Copy(copy) if copy.file_type.get_ext() == publish::CURATED)
}

/// The folder of a workspace's state.
const STATE: &str = ".seedmill";

fn ledger_location(config: &Config, stores: &Arc<Stores>) -> Location {
    Location::new(stores.place(&config.ledger.location), &config.root.join(STATE))
}

/// The variable that holds the run's licence target.
const TARGET: &str = "target";

fn variable_text(value: &Variable) -> String {
    match value {
        Variable::Text(text) => text.clone(),
        Variable::Integer(n) => n.to_string(),
        Variable::Float(n) => n.to_string(),
        Variable::Boolean(b) => b.to_string(),
    }
}

fn context(
    pipeline: &Pipeline,
    models: &Arc<Models>,
    variables: &Arc<Variables>,
    catalog: &Arc<Catalog>,
    runtime: &Arc<CallRuntime>,
    run: &Arc<Run>,
    notes: &PlanNotes,
) -> Result<SessionContext> {
    let config = SessionConfig::from_env()?
        .with_information_schema(true)
        .with_extension(Arc::clone(run))
        .with_extension(Arc::new(CatalogFiles::new(Arc::clone(catalog))))
        // Errors know their place in the SQL.
        .set_bool("datafusion.sql_parser.collect_spans", true);
    let licences = catalog.tasks().iter().map(|task| task.licence.clone()).collect::<Vec<Licence>>();
    // The object stores that the session reads from are those of the catalog.
    // Listings are not kept: they would be by path alone, whatever the bucket, and new files would not be seen.
    let cache = CacheManagerConfig::default().with_list_files_cache_limit(0);
    let env = RuntimeEnvBuilder::new()
        .with_object_store_registry(Arc::clone(&run.stores) as _)
        .with_cache_manager(cache)
        .build_arc()?;
    let mut rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> = vec![
        Arc::new(FoldVariables(Arc::clone(variables))),
        Arc::new(InlineMacros),
        Arc::new(LicenceGate::new(run.target, licences)),
    ];
    let held_out = Arc::new(HeldOutRows::new(Arc::clone(catalog), Arc::clone(&env)));
    let config = if held_out.any() {
        let gate = Arc::new(RowGate::new(&held_out));
        rules.push(Arc::clone(&gate) as _);
        // For tables, which statements fill without the rules' knowing.
        config.with_extension(gate)
    } else {
        config
    };
    rules.extend(Analyzer::new().rules);
    rules.push(Arc::new(RefuseVolatileInput));
    rules.push(Arc::new(WarnUnorderedInput(Arc::clone(&notes.warnings))));
    rules.push(Arc::new(HeldOutGuard));
    rules.push(Arc::new(HeldOutOutflow));
    let planner =
        CallPlanner::new(Arc::clone(models), Arc::clone(variables) as _, Some(Prompts::new(pipeline.prompts_folder())));
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .with_analyzer_rules(rules)
        .with_optimizer_rules(join_keys::optimizer_rules(curate::optimizer_rules(optimizer_rules())))
        .with_physical_optimizer_rules(physical_optimizer_rules(notes.history.clone()))
        .with_physical_optimizer_rule(Arc::new(CountLeftOut(Arc::clone(&notes.left_out))))
        .with_runtime_env(env)
        .with_query_planner(Arc::new(LoadHeldOutRows::new(
            Arc::clone(&held_out),
            Arc::new(CallQueryPlanner::new(Arc::clone(runtime), vec![Arc::new(CurateExtensionPlanner::default())])),
        )))
        .with_function_factory(Some(Arc::new(MacroFactory)))
        .with_relation_planners(vec![Arc::new(planner), Arc::new(CuratePlanner::new(Arc::clone(variables) as _))])
        .build();
    seedmill_udfs::register_all(&mut state)?;
    datafusion_functions_json::register_all(&mut state)?;
    publish::register(&mut state)?;
    let ctx = SessionContext::new_with_state(state);
    ctx.register_udf(Render::udf());
    ctx.register_udf(LicencePermits::udf());
    ctx.register_table("heldout_coverage", Arc::new(HeldOutCoverage(Arc::clone(&held_out))))?;
    ctx.register_udf(held_out_row(Arc::clone(&held_out)));
    ctx.register_udf(held_out_copy(held_out));
    ctx.register_variable(VarType::UserDefined, Arc::clone(variables) as _);
    Ok(ctx)
}

/// Whether a dataset_path is no dataset but a way to read files, in the harness's words.
fn is_loader(dataset_path: &str) -> bool {
    matches!(dataset_path, "json" | "csv" | "parquet" | "text" | "arrow")
}

/// A sentence for each table below the plan whose split a user declared over what the files say.
fn declared_over(plan: &LogicalPlan) -> Result<BTreeSet<String>> {
    let mut notes = BTreeSet::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(table) = source_as_provider(&scan.source)
            && let Some(Lineage { split, origin: Origin::OptionOver(found), .. }) = lineage_of(table.as_ref())
        {
            notes.insert(format!(
                "The table {} was declared as {split} by its user; its files say {found}.",
                scan.table_name
            ));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(notes)
}

/// The nearest folder with a `seedmill.toml`, from the pipeline folder upwards, then from the current folder
/// upwards; the current folder where there is none.
fn find_root(pipeline: Option<&Path>) -> Result<PathBuf> {
    let current = std::env::current_dir()
        .map_err(|e| DataFusionError::Execution(format!("the current folder cannot be read: {e}")))?;
    let starts = pipeline.map(|path| current.join(path)).into_iter().chain([current.clone()]);
    for start in starts {
        if let Some(root) = start.ancestors().find(|folder| folder.join(CONFIG_FILE).is_file()) {
            return Ok(root.to_owned());
        }
    }
    Ok(current)
}
