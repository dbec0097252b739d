//! `majority_vote_agg(answer TEXT, kind TEXT) → STRUCT(winner TEXT, share DOUBLE, n BIGINT, tie BOOLEAN)`: the vote of
//! `majority_vote` over the rows of a group.
//!
//! ```sql
//! SELECT majority_vote_agg(answer) FROM (VALUES ('1,000'), ('1000'), (NULL), ('7'), ('1000')) AS t(answer);
//! -- {winner: 1000, share: 0.6, n: 4, tie: false}
//! ```
//!
//! Rows have no order, so `winner` is what most rows of the largest group have written, then the shortest of that, then
//! the first in byte order; and of groups of the same size the one whose winner comes first by the same rule. `share` is
//! over all rows of the group, those with NULL too. `kind` is a literal, 'text' where it is left out. Without rows NULL.
//! With DISTINCT each answer as it is written has one vote, and NULL is one row.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion_common::utils::SingleRowListArrayBuilder;
use datafusion_common::{Result, ScalarValue, exec_datafusion_err, plan_err};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, DocSection, Documentation, Signature, Volatility};

use crate::function::is_text;
use crate::majority_vote::{AnswerKind, Ballot, fields, vote_struct};

const NAME: &str = "majority_vote_agg";

pub(crate) fn majority_vote_agg() -> AggregateUDF {
    let documentation = Documentation::builder(
        DocSection { include: true, label: "Question and answer functions", description: None },
        "What most rows of a group say: winner, its share of the rows, number of votes, whether it is a tie.",
        "majority_vote_agg(answer, kind)",
    )
    .with_argument("answer", "TEXT")
    .with_argument("kind", "TEXT, a literal: 'text' if not given, or 'math'")
    .with_sql_example(
        "```sql\nSELECT majority_vote_agg(answer) FROM (VALUES ('1,000'), ('1000'), ('7')) AS t(answer);\n```",
    );
    let signature = Signature::user_defined(Volatility::Immutable);
    AggregateUDF::from(MajorityVoteAgg { signature, documentation: documentation.build() })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct MajorityVoteAgg {
    signature: Signature,
    documentation: Documentation,
}

impl AggregateUDFImpl for MajorityVoteAgg {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        if given.is_empty() || given.len() > 2 || !given.iter().all(|given| given.is_null() || is_text(given)) {
            return plan_err!("{NAME} takes an answer (TEXT) and, if it is to be no text, a kind: 'math'");
        }
        Ok(vec![DataType::Utf8; given.len()])
    }

    fn return_type(&self, _given: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(fields()))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let kind = match args.exprs.get(1) {
            None => AnswerKind::Text,
            Some(expr) => {
                let text = expr.to_string();
                AnswerKind::of(text.trim_matches(['\'', '"']))?
            }
        };
        if args.is_distinct {
            return Ok(Box::new(DistinctVotes { kind, seen: BTreeSet::new() }));
        }
        Ok(Box::new(Votes::new(kind)))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let name = |part: &str| format!("{}[{part}]", args.name);
        let list = |part: &str, item| Arc::new(Field::new_list(name(part), Field::new_list_field(item, true), true));
        if args.is_distinct {
            return Ok(vec![list("answers", DataType::Utf8)]);
        }
        Ok(vec![
            list("answers", DataType::Utf8),
            list("votes", DataType::Int64),
            Arc::new(Field::new(name("rows"), DataType::Int64, true)),
        ])
    }
}

#[derive(Debug)]
struct Votes {
    kind: AnswerKind,
    /// With those that have no answer.
    rows: i64,
    /// How often each answer was written so.
    written: BTreeMap<String, i64>,
}

impl Votes {
    fn new(kind: AnswerKind) -> Self {
        Votes { kind, rows: 0, written: BTreeMap::new() }
    }

    /// One row.
    fn count(&mut self, answer: Option<&str>) {
        self.rows += 1;
        if let Some(answer) = answer.filter(|answer| !answer.trim().is_empty()) {
            self.add(answer, 1);
        }
    }

    fn add(&mut self, answer: &str, votes: i64) {
        match self.written.get_mut(answer) {
            Some(count) => *count += votes,
            None => drop(self.written.insert(answer.to_owned(), votes)),
        }
    }
}

/// Answers that are the same.
struct Group<'a> {
    votes: i64,
    /// By how often it was written, shortness and byte order.
    best: (Reverse<i64>, usize, &'a str),
}

impl Accumulator for Votes {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let answers = cast(&values[0], &DataType::Utf8)?;
        answers.as_string::<i32>().iter().for_each(|answer| self.count(answer));
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if self.rows == 0 {
            return ScalarValue::try_from(DataType::Struct(fields()));
        }
        let mut groups: HashMap<Ballot, Group> = HashMap::new();
        for (answer, &votes) in &self.written {
            let Some(ballot) = self.kind.ballot(answer) else { continue };
            let rank = (Reverse(votes), answer.len(), answer.as_str());
            let group = groups.entry(ballot).or_insert(Group { votes: 0, best: rank });
            group.votes += votes;
            group.best = group.best.min(rank);
        }
        let most = groups.values().map(|group| group.votes).max().unwrap_or(0);
        let largest = || groups.values().filter(|group| group.votes == most);
        let winner = largest().map(|group| group.best).min().map(|(_, _, answer)| answer);
        let n = groups.values().map(|group| group.votes).sum();
        vote_struct(winner, most as f64 / self.rows as f64, n, largest().count() > 1)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.written.keys().map(|answer| answer.capacity() + 3 * size_of::<String>()).sum::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let answers: StringArray = self.written.keys().map(Some).collect();
        let votes: Int64Array = self.written.values().copied().collect();
        Ok(vec![
            SingleRowListArrayBuilder::new(Arc::new(answers)).build_list_scalar(),
            SingleRowListArrayBuilder::new(Arc::new(votes)).build_list_scalar(),
            ScalarValue::Int64(Some(self.rows)),
        ])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let wrong = || exec_datafusion_err!("{NAME}: the state of another accumulator has another form");
        let [answers, votes, rows] = states else { return Err(wrong()) };
        let (answers, votes) =
            (answers.as_list_opt::<i32>().ok_or_else(wrong)?, votes.as_list_opt::<i32>().ok_or_else(wrong)?);
        self.rows += rows.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?.iter().flatten().sum::<i64>();
        for state in 0..answers.len() {
            let (answers, votes) = (answers.value(state), votes.value(state));
            let answers = answers.as_string_opt::<i32>().ok_or_else(wrong)?;
            let votes = votes.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
            answers.iter().zip(votes).for_each(|(answer, votes)| {
                if let (Some(answer), Some(votes)) = (answer, votes) {
                    self.add(answer, votes);
                }
            });
        }
        Ok(())
    }
}

