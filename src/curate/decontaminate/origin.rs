//! Where a column of the reference set comes from. `source_table` and `source_row` are all that leaves the reference set, so
//! they must be what names a row, and no part of a question or an answer by another name.

use std::collections::BTreeSet;

use datafusion::common::{Column, Result, plan_err};
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};

use crate::guard::held_out_scan;

/// Columns of held-out tables that hold what may not leave them.
const CONTENT: [&str; 9] =
    ["question", "answer", "answer_text", "options", "passage", "prompt_text", "target_text", "rationale", "text"];

/// Columns that tell a row or a table of a held-out reference set. A text column by another name may hold a question,
/// or what helps to answer it.
const NAMES: [&str; 17] = [
    "source_row",
    "seed_id",
    "id",
    "task",
    "subtask",
    "family",
    "split",
    "dataset",
    "config",
    "source_table",
    "source_sha256",
    "row",
    "row_id",
    "idx",
    "item_id",
    "doc_id",
    "question_id",
];

/// Parts of names of columns of numbers that say which answer is right.
const LABELS: [&str; 7] = ["answer", "label", "gold", "target", "correct", "solution", "class"];

/// Whether `name` is a column as it is, or a literal; false where it is computed.
///
/// # Errors
/// `Plan` where it is a column that `compared` (question and answer) reads, or one that holds such; of held-out rows
/// where it is not known to tell a row.
pub fn names_rows(argument: &str, name: &Expr, compared: &[&Expr], reference: &LogicalPlan) -> Result<bool> {
    let Some(from) = origin(name, reference) else { return Ok(false) };
    let mut content: BTreeSet<String> = CONTENT.iter().map(|name| (*name).to_owned()).collect();
    for expr in compared {
        read_by(expr, reference, &mut content);
    }
    let Some(from) = from else { return Ok(true) };
    if content.contains(&from.name) {
        return plan_err!(
            "decontaminate: {argument} => {name} is a part of what is compared; it goes out with what is found, so it must \
             be a name such as source_row or id"
        );
    }
    if !from.tells_a_row() && held_out_scan(reference)?.is_some() {
        return plan_err!(
            "decontaminate: {argument} => {name} may say what held-out rows ask or answer; it goes out with what is \
             found, so it must be a name such as source_row or id"
        );
    }
    Ok(true)
}

/// A column of a table.
struct Source {
    name: String,
    is_integer: bool,
}

impl Source {
    fn of(plan: &LogicalPlan, index: usize) -> Source {
        let field = plan.schema().field(index);
        Source { name: field.name().clone(), is_integer: field.data_type().is_integer() }
    }

    fn tells_a_row(&self) -> bool {
        let name = self.name.to_ascii_lowercase();
        NAMES.contains(&name.as_str()) || self.is_integer && !LABELS.iter().any(|label| name.contains(label))
    }
}

fn plain(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => plain(&alias.expr),
        Expr::Cast(cast) => plain(&cast.expr),
        Expr::TryCast(cast) => plain(&cast.expr),
        other => other,
    }
}

/// The table's column that an expression is, `Some(None)` for a constant; None where it is computed.
fn origin(expr: &Expr, plan: &LogicalPlan) -> Option<Option<Source>> {
    match plain(expr) {
        Expr::Literal(..) => Some(None),
        Expr::Column(column) => {
            let index = plan.schema().index_of_column(column).ok()?;
            let nth = |input: &LogicalPlan, index: usize| {
                let column = Expr::Column(Column::from(input.schema().qualified_field(index)));
                origin(&column, input)
            };
            match plan {
                LogicalPlan::TableScan(_) | LogicalPlan::Values(_) => Some(Some(Source::of(plan, index))),
                LogicalPlan::Projection(projection) => origin(&projection.expr[index], &projection.input),
                LogicalPlan::SubqueryAlias(alias) => nth(&alias.input, index),
                LogicalPlan::Filter(filter) => nth(&filter.input, index),
                LogicalPlan::Sort(sort) => nth(&sort.input, index),
                LogicalPlan::Limit(limit) => nth(&limit.input, index),
                LogicalPlan::Distinct(Distinct::All(input)) => nth(input, index),
                // All parts must come from one column.
                LogicalPlan::Union(union) => {
                    let mut parts = union.inputs.iter().map(|input| nth(input, index));
                    let mut first = parts.next()??;
                    for part in parts {
                        match (&mut first, part?) {
                            (None, None) => {}
                            (Some(first), Some(part)) if first.name == part.name => first.is_integer &= part.is_integer,
                            _ => return None,
                        }
                    }
                    Some(first)
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
