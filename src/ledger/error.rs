//! What can go wrong with a ledger, as sentences that name the file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use parquet::errors::ParquetError;

/// A failure of the ledger. Cheap to clone: one failed fsync answers all that waited for it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    #[error("the ledger cannot {action} {path}: {source}{what}", path = path.display(), what = what_to_do(source))]
    Io { action: &'static str, path: PathBuf, source: Arc<io::Error> },
    /// The file is none of ours, or of a newer format.
    #[error("{path} cannot be read as a part of the ledger: {detail}", path = path.display())]
    Format { path: PathBuf, detail: String },
    /// A group of records that is whole: its checksum is right. It is no damage, and who went on without it would pay
    /// for its calls again.
    #[error(
        "the ledger's log {path} holds records at byte {offset} that this program does not know ({detail}); was it \
         written by a newer seedmill? use that one here, or move the log out of the ledger to go on without its \
         answers",
        path = path.display()
    )]
    Unknown { path: PathBuf, offset: u64, detail: String },
    #[error(
        "the ledger's segment file {path} cannot be {action}: {detail}; if it is damaged, move its folder out of \
         the ledger to go on without its answers",
        path = path.display()
    )]
    Segment { action: &'static str, path: PathBuf, detail: String },
    /// The thread that writes has ended: the process is going down, or it panicked.
    #[error("the ledger in {path} takes no more records: its writer has ended", path = path.display())]
    WriterEnded { path: PathBuf },
    /// Another process is at work there that this work cannot go beside.
    #[error("the ledger in {path} is {by}; try again when that has ended", path = path.display())]
    Busy { path: PathBuf, by: &'static str },
    /// An object store that does not answer, or answers no.
    #[error("the ledger in {url}: {detail}")]
    Store { url: String, detail: String },
    /// Merged or deleted since it was listed: the ledger is to be listed again.
    #[error("the ledger's object {url} was there and is gone")]
    Gone { url: Box<str> },
    /// Paid answers wait on this machine.
    #[error(
        "the ledger in {url} takes no answers: {detail}; those that are paid for lie in {folder} and no new call is \
         made: when the store takes them, the same command sends them first and goes on",
        folder = folder.display()
    )]
    Unsent { url: Box<str>, folder: Box<Path>, detail: Box<str> },
    #[error("reading the ledger in {path} was cancelled: {detail}", path = path.display())]
    Cancelled { path: PathBuf, detail: String },
}

impl LedgerError {
    pub(super) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> LedgerError {
        move |source| LedgerError::Io { action, path: path.as_ref().to_owned(), source: Arc::new(source) }
    }

    pub(super) fn format(path: &Path, detail: impl Into<String>) -> LedgerError {
        LedgerError::Format { path: path.to_owned(), detail: detail.into() }
    }

    pub(super) fn unknown(path: &Path, offset: u64, detail: String) -> LedgerError {
        LedgerError::Unknown { path: path.to_owned(), offset, detail }
    }

    pub(super) fn parquet(action: &'static str, path: &Path) -> impl FnOnce(ParquetError) -> LedgerError {
        move |e| LedgerError::Segment { action, path: path.to_owned(), detail: e.to_string() }
    }

    pub(super) fn arrow(action: &'static str, path: &Path) -> impl FnOnce(ArrowError) -> LedgerError {
        move |e| LedgerError::Segment { action, path: path.to_owned(), detail: e.to_string() }
    }

    /// Whether an object of a store has gone since it was listed.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, LedgerError::Gone { .. })
    }

    /// Whether the file was not there.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, LedgerError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// What helps against an error of the file system, as the end of a sentence; empty where nothing is known to.
fn what_to_do(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; each use of an answer is written down there, of one that is replayed too: make the ledger's folder \
             writable, or copy it to a workspace of yours, where its answers are replayed for free"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room and run the same command again: what was written down is not paid for again"
        }
        _ => "",
    }
}

impl From<LedgerError> for DataFusionError {
    fn from(error: LedgerError) -> Self {
        DataFusionError::External(Box::new(error))
    }
}
