//! The calls that published rows name. In: the folder of runs. Out: the ids of `calls` in every file of every manifest.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::manifest::read_manifest;
use super::runs::run_folders;
use super::staging::at;
use crate::ledger::CallId;

/// The ids of all calls that curated and rejected rows of the runs under a folder name. A manifest or a file that
/// cannot be read is an error: what it names is not known.
pub fn named_calls(out: &Path) -> Result<HashSet<CallId>> {
    let mut ids = HashSet::new();
    for (_, run) in run_folders(out)? {
        for file in read_manifest(&run)?.files {
            add_calls(&run.join(&file.path), &mut ids)?;
        }
    }
    Ok(ids)
}

fn add_calls(path: &Path, ids: &mut HashSet<CallId>) -> Result<()> {
    let foreign = || exec_datafusion_err!("{} has no column calls with the ids of calls", path.display());
    let unreadable = |e| exec_datafusion_err!("cannot read {}: {e}", path.display());
    let file = File::open(path).map_err(at("cannot read", path))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(unreadable)?;
    let calls = ProjectionMask::columns(builder.parquet_schema(), ["calls"]);
    for batch in builder.with_projection(calls).build().map_err(unreadable)? {
        let batch = batch?;
        let lists = batch.column_by_name("calls").ok_or_else(foreign)?;
        let calls = lists.as_list_opt::<i32>().and_then(|lists| lists.values().as_struct_opt()).ok_or_else(foreign)?;
        let hex = cast(calls.column_by_name("call_id").ok_or_else(foreign)?, &DataType::Utf8)?;
        for hex in hex.as_string_opt::<i32>().ok_or_else(foreign)?.iter().flatten() {
            let id = CallId::from_hex(hex);
            ids.insert(
                id.ok_or_else(|| DataFusionError::Execution(format!("'{hex}' in {} is no call", path.display())))?,
            );
        }
    }
    Ok(())
}
