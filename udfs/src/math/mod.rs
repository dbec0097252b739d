//! Mathematical answers as values: a text comes in, a [`MathKey`] goes out; equal keys are the same answer. Being a key
//! and no pairwise test, sameness is transitive, so votes can be grouped by it.
//!
//! `latex` cuts a text into tokens, `parse` reads what stands around expressions and `expression` each of them, and
//! `polynomial` is the normal form of what has a value.

mod expression;
mod latex;
mod parse;
mod polynomial;

pub(crate) use parse::MathKey;
