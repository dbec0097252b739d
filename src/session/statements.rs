//! One statement run in a workspace: planned by DataFusion, with the marks of its inputs carried to what it fills.

use std::path::Path;
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result, TableReference, plan_err};
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::{DdlStatement, LogicalPlan, WriteOp};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;

use super::footer::{COPY_OPTION, SPLIT_KEY, footer_split};
use crate::guard::held_out_scan;
use crate::lineage::{Lineage, MarkedTable, Origin, Split, lineage_of};

/// The option of CREATE EXTERNAL TABLE that says which split a file holds.
const SPLIT_OPTION: &str = SPLIT_KEY;

/// Plans a statement. Errors are one sentence, without DataFusion's kinds and backtraces.
pub async fn plan(ctx: &SessionContext, statement: Statement) -> Result<LogicalPlan> {
    refuse_quoted_body(&statement)?;
    ctx.state().statement_to_plan(statement).await
}

/// Runs a plan: definitions at once, queries when their stream is read.
pub async fn execute(ctx: &SessionContext, plan: LogicalPlan) -> Result<DataFrame> {
    match plan {
        LogicalPlan::Ddl(DdlStatement::CreateExternalTable(mut create)) => {
            let name = create.name.clone();
            let said = create
                .options
                .iter()
                .find(|(key, _)| key.trim_start_matches("format.") == SPLIT_OPTION)
                .map(|(key, value)| (key.clone(), value.clone()));
            let is_parquet = create.file_type.eq_ignore_ascii_case("parquet");
            let split = match said {
                Some((key, value)) => {
                    create.options.remove(&key);
                    let split = Split::from_name(&value).ok_or_else(|| {
                        DataFusionError::Plan(format!("'{SPLIT_OPTION}' '{value}' must be train, validation or test"))
                    })?;
                    Some((split, Origin::Option))
                }
                // Of several files one held-out file is enough.
                None => {
                    let splits = create.locations.iter().filter_map(|location| file_split(location));
                    splits.max_by_key(|split| split.is_held_out()).map(|split| (split, Origin::FileName))
                }
            };
            let done = ctx.execute_logical_plan(LogicalPlan::Ddl(DdlStatement::CreateExternalTable(create))).await?;
            let split = match split {
                Some((_, Origin::Option)) => split,
                named if is_parquet => {
                    let table = ctx.table_provider(name.clone()).await?;
                    footer_split(ctx, table.as_ref()).await?.map(|split| (split, Origin::Footer)).or(named)
                }
                named => named,
            };
            if let Some((split, origin)) = split {
                mark(ctx, name, Lineage { split, origin, task: None, licence: None }).await?;
            }
            Ok(done)
        }
        LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)) => {
            let name = create.name.clone();
            let lineage = held_out_scan(&create.input)?.map(|(_, lineage)| lineage);
            let done = ctx.execute_logical_plan(LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create))).await?;
            if let Some(lineage) = lineage {
                mark(ctx, name, Lineage { origin: Origin::Derived, ..lineage }).await?;
            }
            Ok(done)
        }
        LogicalPlan::Copy(mut copy) => {
            if let Some((source, lineage)) = held_out_scan(&copy.input)? {
                match copy.file_type.get_ext().as_str() {
                    // The file says itself what it holds, and is a held-out table wherever it is read again.
                    "parquet" => {
                        copy.options.insert(COPY_OPTION.to_owned(), lineage.split.to_string());
                    }
                    format => {
                        return plan_err!(
                            "{source} holds held-out rows (split {}) and a file of format {format} cannot say so; copy \
                             them STORED AS PARQUET",
                            lineage.split
                        );
                    }
                }
            }
            ctx.execute_logical_plan(LogicalPlan::Copy(copy)).await
        }
        LogicalPlan::Dml(insert) if matches!(insert.op, WriteOp::Insert(_)) => {
            if let Some((source, lineage)) = held_out_scan(&insert.input)? {
                let target = ctx.table_provider(insert.table_name.clone()).await?;
                let marked = lineage_of(target.as_ref()).is_some_and(|lineage| lineage.split.is_held_out());
                if !marked {
                    return plan_err!(
                        "{source} holds held-out rows (split {}) and {} is not marked as held out; create the target \
                         with CREATE TABLE … AS SELECT, which carries the mark",
                        lineage.split,
                        insert.table_name
                    );
                }
            }
            ctx.execute_logical_plan(LogicalPlan::Dml(insert)).await
        }
        other => ctx.execute_logical_plan(other).await,
    }
}

async fn mark(ctx: &SessionContext, name: TableReference, lineage: Lineage) -> Result<()> {
    let inner = ctx.table_provider(name.clone()).await?;
    ctx.deregister_table(name.clone())?;
    ctx.register_table(name, Arc::new(MarkedTable::new(inner, lineage)))?;
    Ok(())
}

/// The split that a location's own file name says.
fn file_split(location: &str) -> Option<Split> {
    let file = location.trim_end_matches('/').rsplit('/').next()?;
    Split::from_file_stem(Path::new(file).file_stem()?.to_str()?)
}

/// `AS '…'` bodies are read as a text by DataFusion: a function that gives its own source.
fn refuse_quoted_body(statement: &Statement) -> Result<()> {
    let Statement::Statement(statement) = statement else { return Ok(()) };
    let ast::Statement::CreateFunction(create) = statement.as_ref() else { return Ok(()) };
    match &create.function_body {
        Some(ast::CreateFunctionBody::AsBeforeOptions { .. } | ast::CreateFunctionBody::AsAfterOptions(_)) => {
            plan_err!("CREATE FUNCTION {}: AS '…' is not supported; write RETURN <expression>", create.name)
        }
        _ => Ok(()),
    }
}
