//! The keys of one held-out split. In: a task's held-out files. Out: what their rows are known by, how many rows are known
//! in which form, and why others are not. A row's question is what the normalization says it is; where that cannot be
//! made (its prompt needs Python, or asks nothing) the row's own texts stand for it. Kept in the cache by content.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::catalog::Session;
use datafusion::common::{DataFusionError, Result};
use futures::TryStreamExt;

use super::Task;
use super::harness_config::{Field, HarnessConfig};
use super::heldout_index::VERSION;
use super::normalized_cache::{content_key, file_name};
use super::raw_file::may_pass;
use super::raw_table::SOURCE_ROW;
use super::raw_texts::RawKeys;
use super::row_keys::{Questions, RowKeys};
use super::task_planner::TaskPlanner;
use crate::lineage::Split;

/// A question that so many rows of one split share, each with other options or another answer, says nothing alone
/// ("Which of these is true?"): its rows are known by their options, or by their answer where they have none.
pub(super) const GENERIC: usize = 4;

/// Sources whose change makes other keys of the same rows.
const CODE: [&str; 3] = [include_str!("heldout_split.rs"), include_str!("raw_texts.rs"), include_str!("row_keys.rs")];

/// What the rows of a split are known by.
#[derive(Debug, Default, PartialEq)]
pub(super) struct SplitKeys {
    /// Question and whole row.
    pub rows: Vec<(u64, u64)>,
    /// The questions among them that are generic.
    pub generic: Vec<u64>,
    /// Texts of raw rows that may be questions.
    pub texts: Vec<u64>,
    pub counts: Counts,
    /// Why rows are not known by their normalized questions, or not known at all.
    pub note: Option<String>,
}

/// Rows of a split.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Counts {
    /// That were read.
    pub rows: u64,
    /// Known by what the normalization calls the question.
    pub normalized: u64,
    /// Known by texts of the raw row alone.
    pub raw: u64,
    /// That cannot be read (see `raw_errors`).
    pub unread: u64,
}

impl SplitKeys {
    /// A split of which nothing can be known.
    pub(super) fn none(why: &DataFusionError) -> SplitKeys {
        SplitKeys { note: Some(why.strip_backtrace()), ..SplitKeys::default() }
    }

    /// Whether its files are there and no row of them is known.
    pub(super) fn is_lost(&self) -> bool {
        self.note.is_some() && self.counts.normalized + self.counts.raw == 0
    }

    /// Whether the row has a question.
    pub(super) fn add(&mut self, row: &RowKeys) -> bool {
        let Some(question) = row.question() else { return false };
        self.rows.push((question, row.whole(question)));
        true
    }

    /// When all rows are added.
    pub(super) fn end(&mut self) {
        self.rows.sort_unstable();
        self.rows.dedup();
        let shared = self.rows.chunk_by(|a, b| a.0 == b.0).filter(|rows| rows.len() >= GENERIC);
        self.generic = shared.map(|rows| rows[0].0).collect();
    }

    /// The file: version, seven numbers, the lists, the note, a hash of all before it; integers little-endian.
    fn write(&self, file: &Path) -> std::io::Result<()> {
        let note = self.note.as_deref().unwrap_or_default();
        let Counts { rows, normalized, raw, unread } = self.counts;
        let lengths = [self.rows.len(), self.generic.len(), self.texts.len()].map(|n| n as u64);
        let numbers = lengths.into_iter().chain([rows, normalized, raw, unread]);
        let pairs = self.rows.iter().flat_map(|(question, whole)| [*question, *whole]);
        let mut bytes = VERSION.to_vec();
        numbers.chain(pairs).chain(self.generic.iter().copied()).chain(self.texts.iter().copied()).for_each(|number| {
            bytes.extend(number.to_le_bytes());
        });
        bytes.extend(note.as_bytes());
        let check = blake3::hash(&bytes);
        static WRITES: AtomicU64 = AtomicU64::new(0);
        let write = WRITES.fetch_add(1, Ordering::Relaxed);
        let partial = file.with_extension(format!("{}-{write}.partial", std::process::id()));
        let mut out = std::fs::File::create(&partial)?;
        out.write_all(&bytes).and_then(|()| out.write_all(check.as_bytes()))?;
        std::fs::rename(&partial, file)
    }