/// The vote over what is different, each written form once.
#[derive(Debug)]
struct DistinctVotes {
    kind: AnswerKind,
    seen: BTreeSet<Option<String>>,
}

impl DistinctVotes {
    fn see(&mut self, answers: &StringArray) {
        self.seen.extend(answers.iter().map(|answer| answer.map(str::to_owned)));
    }
}

impl Accumulator for DistinctVotes {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.see(cast(&values[0], &DataType::Utf8)?.as_string::<i32>());
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut votes = Votes::new(self.kind);
        self.seen.iter().for_each(|answer| votes.count(answer.as_deref()));
        votes.evaluate()
    }

    fn size(&self) -> usize {
        let texts = self.seen.iter().flatten().map(String::capacity).sum::<usize>();
        size_of_val(self) + texts + self.seen.len() * size_of::<Option<String>>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let answers: StringArray = self.seen.iter().map(Option::as_deref).collect();
        Ok(vec![SingleRowListArrayBuilder::new(Arc::new(answers)).build_list_scalar()])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let wrong = || exec_datafusion_err!("{NAME}: the state of another accumulator has another form");
        let [answers] = states else { return Err(wrong()) };
        for answers in answers.as_list_opt::<i32>().ok_or_else(wrong)?.iter().flatten() {
            self.see(answers.as_string_opt::<i32>().ok_or_else(wrong)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn votes(kind: AnswerKind, answers: &[Option<&str>]) -> Votes {
        let mut votes = Votes::new(kind);
        votes.update_batch(&[Arc::new(StringArray::from(answers.to_vec()))]).unwrap();
        votes
    }

    fn merged(parts: &mut [Votes]) -> ScalarValue {
        let mut whole = votes(AnswerKind::Text, &[]);
        for part in parts {
            let state: Vec<ArrayRef> =
                part.state().unwrap().into_iter().map(|value| value.to_array_of_size(1).unwrap()).collect();
            whole.merge_batch(&state).unwrap();
        }
        whole.evaluate().unwrap()
    }

    #[test]
    fn the_winner_is_what_most_have_written() {
        let answers = [Some("1,000"), Some("1000"), None, Some("7"), Some("1000")];
        let vote = votes(AnswerKind::Text, &answers).evaluate().unwrap();
        assert_eq!(vote, vote_struct(Some("1000"), 0.6, 4, false).unwrap());
        let vote = votes(AnswerKind::Math, &[Some("\\frac12"), Some("0.5"), Some("2")]).evaluate().unwrap();
        assert_eq!(vote, vote_struct(Some("0.5"), 2.0 / 3.0, 3, false).unwrap());
        assert!(votes(AnswerKind::Text, &[]).evaluate().unwrap().is_null());
    }

    #[test]
    fn with_distinct_each_written_answer_has_one_vote_in_any_partitions() {
        let distinct = |answers: &[Option<&str>]| {
            let mut votes = DistinctVotes { kind: AnswerKind::Text, seen: BTreeSet::new() };
            votes.update_batch(&[Arc::new(StringArray::from(answers.to_vec()))]).unwrap();
            votes
        };
        let answers = [Some("7"), Some("7"), None, Some("7"), Some("1,000"), Some("1000"), None];
        let vote = vote_struct(Some("1000"), 0.5, 3, false).unwrap();
        assert_eq!(distinct(&answers).evaluate().unwrap(), vote);
        let mut whole = distinct(&[]);
        assert!(whole.evaluate().unwrap().is_null());
        for mut part in [distinct(&answers[3..]), distinct(&answers[..5])] {
            let state = part.state().unwrap()[0].to_array_of_size(1).unwrap();
            whole.merge_batch(&[state]).unwrap();
        }
        assert_eq!(whole.evaluate().unwrap(), vote);
    }

    proptest! {
        #[test]
        fn neither_order_nor_partitions_matter(
            answers in prop::collection::vec(prop::option::of("[aA1-3]{0,2}"), 1..12),
            cut in 0usize..12,
        ) {
            let answers: Vec<Option<&str>> = answers.iter().map(Option::as_deref).collect();
            let whole = votes(AnswerKind::Text, &answers).evaluate().unwrap();
            let (left, right) = answers.split_at(cut.min(answers.len()));
            let backwards: Vec<Option<&str>> = right.iter().rev().copied().collect();
            let mut parts = [votes(AnswerKind::Text, &backwards), votes(AnswerKind::Text, left)];
            prop_assert_eq!(whole, merged(&mut parts));
        }
    }
}
