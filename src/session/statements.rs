//! One statement run in a workspace: planned by DataFusion, with the marks of its inputs carried to what it fills.

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::common::{Result, plan_err};
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::{DdlStatement, LogicalPlan, Statement};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser;
use datafusion::sql::sqlparser::ast;

use super::{external_table, filled_tables, kept_tables, show_functions};
use crate::guard::RowGate;
use crate::publish::Run;
use crate::stores::Stores;

/// Plans a statement. Errors are one sentence, without DataFusion's kinds and backtraces.
pub async fn plan(ctx: &SessionContext, mut statement: parser::Statement) -> Result<LogicalPlan> {
    refuse_quoted_body(&statement)?;
    if let parser::Statement::Statement(shown) = &statement
        && let ast::Statement::ShowFunctions { filter } = shown.as_ref()
    {
        return show_functions::plan(ctx, filter.clone()).await;
    }
    if let Some(run) = ctx.state().config().get_extension::<Run>() {
        take_queries(&run.stores, &mut statement);
    }
    ctx.state().statement_to_plan(statement).await
}

/// Runs a plan: definitions at once, queries when their stream is read.
pub async fn execute(ctx: &SessionContext, plan: LogicalPlan) -> Result<DataFrame> {
    kept_tables::refuse_change(ctx, &plan)?;
    match plan {
        LogicalPlan::Copy(copy) if ["hf://", "http://", "https://"].iter().any(|s| copy.output_url.starts_with(s)) => {
            plan_err!("'{}' is read only; COPY writes to folders, s3://, gs:// and az://", copy.output_url)
        }
        LogicalPlan::Ddl(DdlStatement::CreateExternalTable(create)) => external_table::create(ctx, *create).await,
        LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(mut create)) => {
            let name = create.name.clone();
            // What a user's function reads is in the plan from here on.
            let input = external_table::inlined(ctx, Arc::unwrap_or_clone(create.input))?;
            let input = external_table::with_marks_to_keep(ctx, input).await?;
            let lineage = filled_tables::lineage_of_filled(ctx, &input)?;
            // What is read from the table later has lost what told its rows.
            create.input = Arc::new(match ctx.state().config().get_extension::<RowGate>() {
                Some(gate) => gate.of_table(input)?,
                None => input,
            });
            // The table that is there keeps its rows and the mark that it has.
            let kept = create.if_not_exists && ctx.table_exist(name.clone())?;
            let done = ctx.execute_logical_plan(LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create))).await?;
            if let Some(lineage) = lineage.filter(|_| !kept) {
                let table = ctx.table_provider(name.clone()).await?;
                external_table::mark(ctx, name, table, lineage)?;
            }
            Ok(done)
        }
        LogicalPlan::Statement(Statement::Prepare(prepare)) if matches!(*prepare.input, LogicalPlan::Ddl(_)) => {
            plan_err!("PREPARE {} takes a query; run the CREATE or DROP itself", prepare.name)
        }
        other => {
            let (state, plan) = ctx.execute_logical_plan(other).await?.into_parts();
            let plan = external_table::inlined(ctx, plan)?;
            let plan = external_table::with_marks_of_today(ctx, plan).await?;
            filled_tables::refuse_licence_without_mark(ctx, &plan)?;
            Ok(DataFrame::new(state, plan))
        }
    }
}

/// Takes the queries off web addresses that stand for tables: a signature there is in no plan from now on.
fn take_queries(stores: &Stores, statement: &mut parser::Statement) {
    let take = |text: &mut String| {
        if let Some(plain) = stores.take_query(text) {
            *text = plain;
        }
    };
    let take_of_relation = |name: &mut ast::ObjectName| {
        if let [ast::ObjectNamePart::Identifier(name)] = &mut name.0[..] {
            take(&mut name.value);
        }
        ControlFlow::<()>::Continue(())
    };
    match statement {
        parser::Statement::Statement(statement) => {
            let _ = ast::visit_relations_mut(statement, take_of_relation);
        }
        parser::Statement::CreateExternalTable(create) => create.locations.iter_mut().for_each(take),
        parser::Statement::CopyTo(copy) => match &mut copy.source {
            parser::CopyToSource::Query(query) => {
                let _ = ast::visit_relations_mut(query, take_of_relation);
            }
            parser::CopyToSource::Relation(name) => {
                let _ = take_of_relation(name);
            }
        },
        parser::Statement::Explain(explain) => take_queries(stores, &mut explain.statement),
        parser::Statement::Reset(_) => {}
    }
}

/// `AS '…'` bodies are read as a text by DataFusion: a function that gives its own source.
fn refuse_quoted_body(statement: &parser::Statement) -> Result<()> {
    let parser::Statement::Statement(statement) = statement else { return Ok(()) };
    let ast::Statement::CreateFunction(create) = statement.as_ref() else { return Ok(()) };
    match &create.function_body {
        Some(ast::CreateFunctionBody::AsBeforeOptions { .. } | ast::CreateFunctionBody::AsAfterOptions(_)) => {
            plan_err!("CREATE FUNCTION {}: AS '…' is not supported; write RETURN <expression>", create.name)
        }
        _ => Ok(()),
    }
}
