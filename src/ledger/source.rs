//! A file that holds answers: a log that grows, or a sealed segment. In: positions. Out: blocks of answers.

use std::sync::Arc;

use super::LedgerError;
use super::block::Block;
use super::log::LogFile;
use super::segment::{BLOCK_ROWS, Footers, Segment};

/// A file that holds answers.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Log(Arc<LogFile>),
    Segment(Arc<Segment>),
}

impl Source {
    pub(super) fn block_position(&self, position: u64) -> u64 {
        match self {
            Source::Log(_) => position,
            Source::Segment(_) => position - position % BLOCK_ROWS,
        }
    }

    /// The blocks at these positions, which ascend.
    pub(super) fn blocks(&self, positions: &[u64], footers: &Footers) -> Result<Vec<Block>, LedgerError> {
        match self {
            Source::Log(log) => positions.iter().map(|position| Ok(Block::of_frame(log.frame(*position)?))).collect(),
            Source::Segment(segment) => segment.blocks(positions, footers),
        }
    }
}
