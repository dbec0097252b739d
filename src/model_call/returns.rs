//! The `returns` argument: SQL column types in, a JSON schema for the model and an Arrow type for the plan out.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{DataFusionError, Result, plan_datafusion_err, plan_err};
use datafusion::sql::sqlparser::ast::{self, ArrayElemTypeDef, CharacterLength, EnumMember};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use serde_json::{Map, Value, json};

/// The bound of a TEXT without a length, in characters. Models without a bound write until `max_tokens`.
pub const DEFAULT_MAX_CHARS: u64 = 4000;

/// The bound of a list without a length. Lists of answers are short, and a small model does not end them by itself.
const DEFAULT_MAX_ITEMS: u64 = 10;

/// The type of one returned value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub enum ReturnType {
    /// TEXT, VARCHAR(n): at most n characters.
    Text {
        max_chars: u64,
    },
    /// ENUM('a', 'b'): one of these texts.
    Enum(Vec<String>),
    /// BIGINT and its kin.
    Integer,
    /// DOUBLE and its kin.
    Number,
    Boolean,
    /// T[] (up to 10) or T[n] (exactly n).
    List {
        element: Box<ReturnType>,
        length: Option<u64>,
    },
    /// STRUCT<a T, …>
    Struct(Vec<ReturnColumn>),
}

/// One returned column, or one field of a struct.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub struct ReturnColumn {
    pub name: String,
    pub ty: ReturnType,
}

/// The columns that a call returns.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub struct Returns(Vec<ReturnColumn>);

impl Returns {
    /// Parses `question TEXT, options VARCHAR(60)[4], answer_text TEXT`.
    pub fn parse(text: &str) -> Result<Returns> {
        let bad = |e: String| plan_datafusion_err!("returns => '{text}' is no list of columns: {e}");
        let mut parser = Parser::new(&GenericDialect {}).try_with_sql(text).map_err(|e| bad(e.to_string()))?;
        let columns =
            parser.parse_comma_separated(|p| p.parse_column_def()).map_err(|e| bad(parser_message(&e.to_string())))?;
        let rest = parser.peek_token();
        if rest.token != datafusion::sql::sqlparser::tokenizer::Token::EOF {
            return Err(bad(format!("unexpected {rest}")));
        }
        let mut returns: Vec<ReturnColumn> = Vec::with_capacity(columns.len());
        for column in columns {
            let name = normalize(&column.name);
            if returns.iter().any(|other| other.name == name) {
                return plan_err!("returns names the column '{name}' twice");
            }
            let ty = return_type(&column.data_type)
                .map_err(|e| bad(format!("column '{name}': {}", e.strip_backtrace_and_kind())))?;
            returns.push(ReturnColumn { name, ty });
        }
        Ok(Returns(returns))
    }

    pub fn columns(&self) -> &[ReturnColumn] {
        &self.0
    }

    /// The JSON schema of one answer: an object with these properties, or with `items` an object whose one
    /// property `items` is a list of exactly that many such objects.
    pub fn json_schema(&self, items: Option<u32>) -> Value {
        let object = object_schema(&self.0);
        match items {
            None => object,
            Some(n) => json!({
                "type": "object",
                "properties": {"items": {"type": "array", "items": object, "minItems": n, "maxItems": n}},
                "required": ["items"],
                "additionalProperties": false,
            }),
        }
    }
}

impl fmt::Display for Returns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_columns(f, &self.0)
    }
}

fn write_columns(f: &mut fmt::Formatter<'_>, columns: &[ReturnColumn]) -> fmt::Result {
    for (i, column) in columns.iter().enumerate() {
        write!(f, "{}{} {}", if i > 0 { ", " } else { "" }, column.name, column.ty)?;
    }
    Ok(())
}

impl fmt::Display for ReturnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReturnType::Text { max_chars: DEFAULT_MAX_CHARS } => f.write_str("TEXT"),
            ReturnType::Text { max_chars } => write!(f, "VARCHAR({max_chars})"),
            ReturnType::Enum(values) => write!(f, "ENUM({})", values.join("|")),
            ReturnType::Integer => f.write_str("BIGINT"),
            ReturnType::Number => f.write_str("DOUBLE"),
            ReturnType::Boolean => f.write_str("BOOLEAN"),
            ReturnType::List { element, length: Some(n) } => write!(f, "{element}[{n}]"),
            ReturnType::List { element, length: None } => write!(f, "{element}[]"),
            ReturnType::Struct(fields) => {
                f.write_str("STRUCT<")?;
                write_columns(f, fields)?;
                f.write_str(">")
            }
        }
    }
}

impl ReturnType {
    pub fn arrow_type(&self) -> DataType {
        match self {
            ReturnType::Text { .. } | ReturnType::Enum(_) => DataType::Utf8,
            ReturnType::Integer => DataType::Int64,
            ReturnType::Number => DataType::Float64,
            ReturnType::Boolean => DataType::Boolean,
            ReturnType::List { element, .. } => {
                DataType::List(Arc::new(Field::new_list_field(element.arrow_type(), true)))
            }
            ReturnType::Struct(fields) => DataType::Struct(arrow_fields(fields)),
        }
    }

