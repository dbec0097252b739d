//! The JSON files of a split as one stream of rows. In: files, in order. Out: their columns, the rows that cannot be
//! read with file and line, and batches in which each row has its place; a row that cannot be read keeps its place free.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::arrow::json::ReaderBuilder;
use datafusion::arrow::json::reader::Decoder;
use datafusion::common::{DataFusionError, Result, plan_err};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::json_rows::{BadRow, Form, Row, RowSplitter};
use super::json_shape::Shape;
use super::placed_batch::PlacedBatch;
use super::raw_file::{LISTED, RawFile, Unread, may_pass};

/// Rows in a batch.
const BATCH_ROWS: usize = 8192;

/// One file, and whether it may be a list, or rows over several lines (`.json`).
pub(crate) type JsonFile = (RawFile, bool);

/// The files of a split, looked through once.
#[derive(Debug)]
pub(crate) struct JsonSplit {
    files: Vec<(JsonFile, Plain)>,
    columns: Vec<(String, Shape)>,
    /// At most [`LISTED`] of each file.
    pub unread: Vec<Unread>,
    /// By file, how many more there are.
    pub unlisted: Vec<(String, u64)>,
}

/// Whether a file is rows in lines all of which can be read: Arrow's decoder takes its bytes as they are.
type Plain = bool;

impl JsonSplit {
    /// Reads all rows for their columns.
    ///
    /// # Errors
    /// A file that cannot be opened, or is no text, or files of which no row can be read.
    pub(crate) async fn open(files: Vec<JsonFile>) -> Result<JsonSplit> {
        let mut shape = Shape::Object(Vec::new());
        let (mut unread, mut unlisted) = (Vec::new(), Vec::new());
        let mut opened = Vec::new();
        let mut good = 0u64;
        for file in files {
            let before = unread.len();
            let mut more = 0u64;
            let mut take = |row: Row| match row {
                Row::Good(value) => {
                    good += 1;
                    shape.take(&value);
                }
                Row::Bad(row) if unread.len() - before < LISTED => {
                    let file = file.0.name.clone();
                    unread.push(Unread { file, line: Some(row.line), what: row.what, rows: 1 });
                }
                Row::Bad(_) => more += 1,
            };
            let form = match look_through(&file, &mut take).await {
                Ok(form) => form,
                Err(e) if may_pass(&e) => return Err(e),
                Err(e) => {
                    unread.push(Unread { file: file.0.name, line: None, what: e.strip_backtrace(), rows: 1 });
                    continue;
                }
            };
            if more > 0 {
                unlisted.push((file.0.name.clone(), more));
            }
            opened.push((file, form == Form::Lines && unread.len() == before));
        }
        if let (0, Some(Unread { file, line, what, .. })) = (good, unread.first()) {
            return match line {
                Some(line) => plan_err!("no row of '{file}' can be read; line {line}: {what}"),
                None => plan_err!("{what}"),
            };
        }
        let columns = match shape {
            Shape::Object(columns) => columns,
            _ => return plan_err!("the rows have more keys than a table has columns"),
        };
        Ok(JsonSplit { files: opened, columns, unread, unlisted })
    }

    pub(crate) fn schema(&self) -> Schema {
        Schema::new(
            self.columns.iter().map(|(name, shape)| Field::new(name, shape.data_type(), true)).collect::<Vec<_>>(),
        )
    }

    /// The rows' columns `projection`, with their places.
    pub(crate) fn batches(self: Arc<Self>, projection: Arc<[usize]>) -> BoxStream<'static, Result<PlacedBatch>> {
        let columns: Vec<_> = projection.iter().filter_map(|&at| self.columns.get(at).cloned()).collect();
        let fields: Vec<_> = columns.iter().map(|(name, shape)| Field::new(name, shape.data_type(), true)).collect();
        let reading = Arc::new(Reading { columns: Arc::new(Schema::new(fields)), shape: Shape::Object(columns) });
        let files: Vec<_> = self.files.clone();
        futures::stream::iter(files)
            .scan(Arc::new(std::sync::atomic::AtomicI64::new(0)), move |next, (file, plain)| {
                let made = Arc::clone(&reading).file(file, plain, Arc::clone(next));
                futures::future::ready(Some(made))
            })
            .flatten()
            .boxed()
    }
}

/// How batches are made of rows.
struct Reading {
    columns: SchemaRef,
    shape: Shape,
}

