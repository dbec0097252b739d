//! Streams a table out of the logs of an object store that no segment holds yet. Where a log that was listed has been
//! merged and is gone, its rows are found in a segment of today; no row is left out.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use futures::StreamExt;
use tokio::runtime::Handle;

use super::LedgerError;
use super::columns::{Rows, Table};
use super::log::LogReader;
use super::object_log;
use super::object_segment::{LOG, ObjectSegment, rows_by_log};
use super::objects::{Listing, Objects, RELISTS};
use super::rewrite::to_schema;

const BATCH_ROWS: usize = 1_000;

/// A ledger as it was when a query was planned.
#[derive(Debug)]
pub(super) struct ObjectsSnapshot {
    pub(super) objects: Arc<Objects>,
    pub(super) listing: Listing,
}

impl ObjectsSnapshot {
    /// Gives the columns (indices into the table's schema) of all rows of its logs to `send`, until that wants no more.
    /// After a merge rows of `calls` may come again, and are told apart by their ids. Called off the executor's threads.
    pub(super) fn read_logs(
        &self,
        table: Table,
        columns: &[usize],
        send: &mut dyn FnMut(RecordBatch) -> bool,
    ) -> Result<(), LedgerError> {
        let names = self.listing.logs.iter().map(|log| log.name.as_str()).collect();
        let mut scan =
            LogsScan { planned: self, names, table, columns, given: HashMap::new(), rows: Rows::default(), send };
        let (mut number, mut tries) = (self.listing.number, 0);
        let mut today = None;
        loop {
            match scan.pass(today.as_ref()) {
                Err(e) if e.is_gone() && tries < RELISTS => {}
                done => return done.map(drop),
            }
            let listing = Handle::current().block_on(self.objects.list())?;
            // Each generation is a step on; the same one again is none.
            tries = if listing.number > number { 0 } else { tries + 1 };
            number = listing.number;
            today = Some(listing);
        }
    }
}

struct LogsScan<'a> {
    planned: &'a ObjectsSnapshot,
    /// Of the logs that were listed.
    names: HashSet<&'a str>,
    table: Table,
    columns: &'a [usize],
    /// How many rows of each log have been given out: all, where it was read as a log.
    given: HashMap<String, u64>,
    /// Of logs, waiting to be given out: they count as given.
    rows: Rows,
    send: &'a mut dyn FnMut(RecordBatch) -> bool,
}

impl LogsScan<'_> {
    /// Gives what has not been given yet, out of the logs that were planned, or of what holds their rows today; `false`
    /// where no more is wanted.
    fn pass(&mut self, today: Option<&Listing>) -> Result<bool, LedgerError> {
        let planned = &self.planned.listing;
        for entry in today.iter().flat_map(|today| &today.generation.segments) {
            // One that was there already holds none of these logs.
            if planned.generation.segments.contains(entry) {
                continue;
            }
            let segment = ObjectSegment::new(self.planned.objects.prefix.clone(), entry.clone());
            if !self.segment(&segment)? {
                return Ok(false);
            }
        }
        let mut logs = today.unwrap_or(planned).logs.clone();
        logs.retain(|log| self.names.contains(log.name.as_str()) && !self.given.contains_key(&log.name));
        let mut logs = object_log::opened(logs);
        while let Some(opened) = Handle::current().block_on(logs.next()) {
            let (log, file) = opened?;
            // It comes as a whole.
            let mut reader = LogReader::new(&file)?;
            let (before, mut flushed) = (self.rows.len(self.table), 0);
            while let Some(frame) = reader.next_frame()? {
                self.rows.extend_one(self.table, frame.records);
                if self.rows.len(self.table) >= BATCH_ROWS {
                    flushed += self.rows.len(self.table);
                    if !self.flush()? {
                        return Ok(false);
                    }
                }
            }
            self.given.insert(log.name.clone(), (self.rows.len(self.table) + flushed - before) as u64);
        }
        self.flush()
    }

    fn segment(&mut self, segment: &ObjectSegment) -> Result<bool, LedgerError> {
        let runtime = Handle::current();
        let schema = self.table.schema();
        let names: Vec<&str> =
            self.columns.iter().map(|&column| schema.field(column).name().as_str()).chain([LOG]).collect();
        let path = segment.path(self.table);
        let arrow = |e| LedgerError::arrow("read", &path)(e);
        let columns = Arc::new(schema.project(self.columns).map_err(arrow)?);
        let mut batches = runtime.block_on(segment.rows(self.table, &names))?;
        let mut passed = HashMap::new();
        while let Some(batch) = runtime.block_on(batches.next()) {
            let batch = batch?;
            let foreign = || LedgerError::format(&path, format!("its column {LOG} is missing or of another type"));
            let new = self.new_rows(&batch, &mut passed).ok_or_else(foreign)?;
            let batch = to_schema(&filter_record_batch(&batch, &new).map_err(arrow)?, &columns, &path)?;
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
        for (log, rows) in rows_by_log(logs) {
            if self.table == Table::Calls {
                // A call that stands in several logs is kept out of one of them, which may be younger than the plan.
                new.resize(rows.end, !self.planned.listing.generation.has_merged(log));
                continue;
            }
            let is_planned = self.names.contains(log);
            let at = passed.entry(log.to_owned()).or_default();
            let given = self.given.entry(log.to_owned()).or_default();
            for _ in rows {
                *at += 1;
                new.push(is_planned && *at > *given);
                *given = (*given).max(*at);
            }
        }
        Some(new.into())
    }

    fn flush(&mut self) -> Result<bool, LedgerError> {
        if self.rows.len(self.table) == 0 {
            return Ok(true);
        }
        let path = self.planned.objects.prefix.url();
        let batch = self.rows.take(self.table, self.columns).map_err(LedgerError::arrow("read", path.as_ref()))?;
        Ok((self.send)(batch))
    }
}
