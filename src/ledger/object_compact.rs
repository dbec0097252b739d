//! Compaction of a ledger on an object store: logs become segments, small segments larger ones, and calls that two
//! processes paid for are kept once. In: a prefix, while others may put and read there. Out: totals before and after.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::compact::{Compacted, Totals};
use super::generation::SegmentEntry;
use super::index::Key;
use super::object_follow::Counts;
use super::object_merge::{Dropping, merge, sources, sweep};
use super::object_rewrite::Input;
use super::objects::{Listing, Objects};
use super::shared::Shared;
use super::unsent::Unsent;
use super::{LedgerError, crash_points};
use crate::stores::Prefix;

/// Merges what is small, and what has calls that are dropped.
pub(super) async fn compact_objects(
    prefix: Prefix,
    unsent: Unsent,
    target_bytes: u64,
    dropping: Option<Dropping<'_>>,
) -> Result<Compacted, LedgerError> {
    let objects = Arc::new(Objects::new(prefix.clone()));
    unsent.send(&objects).await?;
    let mut listing = objects.list().await?;
    if dropping.as_ref().is_some_and(|dropping| dropping.number != listing.number) {
        return Err(LedgerError::Busy { path: prefix.url().into(), by: "in use by another process" });
    }
    // Alone on this generation or too late at the commit: so what is gone was merged by another.
    sweep(&objects, &listing, Duration::ZERO).await?;
    let busy = |e: LedgerError| match e.is_gone() {
        true => LedgerError::Busy { path: prefix.url().into(), by: "being compacted by another process" },
        false => e,
    };
    let shared = Arc::new(Shared::of_objects(prefix.url().into(), Arc::clone(&objects)));
    let counts = shared.add_listing(&objects, &listing).await.map_err(busy)?;
    let before = totals(&listing, &counts);
    let dropped = |key: &Key| dropping.as_ref().is_some_and(|dropping| dropping.keys.contains(key));
    let dirty = if dropping.is_some() { shared.sources_with(&dropped) } else { BTreeSet::new() };
    for inputs in groups(sources(&objects, &listing), target_bytes, &dirty) {
        let merged = merge(&objects, &shared, &listing, &inputs, dropping.as_ref()).await?;
        let mut replaced = merged.replaced.into_iter();
        objects.delete(replaced.next()).await?;
        crash_points::pass("merged object deleted");
        objects.delete(replaced.chain(merged.strays)).await?;
        listing = merged.listing;
        // What the next merge leaves out, because a segment has it.
        shared.add_listing(&objects, &listing).await.map_err(busy)?;
    }
    let after = totals(&listing, &counts);
    Ok(Compacted { before, after, still_held: 0 })
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
