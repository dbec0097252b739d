//! Query results on standard output or into a file, streamed batch by batch: a result may be larger than memory.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::dataframe::DataFrame;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_writer::ArrowWriterOptions;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;
use futures::StreamExt;

use super::arguments::Format;
use super::console::beside_bars;
use super::result_table::{Layout, markdown_head, markdown_rows, records, table};

/// Rows a printed table is laid out over; a longer result is several tables.
const TABLE_ROWS: usize = 1000;

/// Where results go, and how they look.
#[derive(Debug, Default)]
pub struct Output {
    pub format: Format,
    /// One line a column instead of one a row, for tables.
    pub expanded: bool,
    /// Standard output where there is none.
    file: Option<(PathBuf, BufWriter<File>)>,
}

impl Output {
    /// Standard output.
    pub fn of(format: Format) -> Output {
        Output { format, ..Output::default() }
    }

    /// Into a file, which is made anew, or to standard output again.
    pub fn redirect(&mut self, path: Option<&Path>) -> Result<()> {
        if let Some((path, mut file)) = self.file.take() {
            file.flush().map_err(|e| cannot_write(&path, &e))?;
        }
        if let Some(path) = path {
            let file = File::create(path).map_err(|e| cannot_write(path, &e))?;
            self.file = Some((path.to_owned(), BufWriter::new(file)));
        }
        Ok(())
    }

    /// The result as a whole; gives the number of rows.
    ///
    /// # Errors
    /// Those of the query, of writing, and `Plan` where Parquet would go to a terminal.
    pub async fn print(&mut self, frame: DataFrame) -> Result<usize> {
        let mut stream = frame.execute_stream().await?;
        let schema = stream.schema();
        let mut writer = self.writer(&schema)?;
        let (mut rows, mut out) = (0, Vec::new());
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            rows += batch.num_rows();
            writer.write(batch, &mut out)?;
            self.send(&mut out)?;
        }
        writer.finish(&mut out)?;
        self.send(&mut out)?;
        Ok(rows)
    }

    fn writer(&self, schema: &SchemaRef) -> Result<Writer> {
        let to_terminal = self.file.is_none() && io::stdout().is_terminal();
        let layout = Layout { width: if to_terminal { terminal_width() } else { None } };
        Ok(match self.format {
            Format::Table if self.expanded => Writer::Records { layout, rows: 0 },
            Format::Table => Writer::Table {
                layout,
                held: Vec::new(),
                rows: 0,
                any: schema.fields().is_empty(),
                schema: Arc::clone(schema),
            },
            Format::Markdown => Writer::Markdown { schema: Arc::clone(schema), any: false },
            Format::Csv => Writer::Csv { schema: Arc::clone(schema), header: true },
            Format::Json => Writer::Json { lines: false, any: false },
            Format::Ndjson => Writer::Json { lines: true, any: false },
            Format::Parquet if to_terminal => {
                return plan_err!("Parquet is not for a terminal: name a file with --output, or \\o in the shell");
            }
            Format::Parquet => Writer::Parquet(Box::new(parquet_writer(schema)?)),
        })
    }

    /// Writes what is there, whole lines at a time, and empties it.
    fn send(&mut self, out: &mut Vec<u8>) -> Result<()> {
        match &mut self.file {
            Some((path, file)) => {
                file.write_all(out).and_then(|()| file.flush()).map_err(|e| cannot_write(path, &e))?
            }
            None => to_stdout(out)?,
        }
        out.clear();
        Ok(())
    }
}

/// Prints a text on standard output.
pub fn text(text: &str) -> Result<()> {
    to_stdout(text.as_bytes())
}

fn to_stdout(bytes: &[u8]) -> Result<()> {
    if !bytes.is_empty() {
        beside_bars(|| {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes)?;
            stdout.flush()
        })?;
    }
    Ok(())
}

fn cannot_write(path: &Path, error: &io::Error) -> DataFusionError {
    DataFusionError::Execution(format!("{} cannot be written: {error}", path.display()))
}

