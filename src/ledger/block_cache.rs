//! A bounded cache of blocks. Many that want one block at once share one read of it.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::Shared;
use tokio::sync::oneshot;

use super::LedgerError;
use super::block::Block;

/// A source's number and a block's position in it.
type BlockKey = (u32, u64);

/// Blocks that are read together, in the order of their positions.
type ReadBlocks = Result<Arc<[Arc<Block>]>, LedgerError>;

#[derive(Debug, Clone)]
enum Content {
    Block(Arc<Block>),
    /// One of those that are being read.
    Reading(Shared<oneshot::Receiver<ReadBlocks>>, usize),
}

#[derive(Debug)]
struct Slot {
    content: Content,
    bytes: usize,
    used: u64,
}

#[derive(Debug, Default)]
struct Slots {
    by_key: HashMap<BlockKey, Slot>,
    by_use: BTreeMap<u64, BlockKey>,
    bytes: usize,
    clock: u64,
}

impl Slots {
    /// What is in a slot, which is the one used last from now on.
    fn use_now(&mut self, key: BlockKey) -> Option<Content> {
        let slot = self.by_key.get_mut(&key)?;
        self.clock += 1;
        self.by_use.remove(&slot.used);
        self.by_use.insert(self.clock, key);
        slot.used = self.clock;
        Some(slot.content.clone())
    }

    fn add(&mut self, key: BlockKey, content: Content) {
        self.clock += 1;
        self.by_use.insert(self.clock, key);
        self.by_key.insert(key, Slot { content, bytes: 0, used: self.clock });
    }

    fn remove(&mut self, key: BlockKey) {
        if let Some(slot) = self.by_key.remove(&key) {
            self.by_use.remove(&slot.used);
            self.bytes -= slot.bytes;
        }
    }

    /// Puts a block that has been read where it is waited for.
    fn fill(&mut self, key: BlockKey, block: &Arc<Block>) {
        if let Some(slot) = self.by_key.get_mut(&key)
            && let Content::Reading(..) = slot.content
        {
            slot.content = Content::Block(Arc::clone(block));
            slot.bytes = block.bytes();
            self.bytes += slot.bytes;
        }
    }

    /// Drops those used longest ago until the rest, or the one used last, fits.
    fn shrink(&mut self, capacity: usize) {
        while self.bytes > capacity {
            let is_block = |key: &&BlockKey| self.by_key.get(key).is_some_and(|slot| slot.bytes > 0);
            let mut blocks = self.by_use.values().filter(is_block);
            let (Some(&oldest), Some(_)) = (blocks.next(), blocks.next()) else { return };
            self.remove(oldest);
        }
    }
}

/// Keeps the blocks used last, up to a number of bytes.
#[derive(Debug)]
pub(super) struct BlockCache {
    capacity: usize,
    /// For messages.
    folder: PathBuf,
    slots: Mutex<Slots>,
}

