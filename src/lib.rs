//! seedmill turns the training splits of public task datasets into new, verified Q&A training data.
//! The whole pipeline is one DataFusion plan from Parquet to Parquet, with model calls as table functions.
//!
//! Data goes down one staircase: SQL text → logical node → exec → endpoint → ledger → Arrow batch → sink.
//! Dependencies point down: cli → session → {tasks, model_call, curate, guard, publish} → {endpoint, ledger}
//! → {stores, lineage, config, udfs}.

pub mod cli;
pub mod config;
mod counted;
pub mod curate;
pub mod endpoint;
pub mod guard;
pub mod ledger;
pub mod lineage;
pub mod model_call;
pub mod publish;
pub mod session;
pub mod stores;
pub mod tasks;
mod wrapped_rule;
