//! What stands beside a chosen seed: the exemplars of `sql/10_seeds.sql` are those of the plain formulation over all usable
//! seeds, and only few seeds are put in order for them.

use datafusion::physical_plan::{ExecutionPlan, collect};
use serde_json::json;

use super::Workspace;
use super::seed_tests::{Place, rows};
use crate::config::Variable;

/// What is wanted, over all usable seeds: it puts them all in order.
const PLAIN: &str = "
WITH usable AS (
    SELECT *,
           named_struct('passage', passage, 'question', question, 'answer_text', answer_text,
                        'distractors', array_remove(options, answer_text), 'rationale', rationale) AS example,
           CASE WHEN format = 'nli' THEN answer_text ELSE '' END AS label
    FROM seed_verdicts
    WHERE NOT array_has_any(reasons, ['not_normalized', 'licence', 'held_out_copy', 'too_long'])
),
placed AS (
    SELECT *,
           CAST(row_number() OVER (PARTITION BY task, label ORDER BY stable_hash(concat(seed_id, @draw)), seed_id) AS BIGINT) AS place,
           count(*) OVER (PARTITION BY task, label) AS n
    FROM usable
),
beside AS (
    SELECT placed.seed_id AS of_seed, array_agg(other.example ORDER BY step) AS exemplars
    FROM placed
    CROSS JOIN (VALUES (1), (2), (3)) AS steps(step)
    JOIN placed AS other ON other.task = placed.task AND other.label = placed.label
                        AND other.place = (placed.place + step - 1) % placed.n + 1
    WHERE step < placed.n
    GROUP BY placed.seed_id
)
SELECT seed_id, task, family, capability, format, language, license, question AS seed_question,
       answer_text AS seed_answer, options AS seed_options, example AS seed, coalesce(exemplars, []) AS exemplars
FROM placed LEFT JOIN beside ON of_seed = seed_id
WHERE cardinality(reasons) = 0
ORDER BY task, seed_id";

/// Tasks of many seeds, of fewer than are drawn, of five to one; pairs with labels that are common, rare and alone; and some that
/// cannot be used.
fn synthetic() -> Place {
    let place = Place::new("[tasks]\nfrom = [\"tasks\"]");
    let task = |name: &str, format: &str, rows: Vec<serde_json::Value>| {
        place.write(
            &format!("tasks/{name}/{name}.yaml"),
            &format!(
                "task: {name}\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    train: train.jsonl\n    test: test.jsonl\n\
                 output_type: generate_until\ntraining_split: train\ntest_split: test\ndoc_to_text: \"{{{{question}}}}\"\n\
                 doc_to_target: \"{{{{answer}}}}\"\nmetadata:\n  license: CC0-1.0\n  capability: knowledge\n  format: {format}\n  \
                 seed:\n    passage: \"{{{{passage}}}}\"\n"
            ),
        );
        let lines = |rows: &[serde_json::Value]| rows.iter().map(|row| format!("{row}\n")).collect::<String>();
        // Every 50th row is a copy of a held-out one.
        let mut held_out: Vec<_> = rows.iter().step_by(50).skip(1).cloned().collect();
        held_out.push(json!({"passage": "", "question": "Unlike all others?", "answer": "x"}));
        place.write(&format!("tasks/{name}/train.jsonl"), &lines(&rows));
        place.write(&format!("tasks/{name}/test.jsonl"), &lines(&held_out));
    };
    let plain = |name: &str, n: usize| {
        let row = |i: usize| json!({"passage": format!("p{i}"), "question": format!("What is {name} {i}?"), "answer": i.to_string()});
        (0..n).map(row).collect::<Vec<_>>()
    };
    task("many", "short_answer", plain("many", 1500));
    task("few", "short_answer", plain("few", 9));
    (2..6).for_each(|n| task(&format!("only_{n}"), "short_answer", plain(&format!("only_{n}"), n)));
    task("one", "short_answer", plain("one", 1));
    let label = |i: usize| match i {
        7 => "alone",
        i if i % 200 == 3 => "contradiction",
        i if i % 3 == 0 => "neutral",
        _ => "entailment",
    };
    let pair = |i: usize| json!({"passage": format!("premise {i}"), "question": format!("Hypothesis {i}."), "answer": label(i)});
    task("pairs", "nli", (0..1200).map(pair).collect());
    place
}

async fn chosen(workspace: &Workspace) -> Vec<Vec<String>> {
    rows(workspace, "SELECT * FROM chosen_seeds ORDER BY task, seed_id").await
}

#[tokio::test]
async fn exemplars_are_the_next_three_of_all_usable_seeds_around_the_end() {
    let place = synthetic();
    let integer = |name: &'static str, value: i64| (name, Variable::Integer(value));
    let draw = |text: &str| ("draw", Variable::Text(text.into()));
    let settings = [
        vec![],
        vec![draw("b"), integer("seeds_per_task", 1)],
        vec![draw("c"), integer("seeds_per_task", 40), integer("seeds", 60), integer("temperature", 3)],
        vec![integer("seeds_per_task", 5000)],
    ];
    let mut counts = Vec::new();
    for set in &settings {
        let workspace = place.open(set).await;
        let found = chosen(&workspace).await;
        assert_eq!(found, rows(&workspace, PLAIN).await, "{set:?}");
        counts.push(found.len());
    }
    let copies = 1500 / 50 - 1 + 1200 / 50 - 1;
    let only = 2 + 3 + 4 + 5;
    assert_eq!(counts, [8 + 8 + 8 + 1 + only, 4 + 4, 60, 1500 + 9 + 1 + only + 1200 - copies]);
}

/// How many rows come out of the plan's window functions.
fn rows_in_order(plan: &dyn ExecutionPlan) -> usize {
    if plan.name().contains("WindowAgg") && plan.schema().column_with_name("seed_id").is_some() {
        return plan.metrics().and_then(|metrics| metrics.output_rows()).unwrap_or_default();
    }
    plan.children().into_iter().map(|child| rows_in_order(child.as_ref())).sum()
}

#[tokio::test]
async fn only_seeds_that_may_stand_beside_a_chosen_one_are_put_in_order() {
    let place = synthetic();
    let workspace = place.open(&[]).await;
    let frame = workspace.sql("SELECT * FROM chosen_seeds").await.unwrap();
    let state = frame.task_ctx();
    let plan = frame.create_physical_plan().await.unwrap();
    let shown = datafusion::physical_plan::displayable(plan.as_ref()).indent(true).to_string();
    collect(plan.clone(), state.into()).await.unwrap();
    // Of each label; 'few' has 9, 'contradiction' 6, 'one' and 'alone' one each, and 'only_…' what they say.
    assert_eq!(rows_in_order(plan.as_ref()), 3 * (8 + 3) + 9 + 6 + 1 + 1 + (2 + 3 + 4 + 5), "{shown}");
    // One pass that counts, and one that takes.
    assert_eq!(shown.matches("DataSourceExec").count(), 2, "{shown}");
    assert!(shown.matches("held_out_copy(question").count() <= 2, "{shown}");
}
