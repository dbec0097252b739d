//! `FROM generate(…)`, `FROM enrich(…)` and `FROM embed(…)`: SQL in, a logical node over a projection out.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema, DataFusionError, Result, plan_datafusion_err, plan_err};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::var_provider::VarProvider;
use datafusion::logical_expr::{Expr, ExprSchemable, Extension, LogicalPlan, LogicalPlanBuilder, lit, when};
use datafusion::sql::sqlparser::ast::{FunctionArg, TableFactor};

use super::arguments::Arguments;
use super::literal::{Literal, fold_variables};
use super::node::CallNode;
use super::render::{Prompts, expand_render};
use super::returns::Returns;
use super::spec::{CallKind, CallSpec, MessageColumns, OnError};
use crate::config::{Provider, did_you_mean};
use crate::endpoint::Models;

/// The named arguments of generate and enrich.
pub(super) const ARGUMENTS: [&str; 19] = [
    "model",
    "system",
    "prompt",
    "messages",
    "when",
    "returns",
    "output",
    "items",
    "samples",
    "repair",
    "temperature",
    "top_p",
    "max_tokens",
    "seed",
    "stop",
    "extra",
    "variant",
    "on_error",
    "call_as",
];

/// The named arguments of embed.
pub(super) const EMBED_ARGUMENTS: [&str; 9] =
    ["model", "text", "when", "dimensions", "output", "extra", "variant", "on_error", "call_as"];

/// The ordinal of a sample inside prompt, system and messages; it shadows an input column of that name.
const SAMPLE: &str = "sample";

const MAX_ITEMS: u32 = 1000;
const MAX_SAMPLES: u32 = 1000;
const MAX_REPAIRS: u32 = 10;
/// Many times what any model has.
const MAX_DIMENSIONS: u32 = 65_536;

/// Plans `generate`, `enrich` and `embed`.
#[derive(Debug)]
pub struct CallPlanner {
    models: Arc<Models>,
    variables: Arc<dyn VarProvider + Send + Sync>,
    prompts: Option<Prompts>,
}

impl CallPlanner {
    /// `prompts` is the pipeline folder's template folder; without it `render` is an error that says so.
    pub fn new(models: Arc<Models>, variables: Arc<dyn VarProvider + Send + Sync>, prompts: Option<Prompts>) -> Self {
        Self { models, variables, prompts }
    }
}

impl RelationPlanner for CallPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let (name, lateral) = match &relation {
            TableFactor::Table { name, args: Some(_), .. } => (name, false),
            TableFactor::Function { name, lateral, .. } => (name, *lateral),
            _ => return Ok(RelationPlanning::Original(Box::new(relation))),
        };
        let name = name.to_string().to_lowercase();
        let kind = match name.as_str() {
            "generate" => CallKind::Generate,
            "enrich" => CallKind::Enrich,
            "embed" => CallKind::Embed,
            _ => return Ok(RelationPlanning::Original(Box::new(relation))),
        };
        if lateral {
            return plan_err!("LATERAL {name}(…) is not supported; give the rows as its input: {name}((SELECT …), …)");
        }
        let (args, alias) = match relation {
            TableFactor::Table { args: Some(args), alias, .. } => (args.args, alias),
            TableFactor::Function { args, alias, .. } => (args, alias),
            other => return Ok(RelationPlanning::Original(Box::new(other))),
        };
        let plan = self.plan_call(kind, args, context)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

