//! The pump of a model call: input rows in, calls in flight, finished rows out as they come. It holds a bounded
//! number of rows, sends batches by number of rows or by time, and stops when its receiver is dropped.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::metrics::{BaselineMetrics, Count};
use futures::StreamExt;
use futures::future::try_join_all;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;
use tokio::time::Instant;

use datafusion::arrow::array::RecordBatch;

use super::assemble::{Assembler, FinishedRow};
use super::repair;
use super::row::{CallTemplate, InputRows};
use super::runtime::CallRuntime;
use super::spec::CallSpec;
use crate::endpoint::Model;
use crate::ledger::{Record, UseRecord};

/// A batch goes out when this many rows wait …
const FLUSH_ROWS: usize = 1024;

/// … or when the first of them has waited this long.
const FLUSH_AFTER: Duration = Duration::from_millis(100);

/// What the exec counts for EXPLAIN ANALYZE.
#[derive(Debug, Clone)]
pub struct PumpMetrics {
    pub baseline: BaselineMetrics,
    pub asked: Count,
    pub replayed: Count,
    pub failed: Count,
    pub unparsed: Count,
    pub dropped: Count,
    /// Follow-ups of answers that did not read.
    pub repairs: Count,
    /// Items that were asked for and not in an answer that reads.
    pub items_short: Count,
}

/// One partition's pump.
pub struct Pump {
    pub spec: Arc<CallSpec>,
    pub model: Arc<Model>,
    pub runtime: Arc<CallRuntime>,
    pub template: Arc<CallTemplate>,
    pub assembler: Assembler,
    pub metrics: PumpMetrics,
}

impl Pump {
    pub async fn run(self, mut input: SendableRecordBatchStream, output: Sender<Result<RecordBatch>>) -> Result<()> {
        // Enough rows to keep every slot of the model busy while others wait to be flushed.
        let capacity = (2 * self.model.config.max_in_flight).div_ceil(self.spec.sample_count() as usize).max(1);
        let mut in_flight: JoinSet<Result<FinishedRow>> = JoinSet::new();
        let mut pending: Vec<FinishedRow> = Vec::new();
        let mut flush_at: Option<Instant> = None;
        let mut current: Option<(Arc<InputRows>, usize)> = None;
        let mut input_done = false;
        loop {
            while in_flight.len() < capacity
                && let Some((rows, row)) = current.take()
            {
                if row < rows.passed_through.num_rows() {
                    in_flight.spawn(self.ask_row(Arc::clone(&rows), row));
                    current = Some((rows, row + 1));
                }
            }
            if in_flight.is_empty() && current.is_none() && input_done {
                break;
            }
            let deadline = flush_at;
            tokio::select! {
                biased;
                () = output.closed() => return Ok(()),
                () = sleep_until(deadline), if deadline.is_some() => {
                    self.flush(&mut pending, &output).await?;
                    flush_at = None;
                }
                Some(finished) = in_flight.join_next(), if !in_flight.is_empty() => {
                    pending.push(finished.map_err(|e| DataFusionError::External(Box::new(e)))??);
                    flush_at.get_or_insert_with(|| Instant::now() + FLUSH_AFTER);
                    if pending.len() >= FLUSH_ROWS {
                        self.flush(&mut pending, &output).await?;
                        flush_at = None;
                    }
                }
                batch = input.next(), if current.is_none() && !input_done => match batch {
                    Some(batch) => {
                        let rows = InputRows::try_new(&batch?, &self.spec.columns)?;
                        self.runtime.progress.update(&self.template.stage, |counts| {
                            counts.rows += rows.passed_through.num_rows() as u64;
                        });
                        current = Some((Arc::new(rows), 0));
                    }
                    None => input_done = true,
                },
            }
        }
        self.flush(&mut pending, &output).await
    }

    /// The future of one row: its samples at once, each read as soon as it is durable.
    fn ask_row(&self, rows: Arc<InputRows>, row: usize) -> impl Future<Output = Result<FinishedRow>> + Send + 'static {
        let (spec, model, runtime) = (Arc::clone(&self.spec), Arc::clone(&self.model), Arc::clone(&self.runtime));
        let calls = self.template.calls(&rows, row);
        async move {
            let samples = try_join_all(calls.into_iter().map(|call| {
                let (spec, model, runtime) = (&spec, &model, &runtime);
                async move {
                    let Some(call) = call else { return Ok::<_, DataFusionError>(None) };
                    repair::ask(runtime, model, call, spec).await.map(Some)
                }
            }))
            .await?;
            Ok(FinishedRow { rows, row, samples })
        }
    }

    async fn flush(&self, pending: &mut Vec<FinishedRow>, output: &Sender<Result<RecordBatch>>) -> Result<()> {
        if pending.is_empty() {
            return Ok(());
        }
        let finished = std::mem::take(pending);
        self.record_uses(&finished).await?;
        let assembled = self.assembler.assemble(&finished)?;
        self.metrics.dropped.add(assembled.dropped);
        self.metrics.baseline.record_output(assembled.batch.num_rows());
        self.runtime
            .progress
            .update(&self.template.stage, |counts| counts.rows_out += assembled.batch.num_rows() as u64);
        // A receiver that is gone wants no more rows; that is no error.
        let _ = output.send(Ok(assembled.batch)).await;
        Ok(())
    }

    /// Which calls this run used, and how they were had: one append for all rows of a batch.
    async fn record_uses(&self, finished: &[FinishedRow]) -> Result<()> {
        let time_ms = Utc::now().timestamp_millis();
        let (mut unparsed, mut items_short) = (0, 0);
        let mut uses = Vec::new();
        for result in finished.iter().flat_map(|row| row.samples.iter().flatten()) {
            unparsed += usize::from(result.is_unparsed());
            items_short += result.items_short(&self.spec);
            self.metrics.repairs.add(result.repaired.len());
            for outcome in result.outcomes() {
                let Ok(answered) = &outcome.answer else {
                    self.metrics.failed.add(1);
                    continue;
                };
                if answered.replayed {
                    self.metrics.replayed.add(1)
                } else {
                    self.metrics.asked.add(1)
                }
                uses.push(Record::Use(UseRecord {
                    run_id: self.runtime.run_id.clone(),
                    call_id: outcome.call_id,
                    stage: self.template.stage.to_string(),
                    replayed: answered.replayed,
                    time_ms,
                }));
            }
        }
        self.metrics.unparsed.add(unparsed);
        self.metrics.items_short.add(items_short as usize);
        self.runtime.progress.update(&self.template.stage, |counts| {
            counts.unparsed += unparsed as u64;
            counts.items_short += items_short;
        });
        if uses.is_empty() {
            return Ok(());
        }
        let ledger = self.runtime.ledger().await?;
        ledger.append(uses).await.map_err(|e| DataFusionError::External(Box::new(e)))
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
