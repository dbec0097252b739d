//! Compaction: many small segments become few large ones, and calls that two processes paid for are kept once.
//! In: a ledger's folder, while others may write and read there. Out: totals before and after.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use parquet::file::reader::{FileReader, SerializedFileReader};
use tokio_util::sync::CancellationToken;

use super::LedgerError;
use super::columns::Table;
use super::distinct::Distinct;
use super::folder::{self, Listing};
use super::hold::Hold;
use super::index::{Key, Place};
use super::location::Location;
use super::object_compact::compact_objects;
use super::rewrite::{Input, rewrite};
use super::shared::Shared;
use super::unsent::Unsent;

/// A merged segment is about this large at most, and one of half of it is left alone: so a call is rewritten a few
/// times in all, however often the ledger is compacted.
const TARGET_BYTES: u64 = 512 << 20;

/// The same on an object store, where a segment travels.
pub(super) const OBJECT_TARGET_BYTES: u64 = 256 << 20;

/// What the segments of a ledger hold that count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// On an object store also logs: they are all of one kind to who lists them.
    pub segments: u64,
    /// Rows, with those that repeat a call.
    pub calls: u64,
    pub attempts: u64,
    pub call_uses: u64,
    /// On disk.
    pub bytes: u64,
}

/// What a compaction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compacted {
    pub before: Totals,
    pub after: Totals,
    /// Segments that were replaced and that another process may still read: a later command deletes them.
    pub still_held: u64,
}

/// Compacts a ledger; nothing to do where there is none. Processes that write or read there go on.
///
/// In a folder, logs of dead processes are sealed first, and logs of living ones are left alone; on an object store all
/// logs are merged. An error leaves every row where it is.
pub async fn compact(location: impl Into<Location>) -> Result<Compacted, LedgerError> {
    match location.into() {
        Location::Folder(folder) => compact_to(&folder, TARGET_BYTES).await,
        Location::Store { prefix, unsent } => {
            compact_objects(prefix, Unsent::new(unsent), OBJECT_TARGET_BYTES, None).await
        }
    }
}

pub(super) async fn compact_to(path: &Path, target_bytes: u64) -> Result<Compacted, LedgerError> {
    let folder = std::path::absolute(path).map_err(LedgerError::io("find", path))?;
    let cancelled = |e: tokio::task::JoinError| LedgerError::Cancelled { path: path.to_owned(), detail: e.to_string() };
    let work = move || {
        if !folder.exists() {
            return Ok(Compacted::default());
        }
        let _lock = folder::lock_compaction(&folder)?
            .ok_or(LedgerError::Busy { path: folder.clone(), by: "being compacted by another process" })?;
        let hold = Hold::shared(&folder)?;
        let (before, after) = merge(&folder, hold, target_bytes, &|_| false)?;
        let still_held = remove_replaced(&folder)?;
        Ok(Compacted { before, after, still_held })
    };
    tokio::task::spawn_blocking(work).await.map_err(cancelled)?
}

/// Merges what is small, what repeats calls, and what has calls that `dropped` names; these are left out. The caller
/// has the lock of who merges.
pub(super) fn merge(
    folder: &Path,
    hold: Hold,
    target_bytes: u64,
    dropped: &dyn Fn(&Key) -> bool,
) -> Result<(Totals, Totals), LedgerError> {
    folder::sweep_compactions(folder, &folder::list(folder)?)?;
    let (listing, shared) = loop {
        // In this order: what is a segment here is known there.
        let listing = folder::list(folder)?;
        let (shared, orphans) = Shared::open_held(folder.to_owned(), hold.clone())?;
        if orphans.is_empty() {
            break (listing, shared);
        }
        for log in &orphans {
            shared.seal(log, &CancellationToken::new())?;
        }
    };
    let before = totals(folder, &listing)?;
    let dropping = shared.sources_with(dropped);
    for inputs in groups(folder, &listing, &shared, target_bytes, &|source| dropping.contains(&source))? {
        let keep = |key: &Key, at: Place| !dropped(key) && shared.is_first(key, at);
        rewrite(folder, &listing, &inputs, &keep)?;
    }
    let after = totals(folder, &folder::list(folder)?)?;
    Ok((before, after))
}

/// Deletes what was replaced, if nobody has a hold on the folder: how many segments could not be deleted.
pub(super) fn remove_replaced(folder: &Path) -> Result<u64, LedgerError> {
    match Hold::alone(folder)? {
        Some(_alone) => folder::remove_replaced(folder).map(|()| 0),
        None => Ok(folder::list(folder)?.replaced.len() as u64),
    }
}

/// Neighbours in age that are worth a merge. A log of a living process keeps those before it from those after it:
/// merged, they would no longer stand on its two sides.
fn groups(
    folder: &Path,
    listing: &Listing,
    shared: &Shared,
    target_bytes: u64,
    drops: &dyn Fn(u32) -> bool,
) -> Result<Vec<Vec<Input>>, LedgerError> {
    let mut groups = Vec::new();
    let mut group = Group::default();
    for unique in listing.uniques() {
        let sealed = listing.segments.contains(unique);
        let Some(source) = shared.segment_number(unique).filter(|_| sealed) else {
            group.end(&mut groups);
            continue;
        };
        let bytes = bytes_of(folder, unique)?;
        let repeats = Distinct::read(folder, unique).is_some_and(|distinct| !distinct.repeats.is_empty());
        let dirty = repeats || drops(source);
        if !dirty && bytes >= target_bytes / 2 {
            group.end(&mut groups);
            continue;
        }
        if group.bytes + bytes > target_bytes {
            group.end(&mut groups);
        }
        group.inputs.push(Input { unique: unique.to_owned(), source });
        group.bytes += bytes;
        group.dirty |= dirty;
    }
    group.end(&mut groups);
    Ok(groups)
}

#[derive(Default)]
struct Group {
    inputs: Vec<Input>,
    bytes: u64,
    dirty: bool,
}

impl Group {
    fn end(&mut self, groups: &mut Vec<Vec<Input>>) {
        let group = std::mem::take(self);
        if group.inputs.len() > 1 || group.dirty {
            groups.push(group.inputs);
        }
    }
}

fn paths(folder: &Path, unique: &str) -> [PathBuf; 3] {
    Table::ALL.map(|table| folder::segment_path(folder, unique).join(table.file_name()))
}

fn bytes_of(folder: &Path, unique: &str) -> Result<u64, LedgerError> {
    let size = |path: PathBuf| fs::metadata(&path).map(|m| m.len()).map_err(LedgerError::io("read", &path));
    paths(folder, unique).into_iter().map(size).sum()
}

fn totals(folder: &Path, listing: &Listing) -> Result<Totals, LedgerError> {
    let mut totals = Totals { segments: listing.segments.len() as u64, ..Totals::default() };
    for unique in &listing.segments {
        let [calls, attempts, uses] = paths(folder, unique);
        totals.calls += rows(&calls)?;
        totals.attempts += rows(&attempts)?;
        totals.call_uses += rows(&uses)?;
        totals.bytes += bytes_of(folder, unique)?;
    }
    Ok(totals)
}

fn rows(path: &Path) -> Result<u64, LedgerError> {
    let file = File::open(path).map_err(LedgerError::io("open", path))?;
    let reader = SerializedFileReader::new(file).map_err(LedgerError::parquet("read", path))?;
    Ok(reader.metadata().file_metadata().num_rows().unsigned_abs())
}
