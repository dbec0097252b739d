//! Sealed logs: a folder of three Parquet files, one a table, written once and never changed.
//! In: a log that nobody appends to any more. Out: its segment, and answers read back by row.

use std::collections::{HashSet, VecDeque};
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, FieldRef, Fields, Float64Type, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use tokio_util::sync::CancellationToken;

use super::block::Block;
use super::columns::{Rows, Table};
use super::folder::{self, OwnedLog};
use super::index::{self, Key};
use super::log::{LogFile, LogReader};
use super::segment_keys::SegmentKeys;
use super::{CallId, LedgerError, Record, crash_points};

/// One answer is read by its block: a page of each of the columns that an answer needs.
pub(super) const BLOCK_ROWS: u64 = 50;
pub(super) const CALLS_ROW_GROUP_ROWS: usize = 1_000;
const ROW_GROUP_ROWS: usize = 100_000;
/// So many rows are handed to Parquet at once, or a group of the log: few enough that their texts are still in the
/// processor's cache when they are copied into pages.
const WRITTEN_ROWS: usize = 250;
/// A segment is made durable in steps of this many bytes: all at once it would keep the disk from the syncs of the log
/// that is written meanwhile.
const SYNC_BYTES: usize = 4 << 20;

/// A log that has become a segment.
pub(super) struct Sealed {
    /// The ids of the segment's calls in the order of its rows; none and no segment for a log without records.
    pub(super) keys: Vec<Key>,
    /// Whether groups of the log could not be read.
    pub(super) is_damaged: bool,
}

/// Seals a log: writes its segment, makes it durable, gives it its name, and only then deletes the log.
///
/// On an error the caller keeps the log's lock and may try again. So it is where `given_up` was cancelled on the way, which
/// gives `None`.
pub(super) fn seal(folder: &Path, log: &OwnedLog, given_up: &CancellationToken) -> Result<Option<Sealed>, LedgerError> {
    let path = folder::log_path(folder, &log.unique);
    let segment = folder::segment_path(folder, &log.unique);
    let damaged = folder::damaged_path(folder, &log.unique);
    if segment.exists() {
        // An earlier try came past its commit point, and failed there.
        folder::sync_folder(folder)?;
        let keys = Segment::open(folder, &log.unique)?.1.read()?;
        folder::ignore_not_found(fs::remove_file(&path)).map_err(LedgerError::io("remove", &path))?;
        return Ok(Some(Sealed { keys, is_damaged: damaged.exists() }));
    }
    let unfinished = folder::unfinished_segment_path(folder, &log.unique);
    folder::ignore_not_found(fs::remove_dir_all(&unfinished)).map_err(LedgerError::io("remove", &unfinished))?;
    fs::create_dir(&unfinished).map_err(LedgerError::io("create", &unfinished))?;

    let mut reader = LogReader::up_to(&Arc::new(LogFile::open(path.clone())?), log.len)?;
    let mut rows = Rows::default();
    let mut keys = Vec::new();
    let mut seen = HashSet::new();
    let mut any = false;
    let mut files = Table::ALL
        .into_iter()
        .map(|table| SegmentFile::create(&unfinished, table))
        .collect::<Result<Vec<_>, LedgerError>>()?;
    while let Some(frame) = reader.next_frame()? {
        if given_up.is_cancelled() {
            return Ok(None);
        }
        any = true;
        rows.extend(frame.records.into_iter().filter(|record| match record {
            Record::Call(call) => {
                let key = index::key(&call.call_id);
                let new = seen.insert(key);
                if new {
                    keys.push(key);
                }
                new
            }
            Record::Attempt(_) | Record::Use(_) => true,
        }));
        for file in &mut files {
            if rows.len(file.table) >= WRITTEN_ROWS {
                file.write(&mut rows)?;
            }
        }
    }
    for mut file in files {
        file.write(&mut rows)?;
        file.finish()?;
        crash_points::pass("segment half written");
    }

    if reader.is_damaged() {
        // Before the segment counts: who finds both after a crash deletes the log.
        keep_aside(&path, &damaged, |log, damaged| fs::hard_link(log, damaged))
            .map_err(LedgerError::io("keep aside", &path))?;
        folder::sync_folder(folder)?;
        tracing::warn!("the damaged log is kept as {}; its readable records are sealed", damaged.display());
    }
    if any {
        folder::sync_folder(&unfinished)?;
        crash_points::pass("segment written");
        fs::rename(&unfinished, &segment).map_err(LedgerError::io("rename", &unfinished))?;
        folder::sync_folder(folder)?;
        crash_points::pass("segment renamed");
    } else {
        fs::remove_dir_all(&unfinished).map_err(LedgerError::io("remove", &unfinished))?;
    }
    fs::remove_file(&path).map_err(LedgerError::io("remove", &path))?;
    Ok(Some(Sealed { keys, is_damaged: reader.is_damaged() }))
}

