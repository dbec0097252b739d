//! Where the ledger lies.

#[derive(Debug, Clone, PartialEq)]
pub struct LedgerConfig {
    /// The ledger's folder, `.seedmill/ledger` beside `seedmill.toml` unless told otherwise, or the URL of a prefix.
    pub location: String,
}
