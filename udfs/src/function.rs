//! What every scalar function of this crate has in common: a [`Definition`] (name, parameters, result, code, reference)
//! comes in, a DataFusion `ScalarUDF` goes out. Coercion is decided here once, so that literals, Parquet strings and
//! list columns all arrive at the code as the same Arrow type.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, ScalarValue, plan_err};
use datafusion_expr::{
    ColumnarValue, DocSection, Documentation, DocumentationBuilder, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};

use crate::arguments::Arguments;

/// What an argument may be, and the Arrow type in which the code sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Utf8, LargeUtf8, Utf8View or a dictionary of them; seen as Utf8View.
    Text,
    /// Any list of texts; seen as List<Utf8View>.
    TextList,
    /// Any integer type; seen as Int64.
    Integer,
    /// A struct, seen as it is.
    Struct,
    /// Anything, seen as it is.
    Any,
}

/// Checks the arguments that are constants when the query is planned; the others are None.
pub(crate) type Check = fn(&[Option<&ScalarValue>]) -> Result<()>;

/// One scalar function.
pub(crate) struct Definition {
    pub name: &'static str,
    /// Name and kind of each parameter.
    pub parameters: &'static [(&'static str, Kind)],
    /// How many of the last parameters may be left out.
    pub optional: usize,
    /// Whether the last parameter may be repeated.
    pub variadic: bool,
    pub returns: fn() -> DataType,
    /// Makes one value for each of `Arguments::rows` rows.
    pub invoke: fn(&Arguments) -> Result<ArrayRef>,
    pub check: Option<Check>,
    pub description: &'static str,
    /// A query that can be run as it is.
    pub example: &'static str,
}

/// The type of every text that is returned: TEXT in DataFusion's SQL, and without a limit of 2 GiB a batch.
pub(crate) fn text() -> DataType {
    DataType::Utf8View
}

/// The type of every list of texts that is returned.
pub(crate) fn text_list() -> DataType {
    DataType::List(text_item())
}

/// The field of the items in [`text_list`].
pub(crate) fn text_item() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Utf8View, true))
}

/// Makes the DataFusion function of a definition.
pub(crate) fn scalar(definition: &'static Definition) -> ScalarUDF {
    let signature = Signature::user_defined(Volatility::Immutable);
    let mut documentation = reference(definition.usage(), definition.description, definition.example);
    for (name, kind) in definition.parameters {
        documentation = documentation.with_argument(*name, kind.expected());
    }
    ScalarUDF::new_from_impl(Scalar { definition, signature, documentation: documentation.build() })
}

/// The reference of a function: how it is written, what it is for, a query that can be run as it is.
pub(crate) fn reference(usage: impl Into<String>, description: &str, example: &str) -> DocumentationBuilder {
    let section = DocSection { include: true, label: "Question and answer functions", description: None };
    Documentation::builder(section, description, usage).with_sql_example(format!("```sql\n{example}\n```"))
}

#[derive(Debug)]
struct Scalar {
    definition: &'static Definition,
    signature: Signature,
    documentation: Documentation,
}

impl std::fmt::Debug for Definition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

// Names are unique within the crate, so the name is the identity.
impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.definition.name == other.definition.name
    }
}

impl Eq for Scalar {}

impl Hash for Scalar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.definition.name.hash(state);
    }
}

impl Definition {
    /// What most functions share, to be completed with the rest.
    pub const BLANK: Self = Self {
        name: "",
        parameters: &[],
        optional: 0,
        variadic: false,
        returns: text,
        invoke: |_| plan_err!("the function has no code"),
        check: None,
        description: "",
        example: "",
    };

    fn usage(&self) -> String {
        let names: Vec<_> = self.parameters.iter().map(|(name, _)| *name).collect();
        format!("{}({}{})", self.name, names.join(", "), if self.variadic { ", …" } else { "" })
    }

