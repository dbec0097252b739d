//! Compaction of a ledger on an object store: logs become segments, small segments larger ones, and calls that two
//! processes paid for are kept once. In: a prefix, while others may put and read there. Out: totals before and after.
//!
//! The order of steps: (1) the files of a new segment are put; (2) the next generation, which names it and what it
//! replaces, is created (the commit point); (3) what it replaces is deleted. After a crash before (2) the files are
//! strays, which a later compaction deletes when they are a day old; after it what is replaced counts no more, and the
//! next compaction deletes it. A reader that listed before (2) finds objects gone, and lists again.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::compact::{Compacted, Totals};
use super::generation::{Generation, SegmentEntry, generation_name};
use super::index::Key;
use super::object_follow::Counts;
use super::object_log::ObjectLog;
use super::object_rewrite::{Input, SegmentWriter};
use super::object_segment::ObjectSegment;
use super::objects::{Listing, Objects};
use super::shared::Shared;
use super::unsent::Unsent;
use super::{LedgerError, crash_points};
use crate::stores::Prefix;

/// Files that no generation names may be another process's, on their way into the next one.
const STRAY_AGE: Duration = Duration::from_secs(86_400);

/// What gc wants of a compaction.
pub(super) struct Dropping<'a> {
    pub(super) keys: &'a HashSet<Key>,
    /// The logs that it has looked at. Others may say that a call is used.
    pub(super) logs: &'a BTreeSet<String>,
}

/// Merges what is small, and what has calls that are dropped.
pub(super) async fn compact_objects(
    prefix: Prefix,
    unsent: Unsent,
    target_bytes: u64,
    dropping: Option<Dropping<'_>>,
) -> Result<Compacted, LedgerError> {
    let busy = || LedgerError::Busy { path: prefix.url().into(), by: "being compacted by another process" };
    let objects = Arc::new(Objects::new(prefix.clone()));
    unsent.send(&objects).await?;
    let mut listing = objects.list().await?;
    // Alone on this generation or too late at the commit: so what is gone was merged by another.
    sweep(&objects, &listing).await?;
    let shared = Arc::new(Shared::of_objects(prefix.url().into(), Arc::clone(&objects)));
    let counts = match shared.add_listing(&objects, &listing).await {
        Err(e) if e.is_gone() => return Err(busy()),
        counts => counts?,
    };
    let before = totals(&listing, &counts);
    let dropped = |key: &Key| dropping.as_ref().is_some_and(|dropping| dropping.keys.contains(key));
    let dirty = if dropping.is_some() { shared.sources_with(&dropped) } else { BTreeSet::new() };
    let sources = sources(&objects, &listing);
    for inputs in groups(sources, target_bytes, &dirty) {
        // A call stays where its first record is.
        let keep = |key: &Key, source: u32| !dropped(key) && shared.holds_first(key, source);
        let written = match SegmentWriter::write(&prefix, &inputs, &keep).await {
            Err(e) if e.is_gone() => return Err(busy()),
            written => written?,
        };
        crash_points::pass("object segment written");
        let next = replaced_by(&listing.generation, &inputs, written.clone());
        let is_first = match &dropping {
            Some(dropping) if uses_are_new(&objects, dropping).await? => {
                objects.prefix.delete(written.names()).await.map_err(|e| objects.error(&e))?;
                return Err(LedgerError::Busy { path: prefix.url().into(), by: "in use by another process" });
            }
            _ => objects.commit(listing.number + 1, &next).await?,
        };
        if !is_first {
            objects.prefix.delete(written.names()).await.map_err(|e| objects.error(&e))?;
            return Err(busy());
        }
        crash_points::pass("generation created");
        let mut replaced = inputs.iter().flat_map(Input::names).chain([generation_name(listing.number)]);
        objects.prefix.delete(replaced.next()).await.map_err(|e| objects.error(&e))?;
        crash_points::pass("merged object deleted");
        objects.prefix.delete(replaced).await.map_err(|e| objects.error(&e))?;
        let merged: Vec<&str> = inputs.iter().filter_map(Input::log_name).collect();
        let kept = listing.logs.iter().zip(&listing.log_bytes).filter(|(log, _)| !merged.contains(&log.name.as_str()));
        let (logs, log_bytes) = kept.map(|(log, bytes)| (Arc::clone(log), *bytes)).unzip();
        listing = Listing {
            number: listing.number + 1,
            generation: Arc::new(next),
            logs,
            log_bytes,
            replaced: Vec::new(),
            strays: Vec::new(),
        };
    }
    let after = totals(&listing, &counts);
    Ok(Compacted { before, after, still_held: 0 })
}