/// Gives a log a second name by `link`; where the file system has no such names, a copy gets it, as a whole or not at all.
fn keep_aside(log: &Path, damaged: &Path, link: impl FnOnce(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
    if damaged.exists() {
        return Ok(()); // by an earlier try
    }
    link(log, damaged).or_else(|_| {
        let unfinished = damaged.with_extension("damaged.new");
        fs::copy(log, &unfinished)?;
        // To be written to: some systems make nothing durable of a file that is only read.
        File::options().write(true).open(&unfinished)?.sync_all()?;
        fs::rename(&unfinished, damaged)
    })
}

/// One Parquet file being written.
pub(super) struct SegmentFile {
    pub(super) table: Table,
    path: PathBuf,
    columns: Vec<usize>,
    writer: ArrowWriter<File>,
    /// Bytes that are durable.
    synced: usize,
}

impl SegmentFile {
    pub(super) fn create(folder: &Path, table: Table) -> Result<SegmentFile, LedgerError> {
        let path = folder.join(table.file_name());
        let file = File::create_new(&path).map_err(LedgerError::io("create", &path))?;
        // Without Arrow's own schema the texts are plain strings to every reader, not views.
        let options = ArrowWriterOptions::new().with_properties(properties(table)?).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(file, Arc::clone(table.schema()), options)
            .map_err(LedgerError::parquet("created", &path))?;
        Ok(SegmentFile { table, path, columns: (0..table.schema().fields().len()).collect(), writer, synced: 0 })
    }

    fn write(&mut self, rows: &mut Rows) -> Result<(), LedgerError> {
        let batch = rows.take(self.table, &self.columns).map_err(LedgerError::arrow("written", &self.path))?;
        self.write_batch(&batch)
    }

    /// Adds rows with all columns of the table.
    pub(super) fn write_batch(&mut self, batch: &RecordBatch) -> Result<(), LedgerError> {
        self.writer.write(batch).map_err(LedgerError::parquet("written", &self.path))?;
        let written = self.writer.bytes_written();
        if written - self.synced > SYNC_BYTES {
            self.writer.inner().sync_data().map_err(LedgerError::io("sync", &self.path))?;
            self.synced = written;
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<(), LedgerError> {
        let file = self.writer.into_inner().map_err(LedgerError::parquet("written", &self.path))?;
        file.sync_all().map_err(LedgerError::io("sync", &self.path))
    }
}

pub(super) fn properties(table: Table) -> Result<WriterProperties, LedgerError> {
    let level = ZstdLevel::try_new(1).map_err(LedgerError::parquet("written", Path::new(table.file_name())))?;
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_column_dictionary_enabled(ColumnPath::from("call_id"), false);
    if table == Table::Calls {
        // Pages of a block each; texts that rarely repeat need neither dictionaries nor statistics.
        properties = properties
            .set_max_row_group_row_count(Some(CALLS_ROW_GROUP_ROWS))
            .set_data_page_row_count_limit(BLOCK_ROWS as usize)
            .set_write_batch_size(BLOCK_ROWS as usize);
        for text in ["messages", "response"] {
            properties = properties
                .set_column_dictionary_enabled(ColumnPath::from(text), false)
                .set_column_statistics_enabled(ColumnPath::from(text), EnabledStatistics::None);
        }
    }
    Ok(properties.build())
}

/// A sealed log's file of calls.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    rows: u64,
}

impl Segment {
    /// A segment that has been sealed or read just now, with so many calls.
    pub(super) fn new(folder: &Path, unique: &str, rows: usize) -> Segment {
        Segment { path: calls_path(folder, unique), rows: rows as u64 }
    }

    /// Opens a segment, and with it its calls' keys, of which none is read yet.
    pub(super) fn open(folder: &Path, unique: &str) -> Result<(Segment, SegmentKeys), LedgerError> {
        let path = calls_path(folder, unique);
        let keys = SegmentKeys::open(path.clone())?;
        Ok((Segment { path, rows: keys.rows() }, keys))
    }

    /// These blocks, and all others of the row groups of which they are the half or more: who reads so much of one is
    /// likely to go through it, and each reader of a part reads the dictionaries of the row group again.
    pub(super) fn with_neighbours(&self, firsts: Vec<u64>) -> Vec<u64> {
        const GROUP: u64 = CALLS_ROW_GROUP_ROWS as u64;
        let mut extended = Vec::with_capacity(firsts.len());
        for wanted in firsts.chunk_by(|a, b| a / GROUP == b / GROUP) {
            let start = wanted[0] / GROUP * GROUP;
            let group = (start..self.rows.min(start + GROUP)).step_by(BLOCK_ROWS as usize);
            if 2 * wanted.len() >= group.clone().count() { extended.extend(group) } else { extended.extend(wanted) }
        }
        extended
    }

    /// The answers of the blocks that begin at these rows, which ascend. Blocks of one row group share its reader.
    pub(super) fn blocks(&self, firsts: &[u64], footers: &Footers) -> Result<Vec<Block>, LedgerError> {
        let file = File::open(&self.path).map_err(LedgerError::io("open", &self.path))?;
        let footer = footers.get(&self.path, &file)?;
        let (mut blocks, mut left, mut start) = (Vec::with_capacity(firsts.len()), firsts, 0);
        for (group, metadata) in footer.metadata().row_groups().iter().enumerate() {
            let end = start + metadata.num_rows().unsigned_abs();
            let here;
            (here, left) = left.split_at(left.partition_point(|first| *first < end));
            if !here.is_empty() {
                let ranges = here
                    .iter()
                    .map(|first| (first - start) as usize..(end - start).min(first - start + BLOCK_ROWS) as usize);
                blocks.extend(self.read(&file, &footer, group, &ranges.collect::<Vec<_>>())?);
            }
            start = end;
        }
        match left.first() {
            Some(first) => {
                Err(LedgerError::format(&self.path, format!("it has {start} rows, and row {first} was to be read")))
            }
            None => Ok(blocks),
        }
    }

    /// Ranges of one row group's rows, each as a block.
    fn read(
        &self,
        file: &File,
        footer: &ArrowReaderMetadata,
        group: usize,
        ranges: &[Range<usize>],
    ) -> Result<Vec<Block>, LedgerError> {
        let file = file.try_clone().map_err(LedgerError::io("open", &self.path))?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, footer.clone());
        let rows = footer.metadata().row_group(group).num_rows().unsigned_abs() as usize;
        let selected = RowSelection::from_consecutive_ranges(ranges.iter().cloned(), rows);
        let mask = ProjectionMask::columns(builder.parquet_schema(), ANSWER_COLUMNS);
        // A batch a block: each has memory of its own, and may be let go of by itself.
        let reader = builder
            .with_projection(mask)
            .with_row_groups(vec![group])
            .with_row_selection(selected)
            .with_batch_size(BLOCK_ROWS as usize)
            .build()
            .map_err(LedgerError::parquet("read", &self.path))?;
        let mut blocks = Vec::with_capacity(ranges.len());
        for batch in reader {
            let batch = batch.map_err(LedgerError::arrow("read", &self.path))?;
            if ranges.get(blocks.len()).map(Range::len) != Some(batch.num_rows()) {
                return Err(LedgerError::format(&self.path, "its row groups are cut otherwise than a segment's"));
            }
            blocks.push(block(&batch, &self.path)?);
        }
        Ok(blocks)
    }
}

fn calls_path(folder: &Path, unique: &str) -> PathBuf {
    folder::segment_path(folder, unique).join(Table::Calls.file_name())
}

/// The columns that an answer needs.
pub(super) const ANSWER_COLUMNS: [&str; 3] = ["call_id", "response", "cost_usd"];

/// The answers in rows with [`ANSWER_COLUMNS`]; `path` is for messages.
pub(super) fn block(batch: &RecordBatch, path: &Path) -> Result<Block, LedgerError> {
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| foreign(path, name));
    let text = |name| column(name)?.as_string_view_opt().ok_or_else(|| foreign(path, name));
    let costs = column("cost_usd")?.as_primitive_opt::<Float64Type>().ok_or_else(|| foreign(path, "cost_usd"))?;
    let ids = text("call_id")?.iter().map(|hex| id(path, hex)).collect::<Result<_, _>>()?;
    Ok(Block::of_columns(ids, text("response")?.clone(), costs.clone()))
}

