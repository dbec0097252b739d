//! The arguments of `near_duplicates`, checked, and its plans: SQL to logical node, logical node to execs.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::{Column, DFSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::var_provider::VarProvider;
use datafusion::logical_expr::{
    Expr, ExprSchemable, Extension, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore, cast, lit, when,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::sqlparser::ast::FunctionArg;

use super::exec::NearDuplicatesExec;
use super::frequencies::Frequencies;
use super::node::{By, KEY, NearDuplicatesNode, PREFER, Spec, TEXT};
use super::shingle_exec::ShingleExec;
use super::shingles::Unit;
use crate::curate::planner::FunctionPlanner;

pub const ARGUMENTS: [&str; 10] =
    ["key", "text", "embedding", "threshold", "rouge_l", "prefer", "when", "shingles", "ngram", "output"];

const DEFAULT_THRESHOLD: f64 = 0.8;
/// Of cosines most pairs of sentences have one over 0.8.
const DEFAULT_COSINE: f64 = 0.95;
/// NeMo Curator and datatrove use 5-grams of words.
const DEFAULT_N: u32 = 5;
const MAX_N: u32 = 100;

/// `near_duplicates(…)` as a node over a projection.
pub fn plan(
    args: Vec<FunctionArg>,
    context: &mut dyn RelationPlannerContext,
    variables: &(dyn VarProvider + Send + Sync),
) -> Result<LogicalPlan> {
    let mut function = FunctionPlanner::new("near_duplicates", args, &ARGUMENTS, context, variables)?;
    let input = function.input()?;
    let schema = input.schema().as_ref().clone();

    let unit = match function.literal("shingles")?.map(|unit| unit.text()).transpose()?.as_deref() {
        None => None,
        Some("word") => Some(Unit::Word),
        Some("char") => Some(Unit::Character),
        Some(other) => return plan_err!("shingles => '{other}' must be 'word' or 'char'"),
    };
    let n = function.literal("ngram")?.map(|n| n.count(MAX_N)).transpose()?;
    let (text, embedding) = (function.expression("text", &schema)?, function.expression("embedding", &schema)?);
    let (compared, by) = match (text, embedding) {
        (Some(text), None) => {
            let by = By::Ngrams { unit: unit.unwrap_or(Unit::Word), n: n.unwrap_or(DEFAULT_N) as usize };
            (function.as_text("text", text, &schema)?, by)
        }
        (None, Some(_)) if unit.is_some() || n.is_some() => {
            return plan_err!("near_duplicates: shingles and ngram are about text => …, not about embedding => …");
        }
        (None, Some(embedding)) => (as_vector(embedding, &schema)?, By::Cosine),
        _ => return plan_err!("near_duplicates needs text => … or embedding => …, what is compared"),
    };
    let threshold = match function.literal("threshold")? {
        Some(threshold) => match threshold.number(0.0, 1.0)? {
            threshold if threshold > 0.0 => threshold,
            _ => return plan_err!("threshold => 0 must lie above 0: at 0 every row is like every other"),
        },
        None if by == By::Cosine => DEFAULT_COSINE,
        None => DEFAULT_THRESHOLD,
    };
    let rouge_l = function.literal("rouge_l")?.map(|rouge_l| rouge_l.number(0.0, 1.0)).transpose()?;
    if rouge_l.is_some() && by == By::Cosine {
        return plan_err!("near_duplicates: rouge_l is about text => …, not about embedding => …");
    }
    let output = function.literal("output")?.map(|output| output.column_name()).transpose()?;
    let spec = Spec::new(threshold, rouge_l, by, output.unwrap_or_else(|| "duplicate".to_owned()));
    let Some(key) = function.expression("key", &schema)? else {
        return plan_err!("near_duplicates needs key => …, which names a row and says which of two like ones stays");
    };
    let prefer = function.expression("prefer", &schema)?;
    let condition = function.expression("when", &schema)?;
    function.finish()?;

    let compared = match condition {
        Some(condition) => {
            function.check_boolean("when", &condition, &schema)?;
            when(condition, compared).end()?
        }
        None => compared,
    };
    let key_type = key.get_type(&schema)?;
    if key_type.is_nested() || key_type.is_null() {
        return plan_err!("near_duplicates: key => {key} is {key_type}; a key is a text, a number or a time");
    }
    let prefer = match prefer {
        Some(prefer) => {
            let prefer_type = prefer.get_type(&schema)?;
            if prefer_type.is_nested() {
                return plan_err!("near_duplicates: prefer => {prefer} is {prefer_type}, which has no order");
            }
            prefer
        }
        None => cast(lit(ScalarValue::Null), DataType::Float64),
    };
    let mut projection: Vec<Expr> =
        input.schema().iter().map(|(qualifier, field)| Expr::Column(Column::from((qualifier, field)))).collect();
    projection.extend([compared.alias(TEXT), key.alias(KEY), prefer.alias(PREFER)]);
    let input = LogicalPlanBuilder::from(input).project(projection)?.build()?;
    let node = NearDuplicatesNode::try_new(spec, input)?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

/// A list of numbers as FLOAT[].
fn as_vector(embedding: Expr, schema: &DFSchema) -> Result<Expr> {
    let given = embedding.get_type(schema)?;
    let numbers = match &given {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            item.data_type().is_numeric()
        }
        _ => false,
    };
    if !numbers {
        return plan_err!("near_duplicates: embedding => {embedding} is {given} and must be a list of numbers");
    }
    Ok(cast(embedding, DataType::List(Arc::new(Field::new_list_field(DataType::Float32, true)))))
}

/// The execs of a node; DataFusion puts the sort between them.
pub fn plan_exec(node: &NearDuplicatesNode, input: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let frequencies = Arc::new(Frequencies::default());
    let input: Arc<dyn ExecutionPlan> = match node.spec().by {
        By::Ngrams { unit, n } => {
            let with_words = node.spec().rouge_l().is_some();
            Arc::new(ShingleExec::try_new(unit, n, with_words, Arc::clone(input), Arc::clone(&frequencies))?)
        }
        By::Cosine => Arc::clone(input),
    };
    let schema = Arc::new(node.schema().as_arrow().clone());
    Ok(Arc::new(NearDuplicatesExec::try_new(node.spec().clone(), input, frequencies, schema)?))
}
