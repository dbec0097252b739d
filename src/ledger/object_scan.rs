//! Streams a table of a ledger on an object store: segments, then logs, one after the other. Where something that was
//! listed has been merged and is gone, it is listed again; no row is given twice and none is left out.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use futures::StreamExt;
use tokio::runtime::Handle;

use super::LedgerError;
use super::columns::{Rows, Table};
use super::log::LogReader;
use super::object_log;
use super::object_segment::{LOG, ObjectSegment};
use super::objects::{Listing, Objects, RELISTS};
use super::rewrite::to_schema;

const BATCH_ROWS: usize = 1_000;

/// A ledger as it was when a query was planned.
#[derive(Debug, Clone)]
pub(super) struct ObjectsSnapshot {
    pub(super) objects: Arc<Objects>,
    pub(super) listing: Listing,
}

impl ObjectsSnapshot {
    /// Gives the columns (indices into the table's schema) of all rows to `send`, until that wants no more. After a
    /// merge rows of `calls` may come again, and are told apart by their ids. Called off the executor's threads.
    pub(super) fn read(
        self,
        table: Table,
        columns: &[usize],
        send: &mut dyn FnMut(RecordBatch) -> bool,
    ) -> Result<(), LedgerError> {
        let ObjectsSnapshot { objects, mut listing } = self;
        let mut scan = ObjectScan { objects, table, columns, given: HashMap::new(), rows: Rows::default(), send };
        let mut tries = 0;
        loop {
            match scan.pass(&listing) {
                Err(e) if e.is_gone() && tries < RELISTS => tries += 1,
                done => return done.map(drop),
            }
            listing = Handle::current().block_on(scan.objects.list())?;
        }
    }
}

struct ObjectScan<'a> {
    objects: Arc<Objects>,
    table: Table,
    columns: &'a [usize],
    /// How many rows of each log have been given out; not for calls.
    given: HashMap<String, u64>,
    /// Of logs, waiting to be given out.
    rows: Rows,
    send: &'a mut dyn FnMut(RecordBatch) -> bool,
}

impl ObjectScan<'_> {
    /// Gives what has not been given yet; `false` where no more is wanted.
    fn pass(&mut self, listing: &Listing) -> Result<bool, LedgerError> {
        let runtime = Handle::current();
        for entry in &listing.generation.segments {
            let segment = ObjectSegment::new(self.objects.prefix.clone(), entry.clone());
            if !self.segment(&segment, &runtime)? {
                return Ok(false);
            }
        }
        let mut logs = object_log::opened(listing.logs.clone());
        while let Some(opened) = runtime.block_on(logs.next()) {
            let (log, file) = opened?;
            // A log comes as a whole.
            if self.table != Table::Calls && self.given.contains_key(&log.name) {
                continue;
            }
            let mut reader = LogReader::new(&file)?;
            let before = self.rows.len(self.table);
            let mut flushed = 0;
            while let Some(frame) = reader.next_frame()? {
                self.rows.extend_one(self.table, frame.records);
                if self.rows.len(self.table) >= BATCH_ROWS {
                    flushed += self.rows.len(self.table);
                    if !self.flush()? {
                        return Ok(false);
                    }
                }
            }
            let rows = self.rows.len(self.table) + flushed - before;
            self.given.insert(log.name.clone(), rows as u64);
        }
        self.flush()
    }

    fn segment(&mut self, segment: &ObjectSegment, runtime: &Handle) -> Result<bool, LedgerError> {
        let schema = self.table.schema();
        let names = self.columns.iter().map(|&column| schema.field(column).name().as_str());
        let names: Vec<&str> = names.chain((self.table != Table::Calls).then_some(LOG)).collect();
        let path = segment.path(self.table);
        let arrow = |e| LedgerError::arrow("read", &path)(e);
        let columns = Arc::new(schema.project(self.columns).map_err(arrow)?);
        let mut rows = runtime.block_on(segment.rows(self.table, &names))?;
        let mut passed = HashMap::new();
        while let Some(batch) = runtime.block_on(rows.next()) {
            let mut batch = batch?;
            if self.table != Table::Calls {
                let new = self.new_rows(&batch, &mut passed).ok_or_else(|| {
                    LedgerError::format(&path, format!("its column {LOG} is missing or of another type"))
                })?;
                batch = filter_record_batch(&batch, &new).map_err(arrow)?;
            }
            let batch = to_schema(&batch, &columns, &path)?;
            if batch.num_rows() > 0 && !(self.send)(batch) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Which rows of a segment have not been given yet: the rows of a log stand in their order wherever they are.
    /// `passed` counts those of each log in this segment.
    fn new_rows(&mut self, batch: &RecordBatch, passed: &mut HashMap<String, u64>) -> Option<BooleanArray> {
        let logs = batch.column_by_name(LOG)?.as_string_opt::<i32>()?;
        let mut new = Vec::with_capacity(logs.len());
        let mut row = 0;
        while row < logs.len() {
            let log = logs.value(row);
            let end = (row..logs.len()).find(|&row| logs.value(row) != log).unwrap_or(logs.len());
            let at = passed.entry(log.to_owned()).or_default();
            let given = self.given.entry(log.to_owned()).or_default();
            for _ in row..end {
                *at += 1;
                new.push(*at > *given);
                *given = (*given).max(*at);
            }
            row = end;
        }
        Some(new.into())
    }

    fn flush(&mut self) -> Result<bool, LedgerError> {
        if self.rows.len(self.table) == 0 {
            return Ok(true);
        }
        let path = self.objects.prefix.url();
        let batch = self.rows.take(self.table, self.columns).map_err(LedgerError::arrow("read", path.as_ref()))?;
        Ok((self.send)(batch))
    }
}
