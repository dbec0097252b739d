//! The index of a ledger on an object store: filled at opening, and again where others have put logs or merged them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use tokio::time::Instant;

use super::index::{self, Key, Place};
use super::log::{LogFile, LogReader};
use super::object_log;
use super::object_segment::ObjectSegment;
use super::objects::{Listing, Objects, RELISTS};
use super::shared::Shared;
use super::source::Source;
use super::{LedgerError, Record};

/// Between two looks at what others have put; longer where a look takes long.
const LOOK: Duration = Duration::from_secs(3);

/// How many records of each kind a log holds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) calls: u64,
    pub(super) attempts: u64,
    pub(super) call_uses: u64,
}

impl Shared {
    /// Reads what others have put since the last look into the index, where a look is due.
    pub(super) async fn follow_objects(&self, objects: &Objects) -> Result<(), LedgerError> {
        // Those who come meanwhile wait: they are about to pay.
        let mut next_look = objects.next_look.lock().await;
        if Instant::now() < *next_look {
            return Ok(());
        }
        let start = Instant::now();
        self.add_objects(objects).await?;
        *next_look = Instant::now() + LOOK.max(start.elapsed() * 10);
        Ok(())
    }

    /// Makes all known that is there and is not known yet, and gives what is there. What was merged while it was read is
    /// listed again.
    pub(super) async fn add_objects(&self, objects: &Objects) -> Result<Listing, LedgerError> {
        let _looking = objects.looking.lock().await;
        let mut tries = 0;
        loop {
            let listing = objects.list().await?;
            match self.add_listing(objects, &listing).await {
                Err(e) if e.is_gone() && tries < RELISTS => tries += 1,
                done => return done.map(|_| listing),
            }
        }
    }

    /// Makes known what this machine has not sent yet.
    pub(super) fn add_unsent(&self, unsent: Vec<(String, Arc<LogFile>)>, listing: &Listing) -> Result<(), LedgerError> {
        for (name, log) in unsent {
            if !listing.has(&name) {
                let (places, _) = calls(&log)?;
                let source = self.add_source(Source::Log(log));
                self.add_places(&placed(places, source));
            }
        }
        Ok(())
    }

    /// Makes known what a listing has, and forgets what it has no more; the counts of the logs that were read.
    pub(super) async fn add_listing(
        &self,
        objects: &Objects,
        listing: &Listing,
    ) -> Result<BTreeMap<String, Counts>, LedgerError> {
        self.add_segments(objects, listing).await?;
        let news: Vec<_> = {
            let known = objects.known();
            listing.logs.iter().filter(|log| !known.logs.contains_key(&log.name)).cloned().collect()
        };
        let mut counts = BTreeMap::new();
        let mut news = object_log::opened(news);
        while let Some((log, file)) = news.try_next().await? {
            let (places, count) = calls(&file)?;
            counts.insert(log.name.clone(), count);
            let name = log.name.clone();
            let source = self.add_source(Source::Object(log));
            self.add_places(&placed(places, source));
            objects.known().logs.insert(name, Some(source));
        }
        Ok(counts)
    }

    /// Moves calls whose logs or segments were merged to where they are now. A call that stands in a log too is found in
    /// the segment: that is the older one.
    async fn add_segments(&self, objects: &Objects, listing: &Listing) -> Result<(), LedgerError> {
        let generation = &listing.generation;
        let (news, replaced) = {
            let known = objects.known();
            let is_new = |unique: &String| !known.segments.contains_key(unique);
            let news: Vec<_> = generation.segments.iter().filter(|entry| is_new(&entry.unique)).cloned().collect();
            let counts = |unique: &String| generation.segments.iter().any(|entry| entry.unique == *unique);
            let merged = known.logs.iter().filter(|(name, _)| generation.has_merged(name)).filter_map(|(_, at)| *at);
            let segments = known.segments.iter().filter(|(unique, _)| !counts(unique)).map(|(_, at)| *at);
            (news, merged.chain(segments).collect::<BTreeSet<u32>>())
        };
        if news.is_empty() && replaced.is_empty() {
            return Ok(());
        }
        // All keys first: what is gone already is listed again, and nothing has moved.
        let mut segments = Vec::with_capacity(news.len());
        for entry in news {
            let segment = ObjectSegment::new(objects.prefix.clone(), entry);
            segments.push((segment.keys().await?, segment));
        }
        // Those of now: our own writer may have put one while keys were read. (Where it puts one from here on, it finds
        // its calls in the segment.)
        let logs: Vec<u32> = objects.known().logs.values().filter_map(|at| *at).collect();
        let younger: BTreeSet<u32> = replaced.iter().copied().chain(logs).collect();
        for (keys, segment) in segments {
            let unique = segment.entry.unique.clone();
            let to = self.add_source(Source::Merged(Arc::new(segment)));
            self.move_calls(&keys, &younger, to);
            objects.known().segments.insert(unique, to);
        }
        // What is in no segment was dropped.
        self.forget(&replaced);
        let mut known = objects.known();
        known.logs.retain(|_, at| at.is_none_or(|at| !replaced.contains(&at)));
        known.segments.retain(|_, at| !replaced.contains(at));
        Ok(())
    }
}

fn placed(calls: Vec<(Key, u64)>, source: u32) -> Vec<(Key, Place)> {
    calls.into_iter().map(|(key, offset)| (key, Place::new(source, offset))).collect()
}

/// The calls in a log with the offsets of their groups, and the counts of all its records.
fn calls(file: &Arc<LogFile>) -> Result<(Vec<(Key, u64)>, Counts), LedgerError> {
    let mut reader = LogReader::new(file)?;
    let (mut calls, mut counts) = (Vec::new(), Counts::default());
    while let Some(frame) = reader.next_frame()? {
        for record in &frame.records {
            match record {
                Record::Call(call) => {
                    calls.push((index::key(&call.call_id), frame.offset));
                    counts.calls += 1;
                }
                Record::Attempt(_) => counts.attempts += 1,
                Record::Use(used) => counts.call_uses += used.call_ids.len() as u64,
            }
        }
    }
    if reader.torn_bytes() > 0 {
        tracing::warn!("the ledger's log {} is damaged at its end; the records there are skipped", file.path.display());
    }
    Ok((calls, counts))
}
