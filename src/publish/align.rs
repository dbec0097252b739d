//! Puts a plan's columns into the published schema: by name, cast where the types differ, NULL where a column is
//! missing. In: a batch of the plan. Out: arrays in the order of `rejected`, and the passage.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, ListArray, StringArray, StringBuilder, StructArray, new_null_array,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::{CastOptions, can_cast_types, cast, cast_with_options, interleave};
use datafusion::arrow::datatypes::{DataType, Fields, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, plan_datafusion_err, plan_err};

use super::schema::{PASSAGE, REASONS, item, rejected_schema, score_fields};

/// Where each published column stands in the plan's rows.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    /// One a field of `rejected`; `None` is a column of NULLs.
    places: Vec<Option<usize>>,
    passage: Option<usize>,
}

/// A batch whose columns have the published types. `id` and `split` may still hold NULLs.
pub(crate) struct Aligned {
    /// In the order of `rejected`.
    pub columns: Vec<ArrayRef>,
    pub passage: Option<StringArray>,
    pub rows: usize,
}

impl Columns {
    /// Checks the columns of a plan. The error names the column and what the published schema takes.
    pub fn plan(input: &Schema) -> Result<Columns> {
        let published = rejected_schema();
        let mut columns = Columns { places: vec![None; published.fields().len()], passage: None };
        for (place, field) in input.fields().iter().enumerate() {
            let name = field.name().as_str();
            let (slot, to) = match published.column_with_name(name) {
                _ if name == PASSAGE => (&mut columns.passage, &DataType::Utf8),
                Some((index, to)) => (&mut columns.places[index], to.data_type()),
                None => return Err(unknown_column(name, &published)),
            };
            if slot.replace(place).is_some() {
                return plan_err!("the rows to publish have two columns '{name}'; rename or drop one");
            }
            let scores = name == "scores" && is_struct_of_numbers(field.data_type());
            if !scores && let Err(why) = readable(field.data_type(), to) {
                return plan_err!("column '{name}' of the rows to publish {why}; cast it in the SELECT");
            }
        }
        if input.column_with_name(REASONS).is_none() {
            return plan_err!(
                "the rows to publish lack the column '{REASONS}' TEXT[], which says why a row is rejected; add it to \
                 the SELECT (an empty list keeps the row)"
            );
        }
        Ok(columns)
    }

    /// Reads one batch. A value that its column's type cannot hold is an error that names the column.
    pub fn read(&self, batch: &RecordBatch) -> Result<Aligned> {
        let published = rejected_schema();
        let read = |name: &str, place: Option<usize>, to: &DataType| match place {
            None => Ok(new_null_array(to, batch.num_rows())),
            Some(place) => {
                let column = batch.column(place);
                let aligned = match column.data_type() {
                    DataType::Struct(fields) if name == "scores" => list_scores(column.as_struct(), fields),
                    _ => align(column, to),
                };
                aligned.map_err(|e| {
                    exec_datafusion_err!("column '{name}' of the rows to publish: {}", e.strip_backtrace())
                })
            }
        };
        let columns = published
            .fields()
            .iter()
            .zip(&self.places)
            .map(|(field, &place)| read(field.name(), place, field.data_type()))
            .collect::<Result<Vec<_>>>()?;
        let passage = match self.passage {
            None => None,
            place => Some(read(PASSAGE, place, &DataType::Utf8)?.as_string::<i32>().clone()),
        };
        Ok(Aligned { columns, passage, rows: batch.num_rows() })
    }
}

fn unknown_column(name: &str, published: &Schema) -> DataFusionError {
    let nearest = published
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)))
        .unwrap_or_default();
    plan_datafusion_err!(
        "the published schema has no column '{name}' (the nearest is '{nearest}'); rename it or leave it out of the SELECT"
    )
}

