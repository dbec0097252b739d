//! `seedmill calls compact`: the ledger's small files become few large ones.

use std::path::PathBuf;

use datafusion::common::Result;

use super::{EXIT_OK, output, text_table};
use crate::counted::noun;
use crate::ledger::{Totals, compact};
use crate::session::{OpenOptions, Workspace};

pub async fn calls_compact(root: Option<PathBuf>) -> Result<u8> {
    let workspace = Workspace::open(OpenOptions { root, ..OpenOptions::default() }).await?;
    let done = compact(&workspace.ledger()).await?;
    let header = ["", "segments", "calls", "attempts", "uses", "bytes"].map(str::to_owned).to_vec();
    let mut text = text_table::lines(&[header, row("before", done.before), row("after", done.after)], 1);
    if done.still_held > 0 {
        text.push_str(&format!(
            "{} replaced {} may still be read by another process; a later command deletes what is left\n",
            text_table::count(done.still_held),
            noun(done.still_held == 1, "segment")
        ));
    }
    output::text(&text)?;
    Ok(EXIT_OK)
}

fn row(name: &str, totals: Totals) -> Vec<String> {
    let Totals { segments, calls, attempts, call_uses, bytes } = totals;
    let counts = [segments, calls, attempts, call_uses].map(text_table::count);
    [name.to_owned()].into_iter().chain(counts).chain([text_table::bytes(bytes)]).collect()
}
