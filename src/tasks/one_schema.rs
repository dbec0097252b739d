//! One schema for the files of a split: all of their columns by name, each in a type that holds what every file has.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::common::{Result, plan_err};

/// The columns of all files, those of the first file first.
///
/// # Errors
/// A column whose types have nothing in common, with both files.
pub(crate) fn one_schema(files: &[(&str, SchemaRef)]) -> Result<Schema> {
    let mut fields: Vec<(FieldRef, &str)> = Vec::new();
    for (file, schema) in files {
        for field in schema.fields() {
            let known = fields.iter_mut().find(|(known, _)| known.name() == field.name());
            let Some((known, first)) = known else {
                fields.push((Arc::clone(field), file));
                continue;
            };
            let Some(both) = both(known.data_type(), field.data_type()) else {
                return plan_err!(
                    "the column '{}' is {} in '{first}' and {} in '{file}': no type holds both",
                    field.name(),
                    known.data_type(),
                    field.data_type()
                );
            };
            *known = Arc::new(Field::new(field.name(), both, true));
        }
    }
    // A column that a file lacks is NULL in its rows; one of nothing but NULL is text.
    let field = |field: &FieldRef| match field.data_type() {
        DataType::Null => Field::new(field.name(), DataType::Utf8, true),
        _ => field.as_ref().clone().with_nullable(true),
    };
    Ok(Schema::new(fields.iter().map(|(known, _)| field(known)).collect::<Vec<_>>()))
}

/// The type that holds the values of both.
fn both(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType::{Dictionary, Float64, Int64, LargeList, List, Null, Struct, UInt64, Utf8};
    if a == b {
        return Some(a.clone());
    }
    Some(match (a, b) {
        (Null, other) | (other, Null) => other.clone(),
        (Dictionary(_, value), other) | (other, Dictionary(_, value)) => both(value, other)?,
        (List(a) | LargeList(a), List(b) | LargeList(b)) => {
            List(Arc::new(Field::new(a.name(), both(a.data_type(), b.data_type())?, true)))
        }
        (Struct(a), Struct(b)) => Struct(both_fields(a, b)?),
        (a, b) if a.is_integer() && b.is_integer() => match (a, b) {
            (UInt64, signed) | (signed, UInt64) if signed.is_signed_integer() => Utf8,
            (UInt64, _) | (_, UInt64) => UInt64,
            _ => Int64,
        },
        (a, b) if a.is_numeric() && b.is_numeric() => Float64,
        // Text holds every scalar.
        (a, b) if scalar(a) && scalar(b) => Utf8,
        _ => return None,
    })
}

fn both_fields(a: &Fields, b: &Fields) -> Option<Fields> {
    let mut fields: Vec<FieldRef> = Vec::new();
    for own in a {
        let data_type = match b.find(own.name()) {
            Some((_, other)) => both(own.data_type(), other.data_type())?,
            None => own.data_type().clone(),
        };
        fields.push(Arc::new(Field::new(own.name(), data_type, true)));
    }
    fields.extend(
        b.iter()
            .filter(|other| a.find(other.name()).is_none())
            .map(|other| Arc::new(other.as_ref().clone().with_nullable(true))),
    );
    Some(fields.into())
}

fn scalar(data_type: &DataType) -> bool {
    use DataType::{Boolean, Date32, Date64, LargeUtf8, Timestamp, Utf8, Utf8View};
    data_type.is_numeric()
        || matches!(data_type, Boolean | Utf8 | LargeUtf8 | Utf8View | Date32 | Date64 | Timestamp(..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_all_files_are_there_in_types_that_hold_them() {
        let list = |item| DataType::List(Arc::new(Field::new_list_field(item, true)));
        let schema = |fields: Vec<(&str, DataType)>| {
            Arc::new(Schema::new(fields.into_iter().map(|(n, t)| Field::new(n, t, false)).collect::<Vec<_>>()))
        };
        let one = schema(vec![
            ("q", DataType::Utf8),
            ("n", DataType::Int32),
            ("l", list(DataType::Null)),
            ("s", DataType::Struct(vec![Field::new("x", DataType::Int64, true)].into())),
        ]);
        let two = schema(vec![
            ("n", DataType::Float64),
            ("q", DataType::LargeUtf8),
            ("l", list(DataType::Utf8)),
            ("late", DataType::Null),
            ("s", DataType::Struct(vec![Field::new("y", DataType::Utf8, true)].into())),
        ]);
        let found = one_schema(&[("a", one.clone()), ("b", two)]).unwrap();
        let shown: Vec<_> = found.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect();
        assert_eq!(shown, ["q Utf8", "n Float64", "l List(Utf8)", "s Struct(\"x\": Int64, \"y\": Utf8)", "late Utf8"]);
        let error = one_schema(&[("a", one), ("b", schema(vec![("l", DataType::Int64)]))]).unwrap_err().to_string();
        assert!(error.contains("'l' is List(Null) in 'a' and Int64 in 'b'"), "{error}");
    }
}
