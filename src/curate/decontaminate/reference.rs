//! The held-out questions, cut into n-grams that texts are looked up by. In: rows of the reference set in any order.
//! Out: an index that is the same for the same rows.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use crate::curate::tokens::{Tokens, hash_of};

/// How many tokens the looked-up n-grams have. A run of so many is where a comparison begins, so a longer n-gram of any
/// rule holds at least one.
pub(super) const SEED: usize = 5;

/// An n-gram in more than one question of a hundred is boilerplate, but only if it is in more than so many.
const BOILERPLATE_SHARE: f64 = 0.01;
const BOILERPLATE_LEAST: usize = 10;

/// A question is generic if each of its n-grams is in so many different questions: 'Which of these statements is true?'.
const GENERIC: usize = 3;

/// One row of the reference set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReferenceRow {
    pub table: String,
    pub row: String,
    pub question: String,
    pub answer: Option<String>,
}

/// A question of the reference set; rows with the same tokens are one.
#[derive(Debug)]
pub struct Question {
    /// The first row that has it.
    pub table: u32,
    pub row: String,
    pub tokens: Vec<u64>,
    /// The weight of all tokens before each place, and of all (see [`crate::curate::tokens::WORD`]).
    pub weight_before: Vec<u32>,
    /// What each token says: the logarithm of how rare it is.
    pub information: Vec<f32>,
    /// Tokens of which no n-gram is looked up, because all are boilerplate.
    pub boilerplate: Vec<bool>,
    /// Other questions say all that this one says; see [`GENERIC`].
    pub generic: bool,
    /// Hashes of the answers of its rows.
    pub answers: Vec<u64>,
}

/// The reference set.
#[derive(Debug, Default)]
pub struct Reference {
    pub tables: Vec<String>,
    pub questions: Vec<Question>,
    /// Questions by the hash of all their tokens.
    pub whole: HashMap<u64, u32, FixedState>,
    /// Two bits for each n-gram that may be here, in the word that the head of its hash says.
    filter: Vec<u64>,
    filter_shift: u32,
    /// Where the postings of each n-gram begin and end.
    ngrams: HashMap<u64, (u32, u32), FixedState>,
    /// Question and place in it.
    postings: Vec<(u32, u32)>,
}

/// The hash by which answers are compared; None for an answer without tokens.
pub(super) fn answer_hash(answer: &str, tokens: &mut Tokens) -> Option<u64> {
    tokens.read(answer);
    (tokens.len() > 0).then(|| hash_of(&tokens.hashes))
}

impl Reference {
    /// `rows` may be in any order; they are put into one.
    pub fn new(mut rows: Vec<ReferenceRow>) -> Self {
        rows.sort_unstable();
        let mut reference = Reference::default();
        let mut tokens = Tokens::default();
        let mut tables: HashMap<String, u32> = HashMap::new();
        for row in rows {
            let answer = row.answer.as_deref().and_then(|answer| answer_hash(answer, &mut tokens));
            tokens.read(&row.question);
            if tokens.len() == 0 {
                continue;
            }
            let whole = hash_of(&tokens.hashes);
            if let Some(&known) = reference.whole.get(&whole) {
                let answers = &mut reference.questions[known as usize].answers;
                answers.extend(answer.filter(|answer| !answers.contains(answer)));
                continue;
            }
            let table = *tables.entry(row.table).or_insert_with_key(|table| {
                reference.tables.push(table.clone());
                reference.tables.len() as u32 - 1
            });
            reference.whole.insert(whole, reference.questions.len() as u32);
            let mut weight_before = vec![0];
            weight_before.extend(tokens.weights.iter().scan(0, |sum, weight| {
                *sum += u32::from(*weight);
                Some(*sum)
            }));
            reference.questions.push(Question {
                table,
                row: row.row,
                tokens: tokens.hashes.clone(),
                weight_before,
                information: Vec::new(),
                boilerplate: Vec::new(),
                generic: tokens.len() >= SEED,
                answers: answer.into_iter().collect(),
            });
        }
        reference.weigh();
        reference.index();
        reference
    }

