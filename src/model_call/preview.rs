//! A preview of a plan: only some of the rows that reach its first calls. In and out: a logical plan.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::dataframe::DataFrame;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{
    Expr, Extension, LogicalPlan, LogicalPlanBuilder, SortExpr, UserDefinedLogicalNodeCore, lit,
};

use super::node::{as_call, call_nodes};
use super::plan_key::PlanKey;

/// The column that tells seeds apart.
const SEED_ID: &str = "seed_id";

/// The seeds that a preview takes.
#[derive(Debug, Clone)]
pub struct Preview {
    seeds: usize,
    /// The greatest of their ids; `None` where the first calls have no ids in common.
    last: Option<ScalarValue>,
}

impl Preview {
    /// The first `seeds` seeds by `seed_id` that reach the first calls of a plan (those with no call below), whichever of
    /// the calls they reach, so that a preview is the same on each run. Their ids are read here, and a plan is compared
    /// with the last of them: a join with them would hold the inputs of all first calls in each. Where the input of one
    /// has no `seed_id` of text, each of the calls sees so many rows, the first by its `seed_id` or its first column.
    pub async fn of(state: &SessionState, plan: &LogicalPlan, seeds: usize) -> Result<Preview> {
        let mut inputs: Vec<PlanKey> = Vec::new();
        // With the filters of the guards, which stand below calls only: what they leave out takes no seed's place.
        let plan = state.analyzer().execute_and_check(plan.clone(), state.config_options(), |_, _| {})?;
        for call in call_nodes(&plan)? {
            if is_first(call.input())? {
                let key = PlanKey::of(call.input())?;
                if !inputs.contains(&key) {
                    inputs.push(key);
                }
            }
        }
        let inputs = inputs.into_iter().map(|key| key.plan().clone()).collect();
        Ok(Preview { seeds, last: last_of_first(state, inputs, seeds).await? })
    }

    /// The same plan, whose first calls see these seeds only.
    pub fn limit(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let limited = plan.transform_down_with_subqueries(|plan| {
            let Some(call) = as_call(&plan) else { return Ok(Transformed::no(plan)) };
            if !is_first(call.input())? {
                return Ok(Transformed::no(plan));
            }
            let input = LogicalPlanBuilder::from(call.input().clone());
            let first_column = || call.input().schema().columns().into_iter().next();
            let input = match (seed_id(call.input()), &self.last) {
                (Some(id), Some(last)) => input.filter(Expr::Column(id).lt_eq(lit(last.clone())))?,
                (id, _) => first_rows(input, id.or_else(first_column), self.seeds)?,
            };
            let node = Arc::new(call.with_exprs_and_inputs(Vec::new(), vec![input.build()?])?);
            // What is below has no calls: there is nothing more to limit.
            Ok(Transformed::new(LogicalPlan::Extension(Extension { node }), true, TreeNodeRecursion::Jump))
        })?;
        Ok(limited.data)
    }
}

fn is_first(input: &LogicalPlan) -> Result<bool> {
    Ok(call_nodes(input)?.is_empty())
}

fn seed_id(input: &LogicalPlan) -> Option<Column> {
    let mut fields = input.schema().iter();
    let (qualifier, field) = fields.find(|(_, field)| field.name() == SEED_ID && field.data_type().is_string())?;
    Some(Column::new(qualifier.cloned(), field.name()))
}

fn first_rows(input: LogicalPlanBuilder, by: Option<Column>, rows: usize) -> Result<LogicalPlanBuilder> {
    let input = match by {
        Some(column) => input.sort([SortExpr::new(Expr::Column(column), true, false)])?,
        None => input,
    };
    input.limit(0, Some(rows))
}

/// The greatest of the first `seeds` ids of all these inputs together; `None` where one of them has no ids, and where no
/// row has one.
async fn last_of_first(state: &SessionState, inputs: Vec<LogicalPlan>, seeds: usize) -> Result<Option<ScalarValue>> {
    let mut all: Option<LogicalPlanBuilder> = None;
    for input in inputs {
        let Some(id) = seed_id(&input).map(Expr::Column) else { return Ok(None) };
        let ids = LogicalPlanBuilder::from(input).filter(id.clone().is_not_null())?.project([id.alias(SEED_ID)])?;
        all = Some(match all {
            Some(others) => others.union(ids.build()?)?,
            None => ids,
        });
    }
    let Some(all) = all else { return Ok(None) };
    let first = first_rows(all.distinct()?, Some(Column::from_name(SEED_ID)), seeds)?.build()?;
    // So many ids at most, in order.
    let batches = DataFrame::new(state.clone(), first).collect().await?;
    let Some(batch) = batches.iter().rfind(|batch| batch.num_rows() > 0) else { return Ok(None) };
    ScalarValue::try_from_array(batch.column(0), batch.num_rows() - 1).map(Some)
}
