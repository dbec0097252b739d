//! `seedmill tasks check`: how far our normalization is what the harness renders.

use std::fmt::Write;
use std::path::PathBuf;

use datafusion::common::{DataFusionError, Result};

use super::arguments::CheckArguments;
use super::{EXIT_FAILED, EXIT_OK, output};
use crate::config::TasksConfig;
use crate::counted::counted;
use crate::stores::Stores;
use crate::tasks::{Catalog, Comparison, FIELDS, Golden};

/// Prints each field's counts and the first differences in full.
pub async fn check(root: Option<PathBuf>, arguments: CheckArguments) -> Result<u8> {
    let root = root.unwrap_or_else(|| PathBuf::from("."));
    let statements = root.join("sql/tasks");
    let catalog = match &arguments.from {
        Some(from) => {
            let config = TasksConfig {
                from: vec![from.clone()],
                sql: Some(statements.clone()),
                cache: root.join(".seedmill/seeds"),
                ..TasksConfig::default()
            };
            Some(Catalog::load(&config, &Stores::from_env()).map_err(DataFusionError::from)?)
        }
        None => None,
    };
    let mut equal = true;
    for file in &arguments.golden {
        let comparison = Golden::read(file)?.check(catalog.as_ref(), Some(&statements)).await?;
        output::text(&report(&file.display().to_string(), &comparison, arguments.show))?;
        equal &= comparison.is_equal();
    }
    Ok(if equal { EXIT_OK } else { EXIT_FAILED })
}

fn report(file: &str, comparison: &Comparison, show: usize) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = writeln!(out, "{file}: {}, {}", counted(comparison.tasks, "task"), counted(comparison.rows, "row"));
    let _ = writeln!(out, "{:<16}{:>8}{:>11}{:>8}", "field", "equal", "different", "failed");
    for field in FIELDS {
        let counts = comparison.fields.get(field).copied().unwrap_or_default();
        let _ = writeln!(out, "{field:<16}{:>8}{:>11}{:>8}", counts.equal, counts.different, counts.failed);
    }
    for (task, reason) in comparison.failed_tasks.iter().take(show) {
        let _ = writeln!(out, "\n{task}: {reason}");
    }
    for difference in comparison.differences.iter().take(show) {
        let _ = writeln!(out, "\n{} row {} {}", difference.task, difference.row, difference.field);
        let _ = writeln!(out, "  harness:  {:?}", difference.expected);
        match &difference.found {
            Some(found) => {
                let _ = writeln!(out, "  seedmill: {found:?}");
            }
            None => out.push_str("  seedmill: no value\n"),
        }
    }
    let left = (comparison.differences.len() + comparison.failed_tasks.len())
        .saturating_sub(comparison.differences.len().min(show) + comparison.failed_tasks.len().min(show));
    if left > 0 {
        let _ = writeln!(out, "\n… and {left} more (--show {})", show + left);
    }
    out
}
