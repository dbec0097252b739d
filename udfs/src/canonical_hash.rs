//! Feeds values into a hash in a form that does not depend on how Arrow stores them, so that hashes are the same on every
//! machine, in every version and for every string or integer type. `stable_hash` and `shuffle_options` stand on it.
//!
//! The form of a value is one tag byte and its content: 0 NULL; 1 boolean, one byte; 2 integer, 16 bytes little-endian
//! two's complement; 3 floating point, the 8 bytes of the f64 little-endian (-0 as 0, one NaN); 4 text, its length as 8
//! bytes and its UTF-8; 5 bytes, likewise; 6 list or struct, its length as 8 bytes and its items; 7 anything else (times,
//! decimals), as text in Arrow's display form.

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use blake3::Hasher;
use datafusion_common::Result;

use crate::arguments::Arguments;

/// The hash of the arguments from `first` on in one row.
pub(crate) fn hash_arguments(arguments: &Arguments, first: usize, row: usize) -> Result<Hasher> {
    let mut hasher = Hasher::new();
    for position in first..arguments.len() {
        let (array, place) = arguments.column(position)?.at(row);
        feed(&mut hasher, array, place)?;
    }
    Ok(hasher)
}

pub(crate) fn feed(hasher: &mut Hasher, array: &dyn Array, row: usize) -> Result<()> {
    if array.is_null(row) {
        hasher.update(&[0]);
        return Ok(());
    }
    match array.data_type() {
        DataType::Null => {
            hasher.update(&[0]);
        }
        DataType::Boolean => {
            hasher.update(&[1, u8::from(array.as_boolean().value(row))]);
        }
        DataType::Int64 => feed_integer(hasher, array.as_primitive::<Int64Type>().value(row).into()),
        DataType::UInt64 => feed_integer(hasher, array.as_primitive::<UInt64Type>().value(row).into()),
        integer if integer.is_integer() => feed_cast(hasher, array, row, &DataType::Int64)?,
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            let value = if value.is_nan() { f64::NAN } else { value + 0.0 };
            hasher.update(&[3]).update(&value.to_bits().to_le_bytes());
        }
        DataType::Float16 | DataType::Float32 => feed_cast(hasher, array, row, &DataType::Float64)?,
        DataType::Utf8 => feed_bytes(hasher, 4, array.as_string::<i32>().value(row).as_bytes()),
        DataType::LargeUtf8 => feed_bytes(hasher, 4, array.as_string::<i64>().value(row).as_bytes()),
        DataType::Utf8View => feed_bytes(hasher, 4, array.as_string_view().value(row).as_bytes()),
        DataType::Binary => feed_bytes(hasher, 5, array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => feed_bytes(hasher, 5, array.as_binary::<i64>().value(row)),
        DataType::BinaryView => feed_bytes(hasher, 5, array.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => feed_bytes(hasher, 5, array.as_fixed_size_binary().value(row)),
        DataType::List(_) => feed_items(hasher, array.as_list::<i32>().value(row).as_ref())?,
        DataType::LargeList(_) => feed_items(hasher, array.as_list::<i64>().value(row).as_ref())?,
        DataType::ListView(_) => feed_items(hasher, array.as_list_view::<i32>().value(row).as_ref())?,
        DataType::LargeListView(_) => feed_items(hasher, array.as_list_view::<i64>().value(row).as_ref())?,
        DataType::FixedSizeList(..) => feed_items(hasher, array.as_fixed_size_list().value(row).as_ref())?,
        DataType::Struct(fields) => {
            feed_length(hasher, 6, fields.len());
            for column in array.as_struct().columns() {
                feed(hasher, column.as_ref(), row)?;
            }
        }
        DataType::Map(..) => feed_items(hasher, &array.as_map().value(row))?,
        DataType::Dictionary(_, values) => feed_cast(hasher, array, row, values)?,
        _ => {
            let text = ArrayFormatter::try_new(array, &FormatOptions::default())?.value(row).try_to_string()?;
            feed_bytes(hasher, 7, text.as_bytes());
        }
    }
    Ok(())
}

fn feed_cast(hasher: &mut Hasher, array: &dyn Array, row: usize, data_type: &DataType) -> Result<()> {
    feed(hasher, cast(&array.slice(row, 1), data_type)?.as_ref(), 0)
}

fn feed_integer(hasher: &mut Hasher, value: i128) {
    hasher.update(&[2]).update(&value.to_le_bytes());
}

fn feed_bytes(hasher: &mut Hasher, tag: u8, bytes: &[u8]) {
    feed_length(hasher, tag, bytes.len());
    hasher.update(bytes);
}

fn feed_length(hasher: &mut Hasher, tag: u8, length: usize) {
    hasher.update(&[tag]).update(&(length as u64).to_le_bytes());
}

fn feed_items(hasher: &mut Hasher, items: &dyn Array) -> Result<()> {
    feed_length(hasher, 6, items.len());
    (0..items.len()).try_for_each(|item| feed(hasher, items, item))
}
