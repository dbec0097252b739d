//! The rows that are kept, and the question which of them a row is like. Exact: every kept row whose Jaccard similarity
//! is at least the threshold is found.
//!
//! How: with all n-grams in one fixed order, rare ones first, two sets of likeness t or more must share one among the first
//! `|x| - ⌈t·|x|⌉ + 1` of each (prefix filtering: Chaudhuri et al. 2006; Bayardo et al. 2007, "Scaling up all pairs
//! similarity search"). Only these are indexed and looked up; sizes and places rule out most of what they find (Xiao et al.
//! 2008, "Efficient similarity joins for near duplicate detection"), and the rest is counted. MinHash with bands would
//! find most pairs by chance; this finds all, from fewer hashes.
//!
//! Where a ROUGE-L is given, kept rows that are less alike are looked up too, down to [`CANDIDATE`], and of those the words
//! in their order are compared.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use seedmill_udfs::longest_common_subsequence;

use super::frequencies::Frequencies;

/// The nearest kept row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match {
    /// Its ordinal among the kept rows.
    pub row: u32,
    /// Jaccard similarity, or the cosine of vectors.
    pub likeness: f64,
    pub kind: Kind,
}

/// What makes a row a duplicate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// The normalized texts are equal.
    Exact,
    /// The likeness is at least the threshold.
    Near,
    /// It is less, and the ROUGE-L too high.
    RougeL,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Exact => "exact",
            Kind::Near => "near",
            Kind::RougeL => "rouge_l",
        }
    }
}

/// The least Jaccard similarity of rows whose ROUGE-L is counted. Of 20 words with two changed, far from each other, 0.23 of
/// the 5-grams are common.
pub const CANDIDATE: f64 = 0.2;

/// A row in the list of an n-gram.
#[derive(Debug, Clone, Copy)]
struct Posting {
    row: u32,
    /// The n-gram's place in the row's order.
    place: u32,
    /// The entry before in the same list.
    next: u32,
}

const END: u32 = u32::MAX;

/// The kept rows of one scan.
#[derive(Debug)]
pub struct Kept {
    threshold: f64,
    rouge_l: Option<f64>,
    /// Rows of at least this likeness are looked up.
    least: f64,
    counts: Vec<u32>,
    /// The sets of all rows, each in ascending order, one behind the other.
    shingles: Vec<u64>,
    /// Where each row's set begins in `shingles`; and the end.
    starts: Vec<usize>,
    /// With a ROUGE-L: the words of all rows in their order, one row behind the other; and where each row's begin.
    words: Vec<u32>,
    word_starts: Vec<usize>,
    /// The last entry of each n-gram's list.
    lists: HashMap<u64, u32, FixedState>,
    postings: Vec<Posting>,
    /// Rows by the hash of their whole normalized text.
    texts: HashMap<u64, u32, FixedState>,
    candidates: Vec<u32>,
    ordered: Vec<(u32, u64)>,
}

impl Kept {
    /// `counts` are those of [`Frequencies::frozen`]; empty for none. `threshold` lies above 0 and at most at 1. A row
    /// whose ROUGE-L with a candidate is above `rouge_l` is a duplicate too.
    pub fn new(threshold: f64, rouge_l: Option<f64>, counts: Vec<u32>) -> Self {
        Self {
            threshold,
            rouge_l,
            least: if rouge_l.is_some() { threshold.min(CANDIDATE) } else { threshold },
            counts,
            shingles: Vec::new(),
            starts: vec![0],
            words: Vec::new(),
            word_starts: vec![0],
            lists: HashMap::default(),
            postings: Vec::new(),
            texts: HashMap::default(),
            candidates: Vec::new(),
            ordered: Vec::new(),
        }
    }

    /// How many rows are kept.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// The nearest kept row at or above the threshold, of several the first; where there is none the row is kept.
    /// `set` is in ascending order and not empty; `text` is a hash of the whole normalized text; `words` are only looked at
    /// for a ROUGE-L.
    pub fn find_or_keep(&mut self, text: u64, set: &[u64], words: &[u32]) -> Option<Match> {
        if let Some(&row) = self.texts.get(&text) {
            return Some(Match { row, likeness: 1.0, kind: Kind::Exact });
        }
        self.order(set);
        if let Some(found) = self.nearest(set, words) {
            return Some(found);
        }
        self.keep(text, set, words);
        None
    }

    /// The bytes that are held.
    pub fn size(&self) -> usize {
        // A map's table has a key, a value and a byte of control for each place, and fills at most 7 of 8 places.
        let table = |capacity: usize| capacity * 8 / 7 * (size_of::<u64>() + size_of::<u64>() + 1);
        self.counts.capacity() * size_of::<u32>()
            + self.shingles.capacity() * size_of::<u64>()
            + (self.starts.capacity() + self.word_starts.capacity()) * size_of::<usize>()
            + self.words.capacity() * size_of::<u32>()
            + self.postings.capacity() * size_of::<Posting>()
            + table(self.lists.capacity())
            + table(self.texts.capacity())
    }

