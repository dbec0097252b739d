//! The root of a pipeline's plan: rows go in, a published run comes out, and the count of rows goes back to DataFusion.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Result, exec_err};
use datafusion::datasource::sink::DataSink;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType};
use futures::StreamExt;

use super::align::Columns;
use super::run_writer::RunWriter;
use super::{FileLimits, Run};

/// Publishes a stream of rows as one run under a folder or a prefix of a store.
#[derive(Debug)]
pub(crate) struct CuratedSink {
    /// As COPY names it.
    target: String,
    input: SchemaRef,
    columns: Columns,
    limits: FileLimits,
    metrics: ExecutionPlanMetricsSet,
}

impl CuratedSink {
    pub(crate) fn new(target: String, input: SchemaRef, columns: Columns, limits: FileLimits) -> Self {
        CuratedSink { target, input, columns, limits, metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl DisplayAs for CuratedSink {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => write!(
                f,
                "CuratedSink(to={}, max_rows_per_file={}, max_minutes_per_file={})",
                self.target,
                self.limits.rows,
                self.limits.age.as_secs() / 60
            ),
            DisplayFormatType::TreeRender => writeln!(f, "to: {}", self.target),
        }
    }
}

#[async_trait]
impl DataSink for CuratedSink {
    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn schema(&self) -> &SchemaRef {
        &self.input
    }

    /// Writes all rows and publishes them. Whatever ends it early (an error above or here, a cancelled query) removes
    /// what was written: the writer travels with the work and takes its staging folder along when it is dropped.
    /// What has begun to be published is published, even when nobody waits for it any more.
    async fn write_all(&self, mut data: SendableRecordBatchStream, context: &Arc<TaskContext>) -> Result<u64> {
        let Some(run) = context.session_config().get_extension::<Run>() else {
            return exec_err!("COPY … STORED AS CURATED publishes a run; execute it with `seedmill run`");
        };
        if let Some(published) = run.published() {
            return exec_err!(
                "the run {} is already published in {}; a pipeline has one COPY … STORED AS CURATED",
                run.id,
                published.path.display()
            );
        }
        let (place, columns, limits) = (run.place(&self.target)?, self.columns.clone(), self.limits);
        let starting = Arc::clone(&run);
        let mut writer = blocking(move || RunWriter::create(&starting, &place, columns, limits)).await?;
        while let Some(batch) = data.next().await {
            let batch = batch?;
            writer = blocking(move || {
                writer.write(&batch)?;
                Ok(writer)
            })
            .await?;
        }
        let publishing = Arc::clone(&run);
        let published = blocking(move || writer.publish(&publishing)).await?;

        let rows = published.manifest.rows;
        let count = |name: &'static str, value: u64| {
            MetricBuilder::new(&self.metrics).global_counter(name).add(usize::try_from(value).unwrap_or(usize::MAX));
        };
        count("curated_rows", rows.curated);
        count("rejected_rows", rows.rejected);
        count("bytes_written", published.manifest.files.iter().map(|file| file.bytes).sum());
        Ok(rows.curated + rows.rejected)
    }
}

/// Runs compression and file work off the executor's threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(e) => exec_err!("publishing was stopped: {e}"),
    }
}
