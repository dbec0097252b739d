//! The Parquet files of a split as one stream of rows. In: files, in order. Out: their columns, what cannot be read with file
//! and row, and batches in which each row has its place. A file without a whole footer has no rows. Of a row group that
//! cannot be decoded (a broken page, a text that is not UTF-8) the rows around the broken ones are looked for, and those
//! that are lost keep their places free.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::{ArrayRef, RecordBatch, new_null_array};
use datafusion::arrow::compute::CastOptions;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::nested_struct::cast_column;
use datafusion::common::{DataFusionError, Result, exec_err, plan_err};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection, RowSelector};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use tokio_util::bytes::Bytes;

use super::caught_panic::{Panicked, caught};
use super::one_schema::one_schema;
use super::placed_batch::PlacedBatch;
use super::raw_file::{RawFile, Unread, may_pass};

const BATCH_ROWS: usize = 8192;

/// How many parts of a broken row group are tried.
const TRIES: usize = 200;

/// What is read at once of a file's end, where the footer lies: one request for most files.
const FOOTER_BYTES: usize = 64 << 10;

/// The files of a split, their footers read once.
#[derive(Debug)]
pub(crate) struct ParquetSplit {
    /// Each with the place of its first row.
    files: Vec<(RawFile, i64)>,
    pub schema: SchemaRef,
    /// By file and first row: files without a footer, and what scans have found until now.
    unread: Mutex<BTreeMap<(usize, u64), Unread>>,
}

impl ParquetSplit {
    /// Reads the footers.
    ///
    /// # Errors
    /// A store that fails, or files none of which can be read.
    pub(crate) async fn open(files: Vec<RawFile>) -> Result<ParquetSplit> {
        let mut schemas = Vec::new();
        let mut opened = Vec::new();
        let mut unread = BTreeMap::new();
        let mut first = 0i64;
        for (at, file) in files.into_iter().enumerate() {
            match footer(&file).await {
                Ok(footer) => {
                    let schema = Schema::new(footer.schema().fields().clone());
                    schemas.push((file.name.clone(), Arc::new(schema)));
                    opened.push((file, first));
                    first += footer.metadata().row_groups().iter().map(|group| group.num_rows().max(0)).sum::<i64>();
                }
                Err(e) if may_pass(&e) => return Err(e),
                Err(e) => {
                    let what = format!("the columns of '{}' cannot be read: {}", file.name, e.strip_backtrace());
                    // Files that are opened come first.
                    unread.insert((usize::MAX - at, 0), Unread { file: file.name, line: None, what, rows: 1 });
                }
            }
        }
        if opened.is_empty() {
            let first = unread.values().last().map(|unread| unread.what.clone()).unwrap_or_default();
            return plan_err!("{first}");
        }
        let schemas: Vec<_> = schemas.iter().map(|(file, schema)| (file.as_str(), Arc::clone(schema))).collect();
        let schema = Arc::new(one_schema(&schemas)?);
        Ok(ParquetSplit { files: opened, schema, unread: Mutex::new(unread) })
    }

    /// What cannot be read, as far as it was read.
    pub(crate) fn unread(&self) -> Vec<Unread> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Decodes all rows and columns, so that [`Self::unread`] has all that cannot be read.
    pub(crate) async fn read_all(self: &Arc<Self>) -> Result<()> {
        let all = (0..self.schema.fields().len()).collect();
        Arc::clone(self).batches(all).try_for_each(|_| std::future::ready(Ok(()))).await
    }

    /// The rows' columns `projection`, with their places.
    pub(crate) fn batches(self: Arc<Self>, projection: Arc<[usize]>) -> BoxStream<'static, Result<PlacedBatch>> {
        let files = (0..self.files.len()).map(move |file| (Arc::clone(&self), file, Arc::clone(&projection)));
        futures::stream::iter(files)
            .map(|(split, at, projection)| {
                let name = split.files[at].0.name.clone();
                futures::stream::once(async move { OpenFile::of(split, at, &projection).await })
                    .map_ok(OpenFile::batches)
                    .try_flatten()
                    .map_err(move |e: DataFusionError| e.context(format!("'{name}' cannot be read")))
            })
            .flatten()
            .boxed()
    }
}

/// One file that is read.
struct OpenFile {
    split: Arc<ParquetSplit>,
    at: usize,
    footer: ArrowReaderMetadata,
    projection: Arc<[usize]>,
    mask: ProjectionMask,
}

impl OpenFile {
    async fn of(split: Arc<ParquetSplit>, at: usize, projection: &Arc<[usize]>) -> Result<Arc<OpenFile>> {
        let footer = footer(&split.files[at].0).await?;
        let names: Vec<&String> =
            projection.iter().filter_map(|at| split.schema.fields().get(*at)).map(|f| f.name()).collect();
        let roots = footer.schema().fields().iter().enumerate().filter(|(_, field)| names.contains(&field.name()));
        let mask = ProjectionMask::roots(footer.parquet_schema(), roots.map(|(root, _)| root));
        let projection = Arc::clone(projection);
        Ok(Arc::new(OpenFile { split, at, footer, projection, mask }))
    }

