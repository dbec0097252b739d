//! A query's result as a page shows it: columns by name, each cell with its text, its number where it is one, and its
//! texts where it is a list.

use datafusion::arrow::array::{Array, AsArray, Float64Array, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::Result;
use datafusion::dataframe::DataFrame;
use serde::Serialize;

/// One value.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cell {
    pub text: String,
    pub number: Option<f64>,
    /// Of a list of texts.
    pub texts: Vec<String>,
}

/// A result of a few rows.
#[derive(Debug, Clone, Default, Serialize)]
pub struct QueryResult {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Cell>>,
}

impl QueryResult {
    pub async fn of(frame: DataFrame) -> Result<QueryResult> {
        let columns = frame.schema().fields().iter().map(|field| field.name().clone()).collect();
        let mut rows = Vec::new();
        for batch in frame.collect().await? {
            add(&mut rows, &batch)?;
        }
        Ok(QueryResult { columns, rows })
    }

    /// The place of a column.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }
}

fn add(rows: &mut Vec<Vec<Cell>>, batch: &RecordBatch) -> Result<()> {
    let first = rows.len();
    rows.resize_with(first + batch.num_rows(), Vec::new);
    for column in batch.columns() {
        let numbers = column.data_type().is_numeric().then(|| cast(column, &DataType::Float64)).transpose()?;
        let numbers = numbers.as_ref().and_then(|numbers| numbers.as_any().downcast_ref::<Float64Array>());
        let is_whole = column.data_type().is_integer();
        let options = FormatOptions::default();
        let formatter = ArrayFormatter::try_new(column, &options)?;
        for row in 0..batch.num_rows() {
            let cells = &mut rows[first + row];
            if column.is_null(row) {
                cells.push(Cell::default());
                continue;
            }
            let number = numbers.map(|numbers| numbers.value(row));
            cells.push(Cell {
                text: match number {
                    Some(number) if !is_whole => short(number),
                    _ => formatter.value(row).to_string(),
                },
                number,
                texts: texts(column, row),
            });
        }
    }
    Ok(())
}

fn texts(column: &dyn Array, row: usize) -> Vec<String> {
    let Some(list) = column.as_list_opt::<i32>().map(|lists| lists.value(row)) else { return Vec::new() };
    let list = cast(&list, &DataType::Utf8).unwrap_or(list);
    let texts = list.as_string_opt::<i32>();
    texts.map(|texts| texts.iter().flatten().map(str::to_owned).collect()).unwrap_or_default()
}

/// A number with at most four digits behind the point.
pub fn short(number: f64) -> String {
    let text = format!("{number:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lose_zeros_behind_the_point() {
        assert_eq!([0.0, 0.25, 12.0, 1.0 / 3.0, 120.0].map(short), ["0", "0.25", "12", "0.3333", "120"]);
    }
}