    fn json_schema(&self) -> Value {
        match self {
            ReturnType::Text { max_chars } => json!({"type": "string", "minLength": 1, "maxLength": max_chars}),
            ReturnType::Enum(values) => json!({"type": "string", "enum": values}),
            ReturnType::Integer => json!({"type": "integer"}),
            ReturnType::Number => json!({"type": "number"}),
            ReturnType::Boolean => json!({"type": "boolean"}),
            ReturnType::List { element, length } => {
                let (min, max) = length.map_or((0, DEFAULT_MAX_ITEMS), |n| (n, n));
                json!({"type": "array", "items": element.json_schema(), "minItems": min, "maxItems": max})
            }
            ReturnType::Struct(fields) => object_schema(fields),
        }
    }
}

fn object_schema(columns: &[ReturnColumn]) -> Value {
    let properties: Map<String, Value> = columns.iter().map(|c| (c.name.clone(), c.ty.json_schema())).collect();
    let required: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// The Arrow fields of these columns; all are nullable, since a failed call gives NULLs.
pub fn arrow_fields(columns: &[ReturnColumn]) -> Fields {
    columns.iter().map(|c| Field::new(&c.name, c.ty.arrow_type(), true)).collect()
}

fn return_type(sql: &ast::DataType) -> Result<ReturnType> {
    use ast::DataType as Sql;
    Ok(match sql {
        Sql::Text | Sql::String(None) | Sql::Varchar(None) | Sql::Char(None) => {
            ReturnType::Text { max_chars: DEFAULT_MAX_CHARS }
        }
        Sql::Varchar(Some(CharacterLength::IntegerLength { length, .. }))
        | Sql::Char(Some(CharacterLength::IntegerLength { length, .. }))
        | Sql::String(Some(length)) => ReturnType::Text { max_chars: *length },
        Sql::TinyInt(_)
        | Sql::SmallInt(_)
        | Sql::Int(_)
        | Sql::Integer(_)
        | Sql::BigInt(_)
        | Sql::Int64
        | Sql::Int32 => ReturnType::Integer,
        Sql::Float(_) | Sql::Double(_) | Sql::DoublePrecision | Sql::Real | Sql::Float64 => ReturnType::Number,
        Sql::Boolean | Sql::Bool => ReturnType::Boolean,
        Sql::Enum(members, _) => ReturnType::Enum(
            members
                .iter()
                .map(|member| match member {
                    EnumMember::Name(name) | EnumMember::NamedValue(name, _) => name.clone(),
                })
                .collect(),
        ),
        Sql::Array(ArrayElemTypeDef::SquareBracket(element, length)) => {
            ReturnType::List { element: Box::new(return_type(element)?), length: *length }
        }
        Sql::Array(ArrayElemTypeDef::AngleBracket(element) | ArrayElemTypeDef::Parenthesis(element)) => {
            ReturnType::List { element: Box::new(return_type(element)?), length: None }
        }
        Sql::Struct(fields, _) => ReturnType::Struct(
            fields
                .iter()
                .map(|field| {
                    let name = field
                        .field_name
                        .as_ref()
                        .ok_or_else(|| plan_datafusion_err!("a field of STRUCT has no name"))?;
                    Ok(ReturnColumn { name: normalize(name), ty: return_type(&field.field_type)? })
                })
                .collect::<Result<_>>()?,
        ),
        other => {
            return plan_err!(
                "the type {other} cannot be returned; use TEXT, VARCHAR(n), ENUM, BIGINT, DOUBLE, BOOLEAN, T[], T[n] or STRUCT"
            );
        }
    })
}

/// SQL's rule: unquoted names are lower case.
fn normalize(ident: &ast::Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

fn parser_message(message: &str) -> String {
    message.trim_start_matches("sql parser error: ").to_owned()
}

/// The plain sentence of an error, for use inside another sentence.
trait Sentence {
    fn strip_backtrace_and_kind(&self) -> String;
}

impl Sentence for DataFusionError {
    fn strip_backtrace_and_kind(&self) -> String {
        self.message().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_types_become_a_bounded_json_schema_and_arrow_types() {
        let returns =
            Returns::parse("question TEXT, options VARCHAR(60)[4], n BIGINT, facts STRUCT<a TEXT, b DOUBLE>[]")
                .unwrap();
        assert_eq!(
            returns.to_string(),
            "question TEXT, options VARCHAR(60)[4], n BIGINT, facts STRUCT<a TEXT, b DOUBLE>[]"
        );
        let schema = returns.json_schema(None);
        assert_eq!(schema["properties"]["question"], json!({"type": "string", "minLength": 1, "maxLength": 4000}));
        assert_eq!(schema["properties"]["options"]["minItems"], json!(4));
        assert_eq!(schema["required"], json!(["question", "options", "n", "facts"]));
        assert_eq!(returns.json_schema(Some(3))["properties"]["items"]["maxItems"], json!(3));
        assert_eq!(arrow_fields(returns.columns())[2].data_type(), &DataType::Int64);
    }

    #[test]
    fn what_is_no_column_list_is_one_sentence() {
        for bad in ["", "question", "q TEXT, q TEXT", "q TIMESTAMP", "q TEXT garbage here", "q TEXT,"] {
            let error = Returns::parse(bad).unwrap_err();
            assert!(matches!(error, DataFusionError::Plan(_)), "{bad}: {error}");
        }
    }
}
