//! Decoded answers: the unit in which the ledger reads them back, and a bounded cache of such units.
//! A block is a frame of a log or a few rows of a segment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use super::{CallId, CallRecord, LedgerError, Record, StoredAnswer};

/// The answers of one block, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Block {
    answers: Vec<(CallId, StoredAnswer)>,
}

impl Block {
    pub(super) fn of(answers: Vec<(CallId, StoredAnswer)>) -> Block {
        Block { answers }
    }

    /// The answers of a log's group.
    pub(super) fn of_frame(records: Vec<Record>) -> Block {
        let calls = records.into_iter().filter_map(|record| match record {
            Record::Call(call) => Some((call.call_id, call.into())),
            Record::Attempt(_) | Record::Use(_) => None,
        });
        Block::of(calls.collect())
    }

    pub(super) fn find(&self, id: &CallId) -> Option<StoredAnswer> {
        self.answers.iter().find(|(stored, _)| stored == id).map(|(_, answer)| answer.clone())
    }

    /// About what it takes in memory.
    fn bytes(&self) -> usize {
        self.answers.iter().map(|(_, answer)| size_of::<(CallId, StoredAnswer)>() + answer.response.len()).sum()
    }
}

impl From<CallRecord> for StoredAnswer {
    fn from(call: CallRecord) -> Self {
        StoredAnswer {
            response: call.response.into(),
            cost_usd: call.cost_usd,
            prompt_tokens: call.prompt_tokens,
            completion_tokens: call.completion_tokens,
            finish_reason: call.finish_reason,
        }
    }
}

/// A source's number and a block's position in it.
type BlockKey = (u32, u64);

#[derive(Debug)]
struct Slot {
    cell: Arc<OnceCell<Arc<Block>>>,
    bytes: usize,
    used: u64,
}

#[derive(Debug, Default)]
struct Slots {
    by_key: HashMap<BlockKey, Slot>,
    bytes: usize,
    clock: u64,
}

/// Keeps the blocks used last, up to a number of bytes. Many that want one block at once share one read.
#[derive(Debug)]
pub(super) struct BlockCache {
    capacity: usize,
    slots: Mutex<Slots>,
}

impl BlockCache {
    pub(super) fn new(capacity: usize) -> BlockCache {
        BlockCache { capacity, slots: Mutex::default() }
    }

    /// The block under a key, read off the async threads by `read` where it is not at hand.
    pub(super) async fn get(
        &self,
        key: BlockKey,
        read: impl FnOnce() -> Result<Block, LedgerError> + Send + 'static,
        cancelled: impl FnOnce(String) -> LedgerError,
    ) -> Result<Arc<Block>, LedgerError> {
        let cell = self.cell(key);
        if let Some(block) = cell.get() {
            return Ok(Arc::clone(block));
        }
        let block = cell
            .get_or_try_init(|| async {
                match tokio::task::spawn_blocking(read).await {
                    Ok(block) => block.map(Arc::new),
                    Err(e) => Err(cancelled(e.to_string())),
                }
            })
            .await?;
        self.weigh(key, block.bytes());
        Ok(Arc::clone(block))
    }

    /// The block under a key where it has been read.
    pub(super) fn at_hand(&self, key: BlockKey) -> Option<Arc<Block>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.clock += 1;
        let clock = slots.clock;
        let slot = slots.by_key.get_mut(&key)?;
        slot.used = clock;
        slot.cell.get().cloned()
    }

    /// Keeps a block that was read together with others.
    pub(super) fn keep(&self, key: BlockKey, block: &Arc<Block>) {
        // Another may have read it meanwhile; they are the same.
        let _ = self.cell(key).set(Arc::clone(block));
        self.weigh(key, block.bytes());
    }

    fn cell(&self, key: BlockKey) -> Arc<OnceCell<Arc<Block>>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.clock += 1;
        let clock = slots.clock;
        let slot = slots.by_key.entry(key).or_insert_with(|| Slot { cell: Arc::default(), bytes: 0, used: clock });
        slot.used = clock;
        Arc::clone(&slot.cell)
    }

    /// Counts a block that has just been read and drops those used longest ago.
    fn weigh(&self, key: BlockKey, bytes: usize) {
        let mut guard = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = &mut *guard;
        if let Some(slot) = slots.by_key.get_mut(&key) {
            slots.bytes = slots.bytes - slot.bytes + bytes;
            slot.bytes = bytes;
        }
        while slots.bytes > self.capacity && slots.by_key.len() > 1 {
            let Some((&oldest, _)) =
                slots.by_key.iter().filter(|(k, slot)| **k != key && slot.bytes > 0).min_by_key(|(_, slot)| slot.used)
            else {
                return;
            };
            if let Some(slot) = slots.by_key.remove(&oldest) {
                slots.bytes -= slot.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn block(n: u8, bytes: usize) -> Block {
        let answer = StoredAnswer {
            response: "x".repeat(bytes).into(),
            cost_usd: 0.0,
            prompt_tokens: None,
            completion_tokens: None,
            finish_reason: None,
        };
        Block::of(vec![(CallId::from_bytes([n; 32]), answer)])
    }

    fn cancelled(detail: String) -> LedgerError {
        LedgerError::Cancelled { path: "ledger".into(), detail }
    }

    #[tokio::test]
    async fn many_readers_of_one_block_share_one_read_and_the_oldest_blocks_go_first() {
        let cache = BlockCache::new(2_500);
        let reads = Arc::new(AtomicUsize::new(0));
        let get = |n: u8| {
            let reads = Arc::clone(&reads);
            let read = move || {
                reads.fetch_add(1, Ordering::SeqCst);
                Ok(block(n, 1_000))
            };
            cache.get((1, u64::from(n)), read, cancelled)
        };
        futures::future::try_join_all((0..20).map(|_| get(0))).await.unwrap();
        assert_eq!(reads.load(Ordering::SeqCst), 1);
        get(1).await.unwrap();
        get(0).await.unwrap();
        get(2).await.unwrap(); // drops 1, used longest ago
        get(0).await.unwrap();
        assert_eq!(reads.load(Ordering::SeqCst), 3);
        get(1).await.unwrap();
        assert_eq!(reads.load(Ordering::SeqCst), 4);
    }

    #[tokio::test]
    async fn a_failed_read_is_tried_again() {
        let cache = BlockCache::new(1_000);
        let failed = cache.get((1, 1), || Err(cancelled("once".into())), cancelled).await;
        assert!(failed.is_err());
        let found = cache.get((1, 1), || Ok(block(1, 1)), cancelled).await.unwrap();
        assert!(found.find(&CallId::from_bytes([1; 32])).is_some());
        assert!(found.find(&CallId::from_bytes([2; 32])).is_none());
    }
}
