//! The CSV files of a split as one stream of rows. In: files, in order. Out: their columns, what cannot be read with file and
//! line, and batches in which each row has its place; a row that cannot be read keeps its place free. Types are those
//! that all rows of all files fit into.

use std::io::Cursor;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, new_null_array};
use datafusion::arrow::csv::ReaderBuilder;
use datafusion::arrow::csv::reader::{Decoder, Format};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result, exec_err, plan_err};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::csv_rows::{CsvRows, CsvSplitter};
use super::json_rows::BadRow;
use super::one_schema::one_schema;
use super::placed_batch::PlacedBatch;
use super::raw_file::{LISTED, RawFile, Unread, may_pass};

/// Rows in a batch, and bytes of text that is made a batch earlier.
const BATCH_ROWS: usize = 8192;
const BATCH_BYTES: usize = 16 << 20;

/// The files of a split, looked through once.
#[derive(Debug)]
pub(crate) struct CsvSplit {
    /// Each with the names of its columns.
    files: Vec<(RawFile, Vec<String>)>,
    delimiter: u8,
    pub schema: SchemaRef,
    /// At most [`LISTED`] of each file.
    pub unread: Vec<Unread>,
    /// By file, how many more there are.
    pub unlisted: Vec<(String, u64)>,
}

impl CsvSplit {
    /// Reads all rows for their columns.
    ///
    /// # Errors
    /// A store that fails, or files none of which can be read.
    pub(crate) async fn open(files: Vec<RawFile>, delimiter: u8) -> Result<CsvSplit> {
        let (mut opened, mut schemas) = (Vec::new(), Vec::new());
        let (mut unread, mut unlisted): (Vec<Unread>, _) = (Vec::new(), Vec::new());
        let mut good = 0;
        for file in files {
            let before = unread.len();
            let mut more = 0u64;
            let mut take = |bad: BadRow| match unread.len() - before {
                listed if listed < LISTED => {
                    let file = file.name.clone();
                    unread.push(Unread { file, line: Some(bad.line), what: bad.what, rows: 1 });
                }
                _ => more += 1,
            };
            match columns(&file, delimiter, &mut take).await {
                Ok((schema, rows)) => {
                    good += rows;
                    let names = schema.fields().iter().map(|field| field.name().clone()).collect();
                    schemas.push((file.name.clone(), Arc::new(schema)));
                    opened.push((file.clone(), names));
                }
                Err(e) if may_pass(&e) => return Err(e),
                Err(e) => {
                    unread.truncate(before);
                    let what = e.strip_backtrace();
                    unread.push(Unread { file: file.name.clone(), line: None, what, rows: 1 });
                    continue;
                }
            }
            if more > 0 {
                unlisted.push((file.name.clone(), more));
            }
        }
        if let (0, Some(Unread { file, line, what, .. })) = (good, unread.first()) {
            return match line {
                Some(line) => plan_err!("no row of '{file}' can be read; line {line}: {what}"),
                None => plan_err!("{what}"),
            };
        }
        let schemas: Vec<_> = schemas.iter().map(|(file, schema)| (file.as_str(), Arc::clone(schema))).collect();
        let schema = Arc::new(one_schema(&schemas)?);
        Ok(CsvSplit { files: opened, delimiter, schema, unread, unlisted })
    }

    /// The rows' columns `projection`, with their places.
    pub(crate) fn batches(self: Arc<Self>, projection: Arc<[usize]>) -> BoxStream<'static, Result<PlacedBatch>> {
        let files = (0..self.files.len()).map(move |file| (Arc::clone(&self), file, Arc::clone(&projection)));
        // Places go on from file to file.
        let first = Arc::new(std::sync::atomic::AtomicI64::new(0));
        futures::stream::iter(files)
            .map(move |(split, file, projection)| {
                let name = split.files[file].0.name.clone();
                let first = Arc::clone(&first);
                futures::stream::once(async move { split.file(file, &projection, first).await })
                    .try_flatten()
                    .map_err(move |e: DataFusionError| e.context(format!("'{name}' cannot be read")))
            })
            .flatten()
            .boxed()
    }

    async fn file(
        self: Arc<Self>,
        file: usize,
        projection: &[usize],
        first: Arc<std::sync::atomic::AtomicI64>,
    ) -> Result<BoxStream<'static, Result<PlacedBatch>>> {
        use std::sync::atomic::Ordering::Relaxed;
        let (file, names) = &self.files[file];
        let reading = Reading::new(names, &self.schema, projection, self.delimiter);
        let state = (rows(file, self.delimiter).await?, CsvRows::default(), reading, false);
        let begin = first.load(Relaxed);
        Ok(futures::stream::try_unfold(state, move |(mut pieces, mut rows, reading, mut ended)| {
            let first = Arc::clone(&first);
            async move {
                while !ended && rows.places.len() < BATCH_ROWS && rows.text.len() < BATCH_BYTES {
                    match pieces.try_next().await? {
                        Some(more) => {
                            rows.text.extend_from_slice(&more.text);
                            rows.places.extend(more.places);
                            rows.next = more.next;
                        }
                        None => ended = true,
                    }
                }
                if rows.places.is_empty() {
                    // Of the last rows all are bad.
                    first.store(begin + rows.next as i64, Relaxed);
                    return Ok(None);
                }
                let text = std::mem::take(&mut rows.text);
                let places: Vec<i64> = rows.places.drain(..).map(|place| begin + place as i64).collect();
                let batch = reading.batch(&text, places)?;
                first.store(begin + rows.next as i64, Relaxed);
                Ok(Some((batch, (pieces, rows, reading, ended))))
            }
        })
        .boxed())
    }
}

