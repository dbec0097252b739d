//! The arguments of a function row by row: columns and constants come in, `get(row)` gives an `Option` of the plain
//! value. A constant is kept once and not repeated for each row.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, StringViewArray, StructArray};
use arrow::datatypes::Int64Type;
use datafusion_common::{Result, exec_err};
use datafusion_expr::ColumnarValue;

/// The arguments of one call on one batch.
pub(crate) struct Arguments {
    /// The function, for errors.
    pub function: &'static str,
    /// How many values to return.
    pub rows: usize,
    columns: Vec<Column>,
}

/// One argument; a constant has one row that stands for all.
#[derive(Clone)]
pub(crate) struct Column {
    array: ArrayRef,
    constant: bool,
}

impl Arguments {
    pub fn new(function: &'static str, values: Vec<ColumnarValue>, rows: usize) -> Result<Self> {
        let columns = values
            .into_iter()
            .map(|value| match value {
                ColumnarValue::Array(array) => Ok(Column { array, constant: false }),
                ColumnarValue::Scalar(value) => Ok(Column { array: value.to_array_of_size(1)?, constant: true }),
            })
            .collect::<Result<_>>()?;
        Ok(Self { function, rows, columns })
    }

    pub fn len(&self) -> usize {
        self.columns.len()
    }

    pub fn column(&self, position: usize) -> Result<&Column> {
        match self.columns.get(position) {
            Some(column) => Ok(column),
            None => exec_err!("{}: argument {} is missing", self.function, position + 1),
        }
    }

    pub fn text(&self, position: usize) -> Result<TextColumn> {
        let column = self.column(position)?;
        match column.array.as_string_view_opt() {
            Some(array) => Ok(TextColumn { array: array.clone(), constant: column.constant }),
            None => self.wrong_type(position, "TEXT"),
        }
    }

    pub fn integer(&self, position: usize) -> Result<IntegerColumn> {
        let column = self.column(position)?;
        match column.array.as_primitive_opt::<Int64Type>() {
            Some(array) => Ok(IntegerColumn { array: array.clone(), constant: column.constant }),
            None => self.wrong_type(position, "BIGINT"),
        }
    }

    pub fn text_list(&self, position: usize) -> Result<TextListColumn> {
        let column = self.column(position)?;
        let lists = column.array.as_list_opt::<i32>();
        match lists.and_then(|lists| Some((lists, lists.values().as_string_view_opt()?))) {
            Some((lists, texts)) => {
                Ok(TextListColumn { lists: lists.clone(), texts: texts.clone(), constant: column.constant })
            }
            None => self.wrong_type(position, "TEXT[]"),
        }
    }

    /// A count that must be at least 1.
    pub fn positive(&self, value: i64, name: &str) -> Result<usize> {
        match usize::try_from(value) {
            Ok(value) if value > 0 => Ok(value),
            _ => exec_err!("{}: {name} must be at least 1, not {value}", self.function),
        }
    }

    fn wrong_type<T>(&self, position: usize, expected: &str) -> Result<T> {
        let given = self.column(position)?.array.data_type();
        exec_err!("{}: argument {} must be {expected}, not {given}", self.function, position + 1)
    }
}

impl Column {
    /// The array and the place in it that holds the value of this row.
    pub fn at(&self, row: usize) -> (&dyn Array, usize) {
        (self.array.as_ref(), if self.constant { 0 } else { row })
    }

    pub fn is_constant(&self) -> bool {
        self.constant
    }

    /// The struct array; None where the argument is a bare NULL.
    pub fn as_struct(&self) -> Option<&StructArray> {
        self.array.as_struct_opt()
    }
}

/// A TEXT argument.
pub(crate) struct TextColumn {
    array: StringViewArray,
    constant: bool,
}

impl TextColumn {
    pub fn get(&self, row: usize) -> Option<&str> {
        let place = if self.constant { 0 } else { row };
        self.array.is_valid(place).then(|| self.array.value(place))
    }
}

/// A BIGINT argument.
pub(crate) struct IntegerColumn {
    array: Int64Array,
    constant: bool,
}

impl IntegerColumn {
    pub fn get(&self, row: usize) -> Option<i64> {
        let place = if self.constant { 0 } else { row };
        self.array.is_valid(place).then(|| self.array.value(place))
    }
}

/// A TEXT[] argument.
pub(crate) struct TextListColumn {
    lists: ListArray,
    texts: StringViewArray,
    constant: bool,
}

impl TextListColumn {
    /// The items of the list, a NULL item as None.
    pub fn get(&self, row: usize) -> Option<Vec<Option<&str>>> {
        let place = if self.constant { 0 } else { row };
        if self.lists.is_null(place) {
            return None;
        }
        let offsets = self.lists.value_offsets();
        let (start, end) = (offsets[place] as usize, offsets[place + 1] as usize);
        Some((start..end).map(|at| self.texts.is_valid(at).then(|| self.texts.value(at))).collect())
    }
}
