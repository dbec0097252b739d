//! The pump of a model call: input rows in, calls in flight, finished rows out as they come. It holds a bounded
//! number of rows, sends batches by number of rows or by time, and stops when its receiver is dropped.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use datafusion::arrow::array::RecordBatch;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::metrics::{BaselineMetrics, Count, RecordOutput};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc::Sender;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

use super::askers::Askers;
use super::assemble::{Assembler, FinishedRow};
use super::progress::OpenPartition;
use super::row::InputRows;
use super::row_caller::{LookedUp, RowCaller};
use crate::ledger::{CallId, Pending, Record, UseRecord};

/// A batch goes out when this many rows wait …
const FLUSH_ROWS: usize = 1024;

/// … or when the first of them has waited this long.
const FLUSH_AFTER: Duration = Duration::from_millis(100);

/// So many calls are looked up in the ledger at once …
const LOOK_UP_CALLS: usize = 256;

/// … by so many tasks at most.
const LOOK_UPS: usize = 4;

/// Groups of uses that may wait for the disk: nobody waits for them but the end of the stream.
const PENDING_USES: usize = 8;

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
    pub caller: Arc<RowCaller>,
    pub assembler: Assembler,
    pub metrics: PumpMetrics,
    /// Open until the pump ends, whatever ends it.
    pub partition: OpenPartition,
}

/// Rows that wait to be given out, and what is still to be made durable of those given out.
#[derive(Default)]
struct Finished {
    rows: Vec<FinishedRow>,
    flush_at: Option<Instant>,
    uses: VecDeque<Pending>,
}

impl Finished {
    /// Something waits: it goes out in time.
    fn schedule(&mut self) {
        self.flush_at.get_or_insert_with(|| Instant::now() + FLUSH_AFTER);
    }
}

impl Pump {
    pub async fn run(self, mut input: SendableRecordBatchStream, output: Sender<Result<RecordBatch>>) -> Result<()> {
        // Tasks are not aborted when the pump goes: what they have sent is recorded, and nothing more is sent.
        let (_stop, _open) = (self.caller.stop.clone().drop_guard(), &self.partition);
        let (model, spec) = (&self.caller.model, &self.caller.spec);
        // Enough rows to keep every slot of the model busy while others wait to be flushed.
        let capacity = (2 * model.config.max_in_flight * spec.calls_a_request(&model.config))
            .div_ceil(spec.sample_count() as usize)
            .max(1);
        let look_up_rows = (LOOK_UP_CALLS / spec.sample_count() as usize).max(1);
        let mut askers = Askers::new(Arc::clone(&self.caller), capacity, FLUSH_ROWS);
        let mut looking: FuturesUnordered<JoinHandle<Result<LookedUp>>> = FuturesUnordered::new();
        let mut finished = Finished::default();
        let mut current: Option<(Arc<InputRows>, usize)> = None;
        let mut input_done = false;
        loop {
            askers.start();
            while looking.len() < LOOK_UPS
                && askers.wants_rows()
                && let Some((rows, first)) = current.take()
            {
                let end = rows.passed_through.num_rows().min(first + look_up_rows);
                if first < end {
                    looking.push(tokio::spawn(Arc::clone(&self.caller).look_up(Arc::clone(&rows), first..end)));
                    current = Some((rows, end));
                }
            }
            if askers.is_idle() && looking.is_empty() && current.is_none() && input_done {
                break;
            }
            let deadline = finished.flush_at;
            tokio::select! {
                biased;
                () = output.closed() => return Ok(()),
                () = sleep_until(deadline), if deadline.is_some() => self.flush(&mut finished, &mut askers, &output).await?,
                news = askers.news() => news?,
                Some(looked_up) = looking.next(), if !looking.is_empty() => {
                    let looked_up = joined(looked_up)?;
                    finished.rows.extend(looked_up.finished);
                    askers.extend(looked_up.unanswered);
                }
                batch = input.next(), if current.is_none() && !input_done => match batch {
                    Some(batch) => {
                        let rows = InputRows::try_new(&batch?, &spec.columns)?;
                        self.caller.template.stage.rows_in(rows.passed_through.num_rows());
                        current = Some((Arc::new(rows), 0));
                    }
                    None => input_done = true,
                },
            }
            match finished.rows.len() + askers.finished() {
                0 => {}
                rows if rows < FLUSH_ROWS => finished.schedule(),
                _ => self.flush(&mut finished, &mut askers, &output).await?,
            }
        }
        self.flush(&mut finished, &mut askers, &output).await?;
        for uses in finished.uses {
            uses.durable().await?;
        }
        Ok(())
    }

