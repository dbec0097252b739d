//! Logs and segments of an object store into one segment there: the rows of all, oldest first, but the calls that are
//! left out. In: neighbours in age. Out: the new segment's files, put and not yet named by any generation, and the logs of
//! which it does not hold all.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::StreamExt;
use object_store::buffered::BufWriter;
use parquet::arrow::AsyncArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;

use super::columns::{Rows, Table};
use super::generation::{SegmentEntry, file_name, keys_name};
use super::index::{self, Key};
use super::log::LogReader;
use super::object_log::{self, ObjectLog};
use super::object_segment::{LOG, ObjectSegment};
use super::rewrite::to_schema;
use super::segment::properties;
use super::{CallId, LedgerError, Record};
use crate::stores::Prefix;

const BATCH_ROWS: usize = 1_000;

/// What is merged, and its number in the index.
pub(super) enum Input {
    Log { log: Arc<ObjectLog>, source: u32, bytes: u64 },
    Segment { segment: Box<ObjectSegment>, source: u32 },
}

impl Input {
    pub(super) fn source(&self) -> u32 {
        match self {
            Input::Log { source, .. } | Input::Segment { source, .. } => *source,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        match self {
            Input::Log { bytes, .. } => *bytes,
            Input::Segment { segment, .. } => segment.entry.bytes.iter().sum(),
        }
    }

    pub(super) fn log_name(&self) -> Option<&str> {
        match self {
            Input::Log { log, .. } => Some(&log.name),
            Input::Segment { .. } => None,
        }
    }

    pub(super) fn segment_name(&self) -> Option<&str> {
        match self {
            Input::Log { .. } => None,
            Input::Segment { segment, .. } => Some(&segment.entry.unique),
        }
    }

    /// Its objects.
    pub(super) fn names(&self) -> Vec<String> {
        match self {
            Input::Log { log, .. } => vec![log.name.clone()],
            Input::Segment { segment, .. } => segment.entry.names().collect(),
        }
    }
}

/// A segment that is put.
pub(super) struct Written {
    pub(super) segment: SegmentEntry,
    /// The names of logs of which a part could not be read: without them it would be gone.
    pub(super) damaged: Vec<String>,
}

/// A segment being put: a file a table, in parts where it is large.
pub(super) struct SegmentWriter<'a> {
    files: Vec<(Table, SchemaRef, AsyncArrowWriter<BufWriter>)>,
    prefix: &'a Prefix,
    keys: Vec<u8>,
    /// Calls that are in it.
    seen: HashSet<Key>,
    rows: [u64; 3],
    damaged: Vec<String>,
    /// Whether a call that stands in a source stays.
    keep: &'a (dyn Fn(&Key, u32) -> bool + Sync),
}

impl<'a> SegmentWriter<'a> {
    pub(super) async fn write(
        prefix: &'a Prefix,
        inputs: &[Input],
        keep: &'a (dyn Fn(&Key, u32) -> bool + Sync),
    ) -> Result<Written, LedgerError> {
        let unique = object_log::unique();
        let files = Table::ALL.into_iter().map(|table| {
            let path = file_name(&unique, table);
            let schema = schema_with_log(table);
            let writer = prefix.writer(&path).map_err(|e| unwritten(prefix, e))?;
            let options = ArrowWriterOptions::new().with_properties(properties(table)?).with_skip_arrow_metadata(true);
            let writer = AsyncArrowWriter::try_new_with_options(writer, Arc::clone(&schema), options)
                .map_err(|e| unwritten(prefix, e))?;
            Ok((table, schema, writer))
        });
        let files = files.collect::<Result<_, LedgerError>>()?;
        let (keys, seen, damaged) = (Vec::new(), HashSet::new(), Vec::new());
        let mut segment = SegmentWriter { files, prefix, keys, seen, rows: [0; 3], damaged, keep };
        for input in inputs {
            match input {
                Input::Log { log, source, .. } => segment.add_log(log, *source).await?,
                Input::Segment { segment: from, source } => segment.add_segment(from, *source).await?,
            }
        }
        segment.finish(unique).await
    }

    async fn add_log(&mut self, log: &ObjectLog, source: u32) -> Result<(), LedgerError> {
        let file = log.open().await?;
        let mut reader = LogReader::new(&file)?;
        let mut rows = Rows::default();
        while let Some(frame) = reader.next_frame()? {
            rows.extend(frame.records.into_iter().filter(|record| match record {
                Record::Call(call) => self.is_kept(index::key(&call.call_id), source),
                Record::Attempt(_) | Record::Use(_) => true,
            }));
            self.add_rows(&mut rows, &log.name, BATCH_ROWS).await?;
        }
        // An object is put as a whole: what is torn at its end was not so when it was put.
        if reader.is_damaged() || reader.torn_bytes() > 0 {
            self.damaged.push(log.name.clone());
        }
        self.add_rows(&mut rows, &log.name, 1).await
    }

