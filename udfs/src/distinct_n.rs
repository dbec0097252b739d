//! `distinct_n(text TEXT, n BIGINT) → DOUBLE`, an aggregate: of all n-grams of words in a group's texts, the share of
//! distinct ones (distinct-n, Li et al. 2016, "A Diversity-Promoting Objective Function for Neural Conversation Models").
//!
//! ```sql
//! SELECT distinct_n(question, 2) FROM (VALUES ('Is ice cold?'), ('Is ice hot?')) AS t(question);   -- 0.75: 3 of 4
//! ```
//!
//! 1 where no n-gram occurs twice. Words are those of `rouge_l`; an n-gram does not reach from one text into the next. The
//! share falls as texts are added, so compare groups of like size. NULL texts are passed over; NULL where there is no
//! n-gram. Memory: 8 bytes for each distinct n-gram.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, UInt64Type};
use datafusion_common::utils::SingleRowListArrayBuilder;
use datafusion_common::{Result, ScalarValue, exec_datafusion_err, exec_err, plan_err};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Signature, Volatility};

use crate::function::{is_text, reference};
use crate::words::words;

const NAME: &str = "distinct_n";

pub(crate) fn distinct_n() -> AggregateUDF {
    let documentation = reference(
        "distinct_n(text, n)",
        "Of all n-grams of words in a group's texts, the share of distinct ones: 1 where none occurs twice.",
        "SELECT distinct_n(question, 2) FROM (VALUES ('Is ice cold?'), ('Is ice hot?')) AS t(question);",
    )
    .with_argument("text", "TEXT")
    .with_argument("n", "BIGINT: words of an n-gram");
    let signature = Signature::user_defined(Volatility::Immutable);
    AggregateUDF::from(DistinctN { signature, documentation: documentation.build() })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DistinctN {
    signature: Signature,
    documentation: Documentation,
}

impl AggregateUDFImpl for DistinctN {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [text, n] if (text.is_null() || is_text(text)) && n.is_integer() => {
                Ok(vec![DataType::Utf8View, DataType::Int64])
            }
            _ => plan_err!("{NAME} takes a text and a whole number: {NAME}(question, 2)"),
        }
    }

    fn return_type(&self, _given: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }

    fn accumulator(&self, _args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Ngrams::default()))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let item = Field::new_list_field(DataType::UInt64, true);
        Ok(vec![
            Arc::new(Field::new_list(format!("{}[ngrams]", args.name), item, true)),
            Arc::new(Field::new(format!("{}[all]", args.name), DataType::UInt64, true)),
        ])
    }
}

#[derive(Debug, Default)]
struct Ngrams {
    /// By their hashes: two n-grams share one of 64 bits by a chance of one in 10^9 among 10^5 of them.
    distinct: HashSet<u64>,
    all: u64,
}

impl Accumulator for Ngrams {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [texts, sizes] = values else { return exec_err!("{NAME} takes two arguments") };
        let (texts, sizes) = (texts.as_string_view(), sizes.as_primitive::<Int64Type>());
        for (text, n) in texts.iter().zip(sizes) {
            let (Some(text), Some(n)) = (text, n) else { continue };
            let Some(n) = usize::try_from(n).ok().filter(|n| *n > 0) else {
                return exec_err!("{NAME}: n must be at least 1, not {n}");
            };
            let lower = text.to_lowercase();
            let words: Vec<&str> = words(&lower).collect();
            for ngram in words.windows(n) {
                // The same keys in every process, so that partial states can be merged.
                let mut hasher = DefaultHasher::new();
                ngram.hash(&mut hasher);
                self.distinct.insert(hasher.finish());
                self.all += 1;
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let share = (self.all > 0).then(|| self.distinct.len() as f64 / self.all as f64);
        Ok(ScalarValue::Float64(share))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.distinct.capacity() * (size_of::<u64>() + 1)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let ngrams: UInt64Array = self.distinct.iter().copied().collect();
        Ok(vec![
            SingleRowListArrayBuilder::new(Arc::new(ngrams)).build_list_scalar(),
            ScalarValue::UInt64(Some(self.all)),
        ])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let wrong = || exec_datafusion_err!("{NAME}: the state of another accumulator has another form");
        let [ngrams, all] = states else { return Err(wrong()) };
        self.all += all.as_primitive_opt::<UInt64Type>().ok_or_else(wrong)?.iter().flatten().sum::<u64>();
        let lists = ngrams.as_list_opt::<i32>().ok_or_else(wrong)?;
        for state in 0..lists.len() {
            let hashes = lists.value(state);
            self.distinct.extend(hashes.as_primitive_opt::<UInt64Type>().ok_or_else(wrong)?.iter().flatten());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringViewArray};

    use super::*;

    fn ngrams(texts: &[Option<&str>], n: i64) -> Ngrams {
        let mut ngrams = Ngrams::default();
        let sizes = Int64Array::from(vec![n; texts.len()]);
        ngrams.update_batch(&[Arc::new(StringViewArray::from(texts.to_vec())), Arc::new(sizes)]).unwrap();
        ngrams
    }

    #[test]
    fn it_is_the_share_of_ngrams_that_are_new() {
        let texts = [Some("Is ice cold?"), Some("Is ice hot?"), None];
        assert_eq!(ngrams(&texts, 1).evaluate().unwrap(), ScalarValue::Float64(Some(4.0 / 6.0)));
        assert_eq!(ngrams(&texts, 2).evaluate().unwrap(), ScalarValue::Float64(Some(0.75)));
        assert_eq!(ngrams(&texts, 4).evaluate().unwrap(), ScalarValue::Float64(None));
        let zero = Int64Array::from(vec![0]);
        let error = Ngrams::default().update_batch(&[Arc::new(StringViewArray::from(vec!["a"])), Arc::new(zero)]);
        assert!(error.unwrap_err().to_string().contains("n must be at least 1, not 0"));
    }

    #[test]
    fn partitions_do_not_matter() {
        let mut whole = ngrams(&[Some("a b a b"), Some("b a")], 2);
        let mut merged = Ngrams::default();
        for text in ["a b a b", "b a"] {
            let state = ngrams(&[Some(text)], 2).state().unwrap();
            let state: Vec<ArrayRef> = state.iter().map(|value| value.to_array_of_size(1).unwrap()).collect();
            merged.merge_batch(&state).unwrap();
        }
        assert_eq!(whole.evaluate().unwrap(), merged.evaluate().unwrap());
        assert_eq!(whole.evaluate().unwrap(), ScalarValue::Float64(Some(0.5)));
    }
}
