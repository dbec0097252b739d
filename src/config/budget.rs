//! What a run may spend.

/// Limits of one run; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Budget {
    pub max_cost_usd: Option<f64>,
    pub max_calls: Option<u64>,
    pub max_tokens: Option<u64>,
}
