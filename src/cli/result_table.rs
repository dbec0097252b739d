//! Rows as people read them: a table whose long texts are folded to the terminal's width, one line a column, Markdown.

use std::fmt::Write as _;
use std::io::Write;

use comfy_table::{ContentArrangement, Table};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::Result;
use unicode_width::UnicodeWidthStr;

/// Lines as DataFusion's own program draws them.
const PRESET: &str = "||--+-++|    ++++++";

/// How much room there is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Layout {
    /// Columns of the terminal; as much as the texts take where it is none.
    pub width: Option<u16>,
}

/// The texts of a batch's cells, row by row; NULL is empty, as in DataFusion's own program.
fn cells(batch: &RecordBatch) -> Result<Vec<Vec<String>>> {
    let options = FormatOptions::default().with_display_error(true);
    let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
    let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
    let row = |row| columns.iter().map(|column| column.value(row).to_string()).collect();
    Ok((0..batch.num_rows()).map(row).collect())
}

/// All rows as one table; the batches have one schema.
pub fn table(out: &mut Vec<u8>, batches: &[RecordBatch], layout: &Layout) -> Result<()> {
    let Some(first) = batches.first() else { return Ok(()) };
    let mut table = Table::new();
    table.load_preset(PRESET);
    if let Some(width) = layout.width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table.set_header(first.schema().fields().iter().map(|field| field.name()));
    for batch in batches {
        for row in cells(batch)? {
            table.add_row(row);
        }
    }
    writeln!(out, "{table}")?;
    Ok(())
}

/// Each row as lines of `name | value`, numbered on from `before`; gives how many rows there were.
pub fn records(out: &mut Vec<u8>, batch: &RecordBatch, before: usize, layout: &Layout) -> Result<usize> {
    let schema = batch.schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let width = names.iter().map(|name| name.width()).max().unwrap_or(0);
    let room = layout.width.map_or(usize::MAX, |all| usize::from(all).saturating_sub(width + 3).max(20));
    for (index, row) in cells(batch)?.into_iter().enumerate() {
        writeln!(out, "-[ RECORD {} ]{}", before + index + 1, "-".repeat(width.max(20)))?;
        for (name, value) in names.iter().zip(row) {
            for (line, part) in folded(&value, room).into_iter().enumerate() {
                let name = if line == 0 { name } else { "" };
                writeln!(out, "{name}{} | {part}", " ".repeat(width - name.width()))?;
            }
        }
    }
    Ok(batch.num_rows())
}

/// Lines of at most `room` columns, broken at white space where there is any.
fn folded(text: &str, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let (mut current, mut columns) = (String::new(), 0);
        for word in line.split_inclusive(' ') {
            let needs = word.trim_end().width();
            if columns > 0 && columns + needs > room {
                lines.push(std::mem::take(&mut current));
                columns = 0;
            }
            for c in word.chars() {
                let needs = unicode_width::UnicodeWidthChar::width(c).unwrap_or(0);
                if columns + needs > room && c != ' ' {
                    lines.push(std::mem::take(&mut current));
                    columns = 0;
                }
                current.push(c);
                columns += needs;
            }
        }
        lines.push(current);
    }
    lines
}

/// The first two lines of a Markdown table.
pub fn markdown_head(out: &mut Vec<u8>, schema: &Schema) {
    let (mut names, mut rule) = (String::from("|"), String::from("|"));
    for field in schema.fields() {
        // Writing to a String cannot fail.
        let _ = write!(names, " {} |", markdown(field.name()));
        rule.push_str(if field.data_type().is_numeric() { " ---: |" } else { " --- |" });
    }
    out.extend_from_slice(format!("{names}\n{rule}\n").as_bytes());
}

/// The other lines.
pub fn markdown_rows(out: &mut Vec<u8>, batch: &RecordBatch) -> Result<()> {
    for row in cells(batch)? {
        let row: Vec<String> = row.iter().map(|cell| markdown(cell)).collect();
        writeln!(out, "| {} |", row.join(" | "))?;
    }
    Ok(())
}

/// A text that stays within its cell.
fn markdown(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace("\r\n", "<br>").replace('\n', "<br>")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn batch() -> RecordBatch {
        let n: ArrayRef = Arc::new(Int64Array::from(vec![1, 22]));
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some("a | b\nc"), None]));
        RecordBatch::try_from_iter_with_nullable([("n", n, false), ("text", text, true)]).unwrap()
    }

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn long_texts_are_folded_to_the_width() {
        let long: ArrayRef = Arc::new(StringArray::from(vec!["why is the sky blue by day and red at night"]));
        let batch = RecordBatch::try_from_iter([("question", long)]).unwrap();
        let table = text(|out| table(out, &[batch], &Layout { width: Some(24) }).unwrap());
        assert!(table.lines().all(|line| line.width() <= 24) && table.lines().count() > 5, "{table}");
        assert_eq!(folded("one two three", 8), ["one two ", "three"]);
        assert_eq!(folded("日本語の文", 4), ["日本", "語の", "文"]);
    }

    #[test]
    fn records_have_one_line_a_column() {
        insta::assert_snapshot!(text(|out| assert_eq!(records(out, &batch(), 4, &Layout::default()).unwrap(), 2)), @r"
        -[ RECORD 5 ]--------------------
        n    | 1
        text | a | b
             | c
        -[ RECORD 6 ]--------------------
        n    | 22
        text | 
        ");
    }

    #[test]
    fn markdown_cells_hold_bars_and_lines() {
        let markdown = text(|out| {
            markdown_head(out, &batch().schema());
            markdown_rows(out, &batch()).unwrap();
        });
        assert_eq!(markdown, "| n | text |\n| ---: | --- |\n| 1 | a \\| b<br>c |\n| 22 |  |\n");
    }
}
