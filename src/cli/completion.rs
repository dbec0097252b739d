//! What the prompt offers behind Tab: tables, their columns, functions, and the named arguments of table functions.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use datafusion::common::TableReference;
use datafusion::prelude::SessionContext;
use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};
use tokio::runtime::Handle;

use super::shell_command::COMMANDS;
use crate::model_call::TableFunction;
use crate::session::{table_functions, table_names};

const KEYWORDS: &[&str] = &[
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP BY",
    "ORDER BY",
    "LIMIT",
    "HAVING",
    "JOIN",
    "LEFT JOIN",
    "ON",
    "AS",
    "AND",
    "OR",
    "NOT",
    "IN",
    "IS NULL",
    "IS NOT NULL",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "WITH",
    "UNION ALL",
    "DISTINCT",
    "VALUES",
    "COPY",
    "CREATE VIEW",
    "CREATE TABLE",
    "CREATE FUNCTION",
    "CREATE EXTERNAL TABLE",
    "STORED AS PARQUET",
    "LOCATION",
    "EXPLAIN",
    "EXPLAIN ANALYZE",
    "SHOW TABLES",
    "SHOW FUNCTIONS",
    "DESCRIBE",
    "SET",
    "TRUE",
    "FALSE",
    "NULL",
];

/// Opening a table to see its columns may read files: a key press waits no longer than this.
const PATIENCE: Duration = Duration::from_millis(400);

/// Completes over one session.
pub struct Completion {
    ctx: SessionContext,
    columns: RefCell<HashMap<String, Vec<String>>>,
}

impl Completion {
    pub fn new(ctx: SessionContext) -> Completion {
        Completion { ctx, columns: RefCell::default() }
    }

    fn functions(&self) -> Vec<String> {
        let state = self.ctx.state();
        let names = state.scalar_functions().keys().chain(state.aggregate_functions().keys());
        names.chain(state.window_functions().keys()).map(|name| format!("{name}(")).collect()
    }

    /// The columns of a table that the text names.
    fn columns(&self, table: &str) -> Vec<String> {
        if let Some(known) = self.columns.borrow().get(table) {
            return known.clone();
        }
        let ctx = self.ctx.clone();
        let name = TableReference::from(table);
        let open = async move { tokio::time::timeout(PATIENCE, ctx.table_provider(name)).await };
        let opened = tokio::task::block_in_place(|| Handle::current().block_on(open));
        let Ok(Ok(provider)) = opened else { return Vec::new() };
        let columns: Vec<String> = provider.schema().fields().iter().map(|field| field.name().clone()).collect();
        self.columns.borrow_mut().insert(table.to_owned(), columns.clone());
        columns
    }

    /// All that may stand at the end of `before`, in order.
    fn candidates(&self, before: &str, word: &str) -> BTreeSet<String> {
        let fits = |candidate: &String| {
            candidate.len() >= word.len()
                && candidate.is_char_boundary(word.len())
                && candidate[..word.len()].eq_ignore_ascii_case(word)
        };
        if word.starts_with('\\') {
            return COMMANDS.iter().map(|command| command.name.to_owned()).filter(fits).collect();
        }
        let mut found = BTreeSet::new();
        if let Some(function) = open_table_function(before) {
            found.extend(function.arguments.iter().map(|argument| format!("{} => ", argument.name)));
        }
        let tables = table_names(&self.ctx);
        for table in tables.iter().filter(|table| names(before, table)) {
            found.extend(self.columns(table));
        }
        found.extend(tables);
        found.extend(self.functions());
        found.extend(table_functions().map(|function| format!("{}(", function.name)));
        // No word yet would be all of the language.
        if !word.is_empty() {
            found.extend(KEYWORDS.iter().map(|&keyword| keyword.to_owned()));
        }
        found.retain(fits);
        found
    }
}

/// Whether a text names a table as a word of its own.
fn names(text: &str, table: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    text.split(|c| !is_part(c)).any(|word| word == table)
}

/// The table function whose parenthesis is open at the end of a text.
fn open_table_function(before: &str) -> Option<&'static TableFunction> {
    let mut depth = 0;
    for (at, c) in before.char_indices().rev() {
        match c {
            ')' => depth += 1,
            '(' if depth > 0 => depth -= 1,
            '(' => {
                let head = before[..at].trim_end();
                let start = head.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |i| i + 1);
                let name = &head[start..];
                if let Some(found) = table_functions().find(|f| f.name.eq_ignore_ascii_case(name)) {
                    return Some(found);
                }
            }
            _ => {}
        }
    }
    None
}

/// Where the word begins that ends at `position`.
fn word_start(line: &str, position: usize) -> usize {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '\\');
    line[..position].char_indices().rev().take_while(|(_, c)| is_part(*c)).last().map_or(position, |(at, _)| at)
}

impl Completer for Completion {
    type Candidate = String;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let start = word_start(line, position);
        Ok((start, self.candidates(&line[..start], &line[start..position]).into_iter().collect()))
    }
}

impl Hinter for Completion {
    type Hint = String;
}

impl Highlighter for Completion {}
impl Validator for Completion {}
impl Helper for Completion {}

#[cfg(test)]
mod tests {
    use super::*;

    async fn complete(text: &str) -> Vec<String> {
        let ctx = SessionContext::new();
        ctx.sql("CREATE TABLE planets AS SELECT 1 AS radius, 2 AS mass").await.unwrap().collect().await.unwrap();
        let completion = Completion::new(ctx);
        let start = word_start(text, text.len());
        completion.candidates(&text[..start], &text[start..]).into_iter().collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn tables_columns_functions_and_arguments_are_offered() {
        assert_eq!(complete("SELECT * FROM pla").await, ["planets"]);
        assert_eq!(complete("SELECT * FROM planets WHERE rad").await, ["radians(", "radius"]);
        assert!(complete("SELECT regexp_li").await.contains(&"regexp_like(".to_owned()));
        assert_eq!(complete("SELECT * FROM gener").await, ["generate(", "generate_series("]);
        assert_eq!(complete("SELECT * FROM generate(TABLE planets, on_er").await, ["on_error => "]);
        assert_eq!(
            complete("SELECT * FROM enrich((SELECT 1), prompt => upper('a'), whe").await,
            ["WHEN", "WHERE", "when => "]
        );
        assert_eq!(complete("\\tim").await, ["\\timing"]);
        assert!(complete("SELECT * FROM generate(TABLE planets) WHERE on_er").await.is_empty());
    }
}
