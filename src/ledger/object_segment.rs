//! A segment of a ledger on an object store: merged logs, a Parquet file a table with the ledger's columns and `log`, the
//! log that a row came from. In: positions. Out: keys, answers, rows.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::errors::ParquetError;
use tokio::sync::OnceCell;

use super::LedgerError;
use super::block::Block;
use super::columns::Table;
use super::generation::SegmentEntry;
use super::index::Key;
use super::segment::{ANSWER_COLUMNS, CALLS_ROW_GROUP_ROWS, block, with_views};
use crate::stores::{ParquetObject, Prefix};

/// The column that is in no table.
pub(super) const LOG: &str = "log";

/// What is read at once for one answer: a row group, with one request.
pub(super) const OBJECT_BLOCK_ROWS: u64 = CALLS_ROW_GROUP_ROWS as u64;

/// Rows that are read and written at once.
const BATCH_ROWS: usize = 1_000;

/// The rows of each log, which stand together in their order.
pub(super) fn rows_by_log(logs: &StringArray) -> impl Iterator<Item = (&str, Range<usize>)> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let first = next;
        let log = (first < logs.len()).then(|| logs.value(first))?;
        next = (first..logs.len()).find(|&row| logs.value(row) != log).unwrap_or(logs.len());
        Some((log, first..next))
    })
}

#[derive(Debug)]
pub(super) struct ObjectSegment {
    prefix: Prefix,
    pub(super) entry: SegmentEntry,
    /// Of the file of calls.
    footer: OnceCell<ArrowReaderMetadata>,
}

impl ObjectSegment {
    pub(super) fn new(prefix: Prefix, entry: SegmentEntry) -> ObjectSegment {
        ObjectSegment { prefix, entry, footer: OnceCell::new() }
    }

    /// The keys of all calls in the order of the rows.
    pub(super) async fn keys(&self) -> Result<Vec<Key>, LedgerError> {
        let name = self.entry.keys_name();
        let url = || format!("{}/{name}", self.prefix.url());
        let bytes =
            self.prefix.get(&name).await.map_err(|e| LedgerError::Store { url: url(), detail: e.to_string() })?;
        let bytes = bytes.ok_or_else(|| LedgerError::Gone { url: url().into() })?;
        let (keys, rest) = bytes.as_chunks::<16>();
        if !rest.is_empty() || keys.len() as u64 != self.entry.calls {
            let detail = format!("it has {} bytes, and {} calls are due", bytes.len(), self.entry.calls);
            return Err(LedgerError::format(&PathBuf::from(url()), detail));
        }
        Ok(keys.to_vec())
    }

    /// The answers of the blocks that begin at these rows.
    pub(super) async fn blocks(&self, firsts: &[u64]) -> Result<Vec<Block>, LedgerError> {
        let path = self.path(Table::Calls);
        let mut blocks = Vec::with_capacity(firsts.len());
        for first in firsts {
            let footer = self.footer.get_or_try_init(|| async {
                let options = ArrowReaderOptions::new();
                ArrowReaderMetadata::load_async(&mut self.object(Table::Calls)?, options.clone())
                    .await
                    .and_then(|footer| with_views(&footer, options))
                    .map_err(|e| self.failed(Table::Calls, &e))
            });
            let footer = footer.await?.clone();
            let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(self.object(Table::Calls)?, footer);
            let mask = ProjectionMask::columns(builder.parquet_schema(), ANSWER_COLUMNS);
            let rows = builder
                .with_projection(mask)
                .with_row_groups(vec![(first / OBJECT_BLOCK_ROWS) as usize])
                .build()
                .map_err(|e| self.failed(Table::Calls, &e))?;
            let schema = Arc::clone(rows.schema());
            let rows: Vec<RecordBatch> = rows.try_collect().await.map_err(|e| self.failed(Table::Calls, &e))?;
            let rows = concat_batches(&schema, &rows).map_err(LedgerError::arrow("read", &path))?;
            blocks.push(block(&rows, &path)?);
        }
        Ok(blocks)
    }

    /// All rows of a table with some of its columns, by name.
    pub(super) async fn rows(
        &self,
        table: Table,
        columns: &[&str],
    ) -> Result<BoxStream<'_, Result<RecordBatch, LedgerError>>, LedgerError> {
        let failed = move |e: ParquetError| self.failed(table, &e);
        let builder = ParquetRecordBatchStreamBuilder::new(self.object(table)?).await.map_err(failed)?;
        let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
        let rows = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build().map_err(failed)?;
        Ok(rows.map_err(failed).boxed())
    }

    pub(super) fn path(&self, table: Table) -> PathBuf {
        PathBuf::from(format!("{}/{}", self.prefix.url(), self.entry.file_name(table)))
    }

    fn object(&self, table: Table) -> Result<ParquetObject, LedgerError> {
        let place = self.prefix.join(&self.entry.file_name(table));
        let opened = place.store();
        let (store, path) = opened
            .map_err(|e| LedgerError::Store { url: self.prefix.url().to_owned(), detail: e.strip_backtrace() })?;
        Ok(ParquetObject { store, path, size: self.entry.bytes_of(table) })
    }

    fn failed(&self, table: Table, error: &ParquetError) -> LedgerError {
        let url = self.path(table).display().to_string();
        match error {
            ParquetError::External(inner) => match inner.downcast_ref::<object_store::Error>() {
                Some(object_store::Error::NotFound { .. }) => LedgerError::Gone { url: url.into() },
                Some(e) => LedgerError::Store { url, detail: crate::stores::explain(e) },
                None => LedgerError::Store { url, detail: inner.to_string() },
            },
            other => LedgerError::format(&self.path(table), other.to_string()),
        }
    }
}
