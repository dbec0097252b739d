//! The `returns` argument: SQL column types in, a JSON schema for the model and an Arrow type for the plan out.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::Result;
use serde_json::{Map, Value, json};

use super::returns_sql::parse_columns;

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
    /// TEXT CHECK (x IN ('a', 'b')), or ENUM('a', 'b'): one of these texts.
    Enum(Vec<String>),
    /// BIGINT, INT and their kin: 64 bits in all of them.
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
    /// Declared as `NULL`: JSON null, or no such key, is an answer. Every other column must be there; `NOT NULL` only
    /// says so. The opposite of SQL's default, since a schema without it would be another schema, and another call.
    pub nullable: bool,
}

impl ReturnColumn {
    fn json_schema(&self) -> Value {
        let mut schema = self.ty.json_schema();
        if self.nullable {
            // Strict servers want every key required; they take null as one of the types.
            if let Some(Value::Array(values)) = schema.get_mut("enum") {
                values.push(Value::Null);
            }
            let ty = schema["type"].take();
            schema["type"] = json!([ty, "null"]);
        }
        schema
    }
}

/// The columns that a call returns.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub struct Returns(Vec<ReturnColumn>);

impl Returns {
    /// Parses `question TEXT, options VARCHAR(60)[4], kind TEXT CHECK (kind IN ('a', 'b')), note TEXT NULL`.
    pub fn parse(text: &str) -> Result<Returns> {
        parse_columns(text).map(Returns)
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
        let null = if column.nullable { " NULL" } else { "" };
        write!(f, "{}{} {}{null}", if i > 0 { ", " } else { "" }, column.name, column.ty)?;
    }
    Ok(())
}

impl fmt::Display for ReturnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReturnType::Text { max_chars: DEFAULT_MAX_CHARS } => f.write_str("TEXT"),
            ReturnType::Text { max_chars } => write!(f, "VARCHAR({max_chars})"),
            ReturnType::Enum(values) => {
                let quoted: Vec<String> = values.iter().map(|v| format!("'{}'", v.replace('\'', "''"))).collect();
                write!(f, "ENUM({})", quoted.join(", "))
            }
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
    let properties: Map<String, Value> = columns.iter().map(|c| (c.name.clone(), c.json_schema())).collect();
    let required: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// The Arrow fields of these columns; all are nullable, since a failed call gives NULLs.
pub fn arrow_fields(columns: &[ReturnColumn]) -> Fields {
    columns.iter().map(|c| Field::new(&c.name, c.ty.arrow_type(), true)).collect()
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
    fn each_type_has_its_schema_and_its_arrow_type() {
        let text = |n: u64| json!({"type": "string", "minLength": 1, "maxLength": n});
        let list = |items: Value, min: u64, max: u64| json!({"type": "array", "items": items, "minItems": min, "maxItems": max});
        let yes_no = json!({"type": "string", "enum": ["yes", "no"]});
        let lists = |ty| DataType::List(Arc::new(Field::new_list_field(ty, true)));
        let a = Fields::from(vec![Field::new("a", lists(DataType::Utf8), true)]);
        let object = json!({
            "type": "object", "properties": {"a": list(text(4000), 0, 10)}, "required": ["a"],
            "additionalProperties": false,
        });
        for (sql, schema, arrow) in [
            ("TEXT", text(4000), DataType::Utf8),
            ("VARCHAR(9)", text(9), DataType::Utf8),
            ("BOOLEAN", json!({"type": "boolean"}), DataType::Boolean),
            ("BIGINT", json!({"type": "integer"}), DataType::Int64),
            ("INT", json!({"type": "integer"}), DataType::Int64),
            ("DOUBLE", json!({"type": "number"}), DataType::Float64),
            ("TEXT[]", list(text(4000), 0, 10), lists(DataType::Utf8)),
            ("INT[2][3]", list(list(json!({"type": "integer"}), 2, 2), 3, 3), lists(lists(DataType::Int64))),
            ("ENUM('yes', 'no')", yes_no.clone(), DataType::Utf8),
            ("TEXT CHECK (x IN ('yes', 'no'))", yes_no, DataType::Utf8),
            ("STRUCT<a TEXT[]>", object.clone(), DataType::Struct(a.clone())),
            ("ARRAY<STRUCT<a ARRAY<TEXT>>>", list(object, 0, 10), lists(DataType::Struct(a))),
        ] {
            let returns = Returns::parse(&format!("x {sql}")).unwrap_or_else(|e| panic!("{sql}: {e}"));
            assert_eq!(returns.json_schema(None)["properties"]["x"], schema, "{sql}");
            assert_eq!(arrow_fields(returns.columns())[0].data_type(), &arrow, "{sql}");
            // NOT NULL says what is so without it: the same schema is the same call.
            assert_eq!(Returns::parse(&format!("x {sql} NOT NULL")).unwrap(), returns, "{sql}");
            // As EXPLAIN shows it, it can be given again.
            assert_eq!(Returns::parse(&returns.to_string()).unwrap(), returns, "{returns}");
        }
    }

    #[test]
    fn null_is_allowed_where_it_is_declared_and_every_key_stays_required() {
        let returns = Returns::parse(
            "n INT NULL, kind TEXT NULL CHECK (kind IN ('a', 'b')), s STRUCT<a TEXT NULL, b TEXT>[], l TEXT[2] NULL",
        )
        .unwrap();
        let schema = returns.json_schema(None);
        assert_eq!(schema["required"], json!(["n", "kind", "s", "l"]));
        let properties = &schema["properties"];
        assert_eq!(properties["n"], json!({"type": ["integer", "null"]}));
        assert_eq!(properties["kind"], json!({"type": ["string", "null"], "enum": ["a", "b", null]}));
        assert_eq!(properties["s"]["items"]["required"], json!(["a", "b"]));
        assert_eq!(properties["s"]["items"]["properties"]["a"]["type"], json!(["string", "null"]));
        assert_eq!(properties["s"]["items"]["properties"]["b"]["type"], json!("string"));
        assert_eq!(properties["l"]["type"], json!(["array", "null"]));
        assert_eq!(
            returns.to_string(),
            "n BIGINT NULL, kind ENUM('a', 'b') NULL, s STRUCT<a TEXT NULL, b TEXT>[], l TEXT[2] NULL"
        );
    }

    /// The schema is part of a call's identity: another text of it would ask, and bill, every call again.
    #[test]
    fn the_schema_of_a_declaration_never_changes() {
        let returns = Returns::parse(
            "q TEXT, k ENUM('a', 'b'), o VARCHAR(60)[4], f STRUCT<a: DOUBLE, b BOOLEAN>[], n INT NOT NULL",
        )
        .unwrap();
        insta::assert_snapshot!(returns.json_schema(Some(2)), @r#"{"type":"object","properties":{"items":{"type":"array","items":{"type":"object","properties":{"q":{"type":"string","minLength":1,"maxLength":4000},"k":{"type":"string","enum":["a","b"]},"o":{"type":"array","items":{"type":"string","minLength":1,"maxLength":60},"minItems":4,"maxItems":4},"f":{"type":"array","items":{"type":"object","properties":{"a":{"type":"number"},"b":{"type":"boolean"}},"required":["a","b"],"additionalProperties":false},"minItems":0,"maxItems":10},"n":{"type":"integer"}},"required":["q","k","o","f","n"],"additionalProperties":false},"minItems":2,"maxItems":2}},"required":["items"],"additionalProperties":false}"#);
    }
}
