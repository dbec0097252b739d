//! What a ledger on an object store waits for: logs to be merged, and logs of this machine to be sent.

use std::path::PathBuf;

use super::LedgerError;
use super::location::Location;
use super::objects::Objects;
use super::unsent::Unsent;

/// Logs of a ledger on an object store that are not where they are best.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    /// In the store, each to be read when the ledger is opened.
    pub unmerged: usize,
    /// On this machine.
    pub unsent: usize,
    pub folder: PathBuf,
}

/// The backlog of a ledger; `None` for one in a folder.
pub async fn backlog(location: impl Into<Location>) -> Result<Option<Backlog>, LedgerError> {
    let Location::Store { prefix, unsent: folder } = location.into() else { return Ok(None) };
    let unsent = Unsent::new(folder.clone()).logs()?.len();
    let unmerged = Objects::new(prefix).list().await?.logs.len();
    Ok(Some(Backlog { unmerged, unsent, folder }))
}
