//! `self_bleu(text TEXT) → DOUBLE`, an aggregate: how alike the texts of a group are, from 0 to 1: the mean over the texts
//! of the BLEU-4 of each with all others as its references (Self-BLEU, Zhu et al. 2018, "Texygen").
//!
//! ```sql
//! SELECT self_bleu(question) FROM (SELECT question FROM seeds ORDER BY stable_hash(seed_id) LIMIT 200);
//! ```
//!
//! BLEU as in Papineni et al. 2002: the geometric mean of the clipped precisions of 1- to 4-grams, times exp(1 - r / c) where
//! a text is shorter than the reference of the nearest length. A precision of 0 counts as 0.1 matches (Chen and Cherry
//! 2014, method 1; so does Texygen), and a text without any word of the others is 0. Words are those of `rouge_l`. NULL
//! texts are passed over; NULL for fewer than two. It grows with the number of texts, so compare samples of one size. Time
//! is linear in the words; memory holds all texts, so give it a sample.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::utils::SingleRowListArrayBuilder;
use datafusion_common::{Result, ScalarValue, exec_datafusion_err, exec_err, plan_err};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Signature, Volatility};

use crate::function::{is_text, reference};
use crate::words::words;

const NAME: &str = "self_bleu";

/// Words of the longest n-grams.
const LONGEST: usize = 4;

/// What stands for no match.
const EPSILON: f64 = 0.1;

pub(crate) fn self_bleu() -> AggregateUDF {
    let documentation = reference(
        "self_bleu(text)",
        "How alike the texts of a group are: the mean BLEU-4 of each with all others as its references.",
        "SELECT self_bleu(question) FROM (SELECT question FROM seeds ORDER BY stable_hash(seed_id) LIMIT 200);",
    )
    .with_argument("text", "TEXT");
    let signature = Signature::user_defined(Volatility::Immutable);
    AggregateUDF::from(SelfBleu { signature, documentation: documentation.build() })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SelfBleu {
    signature: Signature,
    documentation: Documentation,
}

impl AggregateUDFImpl for SelfBleu {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [text] if text.is_null() || is_text(text) => Ok(vec![DataType::Utf8View]),
            _ => plan_err!("{NAME} takes one text: {NAME}(question)"),
        }
    }

    fn return_type(&self, _given: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }

    fn accumulator(&self, _args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Texts::default()))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let item = Field::new_list_field(DataType::Utf8, true);
        Ok(vec![Arc::new(Field::new_list(format!("{}[texts]", args.name), item, true))])
    }
}

#[derive(Debug, Default)]
struct Texts(Vec<String>);

