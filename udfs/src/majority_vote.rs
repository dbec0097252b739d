//! `majority_vote(answers TEXT[], kind TEXT) → STRUCT(winner TEXT, share DOUBLE, n BIGINT, tie BOOLEAN)`: what most of
//! several answers to one question say. NULL for a NULL list.
//!
//! ```sql
//! SELECT majority_vote(['1,000', '1000', NULL, '7']);
//! -- {winner: 1,000, share: 0.5, n: 3, tie: false}
//! SELECT majority_vote(['\frac12', '0.5', '2'], 'math')['winner'];   -- \frac12
//! ```
//!
//! Self-consistency (Wang et al. 2023): answers that are the same are one group. What is the same depends on `kind`, which
//! may be left out: 'text' as `same_text` compares (numbers by value), 'math' as `math_equal` does. The formats of seeds
//! are kinds too: 'numeric' is 'math', the others are 'text'; another kind is an error.
//! `winner` is the first answer of the largest group, as it was written, and of groups of the same size that of the
//! one which began first. `share` is the votes of that group over the length of the list, so failed samples count
//! against it; `n` is the number of votes; `tie` says that another group has as many. NULL and blank answers do not vote;
//! without any vote winner is NULL, share 0 and tie false. `majority_vote_agg` takes the vote over rows.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, BooleanBuilder, Float64Array, Float64Builder, Int64Array, Int64Builder, StringViewArray,
    StringViewBuilder, StructArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use datafusion_common::{Result, ScalarValue, plan_err};

use crate::arguments::Arguments;
use crate::function::{Definition, Kind, text};
use crate::math::MathKey;
use crate::same_text::AnswerKey;

pub(crate) const MAJORITY_VOTE: Definition = Definition {
    name: "majority_vote",
    parameters: &[("answers", Kind::TextList), ("kind", Kind::Text)],
    optional: 1,
    returns: || DataType::Struct(fields()),
    invoke,
    check: Some(|constants| match constants.get(1) {
        Some(Some(kind)) => kind.try_as_str().flatten().map_or(Ok(()), |kind| AnswerKind::of(kind).map(drop)),
        _ => Ok(()),
    }),
    description: "What most of several answers say: winner, its share of the list, number of votes, whether it is a tie.",
    example: "SELECT majority_vote(['1,000', '1000', NULL, '7']);",
    ..Definition::BLANK
};

pub(crate) fn fields() -> Fields {
    Fields::from(vec![
        Field::new("winner", text(), true),
        Field::new("share", DataType::Float64, true),
        Field::new("n", DataType::Int64, true),
        Field::new("tie", DataType::Boolean, true),
    ])
}

fn invoke(arguments: &Arguments) -> Result<ArrayRef> {
    let lists = arguments.text_list(0)?;
    let kinds = if arguments.len() > 1 { Some(arguments.text(1)?) } else { None };
    let rows = arguments.rows;
    let mut winner = StringViewBuilder::with_capacity(rows);
    let mut share = Float64Builder::with_capacity(rows);
    let mut votes = Int64Builder::with_capacity(rows);
    let mut tie = BooleanBuilder::with_capacity(rows);
    let mut valid = Vec::with_capacity(rows);
    for row in 0..rows {
        let kind = kinds.as_ref().and_then(|kinds| kinds.get(row)).map_or(Ok(AnswerKind::Text), AnswerKind::of)?;
        let vote = lists.get(row).map(|answers| majority_vote(&answers, kind));
        valid.push(vote.is_some());
        winner.append_option(vote.as_ref().and_then(|vote| vote.winner));
        share.append_option(vote.as_ref().map(|vote| vote.share));
        votes.append_option(vote.as_ref().map(|vote| vote.n));
        tie.append_option(vote.as_ref().map(|vote| vote.tie));
    }
    let columns: Vec<ArrayRef> =
        vec![Arc::new(winner.finish()), Arc::new(share.finish()), Arc::new(votes.finish()), Arc::new(tie.finish())];
    Ok(Arc::new(StructArray::try_new(fields(), columns, Some(NullBuffer::from(valid)))?))
}

/// How answers are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnswerKind {
    Text,
    Math,
}

/// What a vote is for: equal ballots are votes for one answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Ballot {
    Text(AnswerKey),
    Math(MathKey),
}

