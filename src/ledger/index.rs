//! The index of the ledger: from a call's id to the place of its answer, in 24 to 31 bytes a call.
//! In: ids. Out: places.

use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::thread;

use super::CallId;

/// The first 16 bytes of a call's id. Two calls that share them are not to be expected (2^-79 among 20 million);
/// who reads an answer still compares the whole id.
pub(super) type Key = [u8; 16];

pub(super) fn key(id: &CallId) -> Key {
    let mut key = [0; 16];
    key.copy_from_slice(&id.as_bytes()[..16]);
    key
}

/// Where an answer lies: the number of its source (a log or a segment) and there a frame's offset or a row. Ordered by both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(u64);

impl Place {
    const POSITION_BITS: u32 = 40;

    pub(super) fn new(source: u32, position: u64) -> Place {
        debug_assert!(position < 1 << Self::POSITION_BITS && source < 1 << (64 - Self::POSITION_BITS));
        Place((u64::from(source) << Self::POSITION_BITS) | position)
    }

    pub(super) fn source(self) -> u32 {
        (self.0 >> Self::POSITION_BITS) as u32
    }

    pub(super) fn position(self) -> u64 {
        self.0 & ((1 << Self::POSITION_BITS) - 1)
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: Key,
    place: Place,
}

/// Ids are uniform hashes, so their first 12 bits spread them evenly over sorted vectors short enough to insert
/// into (5,000 entries each at 20 million calls). A hash map would take up to 57 bytes a call.
#[derive(Debug)]
pub(super) struct Index {
    shards: Vec<Vec<Entry>>,
    len: usize,
}

const SHARD_BITS: u32 = 12;

/// A thread that sorts has so many calls to sort, or more.
const CALLS_A_THREAD: usize = 50_000;

fn shard(key: &Key) -> usize {
    (u16::from_be_bytes([key[0], key[1]]) >> (16 - SHARD_BITS)) as usize
}

/// An index of many places at once. In: places in any order. Out: of two places of one key the lesser, which is that of
/// the older source.
pub(super) struct IndexBuilder {
    shards: Vec<Vec<Entry>>,
}

impl IndexBuilder {
    /// With room for so many calls.
    pub(super) fn with_room_for(calls: u64) -> IndexBuilder {
        let mean = calls as f64 / f64::from(1 << SHARD_BITS);
        // Four standard deviations more than the mean: of 4,096 shards hardly one grows.
        let room = (mean + 4.0 * mean.sqrt()) as usize;
        IndexBuilder { shards: (0..1 << SHARD_BITS).map(|_| Vec::with_capacity(room)).collect() }
    }

    pub(super) fn add(&mut self, places: impl IntoIterator<Item = (Key, Place)>) {
        for (key, place) in places {
            self.shards[shard(&key)].push(Entry { key, place });
        }
    }

    /// The index, and the places that lost. Sorts with so many threads.
    pub(super) fn build(mut self, threads: usize) -> (Index, Vec<Place>) {
        let calls: usize = self.shards.iter().map(Vec::len).sum();
        // Of a few calls a thread would not be worth its start.
        let threads = threads.min(calls / CALLS_A_THREAD).max(1);
        let some = self.shards.len().div_ceil(threads);
        let repeats = thread::scope(|scope| {
            let others: Vec<_> = self.shards.chunks_mut(some).map(|shards| scope.spawn(|| sort(shards))).collect();
            others.into_iter().flat_map(|sorted| sorted.join().unwrap_or_else(|e| resume_unwind(e))).collect()
        });
        let len = self.shards.iter().map(Vec::len).sum();
        (Index { shards: self.shards, len }, repeats)
    }
}

/// Of each shard; gives back what is left out.
fn sort(shards: &mut [Vec<Entry>]) -> Vec<Place> {
    let mut repeats = Vec::new();
    for shard in shards {
        shard.sort_unstable_by_key(|entry| (entry.key, entry.place));
        shard.dedup_by(|later, first| {
            let repeats_first = later.key == first.key;
            if repeats_first {
                repeats.push(later.place);
            }
            repeats_first
        });
        shard.shrink_to_fit();
    }
    repeats
}

impl Index {
    pub(super) fn empty() -> Index {
        Index { shards: vec![Vec::new(); 1 << SHARD_BITS], len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, key: &Key) -> Option<Place> {
        let shard = &self.shards[shard(key)];
        let found = shard.binary_search_by(|entry| entry.key.cmp(key)).ok()?;
        Some(shard[found].place)
    }

    /// All keys with their places, in no order that means anything.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, Place)> {
        self.shards.iter().flatten().map(|entry| (&entry.key, entry.place))
    }

