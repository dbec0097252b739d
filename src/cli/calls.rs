//! `seedmill calls`: what the ledger holds, by model, and what failed, by kind of error.

use std::path::PathBuf;

use datafusion::common::Result;

use super::arguments::CallsArguments;
use super::{EXIT_OK, output};
use crate::session::{OpenOptions, Workspace};

const BY_MODEL: &str = "
SELECT model, count(*) AS calls, sum(prompt_tokens) AS prompt_tokens, sum(completion_tokens) AS completion_tokens,
       sum(cost_usd) AS cost_usd, min(time) AS first, max(time) AS last
FROM calls GROUP BY model ORDER BY model";

const BY_ERROR: &str = "
SELECT model, coalesce(error_kind, 'answered') AS outcome, count(*) AS attempts,
       round(avg(latency_ms)) AS mean_latency_ms
FROM attempts GROUP BY model, outcome ORDER BY model, outcome";

pub async fn calls(root: Option<PathBuf>, arguments: CallsArguments) -> Result<u8> {
    let workspace = Workspace::open(OpenOptions { root, ..OpenOptions::default() }).await?;
    for sql in [BY_MODEL, BY_ERROR] {
        output::print(workspace.sql(sql).await?, arguments.format).await?;
    }
    Ok(EXIT_OK)
}
