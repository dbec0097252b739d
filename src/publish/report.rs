//! The text that a run ends with: what came of the rows, why some were rejected, a few of them to look at, what it
//! cost, and where the files are.

use std::fmt::{self, Write};
use std::time::Duration;

use datafusion::common::Result;

use super::card::by_count;
use super::fold::{columns, fold};
use super::manifest::{FileKind, Manifest};
use super::{Item, Published};
use crate::counted::counted;

/// How many items of each kind are printed.
const ITEMS: usize = 3;

/// How many rows a stage of the pipeline gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    pub name: String,
    pub rows: u64,
}

/// What a run's calls took. `calls` were asked; `replayed` came from the ledger at no cost.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    pub calls: u64,
    pub replayed: u64,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub cost_usd: f64,
    pub time: Duration,
}

/// A published run, ready to be shown.
#[derive(Debug, Clone)]
pub struct Report {
    pub stages: Vec<Stage>,
    pub usage: Usage,
    pub manifest: Manifest,
    /// Where the run lies, as it is to be printed.
    pub path: String,
    pub kept: Vec<Item>,
    pub rejected: Vec<Item>,
}

impl Report {
    /// Reads the first three kept and rejected items by id from the published files.
    pub async fn read(published: &Published, stages: Vec<Stage>, usage: Usage) -> Result<Report> {
        Ok(Report {
            stages,
            usage,
            manifest: published.manifest.clone(),
            path: published.path.display().to_string(),
            kept: Item::first(published, FileKind::Curated, ITEMS).await?,
            rejected: Item::first(published, FileKind::Rejected, ITEMS).await?,
        })
    }

    /// The report as text, folded at `width` columns.
    pub fn render(&self, width: usize) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut out, width.max(40));
        out
    }

    fn write(&self, out: &mut String, width: usize) -> fmt::Result {
        let rows = self.manifest.rows;
        if !self.stages.is_empty() {
            writeln!(out, "Funnel")?;
            let stages: Vec<(&str, u64)> = self.stages.iter().map(|stage| (stage.name.as_str(), stage.rows)).collect();
            bars(out, &stages, width)?;
            writeln!(out)?;
        }
        let reasons = by_count(&self.manifest.reasons);
        if !reasons.is_empty() {
            writeln!(out, "Why items were rejected")?;
            bars(out, &reasons, width)?;
            writeln!(out)?;
        }
        for (title, items, of) in [("Kept", &self.kept, rows.curated), ("Rejected", &self.rejected, rows.rejected)] {
            if !items.is_empty() {
                writeln!(out, "{title}, {} of {of}", items.len())?;
                items.iter().try_for_each(|item| show(out, item, width))?;
                writeln!(out)?;
            }
        }
        if self.manifest.models.iter().any(|model| model.is_embedded()) {
            out.push_str(&fold(
                "A small demonstration model is configured: what it states may be false, also in items that passed every check.",
                "",
                "",
                width,
            ));
            writeln!(out)?;
        }
        let usage = &self.usage;
        writeln!(
            out,
            "{} asked and {} replayed, {} + {}, ${:.4}, {}",
            counted(usage.calls, "call"),
            usage.replayed,
            usage.prompt_tokens,
            counted(usage.completion_tokens, "token"),
            usage.cost_usd,
            clock(usage.time)
        )?;
        if rows.curated == 0 {
            writeln!(out, "No item passed; the run is published empty, with {} rejected.", rows.rejected)?;
        } else {
            writeln!(out, "{} kept, {} rejected", rows.curated, rows.rejected)?;
        }
        writeln!(out, "Published in {}", self.path)
    }
}

/// Names, counts and a bar each, scaled to the largest.
fn bars(out: &mut String, counts: &[(&str, u64)], width: usize) -> fmt::Result {
    let name_width = counts.iter().map(|(name, _)| columns(name)).max().unwrap_or(0).min(width / 2);
    let largest = counts.iter().map(|(_, n)| *n).max().unwrap_or(0);
    let digits = largest.to_string().len();
    let room = width.saturating_sub(name_width + digits + 6).min(40);
    for (name, n) in counts {
        // A count that is not zero shows.
        let length = if largest == 0 { 0 } else { ((*n as f64 / largest as f64 * room as f64).ceil()) as usize };
        let short = shorten(name, name_width);
        let pad = name_width - columns(&short);
        let line = format!("  {short}{:pad$}  {n:>digits$}  {}", "", "█".repeat(length));
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn shorten(name: &str, width: usize) -> String {
    let name: String = name.chars().filter(|c| !c.is_control()).collect();
    if columns(&name) <= width {
        return name;
    }
    let mut short = String::new();
    for c in name.chars() {
        if columns(&short) + columns(c.encode_utf8(&mut [0; 4])) + 1 > width {
            break;
        }
        short.push(c);
    }
    short.push('…');
    short
}

fn show(out: &mut String, item: &Item, width: usize) -> fmt::Result {
    let source = [item.task.as_str(), item.license.as_str(), item.id.get(..8).unwrap_or(&item.id)];
    let source = source.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ");
    out.push_str(&fold(&source, "  ", "  ", width));
    let options = item.options.iter().map(|option| format!("- {option}")).collect::<Vec<_>>().join("\n");
    let parts = [
        ("question ", item.question.as_str()),
        ("options  ", &options),
        ("answer   ", &item.answer_text),
        ("reasoning", &item.reasoning),
        ("reasons  ", &item.reasons.join(", ")),
    ];
    for (label, text) in parts {
        if !text.trim().is_empty() {
            out.push_str(&fold(text, &format!("    {label}  "), "               ", width));
        }
    }
    Ok(())
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}
