//! One step down a plan: expressions over a node's output, said over its input's output.

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::model_call::node::as_call;

/// The input of a projection, an alias or a call, and the expressions over it. `None` for other nodes, and where an
/// expression needs what the call answers or cannot be computed once more with the same result.
pub fn step_down<'a>(plan: &'a LogicalPlan, exprs: &[Expr]) -> Result<Option<(&'a LogicalPlan, Vec<Expr>)>> {
    let (input, exprs) = match plan {
        LogicalPlan::Projection(projection) => {
            let computed = |index: usize| projection.expr[index].clone().unalias_nested().data;
            (projection.input.as_ref(), replace_columns(plan, exprs, computed)?)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let below = alias.input.schema();
            let renamed = |index: usize| Expr::Column(below.qualified_field(index).into());
            (alias.input.as_ref(), replace_columns(plan, exprs, renamed)?)
        }
        _ => match as_call(plan) {
            Some(call) => {
                let answered = |expr: &Expr| expr.column_refs().into_iter().any(|column| call.adds(&column.name));
                if exprs.iter().any(answered) {
                    return Ok(None);
                }
                (call.input(), exprs.to_vec())
            }
            None => return Ok(None),
        },
    };
    Ok(exprs.iter().all(can_be_computed_again).then_some((input, exprs)))
}

/// The node over another input.
pub fn over(plan: &LogicalPlan, input: LogicalPlan) -> Result<LogicalPlan> {
    plan.with_new_exprs(plan.expressions(), vec![input])
}

fn replace_columns(plan: &LogicalPlan, exprs: &[Expr], below: impl Fn(usize) -> Expr) -> Result<Vec<Expr>> {
    let replace = |expr: Expr| match &expr {
        Expr::Column(column) => Ok(Transformed::yes(below(plan.schema().index_of_column(column)?))),
        _ => Ok(Transformed::no(expr)),
    };
    exprs.iter().map(|expr| expr.clone().transform_up(replace).data()).collect()
}

fn can_be_computed_again(expr: &Expr) -> bool {
    let mut steady = !expr.is_volatile();
    let _ = expr.apply(|expr| {
        steady &= !matches!(
            expr,
            Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)
                | Expr::OuterReferenceColumn(_, _)
                | Expr::Unnest(_)
        );
        Ok(if steady { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    steady
}
