//! Turns one row of Arrow data into a template value: structs become dicts in field order, lists become lists, NULL
//! becomes none. What Python's `datasets` would show as another type (times, decimals) becomes its text.

use arrow::array::{Array, AsArray, MapArray, StructArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type, UInt64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion_common::Result;
use minijinja::Value;

/// The names and values of one row of a struct array.
pub(crate) fn row_value(array: &StructArray, row: usize) -> Result<Value> {
    let mut pairs = Vec::with_capacity(array.num_columns());
    for (field, column) in array.fields().iter().zip(array.columns()) {
        pairs.push((Value::from(field.name().as_str()), value(column.as_ref(), row)?));
    }
    Ok(Value::from_pairs(pairs))
}

fn value(array: &dyn Array, row: usize) -> Result<Value> {
    if array.is_null(row) {
        return Ok(Value::from(()));
    }
    Ok(match array.data_type() {
        DataType::Null => Value::from(()),
        DataType::Boolean => Value::from(array.as_boolean().value(row)),
        DataType::Utf8 => Value::from(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Value::from(array.as_string::<i64>().value(row)),
        DataType::Utf8View => Value::from(array.as_string_view().value(row)),
        DataType::Int64 => Value::from(array.as_primitive::<Int64Type>().value(row)),
        DataType::UInt64 => Value::from(array.as_primitive::<UInt64Type>().value(row)),
        integer if integer.is_integer() => cast_value(array, row, &DataType::Int64)?,
        DataType::Float16 => cast_value(array, row, &DataType::Float64)?,
        DataType::Float32 => Value::from(f64::from(array.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => Value::from(array.as_primitive::<Float64Type>().value(row)),
        DataType::List(_) => items(array.as_list::<i32>().value(row).as_ref())?,
        DataType::LargeList(_) => items(array.as_list::<i64>().value(row).as_ref())?,
        DataType::ListView(_) => items(array.as_list_view::<i32>().value(row).as_ref())?,
        DataType::LargeListView(_) => items(array.as_list_view::<i64>().value(row).as_ref())?,
        DataType::FixedSizeList(..) => items(array.as_fixed_size_list().value(row).as_ref())?,
        DataType::Struct(_) => row_value(array.as_struct(), row)?,
        DataType::Map(..) => entries(array.as_map(), row)?,
        DataType::Binary => Value::from_bytes(array.as_binary::<i32>().value(row).to_vec()),
        DataType::LargeBinary => Value::from_bytes(array.as_binary::<i64>().value(row).to_vec()),
        DataType::BinaryView => Value::from_bytes(array.as_binary_view().value(row).to_vec()),
        DataType::Dictionary(_, values) => cast_value(array, row, values)?,
        _ => Value::from(ArrayFormatter::try_new(array, &FormatOptions::default())?.value(row).to_string()),
    })
}

fn cast_value(array: &dyn Array, row: usize, data_type: &DataType) -> Result<Value> {
    value(arrow::compute::cast(&array.slice(row, 1), data_type)?.as_ref(), 0)
}

fn items(array: &dyn Array) -> Result<Value> {
    Ok(Value::from((0..array.len()).map(|row| value(array, row)).collect::<Result<Vec<_>>>()?))
}

fn entries(array: &MapArray, row: usize) -> Result<Value> {
    let entries = array.value(row);
    let mut pairs = Vec::with_capacity(entries.len());
    for entry in 0..entries.len() {
        pairs.push((value(entries.column(0).as_ref(), entry)?, value(entries.column(1).as_ref(), entry)?));
    }
    Ok(Value::from_pairs(pairs))
}