    fn coerce(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        if given.len() + self.optional < self.parameters.len()
            || (given.len() > self.parameters.len() && !self.variadic)
        {
            let arguments = match given.len() {
                1 => "1 argument does".to_owned(),
                n => format!("{n} arguments do"),
            };
            return plan_err!("{}: {arguments} not fit {}", self.name, self.usage());
        }
        let mut coerced = Vec::with_capacity(given.len());
        for (position, data_type) in given.iter().enumerate() {
            let (name, kind) = self.parameters[position.min(self.parameters.len() - 1)];
            let Some(data_type) = kind.coerce(data_type) else {
                return plan_err!(
                    "{}: argument {} ({name}) must be {}, not {data_type}; cast it if that is what is meant",
                    self.name,
                    position + 1,
                    kind.expected()
                );
            };
            coerced.push(data_type);
        }
        Ok(coerced)
    }
}

impl Kind {
    fn expected(self) -> &'static str {
        match self {
            Kind::Text => "TEXT",
            Kind::TextList => "TEXT[]",
            Kind::Integer => "BIGINT",
            Kind::Struct => "a STRUCT, such as named_struct('name', value)",
            Kind::Any => "a value of any type",
        }
    }

    /// The type in which the code sees an argument of this type, or None where it does not fit.
    fn coerce(self, given: &DataType) -> Option<DataType> {
        let null = given.is_null();
        match self {
            Kind::Text => (null || is_text(given)).then(text),
            Kind::TextList => {
                let item = match given {
                    DataType::List(item)
                    | DataType::LargeList(item)
                    | DataType::ListView(item)
                    | DataType::LargeListView(item)
                    | DataType::FixedSizeList(item, _) => Some(item.data_type()),
                    _ => None,
                };
                // `[]` and `[NULL]` are lists of Null.
                (null || item.is_some_and(|item| item.is_null() || is_text(item))).then(text_list)
            }
            Kind::Integer => (null || given.is_integer()).then_some(DataType::Int64),
            Kind::Struct => (null || matches!(given, DataType::Struct(_))).then(|| given.clone()),
            Kind::Any => Some(given.clone()),
        }
    }
}

pub(crate) fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, value) => is_text(value),
        _ => false,
    }
}

impl ScalarUDFImpl for Scalar {
    fn name(&self) -> &str {
        self.definition.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok((self.definition.returns)())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let given: Vec<_> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        self.definition.coerce(&given)?;
        if let Some(check) = self.definition.check {
            check(args.scalar_arguments)?;
        }
        Ok(Arc::new(Field::new(self.name(), (self.definition.returns)(), true)))
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        // An error from here would be buried in DataFusion's own; return_field_from_args gives it in the clear.
        Ok(self.definition.coerce(given).unwrap_or_else(|_| given.to_vec()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let arguments = Arguments::new(self.definition.name, args.args, if constant { 1 } else { args.number_rows })?;
        let values = (self.definition.invoke)(&arguments)?;
        if constant { Ok(ScalarValue::try_from_array(&values, 0)?.into()) } else { Ok(values.into()) }
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FUNCTION: Definition = Definition {
        name: "f",
        parameters: &[("text", Kind::Text), ("texts", Kind::TextList), ("n", Kind::Integer)],
        optional: 1,
        ..Definition::BLANK
    };

    fn list(item: DataType) -> DataType {
        DataType::LargeList(Arc::new(Field::new("element", item, false)))
    }

    #[test]
    fn every_string_list_and_integer_type_is_seen_as_one() {
        for given in [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View, DataType::Null] {
            let coerced = FUNCTION.coerce(&[given.clone(), list(given), DataType::UInt8]).unwrap();
            assert_eq!(coerced, [text(), text_list(), DataType::Int64]);
        }
    }

    #[test]
    fn a_wrong_argument_is_named() {
        let error = FUNCTION.coerce(&[DataType::Utf8, list(DataType::Int64)]).unwrap_err().to_string();
        assert!(error.contains("argument 2 (texts) must be TEXT[]"), "{error}");
        let error = FUNCTION.coerce(&[DataType::Utf8]).unwrap_err().to_string();
        assert!(error.contains("1 argument does not fit f(text, texts, n)"), "{error}");
    }
}
