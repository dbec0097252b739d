//! The SQL text of `returns` parsed: columns with types and the constraints NULL, NOT NULL and CHECK (x IN (…)), the
//! same inside STRUCT<…>. In: the text. Out: return columns, or one sentence that says what is wrong with it.

use datafusion::common::{DataFusionError, Result, plan_datafusion_err, plan_err};
use datafusion::sql::sqlparser::ast::{
    self, ArrayElemTypeDef, CharacterLength, ColumnOption, EnumMember, Expr, Value as SqlValue,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::returns::{DEFAULT_MAX_CHARS, ReturnColumn, ReturnType};

/// The columns of a `returns` text.
pub fn parse_columns(text: &str) -> Result<Vec<ReturnColumn>> {
    let bad = |e: String| plan_datafusion_err!("returns => '{text}' is no list of columns: {e}");
    if text.trim().is_empty() {
        return Err(bad("it is empty; write columns, as in 'question TEXT, options TEXT[4]'".to_owned()));
    }
    let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location().map_err(|e| bad(e.to_string()))?;
    let mut parser = Parser::new(&GenericDialect {}).with_tokens_with_locations(single_brackets(tokens));
    let columns = columns(&mut parser, 0).map_err(|e| bad(sentence(&e)))?;
    match parser.peek_token() {
        rest if rest.token == Token::EOF => Ok(columns),
        rest => Err(bad(format!("unexpected {rest}"))),
    }
}

/// `>>` at the end of nested types as two tokens.
fn single_brackets(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut single = Vec::with_capacity(tokens.len());
    for token in tokens {
        match token.token {
            Token::ShiftRight => single.extend([0, 1].map(|_| TokenWithSpan::new(Token::Gt, token.span))),
            _ => single.push(token),
        }
    }
    single
}

/// Types may stand so deep inside one another.
const MAX_DEPTH: usize = 32;

/// Columns with commas between them; no name twice.
fn columns(parser: &mut Parser, depth: usize) -> Result<Vec<ReturnColumn>> {
    let mut columns: Vec<ReturnColumn> = Vec::new();
    loop {
        let column = column(parser, depth)?;
        if columns.iter().any(|other| other.name == column.name) {
            return plan_err!("the column '{}' is named twice", column.name);
        }
        columns.push(column);
        if !parser.consume_token(&Token::Comma) {
            return Ok(columns);
        }
    }
}

fn column(parser: &mut Parser, depth: usize) -> Result<ReturnColumn> {
    let name = normalize(&parser.parse_identifier().map_err(plan)?);
    // STRUCT<a: TEXT> is another way to write STRUCT<a TEXT>.
    let _ = parser.consume_token(&Token::Colon);
    let at = |e: DataFusionError| plan_datafusion_err!("column '{name}': {}", sentence(&e));
    let mut ty = column_type(parser, depth).map_err(at)?;
    let mut nullable = None;
    while let Some(option) = parser.parse_optional_column_option().map_err(plan).map_err(at)? {
        match option {
            ColumnOption::Null | ColumnOption::NotNull if nullable.is_some() => {
                return plan_err!("column '{name}': NULL or NOT NULL stands there twice");
            }
            ColumnOption::Null => nullable = Some(true),
            ColumnOption::NotNull => nullable = Some(false),
            ColumnOption::Check(check) => match (listed_texts(&check.expr, &name), &ty) {
                (Some(values), ReturnType::Text { .. }) => ty = ReturnType::Enum(values),
                _ => {
                    return plan_err!(
                        "column '{name}': a CHECK lists the values of one text column, as in \
                         {name} TEXT CHECK ({name} IN ('a', 'b')), not CHECK ({})",
                        check.expr
                    );
                }
            },
            other => {
                return plan_err!("column '{name}': {other} says nothing to a model; use NULL, NOT NULL or CHECK");
            }
        }
    }
    Ok(ReturnColumn { name, ty, nullable: nullable.unwrap_or(false) })
}

/// `'a'` and `'b'` of `column IN ('a', 'b')`.
fn listed_texts(expr: &Expr, column: &str) -> Option<Vec<String>> {
    let Expr::InList { expr, list, negated: false } = expr else { return None };
    let Expr::Identifier(name) = expr.as_ref() else { return None };
    let text = |value: &Expr| match value {
        Expr::Value(value) => match &value.value {
            SqlValue::SingleQuotedString(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    };
    let texts: Vec<String> = list.iter().map(text).collect::<Option<_>>()?;
    (normalize(name) == column && !texts.is_empty()).then_some(texts)
}

/// A type. STRUCT<…> and ARRAY<…> are read here, since sqlparser takes no constraints inside them.
fn column_type(parser: &mut Parser, depth: usize) -> Result<ReturnType> {
    if depth > MAX_DEPTH {
        return plan_err!("types stand more than {MAX_DEPTH} deep inside one another");
    }
    let opens = parser.peek_nth_token(1).token == Token::Lt;
    let mut ty = if opens && parser.parse_keyword(Keyword::STRUCT) {
        parser.expect_token(&Token::Lt).map_err(plan)?;
        let fields = columns(parser, depth + 1)?;
        parser.expect_token(&Token::Gt).map_err(plan)?;
        ReturnType::Struct(fields)
    } else if opens && parser.parse_keyword(Keyword::ARRAY) {
        parser.expect_token(&Token::Lt).map_err(plan)?;
        let element = Box::new(column_type(parser, depth + 1)?);
        parser.expect_token(&Token::Gt).map_err(plan)?;
        ReturnType::List { element, length: None }
    } else {
        return_type(&parser.parse_data_type().map_err(plan)?)?
    };
    while parser.consume_token(&Token::LBracket) {
        let length = match parser.peek_token().token {
            Token::RBracket => None,
            _ => Some(parser.parse_literal_uint().map_err(plan)?),
        };
        parser.expect_token(&Token::RBracket).map_err(plan)?;
        ty = ReturnType::List { element: Box::new(ty), length };
    }
    Ok(ty)
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
        Sql::Struct(..) => return plan_err!("a STRUCT needs its fields: STRUCT<a TEXT, b BIGINT>"),
        other => {
            return plan_err!(
                "the type {other} cannot be returned; use TEXT, VARCHAR(n), TEXT CHECK (x IN ('a', 'b')), ENUM, BIGINT, DOUBLE, \
                 BOOLEAN, T[], T[n] or STRUCT<…>"
            );
        }
    })
}

/// SQL's rule: unquoted names are lower case.
fn normalize(ident: &ast::Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// The plain sentence of an error, for use inside another sentence.
fn sentence(error: &DataFusionError) -> String {
    error.message().into_owned()
}

fn plan(error: ParserError) -> DataFusionError {
    plan_datafusion_err!("{}", error.to_string().trim_start_matches("sql parser error: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_column_list_is_one_sentence() {
        for (bad, why) in [
            ("", "it is empty; write columns"),
            ("question", "data type"),
            ("q TEXT, q TEXT", "the column 'q' is named twice"),
            ("q TIMESTAMP", "column 'q': the type TIMESTAMP cannot be returned"),
            ("q TEXT garbage here", "unexpected garbage"),
            ("q TEXT,", "identifier"),
            ("s STRUCT<a TEXT, a TEXT>", "column 's': the column 'a' is named twice"),
            ("s STRUCT<a TIMESTAMP>", "column 's': column 'a': the type TIMESTAMP"),
            ("s STRUCT", "a STRUCT needs its fields"),
            ("q TEXT NULL NOT NULL", "NULL or NOT NULL stands there twice"),
            ("q TEXT DEFAULT 'x'", "column 'q': DEFAULT 'x' says nothing to a model"),
            (&format!("s {}", "STRUCT<s ".repeat(10_000)), "types stand more than 32 deep"),
            ("q TEXT CHECK (p IN ('a'))", "column 'q': a CHECK lists the values of one text column"),
            ("q TEXT CHECK (q NOT IN ('a'))", "a CHECK lists the values"),
            ("q INT CHECK (q IN ('a'))", "a CHECK lists the values"),
            ("q INT CHECK (q > 0)", "a CHECK lists the values"),
        ] {
            let error = parse_columns(bad).unwrap_err();
            assert!(matches!(error, DataFusionError::Plan(_)), "{bad}: {error}");
            assert!(error.message().contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn names_are_lower_case_but_in_quotes() {
        let columns = parse_columns("Question TEXT, \"Kind\" TEXT CHECK (\"Kind\" IN ('A'))").unwrap();
        assert_eq!((columns[0].name.as_str(), columns[1].name.as_str()), ("question", "Kind"));
        assert_eq!(columns[1].ty, ReturnType::Enum(vec!["A".into()]));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r"([a-z]|TEXT|STRUCT|ARRAY|CHECK|NULL|NOT|INT|IN|[<>\[\](),:'0-9]| ){0,30}") {
            let _ = parse_columns(&text);
        }
    }
}
