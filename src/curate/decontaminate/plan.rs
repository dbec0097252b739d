//! The arguments of `decontaminate`, checked, and its plans: SQL to logical node, logical node to exec.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, Result, ScalarValue, plan_err};
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::var_provider::VarProvider;
use datafusion::logical_expr::{
    Expr, Extension, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore, cast, lit, when,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::sqlparser::ast::FunctionArg;

use super::cache::IndexCache;
use super::exec::DecontaminateExec;
use super::matcher::{Limits, Rule};
use super::node::{ANSWER, DecontaminateNode, Spec, TEXT};
use super::origin::names_rows;
use crate::curate::planner::FunctionPlanner;

pub const ARGUMENTS: [&str; 14] = [
    "against",
    "text",
    "answer",
    "when",
    "against_text",
    "against_answer",
    "against_table",
    "against_row",
    "rules",
    "ngram",
    "coverage",
    "long_ngram",
    "near",
    "output",
];

/// Tülu 3's rule, Janitor's, and the share at which a question with changed words still counts as the same.
pub(super) const DEFAULTS: Limits = Limits { ngram: 8, coverage: 0.5, long_ngram: 13, near: 0.7 };

/// n-grams are looked up by pieces of five tokens.
const MIN_NGRAM: u32 = 5;
const MAX_NGRAM: u32 = 1000;

/// `decontaminate(…)` as a node over two projections.
pub fn plan(
    args: Vec<FunctionArg>,
    context: &mut dyn RelationPlannerContext,
    variables: &(dyn VarProvider + Send + Sync),
) -> Result<LogicalPlan> {
    let mut function = FunctionPlanner::new("decontaminate", args, &ARGUMENTS, context, variables)?;
    let items = function.input()?;
    let Some(reference) = function.relation("against")? else {
        return plan_err!("decontaminate needs against => (SELECT …), the rows that the input must not repeat");
    };

    let mut limits = DEFAULTS;
    if let Some(ngram) = function.literal("ngram")? {
        limits.ngram = ngram.count_from(MIN_NGRAM, MAX_NGRAM)?;
    }
    if let Some(ngram) = function.literal("long_ngram")? {
        limits.long_ngram = ngram.count_from(MIN_NGRAM, MAX_NGRAM)?;
    }
    if let Some(share) = function.literal("coverage")? {
        limits.coverage = share.number(0.0, 1.0)?;
    }
    if let Some(share) = function.literal("near")? {
        limits.near = share.number(0.0, 1.0)?;
    }
    let rules = match function.literal("rules")? {
        None => Rule::ALL.to_vec(),
        Some(names) => {
            let mut rules = names.texts()?.iter().map(|name| rule(name)).collect::<Result<Vec<_>>>()?;
            rules.sort_unstable();
            rules.dedup();
            rules
        }
    };
    let output = function.literal("output")?.map(|output| output.column_name()).transpose()?;
    let spec = Spec::new(limits, rules, output.unwrap_or_else(|| "contamination".to_owned()));

    let schema = items.schema().as_ref().clone();
    let Some(text) = function.expression("text", &schema)? else {
        return plan_err!("decontaminate needs text => …, what is compared");
    };
    let text = function.as_text("text", text, &schema)?;
    let answer = match function.expression("answer", &schema)? {
        Some(answer) => function.as_text("answer", answer, &schema)?,
        None => null_text(),
    };
    let text = match function.expression("when", &schema)? {
        Some(condition) => {
            function.check_boolean("when", &condition, &schema)?;
            when(condition, text).end()?
        }
        None => text,
    };

    let schema = reference.schema().as_ref().clone();
    let column = |names: &[&str]| -> Option<Expr> {
        let found = names.iter().find_map(|name| schema.iter().find(|(_, field)| field.name() == name))?;
        Some(Expr::Column(Column::from(found)))
    };
    let against_text = match function.expression("against_text", &schema)?.or_else(|| column(&["question", "text"])) {
        Some(expr) => function.as_text("against_text", expr, &schema)?,
        None => {
            return plan_err!(
                "decontaminate: the reference set has no column 'question'; say what is compared with against_text => …"
            );
        }
    };
    let against_answer =
        match function.expression("against_answer", &schema)?.or_else(|| column(&["answer_text", "answer"])) {
            Some(expr) => cast(expr, DataType::Utf8View),
            None => null_text(),
        };
    let given_table = function.expression("against_table", &schema)?;
    let given_row = function.expression("against_row", &schema)?;
    function.finish()?;
    let compared = [&against_text, &against_answer];
    let named = |argument: &str, given: Option<Expr>, usual: &[&str]| -> Result<Option<Expr>> {
        let is_given = given.is_some();
        let Some(expr) = given.or_else(|| column(usual)) else { return Ok(None) };
        let is_name = names_rows(argument, &expr, &compared, &reference)?;
        if is_given && !is_name {
            return plan_err!(
                "decontaminate: {argument} => {expr} is computed; it must be a column as it is, because it goes out with \
                 what is found"
            );
        }
        // A computed column is not taken because of its name.
        Ok(is_name.then(|| cast(expr, DataType::Utf8View)))
    };
    let against_table = named("against_table", given_table, &["task"])?.unwrap_or_else(|| {
        let table = schema.iter().next().and_then(|(qualifier, _)| qualifier.map(ToString::to_string));
        cast(lit(table.unwrap_or_else(|| "reference".to_owned())), DataType::Utf8View)
    });
    let against_row = named("against_row", given_row, &["source_row", "seed_id", "id"])?.unwrap_or_else(null_text);

    let mut projection: Vec<Expr> =
        items.schema().iter().map(|(qualifier, field)| Expr::Column(Column::from((qualifier, field)))).collect();
    projection.extend([text.alias(TEXT), answer.alias(ANSWER)]);
    let items = LogicalPlanBuilder::from(items).project(projection)?.build()?;
    let reference = LogicalPlanBuilder::from(reference)
        .project([
            against_table.alias("__reference_table"),
            against_row.alias("__reference_row"),
            against_text.alias("__reference_text"),
            against_answer.alias("__reference_answer"),
        ])?
        .build()?;
    let node = DecontaminateNode::try_new(spec, items, reference)?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

fn null_text() -> Expr {
    cast(lit(ScalarValue::Null), DataType::Utf8View)
}

fn rule(name: &str) -> Result<Rule> {
    match Rule::ALL.into_iter().find(|rule| rule.as_str() == name) {
        Some(rule) => Ok(rule),
        None => plan_err!(
            "rules => '{name}' must be of {}",
            Rule::ALL.map(|rule| format!("'{}'", rule.as_str())).join(", ")
        ),
    }
}

/// The exec of a node.
pub fn plan_exec(
    node: &DecontaminateNode,
    items: &Arc<dyn ExecutionPlan>,
    reference: &Arc<dyn ExecutionPlan>,
    indexes: &Arc<IndexCache>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = Arc::new(node.schema().as_arrow().clone());
    let (items, reference) = (Arc::clone(items), Arc::clone(reference));
    Ok(Arc::new(DecontaminateExec::new(node.spec().clone(), items, reference, Arc::clone(indexes), schema)))
}
