//! Curation as table functions: `near_duplicates` and `decontaminate`, from SQL text to Arrow batches. Each gives every row
//! of its input with one more column, which says what was found; nothing is dropped.

mod decontaminate;
mod near_duplicates;
mod planner;
mod push_down_filter;
mod reference;
mod tokens;

pub use decontaminate::DecontaminateNode;
pub use planner::{CurateExtensionPlanner, CuratePlanner};
pub use push_down_filter::optimizer_rules;
pub use reference::TABLE_FUNCTIONS;
