//! `seedmill functions`: the reference of our own SQL functions as Markdown. docs/functions.md is made from it.

use std::fmt::Write;

use datafusion::common::Result;
use datafusion::logical_expr::{Documentation, ScalarUDF};

use super::{EXIT_OK, output};
use crate::curate;
use crate::model_call::{TableArgument, TableFunction};
use crate::session::table_functions;

pub fn functions() -> Result<u8> {
    output::text(&reference())?;
    Ok(EXIT_OK)
}

/// The whole reference.
fn reference() -> String {
    let mut out = String::from(
        "# SQL functions\n\nMade by `seedmill functions`. All of DataFusion's functions are there too: `SHOW FUNCTIONS`.\n\n\
         ## Table functions\n\nThe first argument is the input: `(SELECT …)`, `TABLE name` or a bare name. All others are \
         named. A literal may be a variable, `@name`.\n",
    );
    for function in table_functions() {
        write_table_function(&mut out, function);
    }
    out.push_str("\n## Scalar functions\n");
    let scalar = seedmill_udfs::scalar_functions();
    let mut scalar: Vec<(&str, &Documentation)> =
        scalar.iter().filter_map(|f| Some((f.name(), f.documentation()?))).collect();
    // An asynchronous function's documentation is not asked for by DataFusion.
    scalar.push((curate::RUN_PYTHON, curate::run_python_documentation()));
    for (name, documentation) in scalar {
        write_function(&mut out, name, documentation);
    }
    let aggregates = seedmill_udfs::aggregate_functions();
    if !aggregates.is_empty() {
        out.push_str("\n## Aggregate functions\n");
    }
    for (name, documentation) in aggregates.iter().filter_map(|f| Some((f.name(), f.documentation()?))) {
        write_function(&mut out, name, documentation);
    }
    out.push_str("\n## Window functions\n");
    let window = seedmill_udfs::window_functions();
    for (name, documentation) in window.iter().filter_map(|f| Some((f.name(), f.documentation()?))) {
        write_function(&mut out, name, documentation);
    }
    out
}

// Writing to a String cannot fail.
fn write_table_function(out: &mut String, function: &TableFunction) {
    let TableFunction { name, description, gives, arguments, example } = function;
    let _ = write!(
        out,
        "\n### {name}\n\n{description}\n\nGives: {gives}\n\n| argument | takes | meaning |\n|---|---|---|\n"
    );
    for TableArgument { name, takes, description } in *arguments {
        let _ = writeln!(out, "| `{name}` | {takes} | {} |", description.replace('|', "\\|"));
    }
    let _ = write!(out, "\n```sql\n{example}\n```\n");
}

fn write_function(out: &mut String, name: &str, documentation: &Documentation) {
    let _ = write!(out, "\n### {name}\n\n`{}`\n\n{}\n", documentation.syntax_example, documentation.description);
    let arguments: Vec<String> =
        documentation.arguments.iter().flatten().map(|(name, kind)| format!("`{name}`: {kind}")).collect();
    if !arguments.is_empty() {
        let _ = write!(out, "\nArguments: {}\n", arguments.join("; "));
    }
    if let Some(example) = &documentation.sql_example {
        let _ = write!(out, "\n{}\n", example.trim());
    }
}

/// One line a function whose name holds `text`: its form and its first sentence, ours before DataFusion's.
pub fn list<'a>(scalar: impl Iterator<Item = &'a ScalarUDF>, text: &str) -> String {
    let text = text.to_lowercase();
    let mut lines = Vec::new();
    for function in table_functions().filter(|function| function.name.contains(&text)) {
        lines.push((0, format!("{}(input, …)", function.name), function.description.to_owned()));
    }
    if curate::RUN_PYTHON.contains(&text) {
        let documentation = curate::run_python_documentation();
        lines.push((1, documentation.syntax_example.clone(), documentation.description.clone()));
    }
    let ours: Vec<_> = seedmill_udfs::scalar_functions();
    for function in scalar.filter(|function| function.name().contains(&text)) {
        let Some(documentation) = function.documentation() else { continue };
        let is_ours = function.name() == curate::RUN_PYTHON || ours.iter().any(|own| own.name() == function.name());
        let rank = if is_ours { 1 } else { 2 };
        lines.push((rank, documentation.syntax_example.clone(), documentation.description.clone()));
    }
    lines.sort();
    lines.dedup();
    let mut out = String::new();
    for (_, form, description) in lines {
        let first = description.split(". ").next().unwrap_or_default().split('\n').next().unwrap_or_default();
        let _ = writeln!(out, "{form}\n    {}", first.trim_end_matches('.'));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docs_functions_md_is_what_the_program_prints() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/functions.md");
        let stored = std::fs::read_to_string(file).unwrap_or_default();
        assert!(stored == reference(), "docs/functions.md is stale: cargo run -- functions > docs/functions.md");
    }

    #[test]
    fn a_function_is_listed_once() {
        for settings in [None, Some(crate::config::RunCode::new("python3".into()))] {
            let function = curate::run_python(settings);
            let listed = list([&function].into_iter(), "run_py");
            assert_eq!(listed.matches("run_python(code").count(), 1, "{listed}");
        }
    }

    #[test]
    fn every_function_of_ours_has_a_sentence_and_an_example() {
        for function in seedmill_udfs::scalar_functions() {
            let documentation = function.documentation().unwrap_or_else(|| panic!("{}", function.name()));
            assert!(documentation.description.len() > 20, "{}", function.name());
            assert!(documentation.sql_example.is_some(), "{}", function.name());
        }
    }

    #[test]
    fn a_list_of_functions_begins_with_ours() {
        let functions = seedmill_udfs::scalar_functions();
        let listed = list(functions.iter().map(AsRef::as_ref), "text");
        assert!(listed.contains("same_text(a, b)\n    Whether two texts are the same answer"), "{listed}");
        assert!(list(functions.iter().map(AsRef::as_ref), "gener").starts_with("generate(input, …)\n"));
    }
}
