//! What no run has used for long, and its end. In: a time, and the calls that published runs name. Out: what would go
//! by model; then a ledger without these calls. Attempts and uses stay: they are the history of what was spent.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int64Type};
use datafusion::common::exec_datafusion_err;
use datafusion::error::Result;
use datafusion::prelude::SessionContext;
use futures::StreamExt;

use super::compact::{Compacted, OBJECT_TARGET_BYTES, merge};
use super::hold::Hold;
use super::index::{self, Key};
use super::location::Location;
use super::object_compact::compact_objects;
use super::object_merge::Dropping;
use super::objects::Objects;
use super::tables::tables_held;
use super::unsent::Unsent;
use super::{CallId, LedgerError, folder};

/// Calls of one model.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Share {
    pub calls: u64,
    /// Of messages, parameters and raw answers, before compression.
    pub text_bytes: u64,
    pub cost_usd: f64,
}

impl Share {
    fn add(&mut self, text_bytes: u64, cost_usd: f64) {
        self.calls += 1;
        self.text_bytes += text_bytes;
        self.cost_usd += cost_usd;
    }
}

/// What no run has used for long.
#[derive(Debug, Default)]
pub struct Unused {
    /// What goes, by model.
    pub by_model: BTreeMap<String, Share>,
    /// What stays because a published run names it.
    pub named: Share,
    keys: HashSet<Key>,
    /// On an object store the logs that were looked at, and the generation.
    logs: BTreeSet<String>,
    number: u64,
}

/// A ledger about to be looked through. In a folder no calls are dropped by others while it lives, and if it is to drop
/// some, nobody else reads or writes the ledger. On an object store nothing can be held: there it drops nothing if
/// anybody has written since it looked.
#[derive(Debug)]
pub struct GarbageCollector {
    location: Location,
    hold: Hold,
    compaction: Option<File>,
    drops: bool,
}

impl GarbageCollector {
    /// To look only: beside all other work.
    pub fn dry(location: impl Into<Location>) -> Result<GarbageCollector, LedgerError> {
        let (location, hold) = match location.into() {
            Location::Folder(path) => {
                let folder = std::path::absolute(&path).map_err(LedgerError::io("find", &path))?;
                let hold = Hold::shared(&folder)?;
                (Location::Folder(folder), hold)
            }
            store @ Location::Store { .. } => (store, Hold::none()),
        };
        Ok(GarbageCollector { location, hold, compaction: None, drops: false })
    }

    /// To drop calls: alone on the ledger, for a process that has it open could use what goes. Where another is at
    /// work there, or the file system has no locks of folders, the error says so.
    pub fn alone(location: impl Into<Location>) -> Result<GarbageCollector, LedgerError> {
        let location = location.into();
        let Location::Folder(path) = &location else {
            return Ok(GarbageCollector { drops: true, ..Self::dry(location)? });
        };
        let folder = std::path::absolute(path).map_err(LedgerError::io("find", path))?;
        let busy = |by| LedgerError::Busy { path: folder.clone(), by };
        if !folder.exists() {
            return Self::dry(location);
        }
        let compaction = folder::lock_compaction(&folder)?.ok_or_else(|| busy("being compacted by another process"))?;
        let hold = Hold::alone(&folder)?.ok_or_else(|| busy("in use by another process"))?;
        Ok(GarbageCollector { location: Location::Folder(folder), hold, compaction: Some(compaction), drops: true })
    }

    /// The calls that were made before a time (milliseconds since 1970 UTC), that no run has used since, and that
    /// are not among the `named`.
    pub async fn unused_since(&self, time_ms: i64, named: &HashSet<CallId>) -> Result<Unused> {
        let mut unused = Unused::default();
        if let Location::Store { prefix, .. } = &self.location {
            let listing = Objects::new(prefix.clone()).list().await?;
            unused.logs = listing.logs.iter().map(|log| log.name.clone()).collect();
            unused.number = listing.number;
        }
        let session = SessionContext::new();
        for (name, table) in tables_held(&self.location, Some(&self.hold)) {
            session.register_table(name, table)?;
        }
        let sql = format!(
            "SELECT model, call_id, CAST(octet_length(messages) AS BIGINT) + octet_length(parameters) + \
             octet_length(response) AS text_bytes, cost_usd \
             FROM calls WHERE last_time < to_timestamp_millis({time_ms})"
        );
        let mut rows = session.sql(&sql).await?.execute_stream().await?;
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            let unexpected = || exec_datafusion_err!("the ledger's table calls has columns of unexpected types");
            let models = batch.column(0).as_string_view_opt().ok_or_else(unexpected)?;
            let ids = batch.column(1).as_string_view_opt().ok_or_else(unexpected)?;
            let bytes = batch.column(2).as_primitive_opt::<Int64Type>().ok_or_else(unexpected)?;
            let costs = batch.column(3).as_primitive_opt::<Float64Type>().ok_or_else(unexpected)?;
            for row in 0..batch.num_rows() {
                let id = CallId::from_hex(ids.value(row)).ok_or_else(unexpected)?;
                let (text_bytes, cost_usd) = (bytes.value(row).unsigned_abs(), costs.value(row));
                if named.contains(&id) {
                    unused.named.add(text_bytes, cost_usd);
                } else {
                    unused.keys.insert(index::key(&id));
                    unused.by_model.entry(models.value(row).to_owned()).or_default().add(text_bytes, cost_usd);
                }
            }
        }
        Ok(unused)
    }

    /// Drops the calls that [`Self::unused_since`] found; all other rows stay. For one that is [`Self::alone`].
    pub async fn collect(self, unused: Unused) -> Result<Compacted, LedgerError> {
        if !self.drops || unused.keys.is_empty() {
            return Ok(Compacted::default());
        }
        let folder = match self.location {
            Location::Folder(folder) => folder,
            Location::Store { prefix, unsent } => {
                let dropping = Dropping { keys: &unused.keys, logs: &unused.logs, number: unused.number };
                let unsent = Unsent::new(unsent);
                return compact_objects(prefix, unsent, OBJECT_TARGET_BYTES, Some(dropping)).await;
            }
        };
        let path = folder.clone();
        let (hold, _lock) = (self.hold, self.compaction);
        let work = move || {
            let (before, after) = merge(&folder, hold, 0, &|key| unused.keys.contains(key))?;
            folder::remove_replaced(&folder)?;
            Ok(Compacted { before, after, still_held: 0 })
        };
        let cancelled = |e: tokio::task::JoinError| LedgerError::Cancelled { path, detail: e.to_string() };
        tokio::task::spawn_blocking(work).await.map_err(cancelled)?
    }
}
