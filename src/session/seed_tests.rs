//! The first stage of the standard pipeline, `sql/10_seeds.sql`, over the example tasks and over real data: who is drawn,
//! and why others are not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use proptest::prelude::*;

use super::{OpenOptions, Workspace};
use crate::config::Variable;

const VARIABLES: &str = "[variables]\nseeds_per_task = 8\nseeds_per_task_at_least = 0\nseeds = 0\ntemperature = 1.0\n\
                         knowledge_share = -1.0\ndraw = \"\"\n";

fn checkout() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(super) struct Place(tempfile::TempDir);

impl Place {
    /// A workspace over these task configs, with the first stage alone.
    pub(super) fn new(tasks: &str) -> Self {
        let place = Place(tempfile::tempdir().unwrap());
        place.write("seedmill.toml", &format!("{tasks}\n{VARIABLES}"));
        let stage = std::fs::read_to_string(checkout().join("sql/10_seeds.sql")).unwrap();
        place.write("sql/10_seeds.sql", &stage);
        place
    }

    fn examples() -> Self {
        Place::new(&format!("[tasks]\nfrom = [{:?}]", checkout().join("sql/example_tasks")))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(super) async fn open(&self, set: &[(&str, Variable)]) -> Workspace {
        let set: BTreeMap<String, Variable> =
            set.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let options = OpenOptions { root: Some(self.0.path().to_owned()), set, ..OpenOptions::default() };
        let workspace = Workspace::open(options).await.unwrap();
        assert!(workspace.register_stages().await.unwrap().is_none());
        workspace
    }
}

pub(super) async fn rows(workspace: &Workspace, sql: &str) -> Vec<Vec<String>> {
    let frame = workspace.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    let batches: Vec<RecordBatch> = frame.collect().await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in &batches {
        let columns: Vec<_> = batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect();
        rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|c| c.value(row).to_string()).collect()));
    }
    rows
}

async fn counts(workspace: &Workspace, sql: &str) -> BTreeMap<String, u64> {
    rows(workspace, sql).await.into_iter().map(|row| (row[0].clone(), row[1].parse().unwrap())).collect()
}

const BY_TASK: &str = "SELECT task, count(*) FROM chosen_seeds GROUP BY task";
const IDS: &str = "SELECT seed_id FROM chosen_seeds ORDER BY seed_id";

#[tokio::test]
async fn eight_seeds_of_each_task_are_drawn_if_nothing_is_set() {
    let place = Place::examples();
    let workspace = place.open(&[]).await;
    let drawn = counts(&workspace, BY_TASK).await;
    assert_eq!(drawn.len(), 11);
    assert!(drawn.values().all(|n| *n == 8), "{drawn:?}");
    let over = "SELECT reason, count(*) FROM (SELECT unnest(reasons) AS reason FROM seed_verdicts) GROUP BY reason";
    let all = rows(&workspace, "SELECT count(*) FROM seeds").await[0][0].parse::<u64>().unwrap();
    assert_eq!(counts(&workspace, over).await, BTreeMap::from([("over_quota".to_owned(), all - 88)]));
    // The columns of the seeds, and the reasons.
    let columns =
        |table: &str| format!("SELECT column_name FROM information_schema.columns WHERE table_name = '{table}'");
    let mut expected = rows(&workspace, &columns("seeds")).await;
    expected.push(vec!["reasons".into()]);
    assert_eq!(rows(&workspace, &columns("seed_verdicts")).await, expected);
}

#[tokio::test]
async fn a_total_is_met_exactly_and_another_draw_takes_other_seeds() {
    let place = Place::examples();
    let set = |draw: &str| {
        [
            ("seeds", Variable::Integer(50)),
            ("temperature", Variable::Integer(3)),
            ("seeds_per_task_at_least", Variable::Integer(2)),
            ("draw", Variable::Text(draw.into())),
        ]
    };
    let workspace = place.open(&set("")).await;
    let drawn = counts(&workspace, BY_TASK).await;
    assert_eq!(drawn.values().sum::<u64>(), 50, "{drawn:?}");
    assert_eq!(drawn.len(), 11);
    assert!(drawn.values().all(|n| (2..=8).contains(n)), "{drawn:?}");
    let first = rows(&workspace, IDS).await;
    assert_eq!(rows(&place.open(&set("")).await, IDS).await, first);
    let other = place.open(&set("b")).await;
    assert_eq!(counts(&other, BY_TASK).await, drawn);
    assert_ne!(rows(&other, IDS).await, first);
}

