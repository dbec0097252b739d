//! Counts what the manifest tells of a run's rows: by reason, by task and licence, by language.

use std::collections::BTreeMap;

use datafusion::arrow::array::{Array, AsArray, StringArray};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{DataFusionError, Result};

use super::manifest::{Attribution, FileKind, Rows, Source};
use super::schema::REASONS;

/// Stands for a NULL task, licence or reason in counts.
pub(crate) const UNKNOWN: &str = "unknown";

#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub rows: Rows,
    /// Rejected rows by reason; a row with several counts under each.
    pub reasons: BTreeMap<String, u64>,
    /// By task, then licence.
    sources: BTreeMap<String, BTreeMap<String, Rows>>,
    /// Kept rows by language.
    pub languages: BTreeMap<String, u64>,
}

impl Tally {
    /// Counts a batch of one kind, in the schema `rejected`.
    pub(crate) fn add(&mut self, kind: FileKind, batch: &RecordBatch) -> Result<()> {
        self.rows.add(kind, batch.num_rows() as u64);
        let (tasks, licences) = (texts(batch, "task")?, texts(batch, "license")?);
        for row in 0..batch.num_rows() {
            count(&mut self.sources, value(tasks, row), |by_licence| {
                count(by_licence, value(licences, row), |rows| rows.add(kind, 1));
            });
        }
        match kind {
            FileKind::Curated => {
                let languages = texts(batch, "language")?;
                (0..batch.num_rows())
                    .filter(|row| languages.is_valid(*row))
                    .for_each(|row| count(&mut self.languages, languages.value(row), |rows| *rows += 1));
            }
            FileKind::Rejected => {
                let reasons = column(batch, REASONS)?.as_list::<i32>();
                for row in 0..batch.num_rows() {
                    let reasons = reasons.value(row);
                    let reasons = reasons.as_string::<i32>();
                    for at in 0..reasons.len() {
                        let reason = value(reasons, at);
                        // A reason that a row gives twice counts once.
                        if (0..at).all(|before| value(reasons, before) != reason) {
                            count(&mut self.reasons, reason, |rows| *rows += 1);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    pub(crate) fn sources(&self) -> Vec<Source> {
        self.sources
            .iter()
            .flat_map(|(task, by_licence)| {
                by_licence.iter().map(|(license, &rows)| Source {
                    task: task.clone(),
                    license: license.clone(),
                    rows,
                    attribution: Attribution::default(),
                })
            })
            .collect()
    }
}

/// Changes the count of a name; the name is only copied when it is new.
fn count<V: Default>(counts: &mut BTreeMap<String, V>, name: &str, change: impl FnOnce(&mut V)) {
    if let Some(value) = counts.get_mut(name) {
        change(value);
    } else {
        change(counts.entry(name.to_owned()).or_default());
    }
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a dyn Array> {
    let place = batch.schema_ref().index_of(name).map_err(DataFusionError::from)?;
    Ok(batch.column(place).as_ref())
}

fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray> {
    Ok(column(batch, name)?.as_string::<i32>())
}

fn value(texts: &StringArray, row: usize) -> &str {
    let text = if texts.is_valid(row) { texts.value(row) } else { "" };
    if text.is_empty() { UNKNOWN } else { text }
}