/// Columns of the terminal that standard output is.
fn terminal_width() -> Option<u16> {
    terminal_size::terminal_size().map(|(width, _)| width.0).filter(|width| *width >= 20)
}

/// One result on its way.
enum Writer {
    Table { layout: Layout, held: Vec<RecordBatch>, rows: usize, any: bool, schema: SchemaRef },
    Records { layout: Layout, rows: usize },
    Markdown { schema: SchemaRef, any: bool },
    Csv { schema: SchemaRef, header: bool },
    Json { lines: bool, any: bool },
    Parquet(Box<ArrowWriter<Vec<u8>>>),
}

impl Writer {
    fn write(&mut self, batch: RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Writer::Table { layout, held, rows, any, .. } => {
                *rows += batch.num_rows();
                held.push(batch);
                if *rows >= TABLE_ROWS {
                    table(out, &std::mem::take(held), layout)?;
                    (*rows, *any) = (0, true);
                }
            }
            Writer::Records { layout, rows } => *rows += records(out, &batch, *rows, layout)?,
            Writer::Markdown { any, .. } => {
                if !std::mem::replace(any, true) {
                    markdown_head(out, &batch.schema());
                }
                markdown_rows(out, &batch)?;
            }
            Writer::Csv { header, .. } => {
                let header = std::mem::replace(header, false);
                datafusion::arrow::csv::WriterBuilder::new().with_header(header).build(out).write(&flat(&batch)?)?;
            }
            Writer::Json { lines: true, .. } => json_lines(&batch, out)?,
            Writer::Json { lines: false, any } => {
                let mut lines = Vec::new();
                json_lines(&batch, &mut lines)?;
                for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    out.extend_from_slice(if std::mem::replace(any, true) { b",\n" } else { b"[" });
                    out.extend_from_slice(line);
                }
            }
            Writer::Parquet(writer) => {
                writer.write(&batch)?;
                out.append(writer.inner_mut());
            }
        }
        Ok(())
    }

    fn finish(self, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Writer::Table { layout, mut held, rows, any, schema } => {
                if rows > 0 || !any {
                    if held.is_empty() {
                        held.push(RecordBatch::new_empty(schema));
                    }
                    table(out, &held, &layout)?;
                }
            }
            Writer::Markdown { schema, any: false } => markdown_head(out, &schema),
            Writer::Csv { schema, header: true } => {
                let empty = flat(&RecordBatch::new_empty(schema))?;
                datafusion::arrow::csv::WriterBuilder::new().with_header(true).build(out).write(&empty)?;
            }
            Writer::Json { lines: false, any } => out.extend_from_slice(if any { b"]\n" } else { b"[]\n" }),
            Writer::Parquet(writer) => out.append(&mut writer.into_inner()?),
            Writer::Records { .. } | Writer::Markdown { .. } | Writer::Csv { .. } | Writer::Json { .. } => {}
        }
        Ok(())
    }
}

fn json_lines(batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
    let mut writer = datafusion::arrow::json::LineDelimitedWriter::new(out);
    writer.write(batch)?;
    writer.finish()?;
    Ok(())
}

/// Without Arrow's own schema in the footer the texts are plain strings to every reader, not views.
fn parquet_writer(schema: &SchemaRef) -> Result<ArrowWriter<Vec<u8>>> {
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?)).build();
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    Ok(ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(schema), options)?)
}

/// Lists and structs as text: CSV has no form for them.
fn flat(batch: &RecordBatch) -> Result<RecordBatch> {
    let (mut fields, mut columns) = (Vec::new(), Vec::<ArrayRef>::new());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if field.data_type().is_nested() {
            let options = FormatOptions::default();
            let formatter = ArrayFormatter::try_new(column, &options)?;
            let texts: StringArray =
                (0..column.len()).map(|row| column.is_valid(row).then(|| formatter.value(row).to_string())).collect();
            fields.push(Field::new(field.name(), DataType::Utf8, true));
            columns.push(Arc::new(texts));
        } else {
            fields.push(field.as_ref().clone());
            columns.push(Arc::clone(column));
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(DataFusionError::from)
}