    /// How many n-grams at the head of a set of this size are looked up.
    fn prefix(&self, size: usize) -> usize {
        size - self.least_overlap_with(size).min(size) + 1
    }

    /// ⌈t · size⌉, and not one more by rounding: what a set must share with any set that is looked for.
    fn least_overlap_with(&self, size: usize) -> usize {
        ((self.least * size as f64 - 1e-6).ceil() as usize).max(1)
    }

    fn order(&mut self, set: &[u64]) {
        self.ordered.clear();
        self.ordered.extend(set.iter().map(|&shingle| (Frequencies::of(&self.counts, shingle), shingle)));
        let prefix = self.prefix(set.len());
        if prefix < set.len() {
            self.ordered.select_nth_unstable(prefix);
            self.ordered.truncate(prefix);
        }
        self.ordered.sort_unstable();
    }

    fn nearest(&mut self, set: &[u64], words: &[u32]) -> Option<Match> {
        let size = set.len();
        let (smallest, largest) = (self.least_overlap_with(size), ((size as f64 / self.least) + 1e-6).floor() as usize);
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        for (place, (_, shingle)) in self.ordered.iter().enumerate() {
            let mut at = self.lists.get(shingle).copied().unwrap_or(END);
            while let Some(posting) = self.postings.get(at as usize) {
                at = posting.next;
                let other = self.starts[posting.row as usize + 1] - self.starts[posting.row as usize];
                if other < smallest || other > largest {
                    continue;
                }
                // This one and at most what stands behind it in both.
                let shared = 1 + (size - place - 1).min(other - posting.place as usize - 1);
                let least = self.least / (1.0 + self.least) * (size + other) as f64 - 1e-6;
                // The first one that both share has the smallest places, so nothing is lost.
                if shared as f64 >= least {
                    candidates.push(posting.row);
                }
            }
        }
        candidates.sort_unstable();
        candidates.dedup();
        let mut best: Option<Match> = None;
        let mut by_words: Option<(Match, f64)> = None;
        for &row in &candidates {
            let other = &self.shingles[self.starts[row as usize]..self.starts[row as usize + 1]];
            let shared = shared(set, other);
            let jaccard = shared as f64 / (size + other.len() - shared) as f64;
            if jaccard >= self.threshold {
                if best.is_none_or(|best| jaccard > best.likeness) {
                    best = Some(Match { row, likeness: jaccard, kind: Kind::Near });
                }
            } else if best.is_none()
                && jaccard >= self.least
                && let Some(score) = self.too_high(words, row)
                && by_words.is_none_or(|(_, before)| score > before)
            {
                by_words = Some((Match { row, likeness: jaccard, kind: Kind::RougeL }, score));
            }
        }
        self.candidates = candidates;
        best.or(by_words.map(|(found, _)| found))
    }

    /// The ROUGE-L F1 with a kept row (see the function `rouge_l`), if it is above the one that is given.
    fn too_high(&self, words: &[u32], row: u32) -> Option<f64> {
        let most = self.rouge_l?;
        let other = &self.words[self.word_starts[row as usize]..self.word_starts[row as usize + 1]];
        let f1 = |common: usize| 2.0 * common as f64 / (words.len() + other.len()) as f64;
        // Not even if the shorter one stood in the other as it is.
        if words.is_empty() || other.is_empty() || f1(words.len().min(other.len())) <= most {
            return None;
        }
        Some(f1(longest_common_subsequence(words, other))).filter(|score| *score > most)
    }

    fn keep(&mut self, text: u64, set: &[u64], words: &[u32]) {
        let row = self.len() as u32;
        self.texts.insert(text, row);
        for (place, (_, shingle)) in self.ordered.iter().enumerate() {
            let entry = self.postings.len() as u32;
            let next = self.lists.insert(*shingle, entry).unwrap_or(END);
            self.postings.push(Posting { row, place: place as u32, next });
        }
        self.shingles.extend_from_slice(set);
        self.starts.push(self.shingles.len());
        if self.rouge_l.is_some() {
            self.words.extend_from_slice(words);
            self.word_starts.push(self.words.len());
        }
    }
}