impl AnswerKind {
    pub fn of(name: &str) -> Result<Self> {
        match name {
            "math" | "numeric" => Ok(AnswerKind::Math),
            "text" | "multiple_choice" | "short_answer" | "yes_no" | "nli" | "cloze" | "code" | "free_form" => {
                Ok(AnswerKind::Text)
            }
            other => plan_err!("majority_vote: kind '{other}' must be 'text', 'math' or a format of seeds"),
        }
    }

    /// None for a blank answer, which is no vote.
    pub fn ballot(self, answer: &str) -> Option<Ballot> {
        (!answer.trim().is_empty()).then(|| match self {
            AnswerKind::Text => Ballot::Text(AnswerKey::of(answer)),
            AnswerKind::Math => Ballot::Math(MathKey::of(answer)),
        })
    }
}

#[derive(Debug, PartialEq)]
struct Vote<'a> {
    winner: Option<&'a str>,
    share: f64,
    n: i64,
    tie: bool,
}

fn majority_vote<'a>(answers: &[Option<&'a str>], kind: AnswerKind) -> Vote<'a> {
    // The groups in the order in which they began: first answer and votes.
    let mut groups: Vec<(&str, usize)> = Vec::new();
    let mut places: HashMap<Ballot, usize> = HashMap::new();
    let mut n = 0;
    for answer in answers.iter().flatten() {
        let Some(ballot) = kind.ballot(answer) else { continue };
        n += 1;
        let place = *places.entry(ballot).or_insert(groups.len());
        match groups.get_mut(place) {
            Some((_, votes)) => *votes += 1,
            None => groups.push((answer, 1)),
        }
    }
    let most = groups.iter().map(|(_, votes)| *votes).max().unwrap_or(0);
    let mut largest = groups.iter().filter(|(_, votes)| *votes == most);
    Vote {
        winner: largest.next().map(|(answer, _)| *answer),
        share: if answers.is_empty() { 0.0 } else { most as f64 / answers.len() as f64 },
        n,
        tie: largest.next().is_some(),
    }
}

/// A vote as a value.
pub(crate) fn vote_struct(winner: Option<&str>, share: f64, n: i64, tie: bool) -> Result<ScalarValue> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from(vec![winner])),
        Arc::new(Float64Array::from(vec![share])),
        Arc::new(Int64Array::from(vec![n])),
        Arc::new(BooleanArray::from(vec![tie])),
    ];
    Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(fields(), columns, None)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn majority_vote<'a>(answers: &[Option<&'a str>]) -> Vote<'a> {
        super::majority_vote(answers, AnswerKind::Text)
    }

    #[test]
    fn mathematics_is_voted_on_by_its_value() {
        let answers = [Some("\\frac12"), Some("2"), Some("$0.5$")];
        let vote = super::majority_vote(&answers, AnswerKind::of("numeric").unwrap());
        assert_eq!((vote.winner, vote.n, vote.tie), (Some("\\frac12"), 3, false));
        assert!(majority_vote(&answers).tie);
        assert!(AnswerKind::of("maths").is_err());
    }

    #[test]
    fn the_same_answer_in_other_forms_is_one_group_and_failures_count_against_it() {
        let vote = majority_vote(&[Some("7"), Some("1,000"), None, Some("1000"), Some("$1000.0")]);
        assert_eq!(vote, Vote { winner: Some("1,000"), share: 0.6, n: 4, tie: false });
    }

    #[test]
    fn a_tie_is_told_and_goes_to_the_first() {
        let vote = majority_vote(&[Some("Nile"), Some("Amazon"), Some("amazon."), Some("the Nile")]);
        assert_eq!(vote, Vote { winner: Some("Nile"), share: 0.5, n: 4, tie: true });
    }

    #[test]
    fn letters_are_votes_and_a_is_no_article() {
        let vote = majority_vote(&[Some("A"), Some("(a)"), Some("B")]);
        assert_eq!((vote.winner, vote.n, vote.tie), (Some("A"), 3, false));
    }

    #[test]
    fn nobody_wins_without_votes() {
        for answers in [&[][..], &[None, None], &[Some(" ")]] {
            assert_eq!(majority_vote(answers), Vote { winner: None, share: 0.0, n: 0, tie: false });
        }
    }
}
