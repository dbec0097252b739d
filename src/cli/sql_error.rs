//! Errors of SQL with their place: the line of the statement with a caret below what is wrong, and the nearest name for
//! one that does not exist. In: the text and its error. Out: the same error as a sentence and a picture.

use std::collections::HashSet;
use std::sync::LazyLock;

use datafusion::common::{Column, DataFusionError, SchemaError};
use datafusion::prelude::SessionContext;
use regex::Regex;

use super::sentence;
use crate::config::did_you_mean;
use crate::session::{table_functions, table_names};
use crate::stores::without_queries;

/// Wider lines are cut around the place.
const LINE_CHARS: usize = 120;

/// More columns than these are not listed.
const COLUMNS: usize = 40;

/// The error with its place in `sql` and the nearest name; one that has neither stays as it is.
pub fn with_place(sql: &str, ctx: &SessionContext, error: DataFusionError) -> DataFusionError {
    let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
    let mut place = span.map(|span| (span.start.line, span.start.column));
    let mut told = unknown_name(ctx, &error);
    if told.is_none()
        && let Some((said, at)) = unknown_table_function(sql, ctx)
    {
        (told, place) = (Some(said), Some(at));
    }
    let (is_told, said) = (told.is_some(), told.unwrap_or_else(|| sentence(&error)));
    let place = place.or_else(|| parser_place(&said));
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
        let mut seen = HashSet::new();
        names.retain(|name| seen.insert(*name));
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

/// The sentence of a table function that is not there and is like one of ours, and its place: what is said of its arguments
/// does not tell that.
fn unknown_table_function(sql: &str, ctx: &SessionContext) -> Option<(String, (u64, u64))> {
    static CALL: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)\b(?:from|join)\s+([a-z_][a-z0-9_]*)\s*\(").expect("a constant pattern is valid")
    });
    CALL.captures_iter(sql).filter_map(|found| found.get(1)).find_map(|name| {
        let known = || table_functions().map(|function| function.name);
        let is_there = known().any(|known| known.eq_ignore_ascii_case(name.as_str()));
        if is_there || ctx.table_function(&name.as_str().to_lowercase()).is_ok() {
            return None;
        }
        let nearest = did_you_mean(name.as_str(), known());
        let before = &sql[..name.start()];
        let line = before.matches('\n').count() as u64 + 1;
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) as u64 + 1;
        (!nearest.is_empty())
            .then(|| (format!("there is no table function '{}'{nearest}", name.as_str()), (line, column)))
    })
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

    #[tokio::test]
    async fn a_misspelt_table_function_is_named() {
        let ctx = SessionContext::new();
        for sql in ["SELECT *\nFROM generat(TABLE seeds)", "SELECT *\nFROM generat((SELECT 1), model => 'm')"] {
            let told = sentence(&with_place(sql, &ctx, ctx.sql(sql).await.unwrap_err()));
            assert!(
                told.starts_with("there is no table function 'generat'; did you mean 'generate'?\nLINE 2: "),
                "{told}"
            );
            assert!(told.ends_with("\n             ^"), "{told}");
        }
        let sql = "SELECT nothing FROM generate_series(1, 2)";
        let told = sentence(&with_place(sql, &ctx, ctx.sql(sql).await.unwrap_err()));
        assert!(told.starts_with("there is no column 'nothing'"), "{told}");
    }

    #[tokio::test]
    async fn a_subquery_that_cannot_be_a_join_is_told_with_its_column() {
        let sql = "SELECT * FROM (SELECT 1 AS mass) t, LATERAL (SELECT t.mass + 1 AS heavier)";
        let error = SessionContext::new().sql(sql).await.unwrap().collect().await.unwrap_err();
        assert_eq!(
            sentence(&error),
            "a subquery uses the column 'mass' of the query around it in a way that is not supported: join the two, or \
             compute it without a subquery"
        );
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
        let sorted = told("SELECT mass FROM planets ORDER BY mas").await;
        assert_eq!(sorted, "there is no column 'mas'; did you mean 'mass'?; there are: mass, radius");
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
