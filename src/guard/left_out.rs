//! What the row guard leaves out, counted while plans run. In: the counts of its places in physical plans. Out: a sentence
//! for each table and reason, with the SQL that shows such rows.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::common::TableReference;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};

use crate::counted::counted;

/// The places in the plans of a session where rows have been left out since [`Self::take`].
#[derive(Debug, Default)]
pub struct LeftOut(Mutex<Vec<Arc<Place>>>);

/// One place of the row guard in a physical plan, and how many rows it has left out.
#[derive(Debug)]
pub(super) struct Place {
    /// The task whose rows it looks at; `None` where it looks at `seeds`.
    task: Option<String>,
    /// What else is asked of the rows there.
    condition: String,
    copies: Count,
    without_question: Count,
    is_listed: AtomicBool,
}

impl Place {
    /// The counts are metrics of the plan's node, too.
    pub(super) fn new(task: Option<String>, condition: String, metrics: &ExecutionPlanMetricsSet) -> Self {
        let count = |name: &'static str| MetricBuilder::new(metrics).global_counter(name);
        let (copies, without_question) = (count("held_out_copies"), count("without_question"));
        Place { task, condition, copies, without_question, is_listed: AtomicBool::new(false) }
    }
}

impl LeftOut {
    pub(super) fn add(&self, place: &Arc<Place>, copies: usize, without_question: usize) {
        place.copies.add(copies);
        place.without_question.add(without_question);
        if !place.is_listed.swap(true, Ordering::Relaxed) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(place));
        }
    }

    /// A sentence for each table and reason, and nothing is known any more. A table that is read with the same conditions in
    /// several places, or again, as for a count before a run, counts once; with others, its rows may count twice, and it
    /// says so.
    pub fn take(&self) -> Vec<String> {
        let places = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut most: BTreeMap<(Option<&str>, &str), (usize, usize)> = BTreeMap::new();
        for place in &places {
            let (copies, without_question) = most.entry((place.task.as_deref(), place.condition.as_str())).or_default();
            *copies = place.copies.value().max(*copies);
            *without_question = place.without_question.value().max(*without_question);
        }
        let mut sums: BTreeMap<Option<&str>, [Sum; 2]> = BTreeMap::new();
        for ((task, _), (copies, without_question)) in most {
            let [sum_of_copies, sum_without_question] = sums.entry(task).or_default();
            sum_of_copies.add(copies);
            sum_without_question.add(without_question);
        }
        sums.into_iter().flat_map(|(task, sums)| told(task, &sums)).collect()
    }
}

/// Rows of a table that were left out.
#[derive(Default)]
struct Sum {
    rows: usize,
    /// With so many different conditions. A row may meet several of them.
    conditions: usize,
}

impl Sum {
    fn add(&mut self, rows: usize) {
        self.rows += rows;
        self.conditions += usize::from(rows > 0);
    }
}

fn told(task: Option<&str>, [copies, without_question]: &[Sum; 2]) -> Vec<String> {
    let (table, is_copy) = match task {
        Some(task) => (
            TableReference::partial("raw", task).to_quoted_string(),
            format!("held_out_row('{}', source_row)", task.replace('\'', "''")),
        ),
        None => ("seeds".to_owned(), "held_out_copy(question, passage, options, answer_text)".to_owned()),
    };
    let sentence = |&Sum { rows, conditions }: &Sum, one: &str, several: &str, condition: &str| {
        let (was, why) = if rows == 1 { ("was", one) } else { ("were", several) };
        let (up_to, rows_of) = (if conditions > 1 { "up to " } else { "" }, counted(rows, "row"));
        (rows > 0).then(|| {
            format!(
                "{up_to}{rows_of} of {table} {was} left out, {why}; all such rows: SELECT * FROM {table} WHERE {condition}"
            )
        })
    };
    let sentences = [
        sentence(copies, "a copy of a held-out row", "copies of held-out rows", &is_copy),
        sentence(
            without_question,
            "which has no question to compare",
            "which have no question to compare",
            "question IS NULL",
        ),
    ];
    sentences.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_counts_once_for_the_same_conditions_and_each_reason_has_its_sentence() {
        let left_out = LeftOut::default();
        let place = |task: Option<&str>, condition: &str| {
            Arc::new(Place::new(task.map(str::to_owned), condition.to_owned(), &ExecutionPlanMetricsSet::new()))
        };
        let (seeds, again, others) = (place(None, "a"), place(None, "a"), place(None, "b"));
        left_out.add(&seeds, 1, 0);
        left_out.add(&seeds, 1, 1);
        left_out.add(&again, 2, 0);
        left_out.add(&others, 1, 0);
        left_out.add(&place(Some("It's"), ""), 1, 0);
        assert_eq!(
            left_out.take(),
            [
                "up to 3 rows of seeds were left out, copies of held-out rows; all such rows: SELECT * FROM seeds WHERE \
                 held_out_copy(question, passage, options, answer_text)",
                "1 row of seeds was left out, which has no question to compare; all such rows: SELECT * FROM seeds WHERE \
                 question IS NULL",
                "1 row of raw.\"It's\" was left out, a copy of a held-out row; all such rows: SELECT * FROM raw.\"It's\" \
                 WHERE held_out_row('It''s', source_row)",
            ]
        );
        assert!(left_out.take().is_empty());
    }
}
