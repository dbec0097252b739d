//! One merge on an object store: logs and small segments become one segment. In: what counts there, and neighbours in
//! age. Out: what counts then.
//!
//! The order of steps: (1) the files of the new segment are put, and logs of which a part cannot be read are copied to names
//! that nobody deletes; (2) the next generation, which names the segment and what it replaces, is created (the commit
//! point); (3) the caller deletes what it replaces, at once or later. After a crash before (2) the files are strays, which a
//! later merge deletes; after it what is replaced counts no more, and a later merge deletes it. A reader that listed
//! before (2) finds objects gone, and lists again.
//!
//! No age says whether the writer of a stray is dead: clocks go wrong, and a machine can sleep for days between (1) and (2).
//! So strays go only behind a commit of one's own, made from the listing that shows them: who has put them made them from
//! the same generation or an older one, and comes too late from then on. That they are a day old, by the store's clock
//! alone, is for readers of segments that were replaced just now.
//!
//! A call stands in one segment at most: it is left out of a log if a segment has it. It is never left out because a
//! log has it, for who knows that log first may know it alone.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::generation::{Generation, SegmentEntry, generation_name};
use super::index::Key;
use super::object_log::ObjectLog;
use super::object_rewrite::{Input, SegmentWriter, Written};
use super::object_segment::ObjectSegment;
use super::objects::{Commit, Listing, Objects};
use super::shared::Shared;
use super::{LedgerError, crash_points};

/// Younger files that no generation names may be read by who has listed an older one.
const STRAY_AGE: Duration = Duration::from_secs(86_400);

/// What gc wants of a merge.
pub(super) struct Dropping<'a> {
    pub(super) keys: &'a HashSet<Key>,
    /// The logs that it has looked at. Others may say that a call is used.
    pub(super) logs: &'a BTreeSet<String>,
    /// The generation that it has looked at: in a later one such logs may be merged already.
    pub(super) number: u64,
}

/// A merge that is committed.
pub(super) struct Merged {
    /// What counts now, of what was listed before.
    pub(super) listing: Listing,
    /// Objects that count no more.
    pub(super) replaced: Vec<String>,
    /// Old files of segments that no generation names, and none can name any more.
    pub(super) strays: Vec<String>,
}

/// Merges inputs, which stand in the order of their age. All that was listed is known to `shared`. [`LedgerError::Busy`]
/// where another process has merged meanwhile; then nothing is lost, and mostly nothing is changed.
pub(super) async fn merge(
    objects: &Objects,
    shared: &Shared,
    listing: &Listing,
    inputs: &[Input],
    dropping: Option<&Dropping<'_>>,
) -> Result<Merged, LedgerError> {
    let busy = |by| LedgerError::Busy { path: objects.prefix.url().into(), by };
    const MERGED_BY_ANOTHER: &str = "being compacted by another process";
    let of_inputs: BTreeSet<u32> = inputs.iter().map(Input::source).collect();
    let dropped = |key: &Key| dropping.is_some_and(|dropping| dropping.keys.contains(key));
    let keep = |key: &Key, source: u32| !dropped(key) && !shared.is_in_segment_besides(key, source, &of_inputs);
    let Written { segment: written, damaged } = match SegmentWriter::write(&objects.prefix, inputs, &keep).await {
        Err(e) if e.is_gone() => return Err(busy(MERGED_BY_ANOTHER)),
        written => written?,
    };
    crash_points::pass("object segment written");
    // Before the segment counts: from then on anybody may delete the logs.
    for log in &damaged {
        if let Err(e) = objects.keep_aside(log).await {
            objects.delete(written.names()).await?;
            return Err(if e.is_gone() { busy(MERGED_BY_ANOTHER) } else { e });
        }
    }
    let mut next = replaced_by(&listing.generation, inputs, written.clone());
    next.drops += u64::from(dropping.is_some());
    let committed = match dropping {
        Some(dropping) if uses_are_new(objects, dropping).await? => Err(busy("in use by another process")),
        _ => match objects.commit(listing.number + 1, &next).await? {
            Commit::Holds { since } => Ok(since),
            Commit::TooLate => Err(busy(MERGED_BY_ANOTHER)),
            // What was written stays: the higher generation may name it. If it does not, they are strays.
            Commit::Passed => return Err(busy(MERGED_BY_ANOTHER)),
        },
    };
    let since = match committed {
        Ok(since) => since,
        Err(refused) => {
            objects.delete(written.names()).await?;
            return Err(refused);
        }
    };
    crash_points::pass("generation created");
    let merged: HashSet<&str> = inputs.iter().filter_map(Input::log_name).collect();
    let kept = listing.logs.iter().zip(&listing.log_bytes).filter(|(log, _)| !merged.contains(log.name.as_str()));
    let (logs, log_bytes) = kept.map(|(log, bytes)| (Arc::clone(log), *bytes)).unzip();
    let is_old = |time: &SystemTime| since.duration_since(*time).is_ok_and(|age| age >= STRAY_AGE);
    let strays = listing.strays.iter().filter(|(_, time)| is_old(time)).map(|(name, _)| name.clone());
    Ok(Merged {
        listing: Listing {
            number: listing.number + 1,
            since: Some(since),
            generation: Arc::new(next),
            logs,
            log_bytes,
            replaced: Vec::new(),
            strays: Vec::new(),
        },
        replaced: inputs.iter().flat_map(Input::names).chain([generation_name(listing.number)]).collect(),
        strays: strays.collect(),
    })
}

/// Whether logs have come that gc has not looked at.
async fn uses_are_new(objects: &Objects, dropping: &Dropping<'_>) -> Result<bool, LedgerError> {
    Ok(objects.list().await?.logs.iter().any(|log| !dropping.logs.contains(&log.name)))
}

/// All that counts, oldest first.
pub(super) fn sources(objects: &Objects, listing: &Listing) -> Vec<Input> {
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

/// Deletes what counts no more, if that is so since `grace` at least. Where this machine's clock is ahead of the store's
/// it is less, and readers list again.
pub(super) async fn sweep(objects: &Objects, listing: &Listing, grace: Duration) -> Result<(), LedgerError> {
    let is_due = listing.since.is_none_or(|since| since.elapsed().is_ok_and(|age| age >= grace));
    if is_due { objects.delete(listing.replaced.clone()).await } else { Ok(()) }
}