/// The same footer, by which texts are read as views: into the pages, of which nothing is copied then.
pub(super) fn with_views(
    footer: &ArrowReaderMetadata,
    options: ArrowReaderOptions,
) -> Result<ArrowReaderMetadata, ParquetError> {
    let as_view = |field: &FieldRef| match field.data_type() {
        DataType::Utf8 => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View)),
        _ => Arc::clone(field),
    };
    let schema = Schema::new(footer.schema().fields().iter().map(as_view).collect::<Fields>());
    ArrowReaderMetadata::try_new(Arc::clone(footer.metadata()), options.with_schema(Arc::new(schema)))
}

pub(super) fn id(path: &Path, hex: Option<&str>) -> Result<CallId, LedgerError> {
    hex.and_then(CallId::from_hex)
        .ok_or_else(|| LedgerError::format(path, format!("{hex:?} in its column call_id is not 64 hex digits")))
}

pub(super) fn foreign(path: &Path, column: &str) -> LedgerError {
    LedgerError::format(path, format!("its column {column} is missing or of another type"))
}

/// The footers used last; one takes about 0.5 MB for 40,000 calls, a full log.
#[derive(Debug, Default)]
pub(super) struct Footers {
    newest_first: Mutex<VecDeque<(PathBuf, ArrowReaderMetadata)>>,
}