    /// Adds a place, unless the key has one already.
    pub(super) fn insert(&mut self, key: Key, place: Place) {
        let shard = &mut self.shards[shard(&key)];
        if let Err(at) = shard.binary_search_by(|entry| entry.key.cmp(&key)) {
            if shard.len() == shard.capacity() {
                shard.reserve_exact((shard.len() / 4).max(4));
            }
            shard.insert(at, Entry { key, place });
            self.len += 1;
        }
    }

    /// Takes the place of a key whose answer lies in one of these sources, or has none.
    pub(super) fn take_over(&mut self, key: Key, from: &BTreeSet<u32>, to: Place) {
        let shard = &mut self.shards[shard(&key)];
        match shard.binary_search_by(|entry| entry.key.cmp(&key)) {
            Ok(found) if from.contains(&shard[found].place.source()) => shard[found].place = to,
            Ok(_) => {}
            Err(_) => self.insert(key, to),
        }
    }

    /// Leaves out all keys whose answers lie in these sources.
    pub(super) fn forget(&mut self, sources: &BTreeSet<u32>) {
        for shard in &mut self.shards {
            shard.retain(|entry| !sources.contains(&entry.place.source()));
        }
        self.len = self.shards.iter().map(Vec::len).sum();
    }

    /// Moves a key's answer from one source to another place; a key whose answer lies elsewhere stays there.
    pub(super) fn relocate(&mut self, key: &Key, from: u32, to: Place) {
        let shard = &mut self.shards[shard(key)];
        if let Ok(found) = shard.binary_search_by(|entry| entry.key.cmp(key))
            && shard[found].place.source() == from
        {
            shard[found].place = to;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(places: impl IntoIterator<Item = (Key, Place)>) -> (Index, Vec<Place>) {
        let mut builder = IndexBuilder::with_room_for(10);
        builder.add(places);
        builder.build(3)
    }

    fn numbered(n: u64) -> Key {
        key(&CallId::from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes()))
    }

    #[test]
    fn an_index_takes_at_most_40_bytes_a_call_however_it_grew() {
        let (mut index, repeats) = build((0..100_000).map(|n| (numbered(n), Place::new(1, n))));
        for n in 100_000..200_000 {
            index.insert(numbered(n), Place::new(2, n));
        }
        assert_eq!(repeats, []);
        let bytes: usize = index.shards.iter().map(|s| s.capacity() * size_of::<Entry>()).sum();
        assert_eq!(index.len(), 200_000);
        assert!(bytes <= 40 * index.len(), "{bytes} bytes");
        assert!((0..100_000).all(|n| index.get(&numbered(n)) == Some(Place::new(1, n))));
        assert!((100_000..200_000).all(|n| index.get(&numbered(n)) == Some(Place::new(2, n))));
        assert_eq!(index.get(&numbered(200_000)), None);
    }

    #[test]
    fn the_first_place_of_a_call_wins_and_moves_only_with_its_own_source() {
        let a = numbered(1);
        let (mut index, repeats) = build([(a, Place::new(8, 2)), (a, Place::new(7, 1))]);
        assert_eq!(repeats, [Place::new(8, 2)]);
        index.insert(a, Place::new(9, 3));
        assert_eq!((index.len(), index.get(&a)), (1, Some(Place::new(7, 1))));
        index.relocate(&a, 8, Place::new(10, 0));
        assert_eq!(index.get(&a), Some(Place::new(7, 1)));
        index.relocate(&a, 7, Place::new(10, 0));
        assert_eq!(index.get(&a), Some(Place::new(10, 0)));
    }

    #[test]
    fn what_was_merged_moves_and_what_was_dropped_is_forgotten() {
        let [a, b, c, d] = [1, 2, 3, 4].map(numbered);
        let (mut index, _) = build([(a, Place::new(1, 0)), (b, Place::new(2, 0)), (c, Place::new(3, 0))]);
        let merged = BTreeSet::from([1, 2]);
        for (row, key) in [a, c, d].into_iter().enumerate() {
            index.take_over(key, &merged, Place::new(4, row as u64));
        }
        index.forget(&merged);
        let places = [a, b, c, d].map(|key| index.get(&key));
        assert_eq!(places, [Some(Place::new(4, 0)), None, Some(Place::new(3, 0)), Some(Place::new(4, 2))]);
        assert_eq!(index.len(), 3);
    }

    #[test]
    fn a_place_keeps_its_source_and_its_position() {
        let place = Place::new((1 << 24) - 1, (1 << 40) - 1);
        assert_eq!((place.source(), place.position()), ((1 << 24) - 1, (1 << 40) - 1));
    }
}
