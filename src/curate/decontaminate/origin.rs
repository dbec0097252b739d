//! Where a column of the reference set comes from. `source_table` and `source_row` are all that leaves the reference set, so
//! they must be what names a row, and no part of a question or an answer by another name.

use std::collections::BTreeSet;

use datafusion::common::{Column, Result, plan_err};
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};

/// Columns of held-out tables that hold what may not leave them.
const CONTENT: [&str; 9] =
    ["question", "answer", "answer_text", "options", "passage", "prompt_text", "target_text", "rationale", "text"];

/// Whether `name` is a column as it is, or a literal; false where it is computed.
///
/// # Errors
/// `Plan` where it is a column that `compared` (question and answer) reads, or one that holds such.
pub fn names_rows(argument: &str, name: &Expr, compared: &[&Expr], reference: &LogicalPlan) -> Result<bool> {
    let Some(from) = origin(name, reference) else { return Ok(false) };
    let mut content: BTreeSet<String> = CONTENT.iter().map(|name| (*name).to_owned()).collect();
    for expr in compared {
        read_by(expr, reference, &mut content);
    }
    if from.is_some_and(|from| content.contains(&from)) {
        return plan_err!(
            "decontaminate: {argument} => {name} is a part of what is compared; it goes out with what is found, so it must \
             be a name such as source_row or id"
        );
    }
    Ok(true)
}

fn plain(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => plain(&alias.expr),
        Expr::Cast(cast) => plain(&cast.expr),
        Expr::TryCast(cast) => plain(&cast.expr),
        other => other,
    }
}

/// The name of the table's column that an expression is, `Some(None)` for a constant; None where it is computed.
fn origin(expr: &Expr, plan: &LogicalPlan) -> Option<Option<String>> {
    match plain(expr) {
        Expr::Literal(..) => Some(None),
        Expr::Column(column) => {
            let index = plan.schema().index_of_column(column).ok()?;
            let nth = |input: &LogicalPlan, index: usize| {
                let column = Expr::Column(Column::from(input.schema().qualified_field(index)));
                origin(&column, input)
            };
            match plan {
                LogicalPlan::TableScan(_) => Some(Some(column.name.clone())),
                LogicalPlan::Projection(projection) => origin(&projection.expr[index], &projection.input),
                LogicalPlan::SubqueryAlias(alias) => nth(&alias.input, index),
                LogicalPlan::Filter(filter) => nth(&filter.input, index),
                LogicalPlan::Sort(sort) => nth(&sort.input, index),
                LogicalPlan::Limit(limit) => nth(&limit.input, index),
                LogicalPlan::Distinct(Distinct::All(input)) => nth(input, index),
                LogicalPlan::Values(_) => Some(Some(column.name.clone())),
                // All parts must come from one column.
                LogicalPlan::Union(union) => {
                    let mut parts = union.inputs.iter().map(|input| nth(input, index));
                    let first = parts.next()??;
                    parts.all(|part| part.as_ref() == Some(&first)).then_some(first)
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// Adds the names of the tables' columns that an expression reads.
fn read_by(expr: &Expr, plan: &LogicalPlan, names: &mut BTreeSet<String>) {
    for column in expr.column_refs() {
        let Ok(index) = plan.schema().index_of_column(column) else { continue };
        match plan {
            LogicalPlan::Projection(projection) => read_by(&projection.expr[index], &projection.input, names),
            LogicalPlan::TableScan(_) | LogicalPlan::Values(_) => {
                names.insert(column.name.clone());
            }
            other => {
                for input in other.inputs() {
                    if index < input.schema().fields().len() {
                        let column = Expr::Column(Column::from(input.schema().qualified_field(index)));
                        read_by(&column, input, names);
                    }
                }
            }
        }
    }
}
