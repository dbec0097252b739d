//! `LogScanExec`: streams the rows of one table out of logs, one log a partition, while their owners write on; those of an
//! object store in one.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};

use super::columns::{Rows, Table};
use super::log::{LogFile, LogReader};
use super::object_scan::ObjectsSnapshot;

/// Batches that may wait to be taken.
const QUEUE: usize = 2;
const BATCH_ROWS: usize = 1_000;

/// Logs as they were when the query was planned: what is appended or sealed later changes nothing for the query.
#[derive(Debug, Clone)]
pub(super) enum LogSnapshot {
    File {
        log: Arc<LogFile>,
        len: u64,
    },
    /// All logs of a ledger on an object store.
    Objects(Arc<ObjectsSnapshot>),
}

#[derive(Debug)]
pub(super) struct LogScanExec {
    table: Table,
    columns: Vec<usize>,
    logs: Vec<LogSnapshot>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl LogScanExec {
    /// Scans the columns (indices into the table's schema) of one or more logs.
    pub(super) fn try_new(table: Table, columns: Vec<usize>, logs: Vec<LogSnapshot>) -> Result<LogScanExec> {
        let schema = Arc::new(table.schema().project(&columns)?);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(logs.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(LogScanExec {
            table,
            columns,
            logs,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }
}

impl DisplayAs for LogScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogScanExec: table={}, logs={}", self.table.name(), self.logs.len())
    }
}

impl ExecutionPlan for LogScanExec {
    fn name(&self) -> &str {
        "LogScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(snapshot) = self.logs.get(partition).cloned() else {
            return Err(DataFusionError::Execution(format!(
                "LogScanExec has {} partitions, and partition {partition} was asked for",
                self.logs.len()
            )));
        };
        let mut stream = RecordBatchReceiverStream::builder(self.schema(), QUEUE);
        let batches = stream.tx();
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let (table, columns) = (self.table, self.columns.clone());
        stream.spawn_blocking(move || {
            let send = |batch: RecordBatch| batches.blocking_send(Ok(batch.record_output(&metrics))).is_ok();
            let (log, len) = match snapshot {
                LogSnapshot::File { log, len } => (log, len),
                LogSnapshot::Objects(snapshot) => {
                    return Ok(snapshot.read_logs(table, &columns, &mut { send })?);
                }
            };
            let mut rows = Rows::default();
            let mut reader = LogReader::up_to(&log, len)?;
            while let Some(frame) = reader.next_frame()? {
                rows.extend_one(table, frame.records);
                // A closed channel: nobody wants the rest.
                if rows.len(table) >= BATCH_ROWS && !send(rows.take(table, &columns)?) {
                    return Ok(());
                }
            }
            if rows.len(table) > 0 {
                send(rows.take(table, &columns)?);
            }
            Ok(())
        });
        Ok(stream.build())
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
