//! The columns of the ledger's three tables: schemas, and records as Arrow arrays.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, StringViewArray,
    TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

use super::{AttemptRecord, CallId, CallRecord, Record};

const TEXT: DataType = DataType::Utf8View;

fn schema(fields: Vec<(&str, DataType, bool)>) -> SchemaRef {
    Arc::new(Schema::new(fields.into_iter().map(|(n, t, null)| Field::new(n, t, null)).collect::<Vec<_>>()))
}

fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

static CALLS: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(vec![
        ("call_id", TEXT, false),
        ("provider", TEXT, false),
        ("model", TEXT, false),
        ("revision", TEXT, false),
        ("variant", TEXT, false),
        ("sample", DataType::Int32, false),
        ("messages", TEXT, false),
        ("parameters", TEXT, false),
        ("response", TEXT, false),
        ("finish_reason", TEXT, true),
        ("prompt_tokens", DataType::Int64, true),
        ("completion_tokens", DataType::Int64, true),
        ("cost_usd", DataType::Float64, false),
        ("time", time(), false),
    ])
});

static ATTEMPTS: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(vec![
        ("call_id", TEXT, false),
        ("model", TEXT, false),
        ("time", time(), false),
        ("latency_ms", DataType::Int64, false),
        ("status", DataType::Int32, true),
        ("error_kind", TEXT, true),
        ("error", TEXT, true),
        ("billed", DataType::Boolean, false),
        ("cost_usd", DataType::Float64, false),
    ])
});

static CALL_USES: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(vec![
        ("run_id", TEXT, false),
        ("call_id", TEXT, false),
        ("stage", TEXT, false),
        ("replayed", DataType::Boolean, false),
        ("time", time(), false),
    ])
});

/// One of the ledger's tables. Texts are Utf8View in memory and plain strings in Parquet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Calls,
    Attempts,
    CallUses,
}

impl Table {
    pub(super) const ALL: [Table; 3] = [Table::Calls, Table::Attempts, Table::CallUses];

    pub(super) fn name(self) -> &'static str {
        match self {
            Table::Calls => "calls",
            Table::Attempts => "attempts",
            Table::CallUses => "call_uses",
        }
    }

    /// The name of its file in a segment.
    pub(super) fn file_name(self) -> &'static str {
        match self {
            Table::Calls => "calls.parquet",
            Table::Attempts => "attempts.parquet",
            Table::CallUses => "call_uses.parquet",
        }
    }

    pub(super) fn schema(self) -> &'static SchemaRef {
        match self {
            Table::Calls => &CALLS,
            Table::Attempts => &ATTEMPTS,
            Table::CallUses => &CALL_USES,
        }
    }
}

fn table_of(record: &Record) -> Table {
    match record {
        Record::Call(_) => Table::Calls,
        Record::Attempt(_) => Table::Attempts,
        Record::Use(_) => Table::CallUses,
    }
}

/// A row of `call_uses`.
#[derive(Debug)]
pub(super) struct Use {
    run_id: Arc<str>,
    call_id: CallId,
    stage: Arc<str>,
    replayed: bool,
    time_ms: i64,
}

/// Records sorted by the table that they belong to.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) calls: Vec<CallRecord>,
    pub(super) attempts: Vec<AttemptRecord>,
    pub(super) uses: Vec<Use>,
}

impl Rows {
    pub(super) fn extend(&mut self, records: impl IntoIterator<Item = Record>) {
        for record in records {
            match record {
                Record::Call(call) => self.calls.push(call),
                Record::Attempt(attempt) => self.attempts.push(attempt),
                Record::Use(used) => self.uses.extend(used.call_ids.iter().map(|&call_id| Use {
                    run_id: Arc::clone(&used.run_id),
                    call_id,
                    stage: Arc::clone(&used.stage),
                    replayed: used.replayed,
                    time_ms: used.time_ms,
                })),
            }
        }
    }

    /// Adds only one table's records.
    pub(super) fn extend_one(&mut self, table: Table, records: Vec<Record>) {
        self.extend(records.into_iter().filter(|record| table_of(record) == table));
    }

    pub(super) fn len(&self, table: Table) -> usize {
        match table {
            Table::Calls => self.calls.len(),
            Table::Attempts => self.attempts.len(),
            Table::CallUses => self.uses.len(),
        }
    }