    async fn flush(
        &self,
        finished: &mut Finished,
        askers: &mut Askers,
        output: &Sender<Result<RecordBatch>>,
    ) -> Result<()> {
        finished.flush_at = None;
        let mut rows = std::mem::take(&mut finished.rows);
        rows.extend(askers.take_finished());
        if rows.is_empty() {
            return Ok(());
        }
        if let Some(uses) = self.record_uses(&rows).await? {
            finished.uses.push_back(uses);
        }
        if finished.uses.len() > PENDING_USES
            && let Some(oldest) = finished.uses.pop_front()
        {
            oldest.durable().await?;
        }
        let assembled = {
            let _timer = self.metrics.baseline.elapsed_compute().timer();
            self.assembler.assemble(&rows)?
        };
        self.metrics.dropped.add(assembled.dropped);
        let batch = assembled.batch.record_output(&self.metrics.baseline);
        self.caller.template.stage.rows_out(batch.num_rows());
        // A receiver that is gone wants no more rows; that is no error.
        let _ = output.send(Ok(batch)).await;
        Ok(())
    }

    /// Which calls this run used, and how they were had: one append for all rows of a batch.
    async fn record_uses(&self, finished: &[FinishedRow]) -> Result<Option<Pending>> {
        let runtime = &self.caller.runtime;
        let time_ms = Utc::now().timestamp_millis();
        let (mut unparsed, mut items_short) = (0, 0);
        let (mut asked, mut replayed) = (Vec::new(), Vec::new());
        for result in finished.iter().flat_map(|row| row.samples.iter().flatten()) {
            unparsed += usize::from(result.is_unparsed());
            items_short += result.items_short(&self.caller.spec);
            self.metrics.repairs.add(result.repaired.len());
            for outcome in result.outcomes() {
                let Ok(answered) = &outcome.answer else {
                    self.metrics.failed.add(1);
                    continue;
                };
                if answered.replayed { &mut replayed } else { &mut asked }.push(outcome.call_id);
            }
        }
        self.metrics.asked.add(asked.len());
        self.metrics.replayed.add(replayed.len());
        let stage = &self.caller.template.stage;
        self.metrics.unparsed.add(unparsed);
        stage.unparsed(unparsed);
        self.metrics.items_short.add(items_short as usize);
        stage.items_short(items_short);
        let (run_id, name) = (Arc::clone(&runtime.run_id), Arc::clone(stage.name()));
        let of = |call_ids: Vec<CallId>, replayed| {
            let (run_id, stage) = (Arc::clone(&run_id), Arc::clone(&name));
            let is_used = !call_ids.is_empty();
            is_used.then_some(Record::Use(UseRecord { run_id, call_ids, stage, replayed, time_ms }))
        };
        let uses: Vec<Record> = [of(asked, false), of(replayed, true)].into_iter().flatten().collect();
        if uses.is_empty() {
            return Ok(None);
        }
        Ok(Some(runtime.ledger().await?.enqueue(uses).await?))
    }
}

/// What a task gave; a panic in it is an error of the query.
fn joined<T>(task: std::result::Result<Result<T>, JoinError>) -> Result<T> {
    task.map_err(|e| DataFusionError::External(Box::new(e)))?
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