#[tokio::test]
async fn knowledge_and_reasoning_have_quotas_of_their_own() {
    let place = Place::examples();
    for (share, knowledge) in [(0.25, 10), (1.0, 40), (0.0, 0)] {
        let set = [("seeds", Variable::Integer(40)), ("knowledge_share", Variable::Float(share))];
        let workspace = place.open(&set).await;
        let drawn = counts(&workspace, "SELECT capability, count(*) FROM chosen_seeds GROUP BY capability").await;
        assert_eq!(drawn.get("knowledge").copied().unwrap_or_default(), knowledge, "{drawn:?}");
        assert_eq!(drawn.values().sum::<u64>(), 40, "{drawn:?}");
    }
}

#[tokio::test]
async fn neither_partitions_nor_batches_change_what_is_drawn() {
    let place = Place::examples();
    let set = [("seeds", Variable::Integer(37)), ("temperature", Variable::Float(2.5))];
    let mut drawn = Vec::new();
    for (partitions, batch) in [(1, 8192), (2, 3), (7, 64)] {
        let workspace = place.open(&set).await;
        workspace.sql(&format!("SET datafusion.execution.target_partitions = {partitions}")).await.unwrap();
        workspace.sql(&format!("SET datafusion.execution.batch_size = {batch}")).await.unwrap();
        drawn.push(rows(&workspace, IDS).await);
    }
    assert_eq!(drawn[0].len(), 37);
    assert!(drawn.iter().all(|ids| *ids == drawn[0]));
}

/// A harness config over JSON files of questions and answers.
fn questions(place: &Place, task: &str, train: &[String], test: &[String]) {
    place.write(
        &format!("tasks/{task}/{task}.yaml"),
        &format!(
            "task: {task}\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    train: train.jsonl\n    test: test.jsonl\n\
             output_type: generate_until\ntraining_split: train\ntest_split: test\ndoc_to_text: \"{{{{question}}}}\"\n\
             doc_to_target: \"{{{{answer}}}}\"\nmetadata:\n  license: CC0-1.0\n  capability: knowledge\n  format: short_answer\n"
        ),
    );
    for (split, rows) in [("train", train), ("test", test)] {
        let line = |question: &String| format!("{}\n", serde_json::json!({"question": question, "answer": "x"}));
        place.write(&format!("tasks/{task}/{split}.jsonl"), &rows.iter().map(line).collect::<String>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn whatever_the_order_of_rows_the_same_questions_are_drawn(turn in 1usize..40, total in 1i64..60, at_least in 0i64..4) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let set = [("seeds", Variable::Integer(total)), ("seeds_per_task_at_least", Variable::Integer(at_least)), ("seeds_per_task", Variable::Integer(25))];
        let quotas = "SELECT task, quota FROM seed_quotas";
        let mut drawn = Vec::new();
        for turn in [0, turn] {
            let place = Place::new("[tasks]\nfrom = [\"tasks\"]");
            for (task, n) in [("small", 3), ("middle", 12), ("large", 40)] {
                let mut train: Vec<String> = (0..n).map(|i| format!("What is {task} {i}?")).collect();
                train.rotate_left(turn % n);
                questions(&place, task, &train, &["Unlike all others?".to_owned()]);
            }
            let counted = runtime.block_on(async { counts(&place.open(&set).await, quotas).await });
            drawn.push(counted);
        }
        prop_assert_eq!(&drawn[0], &drawn[1]);
        prop_assert_eq!(drawn[0].values().sum::<u64>(), (total as u64).min(3 + 12 + 25));
        prop_assert!(drawn[0]["large"] <= 25 && drawn[0]["small"] <= 3);
        if 3 * at_least <= total {
            prop_assert!(drawn[0].values().all(|n| *n >= at_least as u64), "{:?}", drawn[0]);
        }
    }
}

#[tokio::test]
async fn copies_of_held_out_rows_of_any_task_are_verdicts_and_no_exemplars() {
    let place = Place::new("[tasks]\nfrom = [\"tasks\"]");
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    questions(
        &place,
        "one",
        &owned(&["What flies?", "who sings", "What swims?", "What walks?"]),
        &owned(&["What flies"]),
    );
    questions(&place, "two", &owned(&["What is red?"]), &owned(&["Who sings?", "WHAT IS BLUE?"]));
    let workspace = place.open(&[]).await;
    let sql = "SELECT question, reasons FROM seed_verdicts ORDER BY task, source_row";
    assert_eq!(
        rows(&workspace, sql).await,
        [
            ["What flies?", "[held_out_copy]"],
            ["who sings", "[held_out_copy]"],
            ["What swims?", "[]"],
            ["What walks?", "[]"],
            ["What is red?", "[]"],
        ]
    );
    let shown = rows(&workspace, "SELECT seed_question, exemplars FROM chosen_seeds").await;
    assert_eq!(shown.len(), 3);
    assert!(shown.iter().flatten().all(|text| !text.contains("flies") && !text.contains("sings")), "{shown:?}");
    // The index is kept, and made anew when a held-out file changes.
    let index = |place: &Place| {
        let entries = std::fs::read_dir(place.0.path().join(".seedmill/seeds")).unwrap();
        entries.filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().ends_with(".index")).count()
    };
    assert_eq!(index(&place), 1);
    questions(&place, "two", &owned(&["What is red?"]), &owned(&["What swims?"]));
    let again = place.open(&[]).await;
    let copies = "SELECT question FROM seed_verdicts WHERE array_has(reasons, 'held_out_copy') ORDER BY question";
    assert_eq!(rows(&again, copies).await, [["What flies?"], ["What swims?"]]);
    assert_eq!(index(&place), 2);
}

