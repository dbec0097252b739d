//! A file that holds answers: a log that grows, a sealed segment, or either as objects of a store. In: positions. Out: blocks of answers.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::LedgerError;
use super::block::Block;
use super::log::LogFile;
use super::object_log::ObjectLog;
use super::object_segment::{OBJECT_BLOCK_ROWS, ObjectSegment};
use super::segment::{BLOCK_ROWS, Footers, Segment};

/// More blocks of an object than these are read with the whole of it.
const FEW: usize = 3;

/// A file that holds answers.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Log(Arc<LogFile>),
    Segment(Arc<Segment>),
    /// A log that is an object of a store.
    Object(Arc<ObjectLog>),
    /// Merged logs of a store.
    Merged(Arc<ObjectSegment>),
}

impl Source {
    pub(super) fn block_position(&self, position: u64) -> u64 {
        match self {
            Source::Log(_) | Source::Object(_) => position,
            Source::Segment(_) => position - position % BLOCK_ROWS,
            Source::Merged(_) => position - position % OBJECT_BLOCK_ROWS,
        }
    }

    /// Blocks to read, and with them those that are likely to be wanted next; both ascend.
    pub(super) fn with_neighbours(&self, positions: Vec<u64>) -> Vec<u64> {
        match self {
            Source::Segment(segment) => segment.with_neighbours(positions),
            Source::Log(_) | Source::Object(_) | Source::Merged(_) => positions,
        }
    }

    /// The blocks at these positions, which ascend.
    pub(super) fn blocks(&self, positions: &[u64], footers: &Footers) -> Result<Vec<Block>, LedgerError> {
        let of_log =
            |log: &Arc<LogFile>| positions.iter().map(|position| Ok(Block::of_frame(&log.frame(*position)?))).collect();
        match self {
            Source::Log(log) => of_log(log),
            // Off the executor's threads, as all reading of files.
            Source::Object(object) if positions.len() > FEW => of_log(&Handle::current().block_on(object.open())?),
            Source::Object(object) => {
                let frame = |position: &u64| Handle::current().block_on(object.frame(*position));
                positions.iter().map(|position| Ok(Block::of_frame(&frame(position)?))).collect()
            }
            Source::Segment(segment) => segment.blocks(positions, footers),
            Source::Merged(segment) => Handle::current().block_on(segment.blocks(positions)),
        }
    }
}