    fn rows_of(&self, group: usize) -> usize {
        usize::try_from(self.footer.metadata().row_group(group).num_rows()).unwrap_or_default()
    }

    /// The row groups one after another.
    fn batches(self: Arc<Self>) -> BoxStream<'static, Result<PlacedBatch>> {
        let mut first = self.split.files[self.at].1;
        let groups = (0..self.footer.metadata().num_row_groups()).map(move |group| {
            let begin = first;
            first += self.rows_of(group) as i64;
            Arc::clone(&self).group(group, begin)
        });
        futures::stream::iter(groups.collect::<Vec<_>>()).flatten().boxed()
    }

    /// The rows of a group, in order: all at once, and after an error those that are found around the broken ones.
    fn group(self: Arc<Self>, group: usize, begin: i64) -> BoxStream<'static, Result<PlacedBatch>> {
        struct State {
            file: Arc<OpenFile>,
            open: VecDeque<Range<usize>>,
            reading: Option<(BoxStream<'static, Result<RecordBatch>>, Range<usize>)>,
            searched: bool,
        }
        let open = std::iter::once(0..self.rows_of(group)).collect();
        let state = State { file: self, open, reading: None, searched: false };
        futures::stream::try_unfold(state, move |mut state| async move {
            loop {
                let Some((stream, rows)) = &mut state.reading else {
                    let Some(rows) = state.open.pop_front() else { return Ok(None) };
                    state.reading = (!rows.is_empty()).then(|| (state.file.read(group, rows.clone()), rows));
                    continue;
                };
                let error = match next(stream).await {
                    Ok(Some(batch)) => {
                        let from = begin + rows.start as i64;
                        rows.start += batch.num_rows();
                        let batch = state.file.placed(&batch, from)?;
                        return Ok(Some((batch, state)));
                    }
                    Ok(None) if rows.start >= rows.end => {
                        state.reading = None;
                        continue;
                    }
                    Ok(None) => DataFusionError::Execution("it has less rows than its footer says".into()),
                    Err(e) if may_pass(&e) => return Err(e),
                    Err(e) => e,
                };
                let rest = rows.clone();
                state.reading = None;
                let is_first = !std::mem::replace(&mut state.searched, true);
                let lost = match is_first && state.file.may_skip(group).await? {
                    true => state.file.broken(group, rest.clone()).await?,
                    false => vec![rest.clone()],
                };
                let mut at = rest.start;
                let mut found = VecDeque::new();
                for rows in lost {
                    found.push_back(at..rows.start);
                    at = rows.end;
                    state.file.lost(group, begin, rows, &error);
                }
                found.push_back(at..rest.end);
                found.append(&mut state.open);
                state.open = found;
            }
        })
        .boxed()
    }

    /// Which rows of a part that cannot be decoded are broken, as closely as [`TRIES`] tries tell: the largest parts are
    /// halved first.
    async fn broken(&self, group: usize, part: Range<usize>) -> Result<Vec<Range<usize>>> {
        let mut parts = BinaryHeap::from([(part.len(), Reverse(part.start))]);
        let mut lost: Vec<Range<usize>> = Vec::new();
        let mut tries = 0;
        while let Some((rows, Reverse(start))) = parts.pop() {
            if rows <= 1 || tries >= TRIES {
                lost.push(start..start + rows);
                continue;
            }
            for half in [start..start + rows / 2, start + rows / 2..start + rows] {
                tries += 1;
                if !self.can_read(group, half.clone()).await? {
                    parts.push((half.len(), Reverse(half.start)));
                }
            }
        }
        lost.sort_unstable_by_key(|rows| rows.start);
        lost.dedup_by(|next, before| {
            let joins = before.end == next.start;
            if joins {
                before.end = next.end;
            }
            joins
        });
        Ok(lost)
    }

    /// Whether rows of a group can be skipped. Where the repetition levels of a page end before its values, parquet's
    /// `GenericColumnReader::skip_records` goes round for ever, and `read_records` says so: such pages are looked for by
    /// reading what has levels, and nothing else, as a whole.
    async fn may_skip(&self, group: usize) -> Result<bool> {
        let schema = self.footer.parquet_schema();
        let repeated = (0..schema.num_columns())
            .filter(|&leaf| self.mask.leaf_included(leaf) && schema.column(leaf).max_rep_level() > 0);
        let mask = ProjectionMask::leaves(schema, repeated);
        let mut stream = self.read_columns(group, mask, 0..self.rows_of(group));
        loop {
            match next(&mut stream).await {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(true),
                Err(e) if may_pass(&e) => return Err(e),
                // Other faults are no danger to who skips.
                Err(e) => return Ok(!e.to_string().contains("levels")),
            }
        }
    }

    async fn can_read(&self, group: usize, rows: Range<usize>) -> Result<bool> {
        let wanted = rows.len();
        let mut stream = self.read(group, rows);
        let mut read = 0;
        loop {
            match next(&mut stream).await {
                Ok(Some(batch)) => read += batch.num_rows(),
                Ok(None) => return Ok(read == wanted),
                Err(e) if may_pass(&e) => return Err(e),
                Err(_) => return Ok(false),
            }
        }
    }

    fn read(&self, group: usize, rows: Range<usize>) -> BoxStream<'static, Result<RecordBatch>> {
        self.read_columns(group, self.mask.clone(), rows)
    }

    fn read_columns(
        &self,
        group: usize,
        mask: ProjectionMask,
        rows: Range<usize>,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        let input = Ranges(self.split.files[self.at].0.clone());
        let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(input, self.footer.clone())
            .with_row_groups(vec![group])
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS);
        if rows != (0..self.rows_of(group)) {
            let selectors = vec![RowSelector::skip(rows.start), RowSelector::select(rows.len())];
            builder = builder.with_row_selection(RowSelection::from(selectors));
        }
        match builder.build() {
            Ok(stream) => stream.map_err(DataFusionError::from).boxed(),
            Err(e) => futures::stream::once(std::future::ready(Err(e.into()))).boxed(),
        }
    }

    fn lost(&self, group: usize, begin: i64, rows: Range<usize>, error: &DataFusionError) {
        let (file, first) = &self.split.files[self.at];
        let line = (begin - first) as u64 + rows.start as u64 + 1;
        let last = line + rows.len() as u64 - 1;
        let what = format!("rows {line} to {last}, of row group {}: {}", group + 1, error.strip_backtrace());
        tracing::warn!("rows of '{}' cannot be read and are left out: {what}", file.name);
        let unread = Unread { file: file.name.clone(), line: Some(line), what, rows: rows.len() as u64 };
        let mut known = self.split.unread.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry((self.at, line)).or_insert(unread);
    }

    /// The columns that are wanted, in the split's types; NULL where the file lacks one.
    fn placed(&self, batch: &RecordBatch, from: i64) -> Result<PlacedBatch> {
        let rows = batch.num_rows();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.projection.len());
        for field in self.projection.iter().filter_map(|at| self.split.schema.fields().get(*at)) {
            columns.push(match batch.column_by_name(field.name()) {
                Some(column) if column.data_type() == field.data_type() => Arc::clone(column),
                Some(column) => cast_column(column, field.data_type(), &CastOptions::default())?,
                None => new_null_array(field.data_type(), rows),
            });
        }
        Ok(PlacedBatch { columns, places: (from..from + rows as i64).collect() })
    }
}