    /// Takes a table's rows as a batch of the given columns (indices into the table's schema).
    pub(super) fn take(&mut self, table: Table, columns: &[usize]) -> Result<RecordBatch, ArrowError> {
        let schema = Arc::new(table.schema().project(columns)?);
        let rows = self.len(table);
        let columns = columns.iter().map(|&column| table.schema().field(column).name().as_str());
        let arrays: Vec<ArrayRef> = match table {
            Table::Calls => columns.map(|name| call_column(&self.calls, name)).collect(),
            Table::Attempts => columns.map(|name| attempt_column(&self.attempts, name)).collect(),
            Table::CallUses => columns.map(|name| use_column(&self.uses, name)).collect(),
        };
        match table {
            Table::Calls => self.calls.clear(),
            Table::Attempts => self.attempts.clear(),
            Table::CallUses => self.uses.clear(),
        }
        RecordBatch::try_new_with_options(schema, arrays, &RecordBatchOptions::new().with_row_count(Some(rows)))
    }
}

fn text<R, T: AsRef<str>>(rows: &[R], value: impl Fn(&R) -> T) -> ArrayRef {
    Arc::new(StringViewArray::from_iter_values(rows.iter().map(value)))
}

fn optional_text<R>(rows: &[R], value: impl Fn(&R) -> Option<&str>) -> ArrayRef {
    Arc::new(rows.iter().map(value).collect::<StringViewArray>())
}

fn int32<R>(rows: &[R], value: impl Fn(&R) -> Option<i32>) -> ArrayRef {
    Arc::new(rows.iter().map(value).collect::<Int32Array>())
}

fn int64<R>(rows: &[R], value: impl Fn(&R) -> Option<i64>) -> ArrayRef {
    Arc::new(rows.iter().map(value).collect::<Int64Array>())
}

fn float64<R>(rows: &[R], value: impl Fn(&R) -> f64) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values(rows.iter().map(value)))
}

fn boolean<R>(rows: &[R], value: impl Fn(&R) -> bool) -> ArrayRef {
    Arc::new(rows.iter().map(|row| Some(value(row))).collect::<BooleanArray>())
}

fn times<R>(rows: &[R], value: impl Fn(&R) -> i64) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(value)).with_timezone("UTC"))
}

/// Counts fit; a server that reports more tokens than that gets the largest number.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn call_column(rows: &[CallRecord], name: &str) -> ArrayRef {
    match name {
        "call_id" => text(rows, |r| r.call_id.to_hex()),
        "provider" => optional_text(rows, |r| Some(&r.provider)),
        "model" => optional_text(rows, |r| Some(&r.model)),
        "revision" => optional_text(rows, |r| Some(&r.revision)),
        "variant" => optional_text(rows, |r| Some(&r.variant)),
        "sample" => int32(rows, |r| Some(i32::try_from(r.sample).unwrap_or(i32::MAX))),
        "messages" => optional_text(rows, |r| Some(&r.messages)),
        "parameters" => optional_text(rows, |r| Some(&r.parameters)),
        "response" => optional_text(rows, |r| Some(&r.response)),
        "finish_reason" => optional_text(rows, |r| r.finish_reason.as_deref()),
        "prompt_tokens" => int64(rows, |r| r.prompt_tokens.map(signed)),
        "completion_tokens" => int64(rows, |r| r.completion_tokens.map(signed)),
        "cost_usd" => float64(rows, |r| r.cost_usd),
        _ => times(rows, |r| r.time_ms),
    }
}

fn attempt_column(rows: &[AttemptRecord], name: &str) -> ArrayRef {
    match name {
        "call_id" => text(rows, |r| r.call_id.to_hex()),
        "model" => optional_text(rows, |r| Some(&r.model)),
        "latency_ms" => int64(rows, |r| Some(signed(r.latency_ms))),
        "status" => int32(rows, |r| r.status.map(i32::from)),
        "error_kind" => optional_text(rows, |r| r.error_kind.as_deref()),
        "error" => optional_text(rows, |r| r.error.as_deref()),
        "billed" => boolean(rows, |r| r.billed),
        "cost_usd" => float64(rows, |r| r.cost_usd),
        _ => times(rows, |r| r.time_ms),
    }
}

fn use_column(rows: &[Use], name: &str) -> ArrayRef {
    match name {
        "run_id" => optional_text(rows, |r| Some(&r.run_id)),
        "call_id" => text(rows, |r| r.call_id.to_hex()),
        "stage" => optional_text(rows, |r| Some(&r.stage)),
        "replayed" => boolean(rows, |r| r.replayed),
        _ => times(rows, |r| r.time_ms),
    }
}
