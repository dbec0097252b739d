//! Where the ledger lies.

use std::path::PathBuf;

#[derive(Debug, Clone, PartialEq)]
pub struct LedgerConfig {
    /// The folder of the ledger, `.seedmill/ledger` beside `seedmill.toml` unless told otherwise.
    pub path: PathBuf,
}
