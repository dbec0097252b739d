//! Errors of SQL with their place: the line of the statement with a caret below what is wrong, and the nearest name for
//! one that does not exist. In: the text and its error. Out: the same error as a sentence and a picture.

use datafusion::common::{Column, DataFusionError, SchemaError};
use datafusion::prelude::SessionContext;

use super::sentence;
use crate::config::did_you_mean;
use crate::session::table_names;
use crate::stores::without_queries;

/// Wider lines are cut around the place.
const LINE_CHARS: usize = 120;

/// More columns than these are not listed.
const COLUMNS: usize = 40;

/// The error with its place in `sql` and the nearest name; one that has neither stays as it is.
pub fn with_place(sql: &str, ctx: &SessionContext, error: DataFusionError) -> DataFusionError {
    let told = unknown_name(ctx, &error);
    let (is_told, said) = (told.is_some(), told.unwrap_or_else(|| sentence(&error)));
    let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
    let place = span.map(|span| (span.start.line, span.start.column)).or_else(|| parser_place(&said));
    // No signature of a web address is shown; places stay where they are.
    let (sql, said) = (without_queries(sql), without_queries(&said));
    match place.and_then(|(line, column)| picture(&sql, line, column)) {
        Some(picture) => DataFusionError::Plan(format!("{said}\n{picture}")),
        None if is_told => DataFusionError::Plan(said),
        None => error,
    }
}

/// The sentence of a column or table that is not there.
fn unknown_name(ctx: &SessionContext, error: &DataFusionError) -> Option<String> {
    if let DataFusionError::SchemaError(schema, _) = error.find_root()
        && let SchemaError::FieldNotFound { field, valid_fields } = schema.as_ref()
    {
        let mut names: Vec<&str> =
            valid_fields.iter().map(Column::name).filter(|name| !name.starts_with("__")).collect();
        names.dedup();
        let nearest = did_you_mean(&field.name, names.iter().copied());
        let more = if names.len() > COLUMNS { ", …" } else { "" };
        let listed = names.iter().take(COLUMNS).copied().collect::<Vec<_>>().join(", ");
        let there = if listed.is_empty() { String::new() } else { format!("; there are: {listed}{more}") };
        return Some(format!("there is no column '{}'{nearest}{there}", field.flat_name()));
    }
    let said = sentence(error);
    let name = said.split("table 'datafusion.").nth(1)?.strip_suffix("' not found")?;
    let name = name.strip_prefix("public.").unwrap_or(name);
    let names = table_names(ctx);
    let nearest = did_you_mean(name, names.iter().map(String::as_str));
    Some(format!("there is no table '{name}'{nearest}"))
}

/// What sqlparser writes behind its sentences: `… at Line: 1, Column: 8`.
fn parser_place(said: &str) -> Option<(u64, u64)> {
    let (_, place) = said.rsplit_once(" at Line: ")?;
    let (line, column) = place.split_once(", Column: ")?;
    let digits = column.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((line.parse().ok()?, digits.parse().ok()?))
}

/// Lines and columns count from 1, columns in characters.
fn picture(sql: &str, line: u64, column: u64) -> Option<String> {
    let text = sql.lines().nth(usize::try_from(line.checked_sub(1)?).ok()?)?;
    let column = usize::try_from(column.checked_sub(1)?).ok()?;
    let length = text.chars().count();
    if column > length {
        return None;
    }
    let start = if length <= LINE_CHARS { 0 } else { column.saturating_sub(LINE_CHARS / 2) };
    let shown: String = text.chars().skip(start).take(LINE_CHARS).map(|c| if c == '\t' { ' ' } else { c }).collect();
    let head = format!("LINE {line}: {}", if start > 0 { "…" } else { "" });
    let blanks = " ".repeat(head.chars().count() + column - start);
    Some(format!("{head}{}\n{blanks}^", shown.trim_end()))
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionConfig;

    use super::*;

    #[tokio::test]
    async fn what_is_no_sql_is_a_sentence() {
        let ctx = SessionContext::new();
        for sql in ["selct 1", "SELECT 'open"] {
            let told = sentence(&with_place(sql, &ctx, ctx.sql(sql).await.unwrap_err()));
            assert!(!told.contains("Error(") && told.contains('^'), "{told}");
        }
    }

    #[test]
    fn a_caret_stands_below_the_place() {
        let error = DataFusionError::Plan("Expected: an expression, found: FROM at Line: 2, Column: 8".into());
        let told = with_place("-- why\nSELECT FROM seeds", &SessionContext::new(), error).to_string();
        assert!(told.ends_with("LINE 2: SELECT FROM seeds\n               ^"), "{told}");
    }

    #[tokio::test]
    async fn the_nearest_name_is_offered() {
        let config = SessionConfig::new().set_bool("datafusion.sql_parser.collect_spans", true);
        let ctx = SessionContext::new_with_config(config);
        ctx.sql("CREATE TABLE planets AS SELECT 1 AS radius, 2 AS mass").await.unwrap().collect().await.unwrap();
        let told = async |sql: &str| sentence(&with_place(sql, &ctx, ctx.sql(sql).await.unwrap_err()));
        assert_eq!(
            told("SELECT radus FROM planets").await,
            "there is no column 'radus'; did you mean 'radius'?; there are: radius, mass\n\
             LINE 1: SELECT radus FROM planets\n               ^"
        );
        let table = told("SELECT 1 FROM planet").await;
        assert!(table.starts_with("there is no table 'planet'; did you mean 'planets'?\nLINE 1: "), "{table}");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place_and_no_place_is_no_picture() {
        let sql = format!("SELECT {} nme", "x, ".repeat(200));
        let picture = picture(&sql, 1, 609).unwrap();
        let (line, caret) = picture.split_once('\n').unwrap();
        assert_eq!(line.chars().nth(caret.chars().count() - 1), Some('n'), "{picture}");
        assert!(line.chars().count() < 140);
        for (line, column) in [(0, 0), (1, 0), (2, 1), (1, 5000)] {
            assert_eq!(super::picture(&sql, line, column), None);
        }
    }
}
