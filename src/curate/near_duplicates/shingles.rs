//! A text as the set of its n-grams: what the likeness of two texts is computed from.

use crate::curate::tokens::{Tokens, hash_of};

/// How a text is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// n-grams of words; of characters in scripts without spaces.
    Word,
    /// n-grams of the characters of the normalized text.
    Character,
}

/// The n-grams of texts, with memory that is used again.
#[derive(Debug)]
pub struct Shingler {
    unit: Unit,
    n: usize,
    tokens: Tokens,
    characters: Vec<u64>,
}

impl Shingler {
    pub fn new(unit: Unit, n: usize) -> Self {
        Self { unit, n: n.max(1), tokens: Tokens::default(), characters: Vec::new() }
    }

    /// The words of the text that was read last, in their order, as short hashes.
    pub fn words(&self) -> impl Iterator<Item = u32> {
        self.tokens.hashes.iter().map(|hash| *hash as u32)
    }

    /// Puts the hashes of the text's different n-grams into `set`, in ascending order, and gives a hash of the whole
    /// normalized text. A text with fewer than n tokens is one n-gram. None for a text without tokens.
    pub fn read(&mut self, text: &str, set: &mut Vec<u64>) -> Option<u64> {
        set.clear();
        self.tokens.read(text);
        if self.tokens.len() == 0 {
            return None;
        }
        let whole = hash_of(&self.tokens.hashes);
        let units = match self.unit {
            Unit::Word => &self.tokens.hashes,
            Unit::Character => {
                self.characters.clear();
                for (nth, &(start, end)) in self.tokens.places.iter().enumerate() {
                    if nth > 0 {
                        self.characters.push(u64::from(u32::from(' ')));
                    }
                    let token = text.get(start as usize..end as usize).unwrap_or_default();
                    let lower = token.chars().flat_map(char::to_lowercase);
                    self.characters.extend(lower.map(|char| u64::from(u32::from(char))));
                }
                &self.characters
            }
        };
        if units.len() <= self.n {
            set.push(hash_of(units));
        } else {
            set.extend(units.windows(self.n).map(hash_of));
            set.sort_unstable();
            set.dedup();
        }
        Some(whole)
    }
}