impl Footers {
    const CAPACITY: usize = 32;

    fn get(&self, path: &Path, file: &File) -> Result<ArrowReaderMetadata, LedgerError> {
        let lock = || self.newest_first.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut footers = lock();
            if let Some(at) = footers.iter().position(|(p, _)| p == path)
                && let Some(found) = footers.remove(at)
            {
                let footer = found.1.clone();
                footers.push_front(found);
                return Ok(footer);
            }
        }
        let options = ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Optional);
        let footer = ArrowReaderMetadata::load(file, options.clone())
            .and_then(|footer| with_views(&footer, options))
            .map_err(LedgerError::parquet("read", path))?;
        let mut footers = lock();
        footers.push_front((path.to_owned(), footer.clone()));
        footers.truncate(Self::CAPACITY);
        Ok(footer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_file_has_one_name_only_a_damaged_log_is_copied() {
        let folder = tempfile::tempdir().unwrap();
        let [log, damaged, half] =
            ["log", "damaged", "damaged.new"].map(|end| folder.path().join(format!("log-1.{end}")));
        let no_links = |_: &Path, _: &Path| -> io::Result<()> { Err(io::ErrorKind::Unsupported.into()) };
        // There is no log: what a failed try leaves has not the name of one that is kept.
        assert!(keep_aside(&log, &damaged, no_links).is_err());
        assert!(!damaged.exists());
        fs::write(&log, "groups, of which some are damaged").unwrap();
        fs::write(&half, "of a try that was broken off, and longer than what comes in its place").unwrap();
        keep_aside(&log, &damaged, no_links).unwrap();
        assert_eq!(fs::read(&damaged).unwrap(), fs::read(&log).unwrap());
        assert!(!half.exists());
        // Sealing that is tried again: the log may have been cut since.
        fs::write(&log, "groups").unwrap();
        keep_aside(&log, &damaged, no_links).unwrap();
        keep_aside(&log, &damaged, |log, damaged| fs::hard_link(log, damaged)).unwrap();
        assert_eq!(fs::read(&damaged).unwrap(), b"groups, of which some are damaged");
        // It is no second name of the log, which is deleted.
        fs::remove_file(&log).unwrap();
        assert!(damaged.exists());
    }
}