/// How many hashes two ascending lists share.
fn shared(a: &[u64], b: &[u64]) -> usize {
    let (mut i, mut j, mut shared) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        let (x, y) = (a[i], b[j]);
        shared += usize::from(x == y);
        i += usize::from(x <= y);
        j += usize::from(y <= x);
    }
    shared
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The rule itself: each row is compared with every row kept before it.
    fn by_definition(sets: &[Vec<u64>], threshold: f64) -> Vec<Option<(u32, f64)>> {
        let mut kept: Vec<&Vec<u64>> = Vec::new();
        let mut found = Vec::new();
        for set in sets {
            let mut best: Option<(u32, f64)> = None;
            for (row, other) in kept.iter().enumerate() {
                let (a, b): (BTreeSet<_>, BTreeSet<_>) = (set.iter().collect(), other.iter().collect());
                let jaccard = a.intersection(&b).count() as f64 / a.union(&b).count() as f64;
                if jaccard >= threshold && best.is_none_or(|(_, best)| jaccard > best) {
                    best = Some((row as u32, jaccard));
                }
            }
            if best.is_none() {
                kept.push(set);
            }
            found.push(best);
        }
        found
    }

    fn sets() -> impl Strategy<Value = Vec<Vec<u64>>> {
        // Few different n-grams, so that sets meet; those of a lower number are more frequent.
        let shingle = prop_oneof![0u64..6, 0u64..40].prop_map(|n| n << 44 | n);
        let set = prop::collection::btree_set(shingle, 1..14);
        prop::collection::vec(set.prop_map(|set| set.into_iter().collect()), 1..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn every_like_row_is_found_and_no_other(sets in sets(), threshold in 1u32..=20, counted in any::<bool>()) {
            let threshold = f64::from(threshold) / 20.0;
            let frequencies = Frequencies::default();
            if counted {
                sets.iter().for_each(|set| frequencies.add(set));
            }
            let mut kept = Kept::new(threshold, None, frequencies.frozen());
            let found: Vec<Option<(u32, f64)>> = sets
                .iter()
                .enumerate()
                // No two texts are the same: the sets decide.
                .map(|(text, set)| kept.find_or_keep(text as u64, set, &[]).map(|m| (m.row, m.likeness)))
                .collect();
            prop_assert_eq!(found, by_definition(&sets, threshold));
        }
    }

    /// As [`by_definition`], where the words of a row are its n-grams in the order given: of rows that are not near the one
    /// with the highest ROUGE-L above `most` of those with a likeness of at least [`CANDIDATE`].
    fn by_definition_with_words(rows: &[Vec<u32>], threshold: f64, most: f64) -> Vec<Option<(u32, Kind)>> {
        let set = |row: &[u32]| row.iter().copied().collect::<BTreeSet<u32>>();
        let mut kept: Vec<&Vec<u32>> = Vec::new();
        let mut found = Vec::new();
        for row in rows {
            let mut near: Option<(u32, f64)> = None;
            let mut by_words: Option<(u32, f64)> = None;
            for (at, other) in kept.iter().enumerate() {
                let (a, b) = (set(row), set(other));
                let jaccard = a.intersection(&b).count() as f64 / a.union(&b).count() as f64;
                let score = 2.0 * longest_common_subsequence(row, other) as f64 / (row.len() + other.len()) as f64;
                if jaccard >= threshold && near.is_none_or(|(_, best)| jaccard > best) {
                    near = Some((at as u32, jaccard));
                }
                if jaccard >= CANDIDATE.min(threshold) && score > most && by_words.is_none_or(|(_, best)| score > best)
                {
                    by_words = Some((at as u32, score));
                }
            }
            let near = near.map(|(row, _)| (row, Kind::Near));
            let decided = near.or(by_words.map(|(row, _)| (row, Kind::RougeL)));
            if decided.is_none() {
                kept.push(row);
            }
            found.push(decided);
        }
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn a_row_of_nearly_the_same_words_in_order_is_found_too(
            rows in prop::collection::vec(prop::collection::vec(0u32..24, 1..16), 1..40),
            threshold in 1u32..=20,
            most in 1u32..20,
        ) {
            let (threshold, most) = (f64::from(threshold) / 20.0, f64::from(most) / 20.0);
            let mut kept = Kept::new(threshold, Some(most), Vec::new());
            let find = |(text, words): (usize, &Vec<u32>)| {
                let set: BTreeSet<u64> = words.iter().map(|word| u64::from(*word)).collect();
                let set: Vec<u64> = set.into_iter().collect();
                kept.find_or_keep(text as u64, &set, words).map(|found| (found.row, found.kind))
            };
            let found: Vec<_> = rows.iter().enumerate().map(find).collect();
            prop_assert_eq!(found, by_definition_with_words(&rows, threshold, most));
        }
    }

    #[test]
    fn equal_texts_are_exact_duplicates_of_the_first() {
        let mut kept = Kept::new(0.8, None, Vec::new());
        assert_eq!(kept.find_or_keep(7, &[1, 2, 3], &[]), None);
        let found = |kind| Some(Match { row: 0, likeness: 1.0, kind });
        assert_eq!(kept.find_or_keep(7, &[1, 2, 3], &[]), found(Kind::Exact));
        assert_eq!(kept.find_or_keep(8, &[1, 2, 3], &[]), found(Kind::Near));
    }
}
