//! COPY of rows that calls make: what is written has its name when all of it is whole. DataFusion leaves valid files with
//! the rows so far behind a query that failed or was stopped, and a single one in the place of what was there. One local
//! file is written beside the target; several files, and objects of a store, are uploads that are ended at the end.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use datafusion::dataframe::DataFrame;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::dml::CopyTo;
use datafusion::physical_plan::execute_stream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::SessionContext;
use futures::{TryStreamExt, stream};

use super::statements;
use crate::stores::{HeldStores, explain};

/// The COPY as a query that gives its count of rows. A hidden file beside the target has the run's id in its name.
pub fn staged(ctx: &SessionContext, copy: &CopyTo, run_id: &str) -> Result<DataFrame> {
    let beside = beside(copy, run_id);
    let output_url = beside.as_ref().map_or_else(|| copy.output_url.clone(), |beside| beside.url.clone());
    let plan = LogicalPlan::Copy(CopyTo { output_url, ..copy.clone() });
    let schema = Arc::clone(plan.schema().inner());
    let rows =
        StagedCopy { ctx: ctx.clone(), plan, schema: Arc::clone(&schema), target: copy.output_url.clone(), beside };
    ctx.read_table(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(rows)])?))
}

/// A hidden local file, and the file whose place it takes.
#[derive(Debug, Clone)]
struct Beside {
    hidden: PathBuf,
    /// The hidden file as COPY names it.
    url: String,
    target: PathBuf,
}

/// `None` where no single local file is written.
fn beside(copy: &CopyTo, run_id: &str) -> Option<Beside> {
    let is_folder = copy.options.get("single_file_output").is_some_and(|single| single.trim() == "false");
    let target = single_file(&copy.output_url).filter(|_| copy.partition_by.is_empty() && !is_folder)?;
    let name = target.file_name()?.to_str()?;
    // With the extension at its end: by that DataFusion knows a single file.
    let hidden = target.parent()?.join(format!(".{run_id}.incomplete.{name}"));
    let url = hidden.to_str()?.to_owned();
    Some(Beside { hidden, url, target })
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
    /// As the statement names it.
    target: String,
    beside: Option<Beside>,
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
        let (ctx, plan, target, beside) =
            (self.ctx.clone(), self.plan.clone(), self.target.clone(), self.beside.clone());
        let counted = async move {
            let count = match beside {
                Some(Beside { hidden, target, .. }) => to_file(&ctx, plan, HiddenFile(hidden), target).await?,
                None => to_uploads(&ctx, plan, &target).await?,
            };
            Ok::<_, DataFusionError>(stream::iter(count.into_iter().map(Ok)))
        };
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream::once(counted).try_flatten()))
    }
}

async fn to_file(
    ctx: &SessionContext,
    plan: LogicalPlan,
    file: HiddenFile,
    target: PathBuf,
) -> Result<Vec<RecordBatch>> {
    let rows = statements::execute(ctx, plan).await?.execute_stream().await?;
    let count = rows.try_collect().await?;
    let named = tokio::task::spawn_blocking(move || file.name(&target)).await;
    named.map_err(|e| DataFusionError::External(Box::new(e)))??;
    Ok(count)
}

/// Writes through stores that hold back the names of files until all of them are whole.
async fn to_uploads(ctx: &SessionContext, plan: LogicalPlan, target: &str) -> Result<Vec<RecordBatch>> {
    let frame = statements::execute(ctx, plan).await?;
    let env = ctx.runtime_env();
    let stores = Arc::new(HeldStores::new(Arc::clone(&env.object_store_registry)));
    let env =
        RuntimeEnvBuilder::from_runtime_env(&env).with_object_store_registry(Arc::clone(&stores) as _).build_arc()?;
    let task = Arc::new(frame.task_ctx().with_runtime(env));
    let rows = execute_stream(frame.create_physical_plan().await?, task)?;
    match rows.try_collect().await {
        Ok(count) => {
            let named = stores.name_all().await;
            named.map_err(|e| exec_datafusion_err!("'{target}' cannot be written: {}", explain(&e)))?;
            Ok(count)
        }
        Err(e) => {
            stores.give_up().await;
            Err(e)
        }
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
