//! `near_duplicates(TABLE items, key => id, text => question, threshold => 0.8, prefer => score)`: which rows say what a row
//! that is kept says already. In: any rows. Out: the same rows with a struct `duplicate`, NULL for rows that are kept.
//!
//! Rows are taken in the order of `prefer`, highest first, then of `key`. A row is a duplicate if its Jaccard similarity
//! with a row *kept before it* is at least the threshold; duplicates are never compared with, so there are no chains. This
//! is exact (see [`kept`]), and the same for any partitioning and order of the input. The order makes it wait for all of
//! its input, which DataFusion's sort holds, and spills where memory is short; what is held after that grows with the rows
//! that are kept, and is counted against the memory limit.
//!
//! With `rouge_l => 0.7` a row is a duplicate too if its ROUGE-L with a kept row that shares some of its n-grams is higher.
//! With `embedding => embedding` instead of `text` the likeness is the cosine of vectors.

mod exec;
mod frequencies;
mod kept;
mod kept_vectors;
mod node;
mod plan;
mod scan;
mod shingle_exec;
mod shingles;

pub(super) use node::NearDuplicatesNode;
#[cfg(test)]
pub(super) use plan::ARGUMENTS;
pub(super) use plan::{plan, plan_exec};