impl CallPlanner {
    fn plan_call(
        &self,
        kind: CallKind,
        args: Vec<FunctionArg>,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<LogicalPlan> {
        let name = kind.as_str();
        let mut arguments = Arguments::new(kind.as_str(), args)?;
        let input = context.plan(arguments.take_input()?)?;
        let embeds = kind == CallKind::Embed;
        // Samples are of generate and enrich: a column `sample` is a column for embed.
        let schema = if embeds { input.schema().as_ref().clone() } else { with_sample(input.schema())? };
        let known: &[&str] = if embeds { &EMBED_ARGUMENTS } else { &ARGUMENTS };

        let mut literal = |argument: &'static str| -> Result<Option<Literal<'static>>> {
            // What this function does not take stays with the unknown ones.
            if !known.contains(&argument) {
                return Ok(None);
            }
            let Some(expr) = arguments.named.remove(argument) else { return Ok(None) };
            let expr = context.sql_to_expr(expr, &DFSchema::empty()).map_err(|e| {
                plan_datafusion_err!("{argument} => … must be a literal or a variable @name: {}", e.message())
            })?;
            // NULL is an argument that is not given, so that a variable can leave one out.
            Ok(Some(Literal::new(argument, expr, self.variables.as_ref())?).filter(|literal| !literal.is_null()))
        };
        let Some(model) = literal("model")? else {
            return plan_err!(
                "{name} needs model => 'name', a model of seedmill.toml ({})",
                self.models.names().collect::<Vec<_>>().join(", ")
            );
        };
        let model = model.text()?;
        let config = &self.models.get(&model).map_err(|e| DataFusionError::Plan(format!("{name}: {e}")))?;
        let config = &config.config;
        if embeds && config.provider == Provider::Embedded {
            return plan_err!(
                "embed needs a model of provider 'openai': the small model in this process, which '{model}' is, gives no \
                 embeddings"
            );
        }
        let mut spec = CallSpec {
            kind,
            model,
            columns: MessageColumns::default(),
            returns: literal("returns")?.map(|l| Returns::parse(&l.text()?)).transpose()?,
            output: if embeds { "embedding" } else { "completion" }.to_owned(),
            call_as: format!("{name}_call"),
            items: literal("items")?.map(|l| l.count(MAX_ITEMS)).transpose()?,
            samples: literal("samples")?.map(|l| l.count(MAX_SAMPLES)).transpose()?,
            repair: literal("repair")?.map(|l| l.count_from(0, MAX_REPAIRS)).transpose()?.unwrap_or(0),
            dimensions: if embeds { config.dimensions } else { None },
            temperature: literal("temperature")?.map(|l| l.number(0.0, 10.0)).transpose()?,
            top_p: literal("top_p")?.map(|l| l.number(0.0, 1.0)).transpose()?,
            max_tokens: literal("max_tokens")?.map(|l| l.count(10_000_000)).transpose()?,
            seed: literal("seed")?.map(|l| l.integer()).transpose()?,
            stop: literal("stop")?.map(|l| l.texts()).transpose()?.unwrap_or_default(),
            extra: literal("extra")?.map(|l| l.json_object()).transpose()?.unwrap_or_default(),
            variant: literal("variant")?.map(|l| l.text()).transpose()?.unwrap_or_default(),
            on_error: OnError::Keep,
        };
        if let Some(dimensions) = literal("dimensions")? {
            let dimensions = dimensions.count(MAX_DIMENSIONS)?;
            if spec.extra.insert("dimensions".into(), dimensions.into()).is_some() {
                return plan_err!("dimensions is given twice: as an argument and in extra");
            }
            spec.dimensions = Some(dimensions);
        }
        if let Some(on_error) = literal("on_error")? {
            spec.on_error = match on_error.text()?.as_str() {
                "keep" => OnError::Keep,
                "drop" => OnError::Drop,
                "fail" => OnError::Fail,
                other => return plan_err!("on_error => '{other}' must be 'keep', 'drop' or 'fail'"),
            };
        }
        if let Some(call_as) = literal("call_as")? {
            spec.call_as = call_as.column_name()?;
        }
        match literal("output")? {
            Some(_) if spec.returns.is_some() => {
                return plan_err!(
                    "output names the one column of a call without returns; rename the columns in returns"
                );
            }
            Some(output) => spec.output = output.column_name()?,
            None => {}
        }
        if spec.items.is_some() && kind == CallKind::Enrich {
            return plan_err!("items is an argument of generate; enrich gives exactly one row for a row");
        }
        if spec.items.is_some() && spec.returns.is_none() {
            return plan_err!("items => … needs returns => '…': a list of items is read by its columns");
        }

        if spec.repair > 0 && spec.returns.is_none() {
            return plan_err!("repair => … needs returns => '…': free text has no form that it could miss");
        }

        let mut expression = |argument: &'static str| -> Result<Option<Expr>> {
            if !known.contains(&argument) {
                return Ok(None);
            }
            let Some(expr) = arguments.named.remove(argument) else { return Ok(None) };
            let expr = context
                .sql_to_expr(expr, &schema)
                .map_err(|e| e.context(format!("{name}: the argument {argument}")))?;
            let expr = fold_variables(expr, self.variables.as_ref())?;
            self.expand(expr, &schema, context).map(Some)
        };
        let condition = expression("when")?;
        if let Some(condition) = &condition
            && let Ok(of) = condition.get_type(&schema)
            && !matches!(of, DataType::Boolean | DataType::Null)
        {
            return plan_err!("{name}: when => {condition} is {of} and must be true or false for a row, such as n > 0");
        }
        let (prompt, system, messages) = (expression("prompt")?, expression("system")?, expression("messages")?);
        let text = expression("text")?;
        if let Some(unknown) = arguments.named.keys().next() {
            return plan_err!("{name} has no argument '{unknown}'{}", did_you_mean(unknown, known.iter().copied()));
        }
        match (&prompt, &messages, &system) {
            _ if embeds && text.is_some() => {}
            _ if embeds => return plan_err!("embed needs text => …, an expression over the input's columns"),
            (None, None, _) => {
                return plan_err!("{name} needs prompt => … (or messages => [{{'role': …, 'content': …}}])");
            }
            (Some(_), Some(_), _) | (None, Some(_), Some(_)) => {
                return plan_err!("{name} takes either messages or prompt (with system), not both");
            }
            _ => {}
        }
        if !embeds && condition.as_ref().is_some_and(names_sample) {
            return plan_err!("when => … is about a row and cannot name the ordinal sample");
        }

        let mut projection: Vec<Expr> =
            input.schema().iter().map(|(qualifier, field)| Expr::Column(Column::from((qualifier, field)))).collect();
        let mut hide = |argument: &str, expr: Option<Expr>| -> Result<Vec<String>> {
            let Some(expr) = expr else { return Ok(Vec::new()) };
            let expr = match (&condition, argument) {
                (Some(condition), "prompt" | "messages" | "text") => when(condition.clone(), expr).end()?,
                _ => expr,
            };
            if embeds {
                let hidden = format!("__{}_{argument}", spec.call_as);
                projection.push(expr.alias(&hidden));
                return Ok(vec![hidden]);
            }
            let ordinals = if names_sample(&expr) { spec.sample_count() } else { 1 };
            let mut names = Vec::new();
            for sample in 0..ordinals {
                let hidden = format!("__{}_{argument}_{sample}", spec.call_as);
                projection.push(at_sample(expr.clone(), sample)?.alias(&hidden));
                names.push(hidden);
            }
            Ok(names)
        };
        let columns = MessageColumns {
            prompt: if embeds { hide("text", text)? } else { hide("prompt", prompt)? },
            system: hide("system", system)?,
            messages: hide("messages", messages)?,
        };
        spec.columns = columns;
        let input = LogicalPlanBuilder::from(input).project(projection)?.build()?;
        let node = CallNode::try_new(Arc::new(spec), input)?;
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
    }

