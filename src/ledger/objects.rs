//! All objects of a ledger under a prefix of a store. In: the prefix. Out: what counts there now, oldest first; puts and
//! the next generation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::time::Instant;
use tokio_util::bytes::Bytes;

use super::LedgerError;
use super::generation::{Generation, damaged_name, generation_name, generation_number, is_log};
use super::object_log::ObjectLog;
use crate::stores::{Prefix, StoreError};

/// A generation that is listed and gone has been replaced by a higher one: so often it is looked for again.
pub(super) const RELISTS: u32 = 5;

/// What lies under the prefix.
#[derive(Debug, Clone)]
pub(super) struct Listing {
    /// The number of the generation that holds; 0 before the first.
    pub(super) number: u64,
    /// When it was created; `None` before the first.
    pub(super) since: Option<SystemTime>,
    pub(super) generation: Arc<Generation>,
    /// Those that no segment holds.
    pub(super) logs: Vec<Arc<ObjectLog>>,
    /// Bytes of the logs, in their order.
    pub(super) log_bytes: Vec<u64>,
    /// Objects that count no more: merged logs, generations that are replaced.
    pub(super) replaced: Vec<String>,
    /// Files of segments that the generation does not name, with their times: half a merge, or half deleted.
    pub(super) strays: Vec<(String, SystemTime)>,
}

impl Listing {
    /// Whether a log is there, or stands in a segment.
    pub(super) fn has(&self, log: &str) -> bool {
        self.generation.has_merged(log) || self.logs.iter().any(|listed| listed.name == log)
    }
}

/// What came of a generation that was to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Commit {
    /// By the store's clock since then. Nothing can be committed any more that was made from a generation before it.
    Holds { since: SystemTime },
    /// Another process's has its number: nobody will read this one.
    TooLate,
    /// There is a higher one. That may have been made from this one, or from another of this number that is deleted.
    Passed,
}

/// The objects, and what a process knows of them.
#[derive(Debug)]
pub(super) struct Objects {
    pub(super) prefix: Prefix,
    known: Mutex<Known>,
    /// When the next look is due.
    pub(super) next_look: tokio::sync::Mutex<Instant>,
    /// Held by who reads what is new.
    pub(super) looking: tokio::sync::Mutex<()>,
}

/// What is in the index.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By name, with their numbers there; `None` for our own on its way.
    pub(super) logs: BTreeMap<String, Option<u32>>,
    pub(super) segments: BTreeMap<String, u32>,
}

impl Objects {
    pub(super) fn new(prefix: Prefix) -> Objects {
        Objects {
            prefix,
            known: Mutex::default(),
            next_look: tokio::sync::Mutex::new(Instant::now()),
            looking: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is there now.
    pub(super) async fn list(&self) -> Result<Listing, LedgerError> {
        let mut tries = 0;
        loop {
            match self.try_list().await {
                Err(e) if e.is_gone() && tries < RELISTS => tries += 1,
                listing => return listing,
            }
        }
    }

    async fn try_list(&self) -> Result<Listing, LedgerError> {
        let mut objects = self.prefix.list().await.map_err(|e| self.error(&e))?;
        objects.sort_by(|a, b| a.0.cmp(&b.0));
        let number = objects.iter().filter_map(|(name, _)| generation_number(name)).max().unwrap_or(0);
        let generation = Arc::new(if number > 0 { self.generation(number).await? } else { Generation::default() });
        let since = objects.iter().find(|(name, _)| generation_number(name) == Some(number));
        let mut listing = Listing {
            number,
            since: since.map(|(_, meta)| meta.last_modified.into()),
            generation: Arc::clone(&generation),
            logs: Vec::new(),
            log_bytes: Vec::new(),
            replaced: Vec::new(),
            strays: Vec::new(),
        };
        let of_segments: Vec<String> = generation.segments.iter().flat_map(|segment| segment.names()).collect();
        for (name, meta) in objects {
            if is_log(&name) && !generation.has_merged(&name) {
                listing.logs.push(Arc::new(ObjectLog { prefix: self.prefix.clone(), name }));
                listing.log_bytes.push(meta.size);
            } else if is_log(&name) || generation_number(&name).is_some_and(|other| other < number) {
                listing.replaced.push(name);
            } else if name.starts_with("segment-") && !of_segments.contains(&name) {
                listing.strays.push((name, meta.last_modified.into()));
            }
        }
        Ok(listing)
    }

    async fn generation(&self, number: u64) -> Result<Generation, LedgerError> {
        let name = generation_name(number);
        let url = format!("{}/{name}", self.prefix.url());
        let json = self.prefix.get(&name).await.map_err(|e| self.error(&e))?;
        let json = json.ok_or_else(|| LedgerError::Gone { url: url.as_str().into() })?;
        serde_json::from_slice(&json).map_err(|e| LedgerError::format(url.as_ref(), e.to_string()))
    }

    /// Makes a generation the one that holds. That of `number - 1` is what it was made from.
    pub(super) async fn commit(&self, number: u64, generation: &Generation) -> Result<Commit, LedgerError> {
        let name = generation_name(number);
        let json = serde_json::to_vec(generation).map_err(|e| LedgerError::format(name.as_ref(), e.to_string()))?;
        let created = self.prefix.create(&name, json.into()).await.map_err(|e| self.error(&e))?;
        // The number may have been used and deleted, but then there is a higher one. It may have been used by this one, where
        // the store did it and could not say so, and was asked again: then the higher one may name what this one names.
        let listed = self.prefix.list().await.map_err(|e| self.error(&e))?;
        let highest = listed
            .iter()
            .filter_map(|(name, meta)| Some((generation_number(name)?, meta.last_modified)))
            .max_by_key(|(number, _)| *number);
        Ok(match highest {
            Some((highest, time)) if highest == number && created => Commit::Holds { since: time.into() },
            Some((highest, _)) if highest == number => Commit::TooLate,
            _ => Commit::Passed,
        })
    }

    /// Puts a log. That it returns means that the log is durable.
    pub(super) async fn put(&self, name: String, bytes: Bytes) -> Result<Arc<ObjectLog>, LedgerError> {
        // Known first: nobody here shall take it for another process's.
        self.known().logs.insert(name.clone(), None);
        self.send(&name, bytes).await?;
        Ok(Arc::new(ObjectLog { prefix: self.prefix.clone(), name }))
    }

    /// Puts a log that may be there already.
    pub(super) async fn send(&self, name: &str, bytes: Bytes) -> Result<(), LedgerError> {
        self.prefix.put_new(name, bytes).await.map_err(|e| self.error(&e))
    }

    /// Gives a log of which a part could not be read a second name, under which it stays when it is merged. It is copied in
    /// the store: what came here of it may be less than what lies there.
    pub(super) async fn keep_aside(&self, log: &str) -> Result<(), LedgerError> {
        let kept = damaged_name(log);
        if !self.prefix.copy(log, &kept).await.map_err(|e| self.error(&e))? {
            return Err(LedgerError::Gone { url: format!("{}/{log}", self.prefix.url()).into() });
        }
        let url = self.prefix.url();
        tracing::warn!("the damaged log {url}/{log} is kept as {url}/{kept}; its readable records are merged");
        Ok(())
    }

    pub(super) async fn delete(&self, names: impl IntoIterator<Item = String>) -> Result<(), LedgerError> {
        self.prefix.delete(names).await.map_err(|e| self.error(&e))
    }

    pub(super) fn error(&self, e: &StoreError) -> LedgerError {
        LedgerError::Store { url: self.prefix.url().to_owned(), detail: e.to_string() }
    }
}