    /// `None` where there is no file, or one that cannot be used: it is made anew.
    fn read(file: &Path) -> Option<SplitKeys> {
        let bytes = std::fs::read(file).ok()?;
        let (bytes, check) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
        if blake3::hash(bytes).as_bytes() != check {
            return None;
        }
        let mut rest = bytes.strip_prefix(VERSION)?;
        let mut number = || {
            let (first, others) = rest.split_first_chunk::<8>()?;
            rest = others;
            Some(u64::from_le_bytes(*first))
        };
        let lengths = [number()?, number()?, number()?];
        let counts = Counts { rows: number()?, normalized: number()?, raw: number()?, unread: number()? };
        let rows = (0..lengths[0]).map(|_| Some((number()?, number()?))).collect::<Option<Vec<_>>>()?;
        let generic = (0..lengths[1]).map(|_| number()).collect::<Option<Vec<_>>>()?;
        let texts = (0..lengths[2]).map(|_| number()).collect::<Option<Vec<_>>>()?;
        let note = String::from_utf8(rest.to_vec()).ok()?;
        Some(SplitKeys { rows, generic, texts, counts, note: Some(note).filter(|note| !note.is_empty()) })
    }
}

/// Where the keys of a split are kept.
pub(super) async fn keys_file(cache: &Path, task: &Task, split: Split, session: &dyn Session) -> Result<PathBuf> {
    let mut hasher = blake3::Hasher::new();
    CODE.iter().for_each(|code| _ = hasher.update(code.as_bytes()));
    hasher.update(content_key(task, split, session).await?.as_bytes());
    Ok(cache.join(format!("{}.{split}-{}.keys", file_name(&task.name), &hasher.finalize().to_hex()[..16])))
}

/// The keys of a split, read from `file` or made now.
///
/// # Errors
/// Only where the store or the disk fails, which may be otherwise the next time: what cannot be understood is counted.
pub(super) async fn split_keys(file: &Path, task: &Task, split: Split, planner: &TaskPlanner) -> Result<SplitKeys> {
    if let Some(keys) = SplitKeys::read(file) {
        return Ok(keys);
    }
    let keys = match make(task, split, planner).await {
        Ok(keys) => keys,
        Err(e) if may_pass(&e) => return Err(e.context(format!("the {split} rows of the task '{}'", task.name))),
        Err(e) => SplitKeys::none(&e),
    };
    let place = |e: std::io::Error| {
        DataFusionError::from(e).context(format!("the keys of held-out rows, '{}'", file.display()))
    };
    if let Some(cache) = file.parent() {
        std::fs::create_dir_all(cache).map_err(place)?;
    }
    keys.write(file).map_err(place)?;
    Ok(keys)
}

/// How well a task says what its rows ask, best first: with all that it says, by its prompt alone, not at all.
pub(super) fn reading(task: &Task) -> u8 {
    match &task.config {
        Some(_) if task.normalizable => 0,
        Some(config) if config.missing.is_empty() && config.doc_to_text.is_some() => 1,
        Some(config) if prompt_alone(config).is_some() => 1,
        _ => 2,
    }
}

/// What says what a task's rows ask, best first: its config, and its prompt alone.
pub(super) fn prompts(task: &Task) -> impl Iterator<Item = HarnessConfig> {
    let all = task.config.as_ref().filter(|config| config.missing.is_empty() && config.doc_to_text.is_some()).cloned();
    let alone = task.config.as_ref().and_then(prompt_alone);
    [all, alone].into_iter().flatten()
}

/// A config's question without what else it says, for one whose target or choices cannot be read.
fn prompt_alone(config: &HarnessConfig) -> Option<HarnessConfig> {
    let needed = |key: &String| matches!(key.as_str(), "process_docs" | "doc_to_text");
    if config.missing.iter().any(needed) || config.doc_to_text.is_none() {
        return None;
    }
    let mut alone = config.clone();
    (alone.doc_to_target, alone.doc_to_choice, alone.gen_prefix) = (None, None, None);
    alone.description = alone.description.filter(|description| !matches!(description, Field::Function(_)));
    alone.metadata.seed.retain(|key, _| key == "question" || key == "passage");
    Some(alone)
}