    /// Adds the rows of a log, table by table where there are so many.
    async fn add_rows(&mut self, rows: &mut Rows, log: &str, at_least: usize) -> Result<(), LedgerError> {
        for number in 0..self.files.len() {
            let (table, schema, _) = &self.files[number];
            if rows.len(*table) >= at_least {
                let (table, schema) = (*table, Arc::clone(schema));
                let columns: Vec<usize> = (0..table.schema().fields().len()).collect();
                let arrow = |e| LedgerError::arrow("written", file_name("", table).as_ref())(e);
                let batch = rows.take(table, &columns).map_err(arrow)?;
                let logs = StringArray::from_iter_values(std::iter::repeat_n(log, batch.num_rows()));
                let columns = batch.columns().iter().cloned().chain([Arc::new(logs) as ArrayRef]).collect();
                self.add(number, &RecordBatch::try_new(schema, columns).map_err(arrow)?).await?;
            }
        }
        Ok(())
    }

    async fn add_segment(&mut self, from: &ObjectSegment, source: u32) -> Result<(), LedgerError> {
        for number in 0..self.files.len() {
            let (table, schema, _) = &self.files[number];
            let (table, schema) = (*table, Arc::clone(schema));
            let path = from.path(table);
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            let mut rows = from.rows(table, &names).await?;
            while let Some(batch) = rows.next().await {
                let mut batch = batch?;
                if table == Table::Calls {
                    let foreign = || LedgerError::format(&path, "its column call_id does not hold 64 hex digits");
                    let ids = batch.column_by_name("call_id").and_then(|ids| ids.as_string_opt::<i32>());
                    let ids = ids.ok_or_else(foreign)?.iter().map(|id| id.and_then(CallId::from_hex));
                    let ids = ids.collect::<Option<Vec<_>>>().ok_or_else(foreign)?;
                    let kept: BooleanArray = ids.iter().map(|id| Some(self.is_kept(index::key(id), source))).collect();
                    batch = filter_record_batch(&batch, &kept).map_err(LedgerError::arrow("read", &path))?;
                }
                let batch = to_schema(&batch, &schema, &path)?;
                self.add(number, &batch).await?;
            }
        }
        Ok(())
    }

    /// Whether a call goes in, once; its key is noted then.
    fn is_kept(&mut self, key: Key, source: u32) -> bool {
        let kept = (self.keep)(&key, source) && self.seen.insert(key);
        if kept {
            self.keys.extend_from_slice(&key);
        }
        kept
    }

    async fn add(&mut self, number: usize, batch: &RecordBatch) -> Result<(), LedgerError> {
        let prefix = self.prefix;
        self.files[number].2.write(batch).await.map_err(|e| unwritten(prefix, e))?;
        self.rows[number] += batch.num_rows() as u64;
        // Encoding waits for nothing. Whoever shares the thread shall get a turn, and a merge that is to be handed to
        // another thread shall come to a place for that soon.
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn finish(mut self, unique: String) -> Result<Written, LedgerError> {
        let prefix = self.prefix;
        let mut bytes = [0; 3];
        for ((_, _, mut file), bytes) in self.files.drain(..).zip(&mut bytes) {
            file.finish().await.map_err(|e| unwritten(prefix, e))?;
            *bytes = file.bytes_written() as u64;
        }
        let keys = std::mem::take(&mut self.keys).into();
        prefix.put_new(&keys_name(&unique), keys).await.map_err(|e| unwritten(prefix, e))?;
        let [calls, attempts, call_uses] = self.rows;
        let segment = SegmentEntry { unique, calls, attempts, call_uses, bytes };
        Ok(Written { segment, damaged: self.damaged })
    }
}

fn unwritten(prefix: &Prefix, e: impl std::error::Error + 'static) -> LedgerError {
    let detail = crate::stores::store_error(&e).map_or_else(|| e.to_string(), ToString::to_string);
    LedgerError::Store { url: prefix.url().to_owned(), detail }
}

/// A table's columns and the log of each row.
pub(super) fn schema_with_log(table: Table) -> SchemaRef {
    let fields = table.schema().fields().iter().cloned();
    let log = Arc::new(Field::new(LOG, DataType::Utf8, false));
    Arc::new(Schema::new(fields.chain([log]).collect::<Vec<_>>()))
}
