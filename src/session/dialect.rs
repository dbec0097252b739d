//! The sugar of table functions: `generate(seeds, …)` and `generate(TABLE seeds, …)` for
//! `generate((SELECT * FROM seeds), …)`. Done on tokens, before the parser: DataFusion resolves the tables that a
//! statement names before any relation planner sees it, so the name must already stand in a FROM. The parser's own
//! hook (`Dialect::parse_prefix`) would need a dialect that repeats every setting of the generic one.

use datafusion::common::{DataFusionError, Result};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

/// The functions whose first argument is a relation.
const TABLE_FUNCTIONS: [&str; 5] = ["generate", "enrich", "embed", "near_duplicates", "decontaminate"];

/// Parses SQL text into its statements.
pub fn parse(sql: &str) -> Result<Vec<Statement>> {
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, sql)
        .tokenize_with_location()
        .map_err(|e| DataFusionError::Plan(format!("the SQL cannot be read: {e}")))?;
    let statements =
        DFParserBuilder::new(expand_relations(tokens)).with_dialect(&dialect).build()?.parse_statements()?;
    Ok(statements.into())
}

/// Whether a text ends with the semicolon of its last statement: not within a text, a name or a comment.
pub fn is_complete(sql: &str) -> bool {
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else { return false };
    tokens.iter().rev().find(|token| !matches!(token, Token::Whitespace(_))) == Some(&Token::SemiColon)
}

/// Writes `(SELECT * FROM name)` for a relation that is named as the first argument of a table function.
fn expand_relations(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let solid: Vec<TokenWithSpan> = tokens.into_iter().filter(|t| !matches!(t.token, Token::Whitespace(_))).collect();
    let mut out = Vec::with_capacity(solid.len());
    let mut i = 0;
    while i < solid.len() {
        out.push(solid[i].clone());
        let word = match &solid[i].token {
            Token::Word(word) if word.quote_style.is_none() => word.value.to_lowercase(),
            _ => String::new(),
        };
        let before_relation = match solid.get(i + 1).map(|t| &t.token) {
            Some(Token::LParen) => TABLE_FUNCTIONS.contains(&word.as_str()),
            // decontaminate(…, against => heldout)
            Some(Token::RArrow) => word == "against",
            _ => false,
        };
        if before_relation && let Some((name, end)) = relation_name(&solid, i + 2) {
            let at = |token| TokenWithSpan { token, span: solid[i + 2].span };
            out.push(solid[i + 1].clone());
            out.push(at(Token::LParen));
            out.push(at(Token::make_keyword("SELECT")));
            out.push(at(Token::Mul));
            out.push(at(Token::make_keyword("FROM")));
            out.extend(name.iter().cloned());
            out.push(at(Token::RParen));
            i = end;
        } else {
            i += 1;
        }
    }
    out
}

/// `name`, `schema.name` or either after TABLE, up to a comma or a closing parenthesis: the name's tokens and the
/// place after them.
fn relation_name(tokens: &[TokenWithSpan], start: usize) -> Option<(&[TokenWithSpan], usize)> {
    let is_table = matches!(&tokens.get(start)?.token, Token::Word(word) if word.keyword == Keyword::TABLE);
    let first = start + usize::from(is_table);
    let mut end = first;
    loop {
        let Token::Word(word) = &tokens.get(end)?.token else { return None };
        if !is_table
            && word.quote_style.is_none()
            && matches!(word.keyword, Keyword::SELECT | Keyword::WITH | Keyword::VALUES)
        {
            return None;
        }
        match &tokens.get(end + 1)?.token {
            Token::Period => end += 2,
            Token::Comma | Token::RParen => return Some((&tokens[first..=end], end + 1)),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_ends_with_a_semicolon_of_its_own() {
        for complete in ["SELECT 1;", "SELECT ';' ; -- why;", "SELECT 1; SELECT 2;\n"] {
            assert!(is_complete(complete), "{complete}");
        }
        for open in ["", "SELECT 1", "SELECT 'a;", "SELECT 1 -- why;", "SELECT \"a;\n", "SELECT 1; SELECT 2"] {
            assert!(!is_complete(open), "{open}");
        }
    }

    fn parsed(sql: &str) -> String {
        parse(sql)
            .unwrap_or_else(|e| panic!("{sql}: {e}"))
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(";")
    }

    #[test]
    fn a_named_relation_is_a_subquery() {
        let full = parsed("SELECT * FROM generate((SELECT * FROM seeds), model => 'm')");
        assert_eq!(parsed("SELECT * FROM generate(seeds, model => 'm')"), full);
        assert_eq!(parsed("SELECT * FROM generate(TABLE seeds, model => 'm')"), full);
        assert_eq!(parsed("select * from Generate ( table seeds , model => 'm')").to_lowercase(), full.to_lowercase());
        let against = parsed("SELECT * FROM decontaminate(a, text => q, against => TABLE h.x)");
        assert!(
            against.contains("(SELECT * FROM a)") && against.contains("against => (SELECT * FROM h.x)"),
            "{against}"
        );
        assert!(parsed("SELECT * FROM enrich(a.b.\"C d\", model => 'm')").contains("(SELECT * FROM a.b.\"C d\")"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(sql in r"(generate|enrich|TABLE|SELECT|FROM|[a-z]|[(),.;*']| ){0,30}") {
            let _ = parse(&sql);
        }
    }

    #[test]
    fn everything_else_is_left_as_it_is() {
        assert!(parsed("SELECT generate FROM t").contains("SELECT generate FROM t"));
        assert!(
            parsed("SELECT * FROM generate((WITH a AS (SELECT 1) SELECT * FROM a), model => 'm')").contains("WITH a")
        );
        assert!(parse("SELECT * FROM generate(TABLE, model => 'm'").is_err());
    }
}
