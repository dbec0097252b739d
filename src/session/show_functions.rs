//! `SHOW FUNCTIONS` with functions of ours. DataFusion lists a function by the types that its signature names, and ours
//! look at their arguments themselves, so that it would pass over them.

use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, StringArray};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::{Documentation, LogicalPlan, lit};
use datafusion::prelude::{SessionContext, col};
use datafusion::sql::parser;
use datafusion::sql::sqlparser::ast::{ShowStatementFilter, Statement};

use crate::curate;
use crate::model_call::{self, TableFunction};

/// The functions that stand in FROM.
pub fn table_functions() -> impl Iterator<Item = &'static TableFunction> {
    model_call::TABLE_FUNCTIONS.iter().chain(curate::TABLE_FUNCTIONS)
}

/// A function of ours as a row: name, type as DataFusion names it, sentence, example.
type Row = (String, &'static str, String, String);

fn ours() -> Vec<Row> {
    let documented = |name: &str, kind: &'static str, documentation: Option<&Documentation>| {
        documentation.map(|d| (name.to_owned(), kind, d.description.clone(), d.syntax_example.clone()))
    };
    let table = table_functions().map(|f| {
        let example = f.example.split_whitespace().collect::<Vec<_>>().join(" ");
        (f.name.to_owned(), "TABLE", f.description.to_owned(), example)
    });
    let scalar = seedmill_udfs::scalar_functions();
    let aggregate = seedmill_udfs::aggregate_functions();
    let window = seedmill_udfs::window_functions();
    table
        .chain(documented(curate::RUN_PYTHON, "SCALAR", Some(curate::run_python_documentation())))
        .chain(scalar.iter().filter_map(|f| documented(f.name(), "SCALAR", f.documentation())))
        .chain(aggregate.iter().filter_map(|f| documented(f.name(), "AGGREGATE", f.documentation())))
        .chain(window.iter().filter_map(|f| documented(f.name(), "WINDOW", f.documentation())))
        .collect()
}

/// The plan of `SHOW FUNCTIONS [LIKE …]`, in DataFusion's columns and by name: function_name, return_type, parameters,
/// parameter_types (NULL for ours), function_type, description, syntax_example.
pub(super) async fn plan(ctx: &SessionContext, filter: Option<ShowStatementFilter>) -> Result<LogicalPlan> {
    let all = Statement::ShowFunctions { filter: None };
    let all = ctx.state().statement_to_plan(parser::Statement::Statement(Box::new(all))).await?;
    let theirs = DataFrame::new(ctx.state(), all);
    let rows = ours();
    let names = rows.iter().map(|row| lit(row.0.as_str())).collect();
    let text = |of: fn(&Row) -> &str| Arc::new(rows.iter().map(|row| Some(of(row))).collect::<StringArray>()) as _;
    let batch = RecordBatch::try_from_iter([
        ("function_name", text(|row| &row.0)),
        ("function_type", text(|row| row.1)),
        ("description", text(|row| &row.2)),
        ("syntax_example", text(|row| &row.3)),
    ])?;
    let columns = theirs.schema().fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(_) => Ok(col(field.name().as_str())),
        None => Ok(lit(ScalarValue::try_from(field.data_type())?).alias(field.name())),
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let ours = ctx.read_batch(batch)?.select(columns)?;
    let functions = theirs.filter(col("function_name").in_list(names, true))?.union(ours)?;
    let functions = match filter {
        None => functions,
        Some(ShowStatementFilter::Like(like)) => functions.filter(col("function_name").like(lit(like)))?,
        Some(ShowStatementFilter::ILike(like)) => functions.filter(col("function_name").ilike(lit(like)))?,
        Some(other) => return plan_err!("SHOW FUNCTIONS takes LIKE '…', not {other}"),
    };
    Ok(functions.sort(vec![col("function_name").sort(true, false)])?.into_unoptimized_plan())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_of_ours_has_a_sentence_and_an_example() {
        for (name, _, description, example) in ours() {
            assert!(description.len() > 10 && example.contains(&name), "{name}: {description} {example}");
        }
    }
}