/// Deletes what counts no more, and what a dead process has left half done.
async fn sweep(objects: &Objects, listing: &Listing) -> Result<(), LedgerError> {
    let is_old = |time: &SystemTime| time.elapsed().is_ok_and(|age| age > STRAY_AGE);
    let strays = listing.strays.iter().filter(|(_, time)| is_old(time)).map(|(name, _)| name);
    let names: Vec<String> = listing.replaced.iter().chain(strays).cloned().collect();
    objects.prefix.delete(names).await.map_err(|e| objects.error(&e))
}

/// Whether logs have come that gc has not looked at.
async fn uses_are_new(objects: &Objects, dropping: &Dropping<'_>) -> Result<bool, LedgerError> {
    Ok(objects.list().await?.logs.iter().any(|log| !dropping.logs.contains(&log.name)))
}

/// All that counts, oldest first.
fn sources(objects: &Objects, listing: &Listing) -> Vec<Input> {
    let known = objects.known();
    let segments = listing.generation.segments.iter().filter_map(|entry| {
        let source = *known.segments.get(&entry.unique)?;
        let segment = ObjectSegment::new(objects.prefix.clone(), entry.clone());
        Some(Input::Segment { segment: Box::new(segment), source })
    });
    let logs = listing.logs.iter().zip(&listing.log_bytes).filter_map(|(log, bytes)| {
        let source = known.logs.get(&log.name).copied().flatten()?;
        Some(Input::Log { log: Arc::<ObjectLog>::clone(log), source, bytes: *bytes })
    });
    segments.chain(logs).collect()
}

/// Neighbours in age that are worth a merge. A segment of half the target is left alone.
fn groups(sources: Vec<Input>, target_bytes: u64, dirty: &BTreeSet<u32>) -> Vec<Vec<Input>> {
    let (mut groups, mut group, mut bytes, mut is_dirty) = (Vec::new(), Vec::new(), 0, false);
    let mut end = |group: &mut Vec<Input>, is_dirty: &mut bool| {
        let (inputs, dirty) = (std::mem::take(group), std::mem::take(is_dirty));
        if inputs.len() > 1 || dirty {
            groups.push(inputs);
        }
    };
    for input in sources {
        let drops = dirty.contains(&input.source());
        let is_large = matches!(input, Input::Segment { .. }) && !drops && input.bytes() >= target_bytes / 2;
        if is_large || bytes + input.bytes() > target_bytes {
            end(&mut group, &mut is_dirty);
            bytes = 0;
        }
        if !is_large {
            bytes += input.bytes();
            is_dirty |= drops;
            group.push(input);
        }
    }
    end(&mut group, &mut is_dirty);
    groups
}

/// The generation in which a segment stands for its inputs, at their age.
fn replaced_by(generation: &Generation, inputs: &[Input], segment: SegmentEntry) -> Generation {
    let mut next = generation.clone();
    inputs.iter().filter_map(Input::log_name).for_each(|log| next.add_merged(log));
    let replaced: Vec<&str> = inputs.iter().filter_map(Input::segment_name).collect();
    let at = next.segments.iter().position(|entry| replaced.contains(&entry.unique.as_str()));
    let at = at.unwrap_or(next.segments.len());
    next.segments.retain(|entry| !replaced.contains(&entry.unique.as_str()));
    next.segments.insert(at, segment);
    next
}

fn totals(listing: &Listing, counts: &BTreeMap<String, Counts>) -> Totals {
    let mut totals = Totals::default();
    let logs = listing.logs.iter().zip(&listing.log_bytes);
    let logs = logs.map(|(log, bytes)| (counts.get(&log.name).copied().unwrap_or_default(), *bytes));
    let segments = listing.generation.segments.iter().map(|entry| {
        let SegmentEntry { calls, attempts, call_uses, bytes, .. } = *entry;
        (Counts { calls, attempts, call_uses }, bytes.iter().sum())
    });
    for (counts, bytes) in segments.chain(logs) {
        totals.segments += 1;
        totals.calls += counts.calls;
        totals.attempts += counts.attempts;
        totals.call_uses += counts.call_uses;
        totals.bytes += bytes;
    }
    totals
}
