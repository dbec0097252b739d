//! Model calls as table functions: `generate` and `enrich` from SQL text to Arrow batches.
//! In: a relation planner's SQL. Out: a stream of rows, each behind a durable answer.

mod answer;
mod assemble;
mod breaker;
mod caller;
mod count;
mod estimate;
mod exec;
mod extension;
mod history;
mod literal;
mod node;
mod optimizer;
mod planner;
mod progress;
mod pump;
mod render;
mod returns;
mod row;
mod runtime;
mod singleflight;
mod spec;
mod unordered;
mod volatility;
mod warnings;

pub use caller::INTERRUPTED;
pub use count::{CallCount, CountedCalls, count_calls};
pub use estimate::{Basis, CallEstimate, Dollars, TotalEstimate, estimate, estimate_counted};
pub use extension::CallQueryPlanner;
pub use history::{Average, CallHistory, SharedHistory};
pub use literal::fold_variables;
pub use node::{CallNode, call_nodes};
pub use optimizer::{optimizer_rules, physical_optimizer_rules};
pub use planner::CallPlanner;
pub use progress::{Progress, StageCounts};
pub use render::{Prompts, Render};
pub use runtime::CallRuntime;
pub use spec::{CallKind, CallSpec, OnError};
pub use unordered::WarnUnorderedInput;
pub use volatility::RefuseVolatileInput;
pub use warnings::Warnings;
