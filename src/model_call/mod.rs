//! Model calls as table functions: `generate` and `enrich` from SQL text to Arrow batches.
//! In: a relation planner's SQL. Out: a stream of rows, each behind a durable answer.

mod answer;
mod assemble;
mod breaker;
mod call;
mod call_metrics;
mod caller;
mod exec;
mod extension;
mod literal;
mod node;
mod planner;
mod progress;
mod pump;
mod render;
mod repair;
mod returns;
mod returns_sql;
mod row;
mod row_caller;
mod runtime;
mod singleflight;
mod spec;
mod volatility;

pub use caller::INTERRUPTED;
pub use extension::CallQueryPlanner;
pub use literal::fold_variables;
pub use node::{CallNode, call_nodes};
pub use planner::CallPlanner;
pub use progress::{Progress, StageCounts, StageProgress};
pub use render::{Prompts, Render};
pub use runtime::CallRuntime;
pub use spec::{CallKind, CallSpec, OnError};
pub use volatility::RefuseVolatileInput;
