//! Joins that lose none of their keys, nor what NULL is equal to in them. In: DataFusion's rules. Out: the same rules, of
//! which those that make keys leave alone what they would break.

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchemaRef, NullEquality, Result};
use datafusion::logical_expr::utils::can_hash;
use datafusion::logical_expr::{Expr, ExprSchemable, Join, JoinType, LogicalPlan};

use crate::wrapped_rule::{Inner, Rules, wrap_rule};

/// The same rules, with those that make keys replaced by such as lose none and leave them as they are.
pub fn optimizer_rules(rules: Rules) -> Rules {
    let rules = wrap_rule(rules, "eliminate_cross_join", keep_join_keys);
    wrap_rule(rules, "extract_equijoin_predicate", keep_null_equality)
}

/// `eliminate_cross_join` takes inner joins that stand right upon each other, and the filter upon them, apart. It joins the
/// inputs in another order, and each key goes to the join that has one side of it left and the other right. In DataFusion
/// 55 a key that never comes to stand so is gone, without a word: `c.v = a.v + b.v` where c is joined before b. And all
/// keys, those of WHERE too, become what the topmost join has: `=` becomes IS NOT DISTINCT FROM, or that becomes `=`. More
/// rows, or fewer, would be asked about and paid for.
fn keep_join_keys(plan: LogicalPlan, inner: Inner) -> Result<Transformed<LogicalPlan>> {
    let mut sound = true;
    plan.apply_with_subqueries(|node| {
        sound = keeps_keys(node)?;
        Ok(if sound { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    if sound {
        // It goes through all of the plan by itself.
        return inner(plan);
    }
    let below = plan
        .map_subqueries(|subquery| keep_join_keys(subquery, inner))?
        .transform_sibling(|plan| plan.map_children(|child| keep_join_keys(child, inner)))?;
    if below.transformed { below.map_data(|plan| plan.recompute_schema()) } else { Ok(below) }
}

/// `extract_equijoin_predicate` makes keys of the `=` in a join's condition. In DataFusion 55 a join whose keys are those of
/// IS NOT DISTINCT FROM gets them beside its own, and NULL is equal to NULL in all of them. There they stay in the
/// condition.
fn keep_null_equality(plan: LogicalPlan, inner: Inner) -> Result<Transformed<LogicalPlan>> {
    match &plan {
        LogicalPlan::Join(join) if !join.on.is_empty() && nulls_are_equal(join) => Ok(Transformed::no(plan)),
        _ => inner(plan),
    }
}

fn nulls_are_equal(join: &Join) -> bool {
    matches!(join.null_equality, NullEquality::NullEqualsNull)
}

/// Whether the joins that the rule would take apart at this node keep their keys.
fn keeps_keys(node: &LogicalPlan) -> Result<bool> {
    let (top, is_filtered) = match node {
        LogicalPlan::Filter(filter) => (filter.input.as_ref(), true),
        other => (other, false),
    };
    let (mut joins, mut inputs) = (Vec::new(), Vec::new());
    take_apart(top, &mut joins, &mut inputs);
    let some = joins.iter().any(|join| nulls_are_equal(join));
    if some && (is_filtered || !joins.iter().all(|join| nulls_are_equal(join))) {
        return Ok(false);
    }
    for join in joins {
        for (left, right) in &join.on {
            let (of_left, of_right) = (input_of(left, &inputs), input_of(right, &inputs));
            if of_left.is_none()
                || of_right.is_none()
                || of_left == of_right
                || !can_hash(&left.get_type(&join.schema)?)
            {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// The inner joins that stand right upon each other, and what they join.
fn take_apart<'a>(plan: &'a LogicalPlan, joins: &mut Vec<&'a Join>, inputs: &mut Vec<&'a DFSchemaRef>) {
    match plan {
        LogicalPlan::Join(join) if join.join_type == JoinType::Inner => {
            joins.push(join);
            take_apart(&join.left, joins, inputs);
            take_apart(&join.right, joins, inputs);
        }
        other => inputs.push(other.schema()),
    }
}

/// The one input that has all columns of an expression.
fn input_of(expr: &Expr, inputs: &[&DFSchemaRef]) -> Option<usize> {
    let columns = expr.column_refs();
    let has_all = |schema: &&DFSchemaRef| columns.iter().all(|column| schema.has_column(column));
    if columns.is_empty() { None } else { inputs.iter().position(has_all) }
}
