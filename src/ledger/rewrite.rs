//! Segments into one segment: the rows of all, oldest first, but the calls that are left out. In: neighbours in age.
//! Out: the merged segment, committed; from then on its inputs count no more.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::SchemaRef;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::columns::Table;
use super::distinct::Distinct;
use super::folder::{self, Listing};
use super::index::{self, Key, Place};
use super::segment::SegmentFile;
use super::{CallId, LedgerError, crash_points};

/// Rows read and written at once: as many as a row group of calls has.
const BATCH_ROWS: usize = 1_000;

/// A segment to be merged, and its number in the index.
#[derive(Debug, Clone)]
pub(super) struct Input {
    pub(super) unique: String,
    pub(super) source: u32,
}

/// Merges the inputs, which stand in the order of their age. `keep` says for the key and the place of a call whether
/// it stays; `listing` is from before the index that it asks was read. The caller has the lock of who merges, and a
/// hold on the folder.
pub(super) fn rewrite(
    folder: &Path,
    listing: &Listing,
    inputs: &[Input],
    keep: &dyn Fn(&Key, Place) -> bool,
) -> Result<(), LedgerError> {
    let Some(oldest) = inputs.first() else {
        return Ok(());
    };
    let unique = folder::successor(&oldest.unique);
    let unfinished = folder::unfinished_compaction_path(folder, &unique);
    folder::ignore_not_found(fs::remove_dir_all(&unfinished)).map_err(LedgerError::io("remove", &unfinished))?;
    fs::create_dir(&unfinished).map_err(LedgerError::io("create", &unfinished))?;

    let mut calls = 0;
    for table in Table::ALL {
        let mut file = SegmentFile::create(&unfinished, table)?;
        for input in inputs {
            let path = folder::segment_path(folder, &input.unique).join(table.file_name());
            let mut rows = InputRows { path, source: input.source, next_row: 0 };
            for batch in rows.batches()? {
                let mut batch = batch.map_err(LedgerError::arrow("read", &rows.path))?;
                if table == Table::Calls {
                    batch = rows.kept(&batch, keep)?;
                    calls += batch.num_rows() as u64;
                }
                file.write_batch(&to_schema(&batch, table.schema(), &rows.path)?)?;
            }
        }
        file.finish()?;
        crash_points::pass("compaction half written");
    }

    // What an input has replaced may still be there. (A name that is there no more is never used again.)
    let mut replaces: BTreeSet<String> = folder::list(folder)?.replaced;
    replaces.extend(inputs.iter().map(|input| input.unique.clone()));
    folder::write_replaces(&unfinished, &replaces)?;
    // Beside an older log that grows, its calls may be repeats some day.
    if !listing.has_log_before(&unique) {
        Distinct { rows: calls, repeats: Vec::new() }.write(&unfinished);
    }
    folder::sync_folder(&unfinished)?;
    crash_points::pass("compaction written");
    let segment = folder::segment_path(folder, &unique);
    fs::rename(&unfinished, &segment).map_err(LedgerError::io("rename", &unfinished))?;
    folder::sync_folder(folder)?;
    crash_points::pass("compaction renamed");
    Ok(())
}

/// One file of a segment being read.
struct InputRows {
    path: PathBuf,
    source: u32,
    next_row: u64,
}

impl InputRows {
    fn batches(&self) -> Result<parquet::arrow::arrow_reader::ParquetRecordBatchReader, LedgerError> {
        let file = File::open(&self.path).map_err(LedgerError::io("open", &self.path))?;
        ParquetRecordBatchReaderBuilder::try_new(file)
            .and_then(|builder| builder.with_batch_size(BATCH_ROWS).build())
            .map_err(LedgerError::parquet("read", &self.path))
    }

    /// The calls of a batch that stay.
    fn kept(&mut self, batch: &RecordBatch, keep: &dyn Fn(&Key, Place) -> bool) -> Result<RecordBatch, LedgerError> {
        let foreign = |detail: &str| LedgerError::format(&self.path, detail);
        let ids = batch.column_by_name("call_id").and_then(|ids| ids.as_string_opt::<i32>());
        let ids = ids.ok_or_else(|| foreign("its column call_id is missing or of another type"))?;
        let mut kept = Vec::with_capacity(ids.len());
        for (id, row) in ids.iter().zip(self.next_row..) {
            let id = id.and_then(CallId::from_hex).ok_or_else(|| foreign("a call_id in it is not 64 hex digits"))?;
            kept.push(keep(&index::key(&id), Place::new(self.source, row)));
        }
        self.next_row += batch.num_rows() as u64;
        filter_record_batch(batch, &BooleanArray::from(kept)).map_err(LedgerError::arrow("read", &self.path))
    }
}

/// Columns as the table has them today; one that is younger than the segment is NULL. `path` is for messages.
pub(super) fn to_schema(batch: &RecordBatch, schema: &SchemaRef, path: &Path) -> Result<RecordBatch, LedgerError> {
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(column) => cast(column, field.data_type()),
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
    });
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    columns
        .collect::<Result<Vec<ArrayRef>, _>>()
        .and_then(|columns| RecordBatch::try_new_with_options(Arc::clone(schema), columns, &rows))
        .map_err(LedgerError::arrow("read", path))
}
