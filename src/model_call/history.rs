//! What calls have been like so far: tokens a call by stage and by model, from the ledger's tables.
//! In: the ledger's folder, which need not exist. Out: averages that estimates rest on.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::Result;
use datafusion::prelude::SessionContext;

use crate::ledger::{self, Location};

/// Averages need no more calls than this. Of a larger ledger a part is read: ids are uniform hashes.
const SAMPLED_CALLS: i64 = 50_000;

/// The average of some answered calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Average {
    /// How many calls it is of.
    pub calls: u64,
    pub prompt_tokens: f64,
    pub completion_tokens: f64,
}

/// Averages by stage (the name of the call column) and model as sent, and by model alone.
#[derive(Debug, Clone, Default)]
pub struct CallHistory {
    stages: HashMap<(String, String), Average>,
    models: HashMap<String, Average>,
}

impl CallHistory {
    /// Reads counts and tokens, no texts. It takes no lock and opens no index, so another process may write meanwhile.
    pub async fn read(ledger: impl Into<Location>) -> Result<Self> {
        let ctx = SessionContext::new();
        for (name, table) in ledger::tables(ledger) {
            ctx.register_table(name, table)?;
        }
        let collect = async |sql: &str| ctx.sql(sql).await?.collect().await;
        const TOKENS: &str = "count(*), avg(CAST(prompt_tokens AS DOUBLE)), avg(CAST(completion_tokens AS DOUBLE))";
        let (mut history, mut calls) = (CallHistory::default(), 0);
        let sql =
            format!("SELECT model AS stage, model, {TOKENS} FROM calls WHERE prompt_tokens IS NOT NULL GROUP BY model");
        for batch in collect(&sql).await? {
            for ((_, model), average) in averages(&batch)? {
                calls += i64::try_from(average.calls).unwrap_or(i64::MAX);
                history.models.insert(model, average);
            }
        }
        let part = match u32::try_from(SAMPLED_CALLS * 0x1_0000 / calls.max(1)) {
            Ok(part) if part < 0x1_0000 => format!("WHERE call_id < '{part:04x}'"),
            _ => String::new(),
        };
        let sql = format!(
            "SELECT stage, model, {TOKENS} FROM (SELECT DISTINCT stage, call_id FROM call_uses {part}) AS used
             JOIN (SELECT call_id, model, prompt_tokens, completion_tokens FROM calls {part}) AS known USING (call_id)
             WHERE prompt_tokens IS NOT NULL GROUP BY stage, model"
        );
        for batch in collect(&sql).await? {
            history.stages.extend(averages(&batch)?);
        }
        Ok(history)
    }

    /// The calls of a stage with this model, where there are any.
    pub fn of_stage(&self, stage: &str, model: &str) -> Option<Average> {
        self.stages.get(&(stage.to_owned(), model.to_owned())).copied()
    }

    /// All calls of this model, where there are any.
    pub fn of_model(&self, model: &str) -> Option<Average> {
        self.models.get(model).copied()
    }
}

/// The history that a session's plans are estimated with; empty until somebody asks for estimates.
#[derive(Debug, Clone, Default)]
pub struct SharedHistory(Arc<RwLock<Option<Arc<CallHistory>>>>);

impl SharedHistory {
    pub fn get(&self) -> Option<Arc<CallHistory>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set(&self, history: Arc<CallHistory>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(history);
    }
}

/// Rows of (text, text, count, average, average); a server that counts no completion tokens counts as 0.
fn averages(batch: &RecordBatch) -> Result<Vec<((String, String), Average)>> {
    let text = |column: usize| cast(batch.column(column), &DataType::Utf8);
    let (first, second) = (text(0)?, text(1)?);
    let (first, second) = (first.as_string::<i32>(), second.as_string::<i32>());
    let calls = batch.column(2).as_primitive::<Int64Type>();
    let number = |column: usize, row: usize| {
        let array = batch.column(column).as_primitive::<Float64Type>();
        if array.is_null(row) { 0.0 } else { array.value(row) }
    };
    let average = |row: usize| Average {
        calls: u64::try_from(calls.value(row)).unwrap_or(0),
        prompt_tokens: number(3, row),
        completion_tokens: number(4, row),
    };
    Ok((0..batch.num_rows())
        .map(|row| ((first.value(row).to_owned(), second.value(row).to_owned()), average(row)))
        .collect())
}
