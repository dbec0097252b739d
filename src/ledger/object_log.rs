//! Logs of a ledger on an object store: each is one object, put as a whole, never changed and never written again.
//! `log-<unique>-<number>.log`: the format of a log, with the groups of a few seconds. `<unique>` is of the process that put it and
//! begins with the time in hexadecimal; `<number>` counts its puts. Nothing is locked: names are never used twice.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use tokio_util::bytes::Bytes;

use super::index::{self, Key, Place};
use super::log::{LogFile, LogReader, frame_bytes};
use super::source::Source;
use super::store::Shared;
use super::{LedgerError, Record};
use crate::stores::{Prefix, StoreError};

/// Objects that are read at a time.
pub(super) const READS: usize = 16;
/// Of a group, these come with the first request.
const FIRST_BYTES: u64 = 256 << 10;
/// Between two looks at what others have put; longer where a look takes long.
const LOOK: Duration = Duration::from_secs(3);

/// One log.
#[derive(Debug)]
pub(super) struct ObjectLog {
    prefix: Prefix,
    name: String,
}

impl ObjectLog {
    async fn bytes(&self) -> Result<Bytes, LedgerError> {
        match self.prefix.get(&self.name).await {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(self.error("it was there and is gone".into())),
            Err(e) => Err(self.error(e.to_string())),
        }
    }

    /// The whole log, to be read in memory.
    pub(super) async fn open(&self) -> Result<Arc<LogFile>, LedgerError> {
        Ok(Arc::new(LogFile::of_bytes(self.path(), self.bytes().await?)))
    }

    /// One group, without the others.
    pub(super) async fn frame(&self, offset: u64) -> Result<Vec<Record>, LedgerError> {
        let part = async |len: u64| {
            let part = self.prefix.get_range(&self.name, offset..offset + len).await;
            part.map_err(|e| self.error(e.to_string()))
        };
        let mut bytes = part(FIRST_BYTES).await?;
        if let Some(len) = frame_bytes(&bytes).filter(|len| *len > FIRST_BYTES) {
            bytes = part(len).await?;
        }
        Arc::new(LogFile::of_bytes(self.path(), bytes)).frame(0)
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(format!("{}/{}", self.prefix.url(), self.name))
    }

    fn error(&self, detail: String) -> LedgerError {
        LedgerError::Store { url: format!("{}/{}", self.prefix.url(), self.name), detail }
    }
}

/// All logs under a prefix.
#[derive(Debug)]
pub(super) struct ObjectLogs {
    prefix: Prefix,
    /// Read into the index, or our own.
    known: Mutex<BTreeSet<String>>,
    /// When the next look is due.
    next_look: tokio::sync::Mutex<Instant>,
}

impl ObjectLogs {
    pub(super) fn new(prefix: Prefix) -> ObjectLogs {
        ObjectLogs { prefix, known: Mutex::default(), next_look: tokio::sync::Mutex::new(Instant::now()) }
    }

    /// All logs that are there, oldest first.
    pub(super) async fn list(&self) -> Result<Vec<Arc<ObjectLog>>, LedgerError> {
        let listed = self.prefix.list().await.map_err(|e| self.error(&e))?;
        let is_log = |name: &String| name.starts_with("log-") && name.ends_with(".log");
        let mut names: Vec<String> = listed.into_iter().map(|(name, _)| name).filter(is_log).collect();
        names.sort();
        Ok(names.into_iter().map(|name| Arc::new(ObjectLog { prefix: self.prefix.clone(), name })).collect())
    }

    /// Puts a log. That it returns means that the log is durable.
    pub(super) async fn put(&self, name: String, bytes: Bytes) -> Result<Arc<ObjectLog>, LedgerError> {
        // Known first: nobody here shall take it for another process's.
        self.lock().insert(name.clone());
        self.prefix.put_new(&name, bytes).await.map_err(|e| self.error(&e))?;
        Ok(Arc::new(ObjectLog { prefix: self.prefix.clone(), name }))
    }

    /// The logs that are new since the last look, where a look is due.
    async fn news(&self) -> Result<Vec<Arc<ObjectLog>>, LedgerError> {
        let listed = self.list().await?;
        let known = self.lock();
        Ok(listed.into_iter().filter(|log| !known.contains(&log.name)).collect())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, e: &StoreError) -> LedgerError {
        LedgerError::Store { url: self.prefix.url().to_owned(), detail: e.to_string() }
    }
}

/// A log and what is in it.
pub(super) type Opened = (Arc<ObjectLog>, Arc<LogFile>);

/// Reads logs, some at a time, in their order.
pub(super) fn opened(logs: Vec<Arc<ObjectLog>>) -> BoxStream<'static, Result<Opened, LedgerError>> {
    let open = |log: Arc<ObjectLog>| async move {
        let file = log.open().await?;
        Ok((log, file))
    };
    futures::stream::iter(logs).map(open).buffered(READS).boxed()
}

/// The part of a process's names that is its own.
pub(super) fn unique() -> String {
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_millis());
    format!("{now:012x}-{:016x}", RandomState::new().hash_one(std::process::id()))
}

pub(super) fn name(unique: &str, number: u64) -> String {
    format!("log-{unique}-{number:08}.log")
}

impl Shared {
    /// Reads what others have put since the last look into the index, where a look is due.
    pub(super) async fn follow_objects(&self, logs: &ObjectLogs) -> Result<(), LedgerError> {
        // Those who come meanwhile wait: they are about to pay.
        let mut next_look = logs.next_look.lock().await;
        if Instant::now() < *next_look {
            return Ok(());
        }
        let start = Instant::now();
        self.add_objects(logs).await?;
        *next_look = Instant::now() + LOOK.max(start.elapsed() * 10);
        Ok(())
    }

    /// Makes all logs known that are not.
    pub(super) async fn add_objects(&self, logs: &ObjectLogs) -> Result<(), LedgerError> {
        let mut news = opened(logs.news().await?);
        while let Some((log, file)) = news.try_next().await? {
            let places = calls(&file)?;
            let name = log.name.clone();
            let source = self.add_source(Source::Object(log));
            let places: Vec<(Key, Place)> =
                places.into_iter().map(|(key, offset)| (key, Place::new(source, offset))).collect();
            self.add_places(&places);
            logs.lock().insert(name);
        }
        Ok(())
    }
}

/// The calls in a log, and the offsets of their groups.
fn calls(file: &Arc<LogFile>) -> Result<Vec<(Key, u64)>, LedgerError> {
    let mut reader = LogReader::new(file)?;
    let mut calls = Vec::new();
    while let Some(frame) = reader.next_frame()? {
        for record in &frame.records {
            if let Record::Call(call) = record {
                calls.push((index::key(&call.call_id), frame.offset));
            }
        }
    }
    if reader.torn_bytes() > 0 {
        tracing::warn!("the ledger's log {} is damaged at its end; the records there are skipped", file.path.display());
    }
    Ok(calls)
}