/// Whether values of one type can stand in a column of the other: `Err` says what is wrong, to follow a column's name.
fn readable(from: &DataType, to: &DataType) -> Result<(), String> {
    use DataType::{Dictionary, FixedSizeList, LargeList, LargeListView, List, ListView, Null, Struct};
    match (from, to) {
        (Null, _) => Ok(()),
        (Dictionary(_, values), _) => readable(values, to),
        (List(f) | LargeList(f) | ListView(f) | LargeListView(f) | FixedSizeList(f, _), List(t)) => {
            readable(f.data_type(), t.data_type())
        }
        (Struct(from), Struct(to)) => from.iter().try_for_each(|f| match to.find(f.name()) {
            Some((_, t)) => readable(f.data_type(), t.data_type()),
            None => Err(format!("has a field '{}' where only ({}) are published", f.name(), names(to))),
        }),
        (_, List(_) | Struct(_)) => Err(format!("is {from}, not {to}")),
        _ if from.is_nested() || !can_cast_types(from, to) => Err(format!("is {from}, not {to}")),
        _ => Ok(()),
    }
}

fn names(fields: &Fields) -> String {
    fields.iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
}

/// An array as another type that [`readable`] allows. Struct fields are matched by name: Arrow's own cast falls back
/// to their positions.
fn align(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    use DataType::{Dictionary, FixedSizeList, LargeList, LargeListView, List, ListView, Null, Struct};
    match (array.data_type(), to) {
        (from, to) if from == to => Ok(Arc::clone(array)),
        (Null, _) => Ok(new_null_array(to, array.len())),
        (List(_), List(field)) => {
            let list = array.as_list::<i32>();
            let values = align(list.values(), field.data_type())?;
            Ok(Arc::new(ListArray::try_new(Arc::clone(field), list.offsets().clone(), values, list.nulls().cloned())?))
        }
        (LargeList(f) | ListView(f) | LargeListView(f) | FixedSizeList(f, _), List(_)) => {
            align(&cast(array, &List(Arc::clone(f)))?, to)
        }
        (Dictionary(_, values), List(_) | Struct(_)) => align(&cast(array, values)?, to),
        (Struct(_), Struct(fields)) => {
            let from = array.as_struct();
            let columns = fields
                .iter()
                .map(|field| match from.column_by_name(field.name()) {
                    Some(column) => align(column, field.data_type()),
                    None => Ok(new_null_array(field.data_type(), from.len())),
                })
                .collect::<Result<Vec<_>>>()?;
            Ok(Arc::new(StructArray::try_new(fields.clone(), columns, from.nulls().cloned())?))
        }
        _ => Ok(cast_with_options(array, to, &CastOptions { safe: false, ..Default::default() })?),
    }
}

fn is_struct_of_numbers(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Struct(fields)
        if fields.iter().all(|field| field.data_type().is_numeric() || field.data_type().is_null()))
}

/// STRUCT(a DOUBLE, b DOUBLE, …) as a list of {name, value}, one item a field.
fn list_scores(scores: &StructArray, fields: &Fields) -> Result<ArrayRef> {
    let (rows, width) = (scores.len(), fields.len());
    let columns =
        scores.columns().iter().map(|column| align(column, &DataType::Float64)).collect::<Result<Vec<ArrayRef>>>()?;
    let columns: Vec<&dyn Array> = columns.iter().map(|column| column.as_ref()).collect();
    let places: Vec<(usize, usize)> = (0..rows).flat_map(|row| (0..width).map(move |field| (field, row))).collect();
    let values: ArrayRef =
        if width == 0 { Arc::new(Float64Array::from(Vec::<f64>::new())) } else { interleave(&columns, &places)? };
    let mut names = StringBuilder::new();
    for _ in 0..rows {
        fields.iter().for_each(|field| names.append_value(field.name()));
    }
    let items = StructArray::try_new(score_fields(), vec![Arc::new(names.finish()), values], None)?;
    Ok(Arc::new(ListArray::try_new(
        item(DataType::Struct(score_fields())),
        OffsetBuffer::from_repeated_length(width, rows),
        Arc::new(items),
        scores.nulls().cloned(),
    )?))
}
