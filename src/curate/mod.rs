//! Curation: the table functions `near_duplicates` and `decontaminate`, from SQL text to Arrow batches. Each gives every row
//! of its input with one more column, which says what was found; nothing is dropped. And `run_python`, for answers that are
//! programs.

mod decontaminate;
mod near_duplicates;
mod planner;
mod push_down_filter;
mod reference;
mod run_python;
mod tokens;

pub use decontaminate::DecontaminateNode;
pub use planner::{CurateExtensionPlanner, CuratePlanner};
pub use push_down_filter::optimizer_rules;
pub use reference::TABLE_FUNCTIONS;
pub use run_python::{
    NAME as RUN_PYTHON, check as check_python, documentation as run_python_documentation, run_python,
};
