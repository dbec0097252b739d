//! `python_shuffle(items TEXT[], seed TEXT) → TEXT[]`: the items in the order that Python's `random.Random(seed).shuffle`
//! gives them. NULL for NULL.
//!
//! ```sql
//! SELECT python_shuffle(['0', '1'], 'I went for a walk');
//! ```
//!
//! For prompts of lm-evaluation-harness that were shuffled so; anything new is better shuffled by `shuffle_options`. The
//! generator is MT19937 (Matsumoto and Nishimura, 1998), seeded by `init_by_array` with the words of the text's bytes and
//! their SHA-512, as CPython 3 does for texts (`random.seed`, version 2); the shuffle draws from the end.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, StringViewBuilder};
use datafusion_common::Result;
use sha2::{Digest, Sha512};

use crate::arguments::Arguments;
use crate::function::{Definition, Kind, text_item, text_list};

pub(crate) const PYTHON_SHUFFLE: Definition = Definition {
    name: "python_shuffle",
    parameters: &[("items", Kind::TextList), ("seed", Kind::Text)],
    returns: text_list,
    invoke,
    description: "The items in the order that Python's random.Random(seed).shuffle gives them.",
    example: "SELECT python_shuffle(['0', '1'], 'I went for a walk');",
    ..Definition::BLANK
};

fn invoke(arguments: &Arguments) -> Result<ArrayRef> {
    let (lists, seeds) = (arguments.text_list(0)?, arguments.text(1)?);
    let mut shuffled = ListBuilder::new(StringViewBuilder::new()).with_field(text_item());
    for row in 0..arguments.rows {
        match (lists.get(row), seeds.get(row)) {
            (Some(mut items), Some(seed)) => {
                shuffle(&mut items, seed);
                shuffled.append_value(items);
            }
            _ => shuffled.append_null(),
        }
    }
    Ok(Arc::new(shuffled.finish()))
}

fn shuffle<T>(items: &mut [T], seed: &str) {
    let mut generator = Generator::seeded(seed);
    for last in (1..items.len()).rev() {
        items.swap(last, generator.below(last as u32 + 1) as usize);
    }
}

const WORDS: usize = 624;
const MIDDLE: usize = 397;

/// MT19937.
struct Generator {
    state: [u32; WORDS],
    next: usize,
}

impl Generator {
    fn seeded(text: &str) -> Self {
        let mut bytes = text.as_bytes().to_vec();
        bytes.extend_from_slice(&Sha512::digest(text.as_bytes()));
        // One number, big-endian; its 32-bit words from the least.
        let mut key: Vec<u32> =
            bytes.rchunks(4).map(|word| word.iter().fold(0, |all, &byte| all << 8 | u32::from(byte))).collect();
        while key.len() > 1 && key.last() == Some(&0) {
            key.pop();
        }
        Self::by_array(&key)
    }

    fn by_array(key: &[u32]) -> Self {
        let mut state = [0u32; WORDS];
        state[0] = 19_650_218;
        for i in 1..WORDS {
            state[i] = 1_812_433_253u32.wrapping_mul(mixed(state[i - 1])).wrapping_add(i as u32);
        }
        let (mut i, mut j) = (1, 0);
        for _ in 0..WORDS.max(key.len()) {
            state[i] =
                (state[i] ^ mixed(state[i - 1]).wrapping_mul(1_664_525)).wrapping_add(key[j]).wrapping_add(j as u32);
            i = step(&mut state, i);
            j = (j + 1) % key.len();
        }
        for _ in 0..WORDS - 1 {
            state[i] = (state[i] ^ mixed(state[i - 1]).wrapping_mul(1_566_083_941)).wrapping_sub(i as u32);
            i = step(&mut state, i);
        }
        state[0] = 0x8000_0000;
        Generator { state, next: WORDS }
    }

    fn word(&mut self) -> u32 {
        if self.next == WORDS {
            for i in 0..WORDS {
                let joined = self.state[i] & 0x8000_0000 | self.state[(i + 1) % WORDS] & 0x7fff_ffff;
                let twisted = joined >> 1 ^ if joined & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + MIDDLE) % WORDS] ^ twisted;
            }
            self.next = 0;
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= word << 7 & 0x9d2c_5680;
        word ^= word << 15 & 0xefc6_0000;
        word ^ word >> 18
    }

    /// A number below `bound`: as many bits as it has, drawn again until they are below it.
    fn below(&mut self, bound: u32) -> u32 {
        let bits = u32::BITS - bound.leading_zeros();
        loop {
            let drawn = self.word() >> (u32::BITS - bits);
            if drawn < bound {
                return drawn;
            }
        }
    }
}

fn mixed(word: u32) -> u32 {
    word ^ word >> 30
}

fn step(state: &mut [u32; WORDS], i: usize) -> usize {
    if i + 1 < WORDS {
        return i + 1;
    }
    state[0] = state[WORDS - 1];
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_cpython() {
        let order = |seed: &str, n: usize| {
            let mut items: Vec<usize> = (0..n).collect();
            shuffle(&mut items, seed);
            items
        };
        assert_eq!(order("", 2), [0, 1]);
        assert_eq!(order("a", 2), [0, 1]);
        assert_eq!(order("I went for a walk", 2), [1, 0]);
        assert_eq!(order("é", 5), [2, 1, 4, 0, 3]);
        assert_eq!(order("seed", 10), [4, 1, 8, 7, 5, 9, 6, 3, 0, 2]);
        assert_eq!(order(&"x".repeat(3000), 12), [2, 8, 3, 0, 6, 11, 10, 1, 4, 5, 9, 7]);
    }
}