/// The next batch. A decoder that meets bytes which it does not expect may panic: that is an error of the data.
async fn next(stream: &mut BoxStream<'static, Result<RecordBatch>>) -> Result<Option<RecordBatch>> {
    match caught(stream.try_next()).await {
        Ok(next) => next,
        Err(Panicked) => exec_err!("its pages cannot be decoded"),
    }
}

async fn footer(file: &RawFile) -> Result<ArrowReaderMetadata> {
    if file.size == 0 {
        return exec_err!("it is empty");
    }
    let mut input = Ranges(file.clone());
    let read = ArrowReaderMetadata::load_async(&mut input, ArrowReaderOptions::new());
    match caught(read).await {
        Ok(read) => Ok(read?),
        Err(Panicked) => exec_err!("its footer cannot be decoded"),
    }
}

/// A file's bytes by range.
struct Ranges(RawFile);

impl Ranges {
    /// A range that the file does not have is a broken footer, and no fault of the store.
    fn check(&self, range: &Range<u64>) -> parquet::errors::Result<()> {
        match range.start <= range.end && range.end <= self.0.size {
            true => Ok(()),
            false => Err(ParquetError::EOF("its footer names bytes that the file does not have".into())),
        }
    }
}

impl AsyncFileReader for Ranges {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move {
            self.check(&range)?;
            let read = self.0.store.get_range(&self.0.location, range).await;
            read.map_err(|e| ParquetError::External(Box::new(e)))
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        async move {
            ranges.iter().try_for_each(|range| self.check(range))?;
            let read = self.0.store.get_ranges(&self.0.location, &ranges).await;
            read.map_err(|e| ParquetError::External(Box::new(e)))
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        let size = self.0.size;
        let reader = ParquetMetaDataReader::new().with_prefetch_hint(Some(FOOTER_BYTES));
        async move { Ok(Arc::new(reader.load_and_finish(self, size).await?)) }.boxed()
    }
}