impl Accumulator for Texts {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [texts] = values else { return exec_err!("{NAME} takes one argument") };
        self.0.extend(texts.as_string_view().iter().flatten().map(str::to_lowercase));
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        // Sums of floats depend on their order, and that of rows is none.
        self.0.sort_unstable();
        Ok(ScalarValue::Float64(self_bleu_of(&self.0)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.0.iter().map(|text| text.capacity() + size_of::<String>()).sum::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let texts: StringArray = self.0.iter().map(Some).collect();
        Ok(vec![SingleRowListArrayBuilder::new(Arc::new(texts)).build_list_scalar()])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let wrong = || exec_datafusion_err!("{NAME}: the state of another accumulator has another form");
        let [texts] = states else { return Err(wrong()) };
        let lists = texts.as_list_opt::<i32>().ok_or_else(wrong)?;
        for state in 0..lists.len() {
            let texts = lists.value(state);
            self.0.extend(texts.as_string_opt::<i32>().ok_or_else(wrong)?.iter().flatten().map(str::to_owned));
        }
        Ok(())
    }
}

/// The most times that an n-gram occurs in one text, in which, and the most in any other.
#[derive(Clone, Copy, Default)]
struct Most {
    times: u32,
    of: usize,
    elsewhere: u32,
}

fn self_bleu_of(texts: &[String]) -> Option<f64> {
    if texts.len() < 2 {
        return None;
    }
    let texts: Vec<Vec<&str>> = texts.iter().map(|text| words(text).collect()).collect();
    let mut lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
    lengths.sort_unstable();
    // Of each text by size of n-gram: the logarithms of precisions add up; None once it shares no word.
    let mut logs: Vec<Option<f64>> = vec![Some(0.0); texts.len()];
    for n in 1..=LONGEST {
        let mut most: HashMap<&[&str], Most> = HashMap::new();
        let counts: Vec<HashMap<&[&str], u32>> = texts.iter().map(|text| count(text, n)).collect();
        for (of, counts) in counts.iter().enumerate() {
            for (ngram, &times) in counts {
                let most = most.entry(ngram).or_default();
                if times > most.times {
                    *most = Most { times, of, elsewhere: most.times };
                } else {
                    most.elsewhere = most.elsewhere.max(times);
                }
            }
        }
        for (of, (counts, log)) in counts.iter().zip(&mut logs).enumerate() {
            let Some(sum) = log else { continue };
            let (mut matched, mut all) = (0, 0);
            for (ngram, &times) in counts {
                let others = most.get(ngram).map_or(0, |most| if most.of == of { most.elsewhere } else { most.times });
                matched += times.min(others);
                all += times;
            }
            if n == 1 && matched == 0 {
                *log = None;
                continue;
            }
            let matched = if matched == 0 { EPSILON } else { f64::from(matched) };
            *sum += (matched / f64::from(all.max(1))).ln() / LONGEST as f64;
        }
    }
    let scores = texts.iter().zip(logs).map(|(text, log)| match log {
        Some(log) => (log + brevity(text.len(), &lengths)).exp(),
        None => 0.0,
    });
    Some(scores.sum::<f64>() / texts.len() as f64)
}

fn count<'a, 'b>(text: &'b [&'a str], n: usize) -> HashMap<&'b [&'a str], u32> {
    let mut counts = HashMap::new();
    text.windows(n).for_each(|ngram| *counts.entry(ngram).or_default() += 1);
    counts
}

/// The logarithm of the penalty for a text of so many words; `lengths` are those of all texts, in order, this one too.
fn brevity(length: usize, lengths: &[usize]) -> f64 {
    let at = lengths.partition_point(|other| *other < length);
    // Its own place is `at`; another of its length stands behind it.
    let below = at.checked_sub(1).map(|at| lengths[at]);
    let above = lengths.get(at + 1).copied();
    let nearest = match (below, above) {
        (Some(below), Some(above)) if length - below <= above - length => below,
        (_, Some(above)) => above,
        (Some(below), None) => below,
        (None, None) => length,
    };
    if length > nearest { 0.0 } else { 1.0 - nearest as f64 / length as f64 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn score(texts: &[&str]) -> Option<f64> {
        let mut texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        texts.sort();
        self_bleu_of(&texts)
    }

    #[test]
    fn the_same_texts_are_one_and_strangers_nothing() {
        assert_eq!(score(&["why is the sky blue"; 3]), Some(1.0));
        assert_eq!(score(&["why is the sky blue", "who wrote this book"]), Some(0.0));
        assert_eq!(score(&["alone"]), None);
    }

    /// Computed with nltk 3.10: the mean of sentence_bleu(others, text, smoothing_function=SmoothingFunction().method1).
    #[test]
    fn it_is_what_nltk_computes() {
        let texts = [
            "which gas do plants take in from the air to make food",
            "which gas do animals take in from the air to live",
            "what do plants make from the light of the sun",
            "how many legs do six ants have",
            "the the the gas",
        ];
        let value = score(&texts).unwrap();
        assert!((value - NLTK).abs() < 1e-12, "{value}");
    }

    const NLTK: f64 = 0.262_252_591_090_783_7;

    proptest! {
        #[test]
        fn it_lies_between_0_and_1(texts in prop::collection::vec("[a-d ]{0,14}", 2..6)) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let value = score(&texts).unwrap();
            prop_assert!((0.0..=1.0 + 1e-12).contains(&value), "{}", value);
        }
    }
}
