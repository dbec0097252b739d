//! What counts under the prefix of a ledger on an object store. `generation-<n>.json` is created, never overwritten: it
//! names the segments, and the logs that stand in them and count no more. The highest number holds. Who merges makes
//! n + 1 out of n, so of two that merge at once one comes too late, and nobody sees half of a merge.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::columns::Table;

/// A segment: a Parquet file a table, and the keys of its calls in the order of the rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SegmentEntry {
    pub(super) unique: String,
    pub(super) calls: u64,
    pub(super) attempts: u64,
    pub(super) call_uses: u64,
    /// Bytes of its files, in the order of [`Table::ALL`].
    pub(super) bytes: [u64; 3],
}

impl SegmentEntry {
    pub(super) fn file_name(&self, table: Table) -> String {
        file_name(&self.unique, table)
    }

    pub(super) fn keys_name(&self) -> String {
        keys_name(&self.unique)
    }

    pub(super) fn rows_of(&self, table: Table) -> u64 {
        match table {
            Table::Calls => self.calls,
            Table::Attempts => self.attempts,
            Table::CallUses => self.call_uses,
        }
    }

    pub(super) fn bytes_of(&self, table: Table) -> u64 {
        let [calls, attempts, call_uses] = self.bytes;
        match table {
            Table::Calls => calls,
            Table::Attempts => attempts,
            Table::CallUses => call_uses,
        }
    }

    /// All its objects.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        Table::ALL.into_iter().map(|table| self.file_name(table)).chain([self.keys_name()])
    }
}

pub(super) fn file_name(unique: &str, table: Table) -> String {
    format!("segment-{unique}-{}", table.file_name())
}

pub(super) fn keys_name(unique: &str) -> String {
    format!("segment-{unique}.keys")
}

/// One state of a ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Generation {
    /// Oldest first. A log that is in none of them is younger than all.
    pub(super) segments: Vec<SegmentEntry>,
    /// The numbers of merged logs, by the process that put them: first and last of each run, ascending. They are kept
    /// for ever, for a put that is made again may bring a log back.
    merged: BTreeMap<String, Vec<(u64, u64)>>,
    /// How often calls were dropped: who has read a part before cannot go on after it.
    #[serde(default)]
    pub(super) drops: u64,
}

impl Generation {
    /// Whether a log's records stand in a segment.
    pub(super) fn has_merged(&self, log: &str) -> bool {
        let Some((process, number)) = parts(log) else { return false };
        let runs = self.merged.get(process);
        runs.is_some_and(|runs| runs.iter().any(|(first, last)| (*first..=*last).contains(&number)))
    }

    pub(super) fn add_merged(&mut self, log: &str) {
        let Some((process, number)) = parts(log) else { return };
        let runs = self.merged.entry(process.to_owned()).or_default();
        runs.push((number, number));
        runs.sort_unstable();
        runs.dedup_by(|next, run| {
            let joins = next.0 <= run.1 + 1;
            if joins {
                run.1 = run.1.max(next.1);
            }
            joins
        });
    }
}

/// `log-<process>-<number>.log`.
fn parts(log: &str) -> Option<(&str, u64)> {
    let (process, number) = log.strip_prefix("log-")?.strip_suffix(".log")?.rsplit_once('-')?;
    Some((process, number.parse().ok()?))
}

/// Whether an object is a log of ours.
pub(super) fn is_log(name: &str) -> bool {
    parts(name).is_some()
}

/// What a log is called that is merged though a part of it could not be read: no log, and nothing that is ever deleted.
pub(super) fn damaged_name(log: &str) -> String {
    format!("{}.damaged", log.strip_suffix(".log").unwrap_or(log))
}

pub(super) fn generation_name(number: u64) -> String {
    format!("generation-{number:08}.json")
}

pub(super) fn generation_number(name: &str) -> Option<u64> {
    name.strip_prefix("generation-")?.strip_suffix(".json")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_logs_of_a_process_take_the_room_of_their_gaps() {
        let mut generation = Generation::default();
        let log = |number: u64| format!("log-01a-ff-{number:08}.log");
        for number in [1, 2, 5, 4, 8] {
            generation.add_merged(&log(number));
        }
        assert_eq!(generation.merged["01a-ff"], [(1, 2), (4, 5), (8, 8)]);
        generation.add_merged(&log(3));
        assert_eq!(generation.merged["01a-ff"], [(1, 5), (8, 8)]);
        let merged: Vec<u64> = (0..10).filter(|number| generation.has_merged(&log(*number))).collect();
        assert_eq!(merged, [1, 2, 3, 4, 5, 8]);
        assert!(!generation.has_merged("log-01a-fe-00000001.log") && !generation.has_merged("mine.log"));
        let json = serde_json::to_string(&generation).unwrap();
        assert_eq!(serde_json::from_str::<Generation>(&json).unwrap(), generation);
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        assert_eq!(generation_number(&generation_name(17)), Some(17));
        assert_eq!(generation_number("generation-x.json"), None);
        assert_eq!(damaged_name("log-01a-ff-00000001.log"), "log-01a-ff-00000001.damaged");
        assert!(!is_log("log-01a-ff-00000001.damaged"));
        assert!(is_log("log-01a-ff-00000001.log") && !is_log("log-x.log") && !is_log("segment-01a-ff.keys"));
    }
}