impl Reading {
    fn file(
        self: Arc<Self>,
        file: JsonFile,
        plain: Plain,
        next: Arc<std::sync::atomic::AtomicI64>,
    ) -> BoxStream<'static, Result<PlacedBatch>> {
        let name = file.0.name.clone();
        let as_bytes = plain && !self.shape.needs_text() && !self.columns.fields().is_empty();
        let made = async move {
            Ok::<_, DataFusionError>(match as_bytes {
                true => self.of_bytes(file.0.bytes().await?, next),
                false => self.of_rows(rows(&file).await?, next),
            })
        };
        futures::stream::once(made)
            .try_flatten()
            .map_err(move |e| e.context(format!("'{name}' cannot be read")))
            .boxed()
    }

    fn decoder(&self) -> Result<Decoder> {
        Ok(ReaderBuilder::new(Arc::clone(&self.columns))
            .with_batch_size(BATCH_ROWS)
            .with_coerce_primitive(true)
            .build_decoder()?)
    }

    fn of_rows(
        self: Arc<Self>,
        pieces: BoxStream<'static, Result<(Form, Vec<Row>)>>,
        next: Arc<std::sync::atomic::AtomicI64>,
    ) -> BoxStream<'static, Result<PlacedBatch>> {
        use std::sync::atomic::Ordering::Relaxed;
        // Pieces of a file in lines are as small as the store's reads; those of a list are whole files.
        let rows = pieces.map_ok(|(_, rows)| futures::stream::iter(rows.into_iter().map(Ok::<_, DataFusionError>)));
        rows.try_flatten()
            .try_chunks(BATCH_ROWS)
            .map(move |chunk| {
                let chunk = chunk.map_err(|e| e.1)?;
                let mut places = Vec::with_capacity(chunk.len());
                let mut values = Vec::with_capacity(chunk.len());
                for row in chunk {
                    let place = next.fetch_add(1, Relaxed);
                    if let Row::Good(mut value) = row {
                        self.shape.make_text(&mut value);
                        places.push(place);
                        values.push(value);
                    }
                }
                let columns = if self.columns.fields().is_empty() {
                    Vec::new()
                } else {
                    let mut decoder = self.decoder()?;
                    decoder.serialize(&values)?;
                    decoder.flush()?.map_or_else(
                        || RecordBatch::new_empty(Arc::clone(&self.columns)).columns().to_vec(),
                        |batch| batch.columns().to_vec(),
                    )
                };
                Ok(PlacedBatch { columns, places })
            })
            .boxed()
    }

    fn of_bytes(
        self: Arc<Self>,
        pieces: BoxStream<'static, Result<Vec<u8>>>,
        next: Arc<std::sync::atomic::AtomicI64>,
    ) -> BoxStream<'static, Result<PlacedBatch>> {
        struct State {
            pieces: BoxStream<'static, Result<Vec<u8>>>,
            piece: Vec<u8>,
            at: usize,
            begun: bool,
            ended: bool,
            decoder: Decoder,
        }
        let decoder = match self.decoder() {
            Ok(decoder) => decoder,
            Err(e) => return futures::stream::once(futures::future::ready(Err(e))).boxed(),
        };
        let state = State { pieces, piece: Vec::new(), at: 0, begun: false, ended: false, decoder };
        futures::stream::try_unfold(state, move |mut state| {
            let next = Arc::clone(&next);
            async move {
                while !state.ended {
                    if state.at < state.piece.len() {
                        let taken = state.decoder.decode(&state.piece[state.at..])?;
                        state.at += taken;
                        if state.at < state.piece.len() {
                            break;
                        }
                    }
                    match state.pieces.try_next().await? {
                        Some(piece) => {
                            // The mark may come in the first piece only, which the store does not cut below its size.
                            state.at = if !state.begun && piece.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
                            state.begun = true;
                            state.piece = piece;
                        }
                        None => state.ended = true,
                    }
                }
                let Some(batch) = state.decoder.flush()? else { return Ok(None) };
                let rows = batch.num_rows() as i64;
                let first = next.fetch_add(rows, std::sync::atomic::Ordering::Relaxed);
                let places = (first..first + rows).collect();
                let batch = PlacedBatch { columns: batch.columns().to_vec(), places };
                Ok::<_, DataFusionError>(Some((batch, state)))
            }
        })
        .boxed()
    }
}

/// Gives each row of a file to `take`, and says how they lie in it.
async fn look_through(file: &JsonFile, take: &mut impl FnMut(Row)) -> Result<Form> {
    let mut pieces = rows(file).await?;
    let mut form = Form::Lines;
    while let Some((found, rows)) = pieces.try_next().await? {
        form = found;
        rows.into_iter().for_each(&mut *take);
    }
    Ok(form)
}

/// A file's rows, as many at a time as a piece of its bytes holds.
async fn rows(file: &JsonFile) -> Result<BoxStream<'static, Result<(Form, Vec<Row>)>>> {
    let (file, any_form) = file.clone();
    let pieces = file.bytes().await?;
    let state = (pieces, RowSplitter::new(any_form), false);
    Ok(futures::stream::try_unfold(state, move |(mut pieces, mut splitter, ended)| {
        let file = file.clone();
        async move {
            if ended {
                return Ok(None);
            }
            let mut rows = Vec::new();
            let no_text = |what: String| DataFusionError::Plan(format!("'{}' cannot be read: {what}", file.name));
            let mut ended = false;
            match pieces.try_next().await {
                Ok(Some(piece)) => splitter.push(&piece, &mut rows).map_err(no_text)?,
                Ok(None) => {
                    splitter.finish(&mut rows).map_err(no_text)?;
                    ended = true;
                }
                // What was decompressed until then is whole.
                Err(e) if file.is_cut(&e) => {
                    splitter.finish(&mut rows).map_err(no_text)?;
                    let what = format!("the compressed data is broken: {e}; the rest of the file is not read");
                    rows.push(Row::Bad(BadRow { line: splitter.line(), what }));
                    ended = true;
                }
                Err(e) => return Err(e.context(format!("'{}' cannot be read", file.name))),
            }
            let form = splitter.form().unwrap_or(Form::Lines);
            Ok(Some(((form, rows), (pieces, splitter, ended))))
        }
    })
    .boxed())
}
