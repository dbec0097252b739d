//! `decontaminate(TABLE items, against => (SELECT * FROM heldout), text => question, answer => answer_text)`: which rows
//! repeat a held-out question. In: any rows, and a reference set. Out: the same rows with a struct `contamination`, NULL for
//! clean rows: score, rule, rules, source_table, source_row, and matched_span, which is a piece of the row's own text.
//!
//! The reference side is the one place where held-out rows may stand below a model call: nothing of them is in the output
//! but the name of the table and the row. The rules are in [`matcher`]. The index of a reference set is built once and kept
//! by its content; rows stream past it on all partitions.

mod cache;
mod exec;
mod matcher;
mod node;
mod origin;
mod plan;
mod reference;

pub(super) use cache::IndexCache;
pub use node::DecontaminateNode;
#[cfg(test)]
pub(super) use plan::ARGUMENTS;
pub(super) use plan::{plan, plan_exec};
