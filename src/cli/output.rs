//! Query results on standard output or into a file, streamed batch by batch: a result may be larger than memory.

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::json::{LineDelimitedWriter, WriterBuilder};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::dataframe::DataFrame;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_writer::ArrowWriterOptions;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;
use futures::StreamExt;
use tempfile::{NamedTempFile, TempPath};

use super::arguments::Format;
use super::console::beside_bars;
use super::result_table::{Layout, markdown_head, markdown_rows, records, table};

/// Rows a printed table is laid out over; a longer result is several tables.
const TABLE_ROWS: usize = 1000;

/// What to do about two results in one file.
const ONE_RESULT: &str = "join them with UNION ALL, run a command for each, or take --format ndjson";

/// Where results go, and how they look.
#[derive(Debug, Default)]
pub struct Output {
    pub format: Format,
    /// One line a column instead of one a row, for tables.
    pub expanded: bool,
    /// Standard output where there is none.
    file: Option<Target>,
    /// Whether standard output is read as one file, too.
    is_one_file: bool,
    /// The columns of the results that are in the file already.
    columns: Option<Vec<String>>,
}

/// The file that results go into.
#[derive(Debug)]
struct Target {
    /// As the user names it.
    path: PathBuf,
    file: BufWriter<File>,
    /// What is written until it is whole, and the file whose place it takes then. It is gone where nobody says so.
    unnamed: Option<(TempPath, PathBuf)>,
}

impl Target {
    fn direct(path: &Path) -> Result<Target> {
        let file = File::create(path).map_err(|e| cannot_write(path, &e))?;
        Ok(Target { path: path.to_owned(), file: BufWriter::new(file), unnamed: None })
    }

    /// Beside the file, which stays as it is until [`Target::finish`]. Pipes and devices are written to at once.
    fn beside(path: &Path) -> Result<Target> {
        // /dev/stdout is a plain file where the shell has redirected it, and must stay that one.
        let is_special = ["/dev", "/proc"].iter().any(|folder| path.starts_with(folder));
        let there = fs::metadata(path).ok();
        if is_special || there.as_ref().is_some_and(|there| !there.is_file()) {
            return Target::direct(path);
        }
        let place = match &there {
            Some(_) => {
                // One that may not be written is not replaced either.
                File::options().write(true).open(path).map_err(|e| cannot_write(path, &e))?;
                // The file behind a link, not the link.
                fs::canonicalize(path).map_err(|e| cannot_write(path, &e))?
            }
            None => path.to_owned(),
        };
        let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Where no other file can be made, or it cannot be as open to others as the one that is there.
        let Ok(temporary) = temporary(folder) else { return Target::direct(path) };
        if there.is_some_and(|there| temporary.as_file().set_permissions(there.permissions()).is_err()) {
            return Target::direct(path);
        }
        let (file, temporary) = temporary.into_parts();
        Ok(Target { path: path.to_owned(), file: BufWriter::new(file), unnamed: Some((temporary, place)) })
    }

    /// All is written: the file gets its name.
    fn finish(self) -> Result<()> {
        let Target { path, mut file, unnamed } = self;
        file.flush().map_err(|e| cannot_write(&path, &e))?;
        // Closed first: not every system renames an open file.
        drop(file);
        match unnamed {
            Some((temporary, place)) => temporary.persist(place).map_err(|e| cannot_write(&path, &e.error)),
            None => Ok(()),
        }
    }
}

/// A file without a name of its own yet, as open to others as any new file.
fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".seedmill-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

impl Output {
    /// Standard output.
    pub fn of(format: Format) -> Output {
        Output { format, ..Output::default() }
    }

    /// Standard output, where what several statements give is to be read as one file.
    pub fn as_one_file(format: Format) -> Output {
        Output { format, is_one_file: true, ..Output::default() }
    }

    /// Into a file, which is made anew, or to standard output again.
    pub fn redirect(&mut self, path: Option<&Path>) -> Result<()> {
        self.finish()?;
        self.file = path.map(Target::direct).transpose()?;
        Ok(())
    }

    /// Into a file that is there as a whole once [`Output::finish`] is called; until then an older one stays.
    pub fn replace(&mut self, path: &Path) -> Result<()> {
        self.finish()?;
        self.file = Some(Target::beside(path)?);
        Ok(())
    }

    /// The results are written; what comes next goes to standard output.
    pub fn finish(&mut self) -> Result<()> {
        self.columns = None;
        self.file.take().map_or(Ok(()), Target::finish)
    }

    /// The result as a whole; gives the number of rows.
    ///
    /// # Errors
    /// Those of the query, of writing, and `Plan` where Parquet would go to a terminal or a file holds a result that
    /// this one cannot follow.
    pub async fn print(&mut self, frame: DataFrame) -> Result<usize> {
        let columns: Vec<String> = frame.schema().fields().iter().map(|field| field.name().clone()).collect();
        let follows = self.follows(&columns)?;
        let mut stream = frame.execute_stream().await?;
        self.columns = Some(columns);
        let schema = stream.schema();
        let mut writer = self.writer(&schema, follows)?;
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

    /// # Errors
    /// `Plan` where so many results are more than the file can hold. Asked before the first one is paid for.
    pub fn need_room(&self, results: usize) -> Result<()> {
        let what = match self.format {
            Format::Parquet => "Parquet",
            Format::Json => "JSON",
            Format::Csv | Format::Ndjson | Format::Table | Format::Markdown => return Ok(()),
        };
        if results < 2 || !self.is_file() {
            return Ok(());
        }
        plan_err!("one result a file: {what} has no place for a second; {ONE_RESULT}")
    }

    fn is_file(&self) -> bool {
        self.is_one_file || self.file.is_some()
    }

    /// Whether a result with these columns goes on in a file that has one already.
    fn follows(&self, columns: &[String]) -> Result<bool> {
        let Some(before) = self.columns.as_ref().filter(|_| self.is_file()) else { return Ok(false) };
        self.need_room(2)?;
        if self.format == Format::Csv && before.as_slice() != columns {
            return plan_err!("one result a file: CSV has no place for a second with other columns; {ONE_RESULT}");
        }
        Ok(true)
    }

    /// `follows`: whether rows with the same columns stand in the file before.
    fn writer(&self, schema: &SchemaRef, follows: bool) -> Result<Writer> {
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
            Format::Csv => Writer::Csv { schema: Arc::clone(schema), header: !follows },
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
            Some(Target { path, file, .. }) => {
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
    // A column that is NULL is there all the same: rows have the columns that the result has.
    let mut writer: LineDelimitedWriter<_> = WriterBuilder::new().with_explicit_nulls(true).build(out);
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