/// How rows of a file are made batches.
struct Reading {
    delimiter: u8,
    /// The file's columns in the split's types.
    own: SchemaRef,
    /// Those that are read, and of each wanted column its place among them or its type.
    read: Vec<usize>,
    wanted: Vec<std::result::Result<usize, DataType>>,
}

impl Reading {
    fn new(names: &[String], schema: &Schema, projection: &[usize], delimiter: u8) -> Reading {
        let wanted: Vec<&Field> =
            projection.iter().filter_map(|at| schema.fields().get(*at)).map(AsRef::as_ref).collect();
        let read: Vec<usize> =
            (0..names.len()).filter(|at| wanted.iter().any(|field| *field.name() == names[*at])).collect();
        let place = |field: &&Field| {
            let place = read.iter().position(|at| names[*at] == *field.name());
            place.ok_or_else(|| field.data_type().clone())
        };
        let typed = |name: &String| {
            let field = schema.field_with_name(name).map(|field| field.data_type().clone());
            Field::new(name, field.unwrap_or(DataType::Utf8), true)
        };
        Reading {
            delimiter,
            own: Arc::new(Schema::new(names.iter().map(typed).collect::<Vec<_>>())),
            wanted: wanted.iter().map(place).collect(),
            read,
        }
    }

    fn decoder(&self, rows: usize) -> Decoder {
        ReaderBuilder::new(Arc::clone(&self.own))
            .with_delimiter(self.delimiter)
            .with_batch_size(rows)
            .with_projection(self.read.clone())
            .build_decoder()
    }

    fn batch(&self, text: &[u8], places: Vec<i64>) -> Result<PlacedBatch> {
        let rows = places.len();
        let mut read: Vec<ArrayRef> = Vec::new();
        if !self.read.is_empty() {
            let mut decoder = self.decoder(rows);
            let mut at = 0;
            while at < text.len() {
                match decoder.decode(&text[at..])? {
                    0 => break,
                    taken => at += taken,
                }
            }
            match decoder.flush()? {
                Some(batch) if batch.num_rows() == rows => read = batch.columns().to_vec(),
                _ => return exec_err!("its rows are not what they were when it was opened"),
            }
        }
        let column = |place: &std::result::Result<usize, DataType>| match place {
            Ok(at) => Arc::clone(&read[*at]),
            Err(data_type) => new_null_array(data_type, rows),
        };
        Ok(PlacedBatch { columns: self.wanted.iter().map(column).collect(), places })
    }
}

/// A file's rows, as many at a time as a piece of its bytes holds.
async fn rows(file: &RawFile, delimiter: u8) -> Result<BoxStream<'static, Result<CsvRows>>> {
    let pieces = file.bytes().await?;
    let state = (file.clone(), pieces, CsvSplitter::new(delimiter), false);
    Ok(futures::stream::try_unfold(state, |(file, mut pieces, mut splitter, ended)| async move {
        if ended {
            return Ok(None);
        }
        let mut rows = CsvRows::default();
        let no_table = |what: String| DataFusionError::Plan(format!("'{}' cannot be read: {what}", file.name));
        let mut ended = false;
        match pieces.try_next().await {
            Ok(Some(piece)) => splitter.push(&piece, &mut rows).map_err(no_table)?,
            Ok(None) => {
                splitter.finish(&mut rows).map_err(no_table)?;
                ended = true;
            }
            Err(e) if file.is_cut(&e) => {
                splitter.finish(&mut rows).map_err(no_table)?;
                let what = format!("the compressed data is broken: {e}; the rest of the file is not read");
                rows.bad.push(BadRow { line: splitter.line(), what });
                ended = true;
            }
            Err(e) => return Err(e.context(format!("'{}' cannot be read", file.name))),
        }
        rows.header = splitter.header().map(<[String]>::to_vec).unwrap_or_default();
        rows.next = splitter.next();
        Ok(Some((rows, (file, pieces, splitter, ended))))
    })
    .boxed())
}

/// A file's columns and how many rows are good; each row that cannot be read goes to `take`.
async fn columns(file: &RawFile, delimiter: u8, take: &mut impl FnMut(BadRow)) -> Result<(Schema, usize)> {
    let mut pieces = rows(file, delimiter).await?;
    let mut names: Vec<String> = Vec::new();
    let mut types: Vec<Vec<DataType>> = Vec::new();
    let mut text = Vec::new();
    let mut good = 0;
    let format = Format::default().with_header(false).with_delimiter(delimiter);
    loop {
        let piece = pieces.try_next().await?;
        let ended = piece.is_none();
        if let Some(rows) = piece {
            rows.bad.into_iter().for_each(&mut *take);
            good += rows.places.len();
            text.extend_from_slice(&rows.text);
            names = rows.header;
        }
        types.resize_with(names.len(), Vec::new);
        if !text.is_empty() && (ended || text.len() > BATCH_BYTES / 16) {
            let (found, _) = format.infer_schema(Cursor::new(&text), None)?;
            for (types, field) in types.iter_mut().zip(found.fields()) {
                if !field.data_type().is_null() && !types.contains(field.data_type()) {
                    types.push(field.data_type().clone());
                }
            }
            text.clear();
        }
        if ended {
            break;
        }
    }
    let field = |(name, types): (String, Vec<DataType>)| Field::new(name, type_of(&types), true);
    Ok((Schema::new(names.into_iter().zip(types).map(field).collect::<Vec<_>>()), good))
}

/// The type of a column whose parts are of these types, as DataFusion takes it.
fn type_of(types: &[DataType]) -> DataType {
    let number = |data_type: &DataType| matches!(data_type, DataType::Int64 | DataType::Float64);
    match types {
        [] => DataType::Null,
        [one] => one.clone(),
        several if several.iter().all(number) => DataType::Float64,
        _ => DataType::Utf8,
    }
}
