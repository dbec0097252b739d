//! `seedmill calls gc`: drops calls that no run has used for long, after saying which.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use datafusion::common::{DataFusionError, Result};

use super::arguments::GcArguments;
use super::{EXIT_OK, output, text_table};
use crate::counted::noun;
use crate::ledger::{GarbageCollector, Share, Unused};
use crate::publish::named_calls;
use crate::session::{OpenOptions, Workspace};
use crate::stores::Place;

pub async fn calls_gc(root: Option<PathBuf>, arguments: GcArguments) -> Result<u8> {
    let workspace = Workspace::open(OpenOptions { root, out: arguments.out, ..OpenOptions::default() }).await?;
    let ledger = &workspace.ledger();
    let runs = &workspace.run.stores.place(&workspace.config.out);
    let age = i64::try_from(arguments.older_than.as_millis()).unwrap_or(i64::MAX);
    let since_ms = Utc::now().timestamp_millis().saturating_sub(age);
    let since = DateTime::from_timestamp_millis(since_ms).unwrap_or(DateTime::UNIX_EPOCH);

    if !arguments.yes {
        let unused = GarbageCollector::dry(ledger)?.unused_since(since_ms, &named_calls(runs).await?).await?;
        output::text(&report(&unused, since, runs))?;
        let ask = !arguments.dry_run && !unused.by_model.is_empty();
        if ask && !std::io::stdin().is_terminal() {
            output::text("nothing was dropped: the same command with --yes drops them\n")?;
        }
        if !ask || !confirmed()? {
            return Ok(EXIT_OK);
        }
    }
    // From here on nobody else uses the ledger, so what is unused now stays unused until it is gone.
    let collector = GarbageCollector::alone(ledger)?;
    let unused = collector.unused_since(since_ms, &named_calls(runs).await?).await?;
    if arguments.yes {
        output::text(&report(&unused, since, runs))?;
    }
    if unused.by_model.is_empty() {
        return Ok(EXIT_OK);
    }
    let done = collector.collect(unused).await?;
    output::text(&format!(
        "dropped; the ledger took {} and takes {} now\n",
        text_table::bytes(done.before.bytes),
        text_table::bytes(done.after.bytes)
    ))?;
    Ok(EXIT_OK)
}

fn report(unused: &Unused, since: DateTime<Utc>, runs: &Place) -> String {
    let since = since.format("%Y-%m-%d %H:%M UTC");
    let mut text = if unused.by_model.is_empty() {
        format!("no call goes: a run has used each since {since}, or a published run names it\n")
    } else {
        let header = ["unused calls of", "calls", "texts", "paid"].map(str::to_owned).to_vec();
        let rows = unused.by_model.iter().map(|(model, share)| row(model, share));
        let table = text_table::lines(&[header].into_iter().chain(rows).collect::<Vec<_>>(), 1);
        format!("calls that no run has used since {since}:\n{table}")
    };
    if unused.named.calls > 0 {
        text.push_str(&format!(
            "kept: {} unused {} that published runs in {runs} name\n",
            text_table::count(unused.named.calls),
            noun(unused.named.calls == 1, "call")
        ));
    }
    text
}

fn row(model: &str, share: &Share) -> Vec<String> {
    let Share { calls, text_bytes, cost_usd } = *share;
    vec![model.to_owned(), text_table::count(calls), text_table::bytes(text_bytes), text_table::cost(cost_usd)]
}

/// Asks on a terminal; elsewhere nobody can say yes.
fn confirmed() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    eprint!("drop these calls? A run that asks them again pays again. [y/N] ");
    std::io::stderr().flush().map_err(DataFusionError::IoError)?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(DataFusionError::IoError)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}
