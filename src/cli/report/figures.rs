//! The figures of a report: what each is called, what to see in it, its query, and how its rows are drawn.

use std::sync::LazyLock;

use regex::Regex;

/// How a figure's rows are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Plot {
    /// A bar for each row: the first `labels` columns name it, `series` are its stacked parts.
    Bars { labels: usize, series: &'static [&'static str] },
    /// A column for each value of the first column, from the least to the greatest by `step`.
    Columns { step: f64, series: &'static [&'static str] },
    /// As a table.
    Table,
}

/// One figure.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    pub title: &'static str,
    /// What to see in it.
    pub note: &'static str,
    sql: &'static str,
    pub plot: Plot,
}

const VERDICT: &[&str] = &["kept", "rejected"];

/// All figures in the order of the page.
pub const FIGURES: &[Figure] = &[
    Figure {
        title: "Funnel",
        note: "Items by how far they came.",
        sql: include_str!("sql/funnel.sql"),
        plot: Plot::Bars { labels: 1, series: &["items"] },
    },
    Figure {
        title: "Why items were rejected",
        note: "An item with several reasons counts under each. Those that a reason alone keeps out would be there without it.",
        sql: include_str!("sql/reasons.sql"),
        plot: Plot::Bars { labels: 1, series: &["alone", "with_others"] },
    },
    Figure {
        title: "By family",
        note: "",
        sql: include_str!("sql/family.sql"),
        plot: Plot::Bars { labels: 1, series: VERDICT },
    },
    Figure {
        title: "By task",
        note: "",
        sql: include_str!("sql/task.sql"),
        plot: Plot::Bars { labels: 1, series: VERDICT },
    },
    Figure {
        title: "By format",
        note: "",
        sql: include_str!("sql/format.sql"),
        plot: Plot::Bars { labels: 1, series: VERDICT },
    },
    Figure {
        title: "By operator",
        note: "In which way an item was to differ from its seed.",
        sql: include_str!("sql/operator.sql"),
        plot: Plot::Bars { labels: 1, series: VERDICT },
    },
    Figure {
        title: "By licence",
        note: "",
        sql: include_str!("sql/license.sql"),
        plot: Plot::Bars { labels: 1, series: VERDICT },
    },
    Figure {
        title: "Evenness over families",
        note: "The entropy of families, as a part of the most that so many families can have.",
        sql: include_str!("sql/family_entropy.sql"),
        plot: Plot::Bars { labels: 1, series: &["evenness"] },
    },
    Figure {
        title: "Where the right answer stands",
        note: "Among shuffled options each place should hold it as often.",
        sql: include_str!("sql/answer_position.sql"),
        plot: Plot::Bars { labels: 2, series: &["items"] },
    },
    Figure {
        title: "Labels",
        note: "Answers of the formats whose options are always the same.",
        sql: include_str!("sql/labels.sql"),
        plot: Plot::Bars { labels: 2, series: &["items"] },
    },
    Figure {
        title: "Words of a question",
        note: "",
        sql: include_str!("sql/question_length.sql"),
        plot: Plot::Columns { step: 5.0, series: VERDICT },
    },
    Figure {
        title: "Words of an answer",
        note: "",
        sql: include_str!("sql/answer_length.sql"),
        plot: Plot::Columns { step: 1.0, series: VERDICT },
    },
    Figure {
        title: "Tokens of a text",
        note: "About: four characters a token, fewer where a script has more in each.",
        sql: include_str!("sql/text_length.sql"),
        plot: Plot::Columns { step: 25.0, series: &["kept"] },
    },
    Figure {
        title: "Likeness to the seed",
        note: "ROUGE-L of a question to that of its seed. Above 0.7 the standard pipeline calls it a copy.",
        sql: include_str!("sql/seed_likeness.sql"),
        plot: Plot::Columns { step: 0.05, series: VERDICT },
    },
    Figure {
        title: "Votes",
        note: "The winner's share of the solvers' answers.",
        sql: include_str!("sql/votes.sql"),
        plot: Plot::Bars { labels: 1, series: VERDICT },
    },
    Figure {
        title: "Distinct n-grams",
        note: "The share of distinct n-grams falls as questions are added: compare like numbers of them.",
        sql: include_str!("sql/diversity.sql"),
        plot: Plot::Table,
    },
    Figure {
        title: "Self-BLEU",
        note: "How alike questions are among themselves, from 0 to 1; it grows with their number.",
        sql: include_str!("sql/self_bleu.sql"),
        plot: Plot::Bars { labels: 1, series: &["self_bleu"] },
    },
    Figure {
        title: "Calls, tokens and cost",
        note: "",
        sql: include_str!("sql/calls.sql"),
        plot: Plot::Bars { labels: 2, series: &["prompt_tokens", "completion_tokens"] },
    },
    Figure { title: "Settings of the calls", note: "", sql: include_str!("sql/settings.sql"), plot: Plot::Table },
];

pub const KEPT: Figure = Figure { title: "Kept", note: "", sql: include_str!("sql/kept.sql"), plot: Plot::Table };

pub const REJECTED: Figure =
    Figure { title: "Rejected", note: "", sql: include_str!("sql/rejected.sql"), plot: Plot::Table };

/// The schema of a run where a query names it.
static SCHEMA: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\brun\.").expect("a constant pattern is valid"));

impl Figure {
    /// The query over one run, as `seedmill sql` takes it.
    pub fn sql(&self, run_id: &str) -> String {
        let schema = format!("\"run-{}\".", run_id.replace('"', "\"\""));
        SCHEMA.replace_all(self.sql.trim_end(), regex::NoExpand(&schema)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_the_run_that_it_is_about() {
        for figure in FIGURES.iter().chain([&KEPT, &REJECTED]) {
            let sql = figure.sql("20261123T191617042Z-b33b8f");
            assert!(sql.contains("FROM \"run-20261123T191617042Z-b33b8f\"."), "{sql}");
            assert!(!sql.contains(" run."), "{sql}");
        }
    }
}