/// A task that scores on `rows`, with `keys` of its config.
pub(super) fn scored(place: &Place, task: &str, keys: &str, rows: &[serde_json::Value]) {
    place.write(
        &format!("tasks/{task}/{task}.yaml"),
        &format!(
            "task: {task}\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: test.jsonl\ntest_split: test\n{keys}"
        ),
    );
    place.write(&format!("tasks/{task}/test.jsonl"), &rows.iter().map(|row| format!("{row}\n")).collect::<String>());
}

#[tokio::test]
async fn held_out_rows_of_rejected_tasks_are_known_by_their_prompts_or_their_raw_texts() {
    use serde_json::json;
    let place = Place::new("[tasks]\nfrom = [\"tasks\"]");
    let copied = |n: usize| format!("How many bees are in hive number {n}?");
    let train: Vec<String> = (0..10).map(copied).collect();
    questions(&place, "seedlings", &train, &["Unlike all others?".to_owned()]);
    let asks = |n: usize| json!({"question": copied(n).to_uppercase(), "answer": "x"});
    let plain = "doc_to_text: 'Q: {{question}}'\n";
    scored(&place, "no_train", &format!("{plain}doc_to_target: answer\n"), &[asks(0)]);
    scored(&place, "python_target", &format!("{plain}doc_to_target: !function utils.f\n"), &[asks(1)]);
    let python = "doc_to_text: !function utils.f\ndoc_to_target: answer\n";
    scored(&place, "python_text", python, &[json!({"Problem": copied(2), "answer": "x"}), json!({"Problem": null})]);
    let processed = "process_docs: !function utils.f\ndoc_to_text: '{{made}}'\ndoc_to_target: answer\n";
    scored(&place, "processed", processed, &[json!({"text": format!("{}  ", copied(3))})]);
    let rolling = "output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: '{{page}}'\n";
    scored(&place, "rolling", rolling, &[json!({"page": copied(4)})]);
    // A benchmark whose answers are not public.
    scored(
        &place,
        "hidden",
        &format!("{plain}doc_to_target: answer\n"),
        &[json!({"question": copied(5), "answer": null})],
    );
    scored(&place, "no_column", "doc_to_text: '{{quesiton}}'\ndoc_to_target: answer\n", &[asks(6)]);
    let words = "doc_to_text: 'Solve this: {{exercise}}'\ndoc_to_target: answer\n";
    scored(&place, "own_words", words, &[json!({"exercise": copied(7), "answer": "x"})]);
    place.write(
        "tasks/gone.yaml",
        "task: gone\ndataset_path: org/gone\ndoc_to_text: q\ndoc_to_target: a\ntest_split: test\n",
    );
    scored(&place, "wordless", python, &[json!({"Problem": 4})]);
    let workspace = place.open(&[]).await;
    let copies = "SELECT source_row FROM seed_verdicts WHERE task = 'seedlings' AND array_has(reasons, 'held_out_copy')
                  ORDER BY source_row";
    let expected: Vec<Vec<String>> = (0..8).map(|n: usize| vec![n.to_string()]).collect();
    assert_eq!(rows(&workspace, copies).await, expected);
    let coverage = "SELECT task, indexed, form, rows, normalized, raw, unknown, read_as, reason FROM heldout_coverage
                    WHERE task <> 'seedlings' ORDER BY task";
    assert_eq!(
        rows(&workspace, coverage).await,
        [
            ["gone", "false", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL", "no_data"],
            ["hidden", "true", "normalized", "1", "1", "0", "0", "hidden", "NULL"],
            ["no_column", "true", "raw", "1", "0", "1", "0", "no_column", "NULL"],
            ["no_train", "true", "normalized", "1", "1", "0", "0", "no_train", "NULL"],
            ["own_words", "true", "normalized", "1", "1", "0", "0", "own_words", "NULL"],
            ["processed", "true", "raw", "1", "0", "1", "0", "processed", "NULL"],
            ["python_target", "true", "normalized", "1", "1", "0", "0", "python_target", "NULL"],
            ["python_text", "true", "raw", "2", "0", "1", "1", "python_text", "no_text"],
            ["rolling", "true", "raw", "1", "0", "1", "0", "rolling", "NULL"],
            ["wordless", "false", "NULL", "1", "0", "0", "1", "wordless", "no_text"],
        ]
    );
    // One task's row does not need the others' files.
    std::fs::remove_file(place.0.path().join("tasks/rolling/test.jsonl")).unwrap();
    let one = "SELECT split, indexed FROM heldout_coverage WHERE task = 'no_train'";
    assert_eq!(rows(&workspace, one).await, [["test", "true"]]);
}

#[tokio::test]
async fn files_that_several_tasks_read_are_indexed_by_the_one_that_says_best_what_they_ask() {
    let place = Place::new("[tasks]\nfrom = [\"tasks\"]");
    let rows_of = [serde_json::json!({"question": "What flies over the hive?", "answer": "x"})];
    scored(&place, "a_python", "doc_to_text: !function utils.f\ndoc_to_target: answer\n", &rows_of);
    for (name, text) in [("b_target", "doc_to_target: !function utils.f"), ("c_plain", "doc_to_target: answer")] {
        place.write(
            &format!("tasks/a_python/{name}.yaml"),
            &format!(
                "task: {name}\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: test.jsonl\ntest_split: test\n\
                 doc_to_text: '{{{{question}}}}'\n{text}\n"
            ),
        );
    }
    let workspace = place.open(&[]).await;
    let coverage = "SELECT task, form, read_as FROM heldout_coverage ORDER BY task";
    let read_as = |task: &str| vec![task.to_owned(), "normalized".to_owned(), "c_plain".to_owned()];
    assert_eq!(rows(&workspace, coverage).await, [read_as("a_python"), read_as("b_target"), read_as("c_plain")]);
}

/// The folder of shared real data, or `None` with a printed line.
fn shared() -> Option<PathBuf> {
    let folder = std::env::var_os("SEEDMILL_SHARED").map_or_else(|| checkout().join("../shared"), PathBuf::from);
    if !folder.is_dir() {
        println!("skipped: there is no folder {} (set SEEDMILL_SHARED)", folder.display());
        return None;
    }
    Some(folder)
}

fn dataset(path: &str, files: &Path) -> String {
    format!("[tasks.datasets.{path:?}]\nfiles = {:?}\n", files.to_string_lossy())
}

#[tokio::test]
async fn shared_real_training_rows_that_are_held_out_rows_are_found() {
    let Some(shared) = shared() else { return };
    let data = shared.join("data");
    let place = Place::new(&format!(
        "[tasks]\nfrom = [\"tasks\"]\n{}{}{}",
        dataset("allenai/openbookqa", &data.join("openbookqa/{split}.jsonl")),
        dataset("openai/gsm8k", &data.join("gsm8k/{split}.jsonl")),
        dataset("mgsm_as_train", &data.join("mgsm/test.jsonl")),
    ));
    place.write(
        "tasks/openbookqa.yaml",
        "task: openbookqa\ndataset_path: allenai/openbookqa\ndataset_name: main\noutput_type: multiple_choice\n\
         training_split: train\ntest_split: test\ndoc_to_text: question_stem\n\
         doc_to_target: \"{{choices.label.index(answerKey.lstrip())}}\"\ndoc_to_choice: \"{{choices.text}}\"\n",
    );
    place.write(
        "tasks/gsm8k.yaml",
        "task: gsm8k\ndataset_path: openai/gsm8k\ndataset_name: main\noutput_type: generate_until\ntraining_split: train\n\
         test_split: test\ndoc_to_text: \"Question: {{question}}\\nAnswer:\"\ndoc_to_target: \"{{answer}}\"\n",
    );
    // What nobody should train on, declared as training rows.
    place.write(
        "tasks/mgsm_as_train.yaml",
        "task: mgsm_as_train\ndataset_path: mgsm_as_train\noutput_type: generate_until\ntraining_split: train\n\
         doc_to_text: \"{{question}}\"\ndoc_to_target: \"{{answer_number}}\"\n",
    );
    let workspace = place.open(&[]).await;
    let copies = "SELECT task, count(*) FROM seed_verdicts WHERE array_has(reasons, 'held_out_copy') GROUP BY task";
    let expected = BTreeMap::from([("openbookqa".to_owned(), 23), ("mgsm_as_train".to_owned(), 250)]);
    assert_eq!(counts(&workspace, copies).await, expected);
}

#[tokio::test]
async fn shared_real_benchmarks_that_only_python_can_read_are_known_by_their_raw_rows() {
    let Some(shared) = shared() else { return };
    let data = shared.join("data");
    let place = Place::new(&format!(
        "[tasks]\nfrom = [\"tasks\"]\n{}{}{}{}",
        dataset("gsm8k_as_train", &data.join("gsm8k/test.jsonl")),
        dataset("openbookqa_train", &data.join("openbookqa/train.jsonl")),
        dataset("mgsm", &data.join("mgsm/test.jsonl")),
        dataset("openbookqa_test", &data.join("openbookqa/test.jsonl")),
    ));
    for (task, text) in [("gsm8k_as_train", "question"), ("openbookqa_train", "question_stem")] {
        place.write(
            &format!("tasks/{task}.yaml"),
            &format!(
                "task: {task}\ndataset_path: {task}\noutput_type: generate_until\ntraining_split: train\n\
                 doc_to_text: \"{{{{{text}}}}}\"\ndoc_to_target: \"x\"\n"
            ),
        );
    }
    for task in ["mgsm", "openbookqa_test"] {
        place.write(
            &format!("tasks/{task}.yaml"),
            &format!(
                "task: {task}\ndataset_path: {task}\noutput_type: generate_until\ntest_split: test\n\
                 doc_to_text: !function utils.text\ndoc_to_target: !function utils.target\n"
            ),
        );
    }
    let workspace = place.open(&[]).await;
    let copies = "SELECT task, count(*) FROM seed_verdicts WHERE array_has(reasons, 'held_out_copy') GROUP BY task";
    let expected = BTreeMap::from([("gsm8k_as_train".to_owned(), 250), ("openbookqa_train".to_owned(), 23)]);
    assert_eq!(counts(&workspace, copies).await, expected);
    let coverage = "SELECT task, form, rows, raw FROM heldout_coverage WHERE indexed ORDER BY task";
    assert_eq!(
        rows(&workspace, coverage).await,
        [["mgsm", "raw", "250", "250"], ["openbookqa_test", "raw", "500", "500"]]
    );
}
