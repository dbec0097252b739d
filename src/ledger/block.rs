//! Decoded answers: the unit in which the ledger reads them back. A block is a frame of a log or a few rows of a segment.

use std::sync::Arc;

use arrow::array::{Array, Float64Array, StringViewArray, StringViewBuilder};

use super::{CallId, Record};

/// The answers of one block, in the order of the file.
#[derive(Debug)]
pub(super) struct Block {
    ids: Vec<CallId>,
    responses: StringViewArray,
    costs: Float64Array,
}

impl Block {
    /// Of columns as long as each other.
    pub(super) fn of_columns(ids: Vec<CallId>, responses: StringViewArray, costs: Float64Array) -> Block {
        debug_assert!(ids.len() == responses.len() && ids.len() == costs.len());
        Block { ids, responses, costs }
    }

    /// The answers of a log's group.
    pub(super) fn of_frame(records: &[Record]) -> Block {
        Block::of_answers(records.iter().filter_map(|record| match record {
            Record::Call(call) => Some((call.call_id, call.response.as_str(), call.cost_usd)),
            Record::Attempt(_) | Record::Use(_) => None,
        }))
    }

    fn of_answers<'a>(answers: impl Iterator<Item = (CallId, &'a str, f64)> + Clone) -> Block {
        let bytes: usize = answers.clone().map(|(_, response, _)| response.len()).sum();
        // No longer than needed: a builder's own first piece takes 8 KB, which most groups do not.
        let piece = u32::try_from(bytes).unwrap_or(u32::MAX).max(1);
        let mut responses = StringViewBuilder::new().with_fixed_block_size(piece);
        answers.clone().for_each(|(_, response, _)| responses.append_value(response));
        Block {
            ids: answers.clone().map(|(id, ..)| id).collect(),
            responses: responses.finish(),
            costs: answers.map(|(.., cost_usd)| cost_usd).map(Some).collect(),
        }
    }

    pub(super) fn find(self: &Arc<Self>, id: &CallId) -> Option<StoredAnswer> {
        let row = self.ids.iter().position(|stored| stored == id)?;
        Some(StoredAnswer { block: Arc::clone(self), row })
    }

    /// About what it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        let per_answer = size_of::<CallId>() + size_of::<u128>() + size_of::<f64>();
        self.responses.data_buffers().iter().map(|buffer| buffer.capacity()).sum::<usize>()
            + self.ids.len() * per_answer
    }
}

/// What is stored of an answer: all that a replay needs. It keeps its block in memory.
#[derive(Debug, Clone)]
pub struct StoredAnswer {
    block: Arc<Block>,
    row: usize,
}

impl StoredAnswer {
    /// The raw body.
    pub fn response(&self) -> &str {
        self.block.responses.value(self.row)
    }

    pub fn cost_usd(&self) -> f64 {
        self.block.costs.value(self.row)
    }
}

#[cfg(test)]
impl Block {
    /// One answer of so many bytes.
    pub(super) fn of_one(id: CallId, bytes: usize) -> Block {
        Block::of_answers([(id, "x".repeat(bytes).as_str(), 0.5)].into_iter())
    }
}
