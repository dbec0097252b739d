//! Logs of a ledger on an object store: each is one object, put as a whole, never changed and never written again.
//! `log-<unique>-<number>.log`: the format of a log, with the groups of a few seconds. `<unique>` is of the process that put it and
//! begins with the time in hexadecimal; `<number>` counts its puts. Nothing is locked: names are never used twice.

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio_util::bytes::Bytes;

use super::log::{LogFile, frame_bytes};
use super::{LedgerError, Record};
use crate::stores::{Prefix, StoreError};

/// Objects that are read at a time.
const READS: usize = 16;
/// Of a group, these come with the first request.
const FIRST_BYTES: u64 = 256 << 10;

/// One log.
#[derive(Debug)]
pub(super) struct ObjectLog {
    pub(super) prefix: Prefix,
    pub(super) name: String,
}

impl ObjectLog {
    /// The whole log, to be read in memory.
    pub(super) async fn open(&self) -> Result<Arc<LogFile>, LedgerError> {
        let bytes = self.found(self.prefix.get(&self.name).await)?;
        Ok(Arc::new(LogFile::of_bytes(self.path(), bytes)))
    }

    /// One group, without the others.
    pub(super) async fn frame(&self, offset: u64) -> Result<Vec<Record>, LedgerError> {
        let part = async |len: u64| self.found(self.prefix.get_range(&self.name, offset..offset + len).await);
        let mut bytes = part(FIRST_BYTES).await?;
        if let Some(len) = frame_bytes(&bytes).filter(|len| *len > FIRST_BYTES) {
            bytes = part(len).await?;
        }
        Arc::new(LogFile::of_bytes(self.path(), bytes)).frame(0)
    }

    fn found(&self, bytes: Result<Option<Bytes>, StoreError>) -> Result<Bytes, LedgerError> {
        match bytes {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(LedgerError::Gone { url: self.url().into() }),
            Err(e) => Err(LedgerError::Store { url: self.url(), detail: e.to_string() }),
        }
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(self.url())
    }

    fn url(&self) -> String {
        format!("{}/{}", self.prefix.url(), self.name)
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