impl BlockCache {
    pub(super) fn new(capacity: usize, folder: PathBuf) -> Arc<BlockCache> {
        Arc::new(BlockCache { capacity, folder, slots: Mutex::default() })
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The blocks of a source at these positions, in their order.
    ///
    /// Those that are not at hand are read together off the async threads: `read` gives one block a position.
    /// `with_neighbours` may add positions to those to read, which are soon wanted; it keeps their order.
    pub(super) async fn get(
        self: &Arc<Self>,
        source: u32,
        positions: &[u64],
        with_neighbours: impl FnOnce(Vec<u64>) -> Vec<u64>,
        read: impl FnOnce(&[u64]) -> Result<Vec<Block>, LedgerError> + Send + 'static,
    ) -> Result<Vec<Arc<Block>>, LedgerError> {
        let (contents, reading) = {
            let mut slots = self.slots();
            let mut missing = positions.to_vec();
            missing.retain(|&position| !slots.by_key.contains_key(&(source, position)));
            let mut reading = None;
            if !missing.is_empty() {
                let mut missing = with_neighbours(missing);
                missing.retain(|&position| !slots.by_key.contains_key(&(source, position)));
                let (done, result) = oneshot::channel();
                let result = result.shared();
                for (place, &position) in missing.iter().enumerate() {
                    slots.add((source, position), Content::Reading(result.clone(), place));
                }
                reading = Some((Reading { cache: Arc::clone(self), source, positions: missing }, done));
            }
            let contents: Vec<_> = positions.iter().map(|&position| slots.use_now((source, position))).collect();
            (contents, reading)
        };
        if let Some((reading, done)) = reading {
            // It ends whether or not anybody waits for it.
            tokio::task::spawn_blocking(move || done.send(reading.read(read)));
        }
        let mut blocks = Vec::with_capacity(contents.len());
        for content in contents {
            let block = match content {
                Some(Content::Block(block)) => Some(block),
                Some(Content::Reading(result, place)) => {
                    result.await.map_err(|_| self.cancelled("its reader has ended"))??.get(place).cloned()
                }
                None => None,
            };
            blocks.push(block.ok_or_else(|| self.cancelled("a block was not read"))?);
        }
        Ok(blocks)
    }

    fn cancelled(&self, detail: impl ToString) -> LedgerError {
        LedgerError::Cancelled { path: self.folder.clone(), detail: detail.to_string() }
    }
}

/// Slots that wait for their blocks. Those that get none, for whatever reason, are taken away: the next one who wants
/// the block reads it.
struct Reading {
    cache: Arc<BlockCache>,
    source: u32,
    positions: Vec<u64>,
}

impl Reading {
    fn read(self, read: impl FnOnce(&[u64]) -> Result<Vec<Block>, LedgerError>) -> ReadBlocks {
        let blocks: Arc<[_]> = read(&self.positions)?.into_iter().map(Arc::new).collect();
        let mut slots = self.cache.slots();
        for (position, block) in self.positions.iter().zip(&*blocks) {
            slots.fill((self.source, *position), block);
        }
        slots.shrink(self.cache.capacity);
        drop(slots);
        Ok(blocks)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut slots = self.cache.slots();
        for position in &self.positions {
            let key = (self.source, *position);
            // Perhaps another's by now, whose block is not kept then.
            if let Some(Slot { content: Content::Reading(..), .. }) = slots.by_key.get(&key) {
                slots.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::ledger::CallId;

    fn id(position: u64) -> CallId {
        CallId::from_bytes([position as u8; 32])
    }

    fn cache(capacity: usize) -> Arc<BlockCache> {
        BlockCache::new(capacity, "ledger".into())
    }

    /// Reads of blocks of this size, counted by position.
    struct Disk {
        block_bytes: usize,
        reads: [AtomicUsize; 8],
    }

    impl Disk {
        fn new(block_bytes: usize) -> Arc<Disk> {
            Arc::new(Disk { block_bytes, reads: Default::default() })
        }

        async fn get(self: &Arc<Self>, cache: &Arc<BlockCache>, positions: &[u64], neighbours: &[u64]) {
            let with_neighbours = |missing: Vec<u64>| {
                let all: std::collections::BTreeSet<u64> =
                    missing.into_iter().chain(neighbours.iter().copied()).collect();
                all.into_iter().collect()
            };
            let disk = Arc::clone(self);
            let read = move |positions: &[u64]| {
                let read = |&position: &u64| {
                    disk.reads[position as usize].fetch_add(1, Ordering::SeqCst);
                    Block::of_one(id(position), disk.block_bytes)
                };
                Ok(positions.iter().map(read).collect())
            };
            let blocks = cache.get(1, positions, with_neighbours, read).await.unwrap();
            assert_eq!(blocks.len(), positions.len());
            for (block, position) in blocks.iter().zip(positions) {
                assert!(block.find(&id(*position)).is_some());
            }
        }

        fn reads(&self) -> Vec<usize> {
            self.reads.iter().map(|count| count.load(Ordering::SeqCst)).collect()
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_wants_a_block_that_is_being_read_waits_for_it() {
        let (cache, disk) = (cache(1 << 20), Disk::new(100));
        let get = |first: u64| {
            let (cache, disk) = (Arc::clone(&cache), Arc::clone(&disk));
            tokio::spawn(async move { disk.get(&cache, &[first, first + 1, first + 2], &[first, 5]).await })
        };
        futures::future::try_join_all((0..40).map(|n| get(n % 3))).await.unwrap();
        assert_eq!(disk.reads(), [1, 1, 1, 1, 1, 1, 0, 0]);
        disk.get(&cache, &[5], &[]).await;
        assert_eq!(disk.reads()[5], 1);
    }

    #[tokio::test]
    async fn the_blocks_used_longest_ago_go_first() {
        let (cache, disk) = (cache(2_500), Disk::new(1_000));
        disk.get(&cache, &[0, 1], &[]).await;
        disk.get(&cache, &[0], &[]).await;
        disk.get(&cache, &[2], &[]).await; // drops 1
        disk.get(&cache, &[0], &[]).await;
        assert_eq!(disk.reads(), [1, 1, 1, 0, 0, 0, 0, 0]);
        disk.get(&cache, &[1], &[]).await;
        assert_eq!(disk.reads(), [1, 2, 1, 0, 0, 0, 0, 0]);
        // More than fits at once is given all the same.
        disk.get(&cache, &[3, 4, 5, 6], &[]).await;
        assert!(cache.slots().bytes <= 2_500, "{}", cache.slots().bytes);
    }

    #[tokio::test]
    async fn a_block_that_could_not_be_read_is_read_again() {
        let cache = cache(1_000);
        let failed = cache.get(1, &[1], |missing| missing, |_| Err(cache_error())).await;
        assert!(failed.is_err());
        let panicked = cache.get(1, &[1], |missing| missing, |_| panic!("a bug")).await;
        assert!(matches!(panicked, Err(LedgerError::Cancelled { .. })));
        Disk::new(1).get(&cache, &[1], &[]).await;
    }

    fn cache_error() -> LedgerError {
        LedgerError::WriterEnded { path: "ledger".into() }
    }
}