    fn expand(&self, expr: Expr, schema: &DFSchema, context: &dyn RelationPlannerContext) -> Result<Expr> {
        match &self.prompts {
            Some(prompts) => {
                expand_render(expr, prompts, schema, |name| context.context_provider().get_function_meta(name))
            }
            None => {
                let no_folder = Prompts::new("prompts");
                expand_render(expr, &no_folder, schema, |name| context.context_provider().get_function_meta(name))
                    .map_err(|e| e.context("render needs a pipeline folder with prompts/"))
            }
        }
    }
}

/// The input's schema with the ordinal `sample` in the place of a column of that name.
fn with_sample(schema: &DFSchema) -> Result<DFSchema> {
    let mut fields: Vec<_> = schema
        .iter()
        .filter(|(_, field)| field.name() != SAMPLE)
        .map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)))
        .collect();
    fields.push((None, Arc::new(Field::new(SAMPLE, DataType::Int64, false))));
    DFSchema::new_with_metadata(fields, HashMap::new())
}

fn is_sample(column: &Column) -> bool {
    column.relation.is_none() && column.name == SAMPLE
}

fn names_sample(expr: &Expr) -> bool {
    expr.column_refs().into_iter().any(is_sample)
}

fn at_sample(expr: Expr, sample: u32) -> Result<Expr> {
    expr.transform(|expr| match &expr {
        Expr::Column(column) if is_sample(column) => Ok(Transformed::yes(lit(i64::from(sample)))),
        _ => Ok(Transformed::no(expr)),
    })
    .data()
}
