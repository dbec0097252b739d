//! `smallest(value BIGINT, n BIGINT) → BIGINT[]`: the n smallest values of a group, ascending.
//!
//! ```sql
//! SELECT smallest(n, 3) FROM (VALUES (5), (2), (NULL), (9), (2)) AS t(n);   -- [2, 2, 5]
//! ```
//!
//! NULLs do not count. A group holds n values at most, however many rows it has: with `stable_hash` it is a draw of n rows
//! that takes no sort. `n` is the same in all rows of a group; a negative or NULL one is 0. Without values the list is empty.

use std::collections::BinaryHeap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion_common::utils::SingleRowListArrayBuilder;
use datafusion_common::{Result, ScalarValue, exec_datafusion_err, plan_err};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, DocSection, Documentation, Signature, Volatility};

const NAME: &str = "smallest";

pub(crate) fn smallest() -> AggregateUDF {
    let documentation = Documentation::builder(
        DocSection { include: true, label: "Question and answer functions", description: None },
        "The n smallest values of a group, ascending. A group holds no more of them, however many rows it has.",
        "smallest(value, n)",
    )
    .with_argument("value", "BIGINT")
    .with_argument("n", "BIGINT, the same in all rows")
    .with_sql_example("```sql\nSELECT smallest(n, 3) FROM (VALUES (5), (2), (NULL), (9), (2)) AS t(n);\n```");
    let signature = Signature::user_defined(Volatility::Immutable);
    AggregateUDF::from(Smallest { signature, documentation: documentation.build() })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Smallest {
    signature: Signature,
    documentation: Documentation,
}

impl AggregateUDFImpl for Smallest {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        if given.len() != 2 || !given.iter().all(|given| given.is_null() || given.is_integer()) {
            return plan_err!("{NAME} takes a value and how many of the smallest are wanted, both BIGINT");
        }
        Ok(vec![DataType::Int64; 2])
    }

    fn return_type(&self, _given: &[DataType]) -> Result<DataType> {
        Ok(DataType::new_list(DataType::Int64, true))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }

    fn accumulator(&self, _args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Kept::default()))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let list = Field::new_list(format!("{}[kept]", args.name), Field::new_list_field(DataType::Int64, true), true);
        Ok(vec![Arc::new(list), Arc::new(Field::new(format!("{}[n]", args.name), DataType::Int64, true))])
    }
}

/// The smallest values until now, the largest of them on top.
#[derive(Debug, Default)]
struct Kept {
    n: usize,
    values: BinaryHeap<i64>,
}

impl Kept {
    fn wants(&mut self, n: Option<i64>) {
        self.n = self.n.max(n.and_then(|n| usize::try_from(n).ok()).unwrap_or_default());
    }

    fn add(&mut self, value: i64) {
        if self.values.len() < self.n {
            self.values.push(value);
        } else if let Some(mut largest) = self.values.peek_mut()
            && value < *largest
        {
            *largest = value;
        }
    }

    fn list(&self) -> ScalarValue {
        let values = Int64Array::from(self.values.clone().into_sorted_vec());
        SingleRowListArrayBuilder::new(Arc::new(values)).build_list_scalar()
    }
}

impl Accumulator for Kept {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let wrong = || exec_datafusion_err!("{NAME} takes two columns of BIGINT");
        let [values, n] = values else { return Err(wrong()) };
        let (values, n) = (values.as_primitive_opt::<Int64Type>(), n.as_primitive_opt::<Int64Type>());
        let (values, n) = (values.ok_or_else(wrong)?, n.ok_or_else(wrong)?);
        self.wants(n.iter().next().flatten());
        values.iter().flatten().for_each(|value| self.add(value));
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.list())
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.capacity() * size_of::<i64>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.list(), ScalarValue::Int64(Some(self.n as i64))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let wrong = || exec_datafusion_err!("{NAME}: the state of another accumulator has another form");
        let [lists, n] = states else { return Err(wrong()) };
        let lists = lists.as_list_opt::<i32>().ok_or_else(wrong)?;
        n.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?.iter().for_each(|n| self.wants(n));
        for state in 0..lists.len() {
            let values = lists.value(state);
            values.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?.iter().flatten().for_each(|v| self.add(v));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(values: &[Option<i64>], n: i64) -> Kept {
        let mut kept = Kept::default();
        let n = Int64Array::from(vec![n; values.len()]);
        kept.update_batch(&[Arc::new(Int64Array::from(values.to_vec())), Arc::new(n)]).unwrap();
        kept
    }

    fn list(values: &[i64]) -> ScalarValue {
        SingleRowListArrayBuilder::new(Arc::new(Int64Array::from(values.to_vec()))).build_list_scalar()
    }

    #[test]
    fn the_smallest_are_sorted_and_nulls_do_not_count() {
        assert_eq!(kept(&[Some(5), Some(2), None, Some(9), Some(2)], 3).evaluate().unwrap(), list(&[2, 2, 5]));
        assert_eq!(kept(&[Some(5)], 0).evaluate().unwrap(), list(&[]));
        assert_eq!(kept(&[Some(5)], -1).evaluate().unwrap(), list(&[]));
        assert_eq!(kept(&[], 3).evaluate().unwrap(), list(&[]));
    }

    proptest! {
        #[test]
        fn parts_give_what_the_whole_gives_and_hold_no_more(
            values in prop::collection::vec(prop::option::of(-20i64..20), 0..40),
            n in 0i64..8,
            cut in 0usize..40,
        ) {
            let (left, right) = values.split_at(cut.min(values.len()));
            let mut whole = Kept::default();
            for part in [right, left] {
                let mut part = kept(part, n);
                prop_assert!(part.values.len() <= n as usize);
                let state = part.state().unwrap().into_iter().map(|value| value.to_array_of_size(1).unwrap());
                whole.merge_batch(&state.collect::<Vec<_>>()).unwrap();
            }
            let mut sorted: Vec<i64> = values.iter().flatten().copied().collect();
            sorted.sort_unstable();
            sorted.truncate(n as usize);
            prop_assert_eq!(whole.evaluate().unwrap(), list(&sorted));
        }
    }
}
