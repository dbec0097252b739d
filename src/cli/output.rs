//! Query results on standard output, streamed batch by batch.

use std::io::{self, Write};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::common::{DataFusionError, Result};
use datafusion::dataframe::DataFrame;
use futures::StreamExt;

use super::arguments::Format;
use super::console::beside_bars;

/// Rows a printed table is laid out over; a longer result is several tables.
const TABLE_ROWS: usize = 1000;

/// Prints a result; gives the number of rows.
pub async fn print(frame: DataFrame, format: Format) -> Result<usize> {
    let mut stream = frame.execute_stream().await?;
    let schema = stream.schema();
    let mut out = Vec::<u8>::new();
    let (mut rows, mut held, mut held_rows, mut printed) = (0, Vec::<RecordBatch>::new(), 0, false);
    let mut header = true;
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        rows += batch.num_rows();
        match format {
            Format::Table => {
                held_rows += batch.num_rows();
                held.push(batch);
                if held_rows >= TABLE_ROWS {
                    print_table(&mut out, &std::mem::take(&mut held))?;
                    (held_rows, printed) = (0, true);
                }
            }
            Format::Csv => {
                let mut writer = datafusion::arrow::csv::WriterBuilder::new().with_header(header).build(&mut out);
                writer.write(&flat(&batch)?)?;
                header = false;
            }
            Format::Json => {
                let mut writer = datafusion::arrow::json::LineDelimitedWriter::new(&mut out);
                writer.write(&batch)?;
                writer.finish()?;
            }
        }
        write_out(&mut out)?;
    }
    if format == Format::Table && (held_rows > 0 || !printed && !schema.fields().is_empty()) {
        if held.is_empty() {
            held.push(RecordBatch::new_empty(schema));
        }
        print_table(&mut out, &held)?;
    }
    write_out(&mut out)?;
    Ok(rows)
}

/// Prints a text.
pub fn text(text: &str) -> Result<()> {
    write_out(&mut text.as_bytes().to_vec())
}

/// Writes what is there, whole lines at a time, and empties it.
fn write_out(out: &mut Vec<u8>) -> Result<()> {
    if !out.is_empty() {
        beside_bars(|| {
            let mut stdout = io::stdout().lock();
            stdout.write_all(out)?;
            stdout.flush()
        })?;
        out.clear();
    }
    Ok(())
}

fn print_table(out: &mut impl Write, batches: &[RecordBatch]) -> Result<()> {
    writeln!(out, "{}", pretty_format_batches(batches)?)?;
    Ok(())
}

/// Lists and structs as text: CSV has no form for them.
fn flat(batch: &RecordBatch) -> Result<RecordBatch> {
    use datafusion::arrow::array::{ArrayRef, StringArray};
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
    use std::sync::Arc;

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
