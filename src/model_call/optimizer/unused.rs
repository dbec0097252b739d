//! A call of `enrich` none of whose columns is used above is not made, nor is one whose prompt is NULL for every row.
//! In: a plan whose columns were pruned. Out: the plan without the calls that lost their prompts or never had one.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, UserDefinedLogicalNodeCore};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::model_call::CallNode;
use crate::model_call::node::as_call;

/// DataFusion knows which columns are used, but only `optimize_projections` does, and it cannot take a node away.
/// So [`super::super::CallNode`] asks it for no prompt where no answer is used, and this rule takes away the calls
/// without a prompt. NULLs stand for the answers, until the columns are pruned as well. So it goes for a stage that a
/// variable turns off: `when => @judge <> ''`.
#[derive(Debug)]
pub struct RemoveUnusedCalls;

impl OptimizerRule for RemoveUnusedCalls {
    fn name(&self) -> &str {
        "remove_unused_calls"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let Some(call) = as_call(&plan).filter(|call| !call.has_prompt() || is_never_made(call)) else {
            return Ok(Transformed::no(plan));
        };
        let mut columns = Vec::new();
        for (qualifier, field) in call.schema().iter() {
            columns.push(if call.adds(field.name()) {
                Expr::Literal(ScalarValue::try_from(field.data_type())?, None).alias(field.name())
            } else {
                Expr::Column(Column::from((qualifier, field)))
            });
        }
        let projection = Projection::try_new(columns, Arc::new(call.input().clone()))?;
        Ok(Transformed::yes(LogicalPlan::Projection(projection)))
    }
}

/// Whether what is asked is NULL whatever the row: such a row passes with NULL results.
fn is_never_made(call: &CallNode) -> bool {
    let LogicalPlan::Projection(below) = call.input() else { return false };
    let columns = &call.spec().columns;
    let mut asked = columns.prompt.iter().chain(&columns.messages).peekable();
    let is_null = |name: &String| {
        let place = below.schema.fields().iter().position(|field| field.name() == name);
        place.and_then(|place| below.expr.get(place)).is_some_and(|expr| match expr.clone().unalias_nested().data {
            Expr::Literal(value, _) => value.is_null(),
            _ => false,
        })
    };
    call.keeps_rows() && asked.peek().is_some() && asked.all(is_null)
}
