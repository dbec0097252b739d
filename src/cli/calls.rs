//! `seedmill calls`: what the ledger holds and what was paid for it, by model, and what failed, by kind of error.

use std::path::PathBuf;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::Result;
use datafusion::dataframe::DataFrame;

use super::arguments::{CallsArguments, CallsCommand, Format};
use super::calls_compact::calls_compact;
use super::calls_gc::calls_gc;
use super::output::{self, Output};
use super::{EXIT_OK, text_table};
use crate::counted::counted;
use crate::ledger::{Backlog, MANY_LOGS, backlog};
use crate::session::{OpenOptions, Workspace};

/// Failed: ended without an answer. An answer is billed; of failures only those that may have been.
const BY_MODEL: &str = "
SELECT coalesce(c.model, a.model) AS model, coalesce(calls, 0) AS calls, prompt_tokens, completion_tokens,
       coalesce(attempts, 0) AS attempts, coalesce(failed, 0) AS failed,
       coalesce(billed_failures, 0) AS billed_failures, coalesce(cost_usd, 0.0) AS cost_usd, first, last
FROM (SELECT model, count(*) AS calls, sum(prompt_tokens) AS prompt_tokens,
             sum(completion_tokens) AS completion_tokens
      FROM calls GROUP BY model) AS c
FULL JOIN (SELECT model, count(*) AS attempts, count(error_kind) AS failed,
                  count(error_kind) FILTER (WHERE billed) AS billed_failures, sum(cost_usd) AS cost_usd,
                  date_trunc('second', min(time)) AS first, date_trunc('second', max(time)) AS last
           FROM attempts GROUP BY model) AS a ON c.model = a.model
ORDER BY model";

const BY_ERROR: &str = "
SELECT model, coalesce(error_kind, 'answered') AS outcome, count(*) AS attempts,
       count(*) FILTER (WHERE billed) AS billed, coalesce(sum(cost_usd), 0.0) AS cost_usd,
       CAST(round(avg(latency_ms)) AS BIGINT) AS mean_latency_ms
FROM attempts GROUP BY model, outcome ORDER BY model, outcome";

pub async fn calls(root: Option<PathBuf>, arguments: CallsArguments) -> Result<u8> {
    match arguments.command {
        Some(CallsCommand::Compact) => return calls_compact(root).await,
        Some(CallsCommand::Gc(gc)) => return calls_gc(root, gc).await,
        None => {}
    }
    let workspace = Workspace::open(OpenOptions { root, ..OpenOptions::default() }).await?;
    let by_model = workspace.sql(BY_MODEL).await?;
    let by_error = workspace.sql(BY_ERROR).await?;
    if arguments.format == Format::Table {
        let backlog = told(backlog(workspace.ledger()).await?);
        output::text(&format!("{}\n{}{backlog}", text(by_model, 1).await?, text(by_error, 2).await?))?;
    } else {
        let mut output = Output::of(arguments.format);
        output.print(by_model).await?;
        output.print(by_error).await?;
    }
    Ok(EXIT_OK)
}

/// What a ledger on a store waits for, in a sentence each.
fn told(backlog: Option<Backlog>) -> String {
    let mut text = String::new();
    let Some(Backlog { unmerged, unsent, folder }) = backlog else { return text };
    if unmerged >= MANY_LOGS {
        text.push_str(&format!(
            "\n{unmerged} small objects are in the ledger: seedmill calls compact merges them, and so does the next \
             command that makes calls\n"
        ));
    }
    if unsent > 0 {
        text.push_str(&format!(
            "\n{} of answers {} in {} and not in the store yet: the next command that makes calls sends what is there\n",
            counted(unsent, "group"),
            if unsent == 1 { "lies" } else { "lie" },
            folder.display()
        ));
    }
    text
}

/// A small result as a table for people.
async fn text(frame: DataFrame, texts: usize) -> Result<String> {
    let names = frame.schema().fields().iter().map(|field| field.name().replace("_usd", "").replace('_', " "));
    let mut rows = vec![names.collect::<Vec<_>>()];
    for batch in frame.collect().await? {
        for row in 0..batch.num_rows() {
            let cell = |column: &ArrayRef| cell(column, row);
            rows.push(batch.columns().iter().map(cell).collect::<Result<_>>()?);
        }
    }
    Ok(text_table::lines(&rows, texts))
}

fn cell(column: &ArrayRef, row: usize) -> Result<String> {
    if column.is_null(row) {
        return Ok("-".to_owned());
    }
    Ok(match column.data_type() {
        DataType::Int64 => text_table::count(column.as_primitive::<Int64Type>().value(row).unsigned_abs()),
        DataType::Float64 => text_table::cost(column.as_primitive::<Float64Type>().value(row)),
        _ => ArrayFormatter::try_new(column, &FormatOptions::default())?.value(row).to_string(),
    })
}
