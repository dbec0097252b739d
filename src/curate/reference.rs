//! The reference of `near_duplicates` and `decontaminate`: what the prompt completes and `seedmill functions` prints.

use crate::model_call::{TableArgument, TableFunction};

const fn argument(name: &'static str, takes: &'static str, description: &'static str) -> TableArgument {
    TableArgument { name, takes, description }
}

pub(super) const NEAR_DUPLICATES: &[TableArgument] = &[
    argument("key", "expression, required", "names a row; of rows that are preferred alike the first by key stays"),
    argument("text", "expression", "what is compared; a row where it is NULL passes"),
    argument(
        "embedding",
        "expression",
        "instead of text: a list of numbers, compared by its cosine with every kept row's",
    ),
    argument(
        "threshold",
        "above 0, at most 1",
        "the least likeness of a duplicate: 0.8 of n-grams, 0.95 of embeddings",
    ),
    argument(
        "rouge_l",
        "0 to 1",
        "with text: a row is a duplicate too if its ROUGE-L with a kept row is above this, of kept rows whose likeness is at \
         least 0.2; not looked at if not given",
    ),
    argument("prefer", "expression", "rows are taken in this order, highest first, then by key; NULL comes last"),
    argument(
        "when",
        "expression",
        "true or false for a row; where it is not true the row passes and is not compared with",
    ),
    argument("shingles", "'word', 'char'", "n-grams of words, if not given; of characters in scripts without spaces"),
    argument("ngram", "1 to 100", "how long the n-grams are, 5 if not given"),
    argument("output", "literal", "the name of the column that is added, duplicate if not given"),
];

pub(super) const DECONTAMINATE: &[TableArgument] = &[
    argument("against", "relation, required", "the reference set: (SELECT …), TABLE name or a bare name"),
    argument("text", "expression, required", "what is compared; a row where it is NULL passes"),
    argument(
        "answer",
        "expression",
        "the row's answer: it decides about questions of fewer than 8 words inside longer texts",
    ),
    argument("when", "expression", "true or false for a row; where it is not true the row passes"),
    argument("against_text", "expression", "the question of the reference set, its column question if not given"),
    argument("against_answer", "expression", "its answer, answer_text if not given"),
    argument("against_table", "expression", "what source_table says, its column task or the table's name if not given"),
    argument("against_row", "expression", "what source_row says, source_row, seed_id or id if not given"),
    argument(
        "rules",
        "list of texts",
        "which rules decide, of exact, question, coverage, ngram and near; all if not given",
    ),
    argument("ngram", "5 to 1000", "coverage: the words of its n-grams, 8 if not given"),
    argument("coverage", "0 to 1", "coverage: how much of the question they cover, 0.5 if not given"),
    argument("long_ngram", "5 to 1000", "ngram: the words of the one n-gram, 13 if not given"),
    argument("near", "0 to 1", "near: how much of the question stands in the text in its order, 0.7 if not given"),
    argument("output", "literal", "the name of the column that is added, contamination if not given"),
];

/// The table functions that compare rows.
pub static TABLE_FUNCTIONS: &[TableFunction] = &[
    TableFunction {
        name: "near_duplicates",
        description: "Says which rows repeat a row that is kept: those whose Jaccard similarity of n-grams with a kept row is \
                      at least the threshold. Exact: every such row is found and no other, whatever the order and the \
                      partitions of the input. Duplicates are not compared with, so there are no chains.",
        gives: "duplicate: STRUCT(of_key, jaccard, kind), NULL for rows that are kept; of embeddings cosine for jaccard. kind is 'exact' where both are equal \
                after normalization (case, punctuation, space, accents), 'near' where the similarity is at least the threshold, \
                else 'rouge_l'.",
        arguments: NEAR_DUPLICATES,
        example: "SELECT id, duplicate['of_key'] AS of_key, duplicate['jaccard'] AS jaccard\nFROM near_duplicates((SELECT * \
                  FROM (VALUES\n    (1, 'Which river flows through Paris?'), (2, 'which river flows through PARIS')) AS \
                  t(id, question)),\n    key => id, text => question);",
    },
    TableFunction {
        name: "decontaminate",
        description: "Says which rows repeat a question of a reference set, such as heldout. Rules, the surest first: exact, \
                      the text is the question; question, the whole question stands in it (under 8 words only with the same \
                      answer); coverage, n-grams of 8 words cover half of it (Tülu 3); ngram, 13 words in a row are common \
                      (GPT-3); near, 0.7 of its information stands there in its order, words changed. The last three are for \
                      questions of 13 words and more; near also for shorter ones with the same answer. n-grams in more than \
                      1 of 100 questions weigh nothing. A character of a script without spaces counts half a word.",
        gives: "contamination: STRUCT(score, rule, rules, source_table, source_row, matched_span), NULL for clean rows. The \
                span is a piece of the row's own text; nothing of the reference set is in the output but table and row.",
        arguments: DECONTAMINATE,
        example: "SELECT question, contamination['rule'] AS rule, contamination['source_table'] AS source\nFROM \
                  decontaminate(TABLE seeds, against => heldout, text => question, answer => answer_text)\nWHERE \
                  contamination IS NOT NULL;",
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_reference_names_what_the_planner_takes() {
        let names = |arguments: &[TableArgument]| arguments.iter().map(|a| a.name).collect::<BTreeSet<_>>();
        assert_eq!(names(NEAR_DUPLICATES), BTreeSet::from(super::super::near_duplicates::ARGUMENTS));
        assert_eq!(names(DECONTAMINATE), BTreeSet::from(super::super::decontaminate::ARGUMENTS));
    }
}