async fn make(task: &Task, split: Split, planner: &TaskPlanner) -> Result<SplitKeys> {
    let table = planner.files(task, split).await?;
    let mut keys = SplitKeys::default();
    let mut seen = Seen::default();
    let mut whole_prompts = false;
    for config in prompts(task) {
        match normalized(task, split, planner, &config).await {
            Ok((found, rows, by_whole_prompts)) => {
                (keys, seen, whole_prompts) = (found, rows, by_whole_prompts);
                break;
            }
            Err(e) if may_pass(&e) => return Err(e),
            Err(e) => keys.note = Some(e.strip_backtrace()),
        }
    }
    let none_seen = seen.0.is_empty();
    if none_seen || whole_prompts || seen.0.contains(&Row::Seen) {
        let session = planner.session()?;
        let mut batches = session.read_table(table.clone())?.execute_stream().await?;
        let mut raw = RawKeys::default();
        while let Some(batch) = batches.try_next().await? {
            let places = batch.column_by_name(SOURCE_ROW).and_then(|column| column.as_primitive_opt::<Int64Type>());
            let state = |row: usize| seen.of(places.map_or(-1, |places| places.value(row)));
            let found = raw.add(&batch, &|row| none_seen || whole_prompts || state(row) == Row::Seen)?;
            if none_seen {
                keys.counts.rows += batch.num_rows() as u64;
            }
            let alone = |(row, found): &(usize, bool)| *found && state(*row) != Row::Known;
            keys.counts.raw += found.into_iter().enumerate().filter(alone).count() as u64;
        }
        let raw = raw.finish();
        keys.texts = raw.texts;
        keys.rows.extend(raw.rows);
        keys.generic.extend(raw.generic);
    }
    let unread = table.unread();
    keys.counts.unread = unread.iter().map(|unread| unread.rows).sum::<u64>()
        + table.unlisted().iter().map(|(_, more)| more).sum::<u64>();
    if keys.note.is_none() {
        keys.note = unread.first().map(|unread| format!("'{}': {}", unread.file, unread.what));
    }
    Ok(keys)
}

/// What became of a raw row in its normalization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Row {
    /// It is none of the task's.
    #[default]
    Absent,
    /// It asks nothing.
    Seen,
    Known,
}

/// By the rows' places.
#[derive(Debug, Default)]
struct Seen(Vec<Row>);

impl Seen {
    fn of(&self, place: i64) -> Row {
        usize::try_from(place).ok().and_then(|place| self.0.get(place)).copied().unwrap_or_default()
    }

    fn set(&mut self, place: i64, row: Row) {
        let Ok(place) = usize::try_from(place) else { return };
        if place >= self.0.len() {
            self.0.resize(place + 1, Row::Absent);
        }
        // A row that gives several questions is known by any.
        if self.0[place] != Row::Known {
            self.0[place] = row;
        }
    }
}

/// The keys by normalized questions.
async fn normalized(
    task: &Task,
    split: Split,
    planner: &TaskPlanner,
    config: &HarnessConfig,
) -> Result<(SplitKeys, Seen, bool)> {
    let (normalization, whole_prompts) = planner.questions(task, split, config).await?;
    let rows = normalization.session.execute_logical_plan(normalization.plan).await?;
    let mut batches = rows.execute_stream().await?;
    let (mut keys, mut seen) = (SplitKeys::default(), Seen::default());
    while let Some(batch) = batches.try_next().await? {
        let questions = Questions::of(&batch)?;
        let places = batch.column_by_name(SOURCE_ROW).and_then(|column| column.as_primitive_opt::<Int64Type>());
        for row in 0..batch.num_rows() {
            let known = keys.add(&questions.keys(row));
            if let Some(places) = places.filter(|places| places.is_valid(row)) {
                seen.set(places.value(row), if known { Row::Known } else { Row::Seen });
            }
        }
    }
    keys.end();
    keys.counts.normalized = seen.0.iter().filter(|row| **row == Row::Known).count() as u64;
    keys.counts.rows = seen.0.iter().filter(|row| **row != Row::Absent).count() as u64;
    Ok((keys, seen, whole_prompts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_keys_are_read_as_they_were_and_damaged_ones_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.keys");
        let keys = SplitKeys {
            rows: vec![(1, 2), (3, u64::MAX)],
            generic: vec![3],
            texts: vec![7, 8, 9],
            counts: Counts { rows: 6, normalized: 2, raw: 3, unread: 1 },
            note: Some("no column 'x'".into()),
        };
        keys.write(&file).unwrap();
        assert_eq!(SplitKeys::read(&file).unwrap(), keys);
        let bytes = std::fs::read(&file).unwrap();
        for at in [0, 10, 70, bytes.len() - 40, bytes.len() - 1] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            std::fs::write(&file, damaged).unwrap();
            assert_eq!(SplitKeys::read(&file), None, "{at}");
        }
        std::fs::write(&file, &bytes[..30]).unwrap();
        assert_eq!(SplitKeys::read(&file), None);
    }
}
