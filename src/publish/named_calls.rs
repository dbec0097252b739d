//! The calls that published rows name. In: where runs are. Out: the ids of `calls` in every file of every manifest.

use std::collections::HashSet;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{Result, exec_datafusion_err};
use futures::TryStreamExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;

use super::runs::complete_runs;
use crate::ledger::CallId;
use crate::stores::{ParquetObject, Place};

/// The ids of all calls that curated and rejected rows of the runs in a place name. A manifest or a file that cannot be
/// read is an error: what it names is not known.
pub async fn named_calls(out: &Place) -> Result<HashSet<CallId>> {
    let mut ids = HashSet::new();
    for (_, run, manifest) in complete_runs(out).await? {
        for file in manifest?.files {
            let name = format!("{run}/{}", file.path);
            let unreadable = |e| exec_datafusion_err!("cannot read {name}: {e}");
            let (store, path) = run.object(&file.path)?;
            let object = ParquetObject { store, path, size: file.bytes };
            let builder = ParquetRecordBatchStreamBuilder::new(object).await.map_err(unreadable)?;
            let column = builder.schema().index_of("calls").map_err(|e| exec_datafusion_err!("{name}: {e}"))?;
            let calls = ProjectionMask::roots(builder.parquet_schema(), [column]);
            let mut rows = builder.with_projection(calls).build().map_err(unreadable)?;
            while let Some(batch) = rows.try_next().await.map_err(unreadable)? {
                add_calls(&batch, &name, &mut ids)?;
            }
        }
    }
    Ok(ids)
}

fn add_calls(batch: &RecordBatch, file: &str, ids: &mut HashSet<CallId>) -> Result<()> {
    let foreign = || exec_datafusion_err!("{file} has no column calls with the ids of calls");
    let lists = batch.column_by_name("calls").ok_or_else(foreign)?;
    let calls = lists.as_list_opt::<i32>().and_then(|lists| lists.values().as_struct_opt()).ok_or_else(foreign)?;
    let hex = cast(calls.column_by_name("call_id").ok_or_else(foreign)?, &DataType::Utf8)?;
    for hex in hex.as_string_opt::<i32>().ok_or_else(foreign)?.iter().flatten() {
        let id = CallId::from_hex(hex);
        ids.insert(id.ok_or_else(|| exec_datafusion_err!("'{hex}' in {file} is no call"))?);
    }
    Ok(())
}
