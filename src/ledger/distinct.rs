//! Which rows of a segment's calls repeat a call of an older file, written down beside them once that cannot change
//! any more. With it `calls` shows each call once and reads no ids.

use std::fs;
use std::path::Path;

use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use serde::{Deserialize, Serialize};

use super::folder;

const FILE: &str = "distinct.json";

/// Of one segment. It is final when no older log exists: segments do not change, and a name younger than all others
/// is taken for each new log. (Compaction and gc leave the first record of a call where it is, or drop all.)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Distinct {
    /// The rows of its calls.
    pub(super) rows: u64,
    /// Row numbers, sorted.
    pub(super) repeats: Vec<u64>,
}

impl Distinct {
    /// Reads it; `None` where it has not been written (whole) yet.
    pub(super) fn read(folder: &Path, unique: &str) -> Option<Distinct> {
        let json = fs::read(folder::segment_path(folder, unique).join(FILE)).ok()?;
        // It was not synced: a crash of the machine can leave a part of it, and a part is no JSON.
        serde_json::from_slice(&json).ok()
    }

    /// Writes it into a segment's folder. It can be found out again, so a failure is none of the caller's.
    pub(super) fn write(&self, segment: &Path) {
        let unfinished = segment.join(format!("{FILE}.{}.tmp", std::process::id()));
        let write = || {
            fs::write(&unfinished, serde_json::to_vec(self)?)?;
            fs::rename(&unfinished, segment.join(FILE))
        };
        if let Err(e) = write() {
            tracing::debug!("{} cannot be written: {e}", segment.join(FILE).display());
        }
    }

    /// The rows that are shown; `None` for all.
    pub(super) fn shown(&self) -> Option<RowSelection> {
        let mut selectors = Vec::with_capacity(2 * self.repeats.len() + 1);
        let mut next = 0;
        for &row in &self.repeats {
            selectors.push(RowSelector::select((row - next) as usize));
            selectors.push(RowSelector::skip(1));
            next = row + 1;
        }
        selectors.push(RowSelector::select(self.rows.saturating_sub(next) as usize));
        (!self.repeats.is_empty()).then(|| selectors.into())
    }

    /// The number of rows that are shown.
    pub(super) fn shown_rows(&self) -> u64 {
        self.rows.saturating_sub(self.repeats.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_rows_but_the_repeated_are_shown() {
        let distinct = Distinct { rows: 6, repeats: vec![0, 3, 4] };
        let selection = distinct.shown().unwrap();
        assert_eq!((selection.row_count() as u64, selection.skipped_row_count()), (distinct.shown_rows(), 3));
        assert_eq!(Distinct { rows: 6, repeats: vec![] }.shown(), None);
    }

    #[test]
    fn half_of_it_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let segment = folder::segment_path(folder.path(), "1");
        fs::create_dir(&segment).unwrap();
        assert_eq!(Distinct::read(folder.path(), "1"), None);
        let distinct = Distinct { rows: 6, repeats: vec![3] };
        distinct.write(&segment);
        assert_eq!(Distinct::read(folder.path(), "1"), Some(distinct));
        let json = fs::read(segment.join(FILE)).unwrap();
        fs::write(segment.join(FILE), &json[..json.len() - 1]).unwrap();
        assert_eq!(Distinct::read(folder.path(), "1"), None);
    }
}
