//! COPY of rows that calls make, to a local file: written beside the file, and given its name when it is whole. DataFusion
//! leaves a valid file with the rows so far behind a query that failed or was stopped, in the place of what was there.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use datafusion::dataframe::DataFrame;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::dml::CopyTo;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::SessionContext;
use futures::{TryStreamExt, stream};

use super::statements;

/// The COPY as a query that gives its count of rows; `None` where it writes no single local file. The hidden file beside the
/// target has the run's id in its name.
pub fn staged(ctx: &SessionContext, copy: &CopyTo, run_id: &str) -> Result<Option<DataFrame>> {
    let Some(target) = single_file(&copy.output_url).filter(|_| copy.partition_by.is_empty()) else { return Ok(None) };
    let (Some(folder), Some(name)) = (target.parent(), target.file_name().and_then(|name| name.to_str())) else {
        return Ok(None);
    };
    // With the extension at its end: by that DataFusion knows a single file.
    let hidden = folder.join(format!(".{run_id}.incomplete.{name}"));
    let Some(output_url) = hidden.to_str().map(str::to_owned) else { return Ok(None) };
    let plan = LogicalPlan::Copy(CopyTo { output_url, ..copy.clone() });
    let schema = Arc::clone(plan.schema().inner());
    let rows = StagedCopy { ctx: ctx.clone(), plan, schema: Arc::clone(&schema), hidden, target };
    ctx.read_table(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(rows)])?)).map(Some)
}

/// The local file that a COPY writes: what has an extension is no folder.
fn single_file(url: &str) -> Option<PathBuf> {
    if url.contains("://") || url.ends_with('/') || Path::new(url).extension().is_none() {
        return None;
    }
    let path = std::path::absolute(url).ok()?;
    match fs::canonicalize(&path) {
        Ok(file) => file.is_file().then_some(file),
        Err(_) => Some(path),
    }
}

struct StagedCopy {
    ctx: SessionContext,
    plan: LogicalPlan,
    schema: SchemaRef,
    hidden: PathBuf,
    target: PathBuf,
}

impl fmt::Debug for StagedCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StagedCopy").field("target", &self.target).finish_non_exhaustive()
    }
}

impl PartitionStream for StagedCopy {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let StagedCopy { ctx, plan, schema, hidden, target } = self;
        let (ctx, plan, file) = (ctx.clone(), plan.clone(), HiddenFile(hidden.clone()));
        let target = target.clone();
        let counted = async move {
            let rows = statements::execute(&ctx, plan).await?.execute_stream().await?;
            let count: Vec<_> = rows.try_collect().await?;
            let named = tokio::task::spawn_blocking(move || file.name(&target)).await;
            named.map_err(|e| DataFusionError::External(Box::new(e)))??;
            Ok::<_, DataFusionError>(stream::iter(count.into_iter().map(Ok)))
        };
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), stream::once(counted).try_flatten()))
    }
}

/// A file that is not whole yet; removed when dropped.
struct HiddenFile(PathBuf);

impl HiddenFile {
    /// Makes it durable and gives it its name. Of no rows there may be no file.
    fn name(self, target: &Path) -> Result<()> {
        let name = || {
            File::open(&self.0)?.sync_all()?;
            fs::rename(&self.0, target)
        };
        match name() {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(exec_datafusion_err!("{} cannot be written: {e}", target.display()))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for HiddenFile {
    fn drop(&mut self) {
        // It has its name, or was never made.
        let _ = fs::remove_file(&self.0);
    }
}