    /// How much each token of each question says.
    fn weigh(&mut self) {
        let mut frequency: HashMap<u64, u32, FixedState> = HashMap::default();
        let mut different = Vec::new();
        for question in &self.questions {
            different.clear();
            different.extend_from_slice(&question.tokens);
            different.sort_unstable();
            different.dedup();
            different.iter().for_each(|token| *frequency.entry(*token).or_default() += 1);
        }
        let all = self.questions.len() as f32;
        for question in &mut self.questions {
            let rare = |token: &u64| (1.0 + all / *frequency.get(token).unwrap_or(&1) as f32).ln();
            question.information = question.tokens.iter().map(rare).collect();
        }
    }

    fn index(&mut self) {
        let mut found: Vec<(u64, u32, u32)> = Vec::new();
        for (nth, question) in self.questions.iter().enumerate() {
            let ngrams = question.tokens.windows(SEED).enumerate();
            found.extend(ngrams.map(|(place, ngram)| (hash_of(ngram), nth as u32, place as u32)));
        }
        found.sort_unstable();
        let mut in_table = vec![0usize; self.tables.len()];
        self.questions.iter().for_each(|question| in_table[question.table as usize] += 1);
        let too_many = |of: usize| ((of as f64 * BOILERPLATE_SHARE) as usize).max(BOILERPLATE_LEAST);

        // Some n-gram of a token must be looked up, else the token weighs nothing.
        let mut looked_up: Vec<Vec<bool>> = self.questions.iter().map(|q| vec![false; q.tokens.len()]).collect();
        let mut counts = vec![0usize; self.tables.len()];
        for same in found.chunk_by(|a, b| a.0 == b.0) {
            counts.fill(0);
            let mut last = None;
            for &(_, question, _) in same {
                if last != Some(question) {
                    counts[self.questions[question as usize].table as usize] += 1;
                }
                last = Some(question);
            }
            let count = counts.iter().sum::<usize>();
            if count < GENERIC {
                same.iter().for_each(|&(_, question, _)| self.questions[question as usize].generic = false);
            }
            let everywhere = count > too_many(self.questions.len());
            if everywhere || counts.iter().zip(&in_table).any(|(count, all)| *count > too_many(*all)) {
                continue;
            }
            let start = self.postings.len() as u32;
            for &(_, question, place) in same {
                self.postings.push((question, place));
                looked_up[question as usize][place as usize..place as usize + SEED].fill(true);
            }
            self.ngrams.insert(same[0].0, (start, self.postings.len() as u32));
        }
        for (question, looked_up) in self.questions.iter_mut().zip(looked_up) {
            // A question of fewer tokens than an n-gram has is compared as a whole.
            let short = question.tokens.len() < SEED;
            question.boilerplate = looked_up.into_iter().map(|looked_up| !looked_up && !short).collect();
        }
        let words = (self.ngrams.len() / 4).next_power_of_two().max(1 << 4);
        self.filter_shift = 64 - words.trailing_zeros();
        self.filter = vec![0; words];
        for ngram in self.ngrams.keys() {
            self.filter[(ngram >> self.filter_shift) as usize] |= filter_bits(*ngram);
        }
    }

    /// Where an n-gram stands: question and place.
    #[inline]
    pub fn places(&self, ngram: u64) -> &[(u32, u32)] {
        let bits = filter_bits(ngram);
        if self.filter.get((ngram >> self.filter_shift) as usize).is_none_or(|word| word & bits != bits) {
            return &[];
        }
        self.ngrams.get(&ngram).map_or(&[], |&(start, end)| &self.postings[start as usize..end as usize])
    }

    /// The bytes that are held.
    pub fn size(&self) -> usize {
        let tokens: usize = self.questions.iter().map(|question| question.tokens.len()).sum();
        tokens * (size_of::<u64>() + size_of::<u32>() + size_of::<f32>() + 1)
            + self.questions.len() * (size_of::<Question>() + 32)
            + self.postings.len() * size_of::<(u32, u32)>()
            + (self.ngrams.len() + self.whole.len()) * 24
            + self.filter.len() * size_of::<u64>()
    }
}

/// An n-gram's bits in its word of the filter: with four n-grams a word, of a hundred others one or two pass.
fn filter_bits(ngram: u64) -> u64 {
    (1 << (ngram & 63)) | (1 << (ngram >> 6 & 63))
}
