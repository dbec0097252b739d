//! Curation as table functions: `near_duplicates` and `decontaminate`, from SQL text to Arrow batches. Each gives every row
//! of its input with one more column, which says what was found; nothing is dropped.

mod decontaminate;
mod near_duplicates;
mod planner;
mod tokens;

pub use decontaminate::DecontaminateNode;
pub use planner::{CurateExtensionPlanner, CuratePlanner};
