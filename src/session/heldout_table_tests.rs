//! The tables `heldout` and `heldout.<task>` have the rows of all tasks, also of those that are rejected or that only Python
//! can read.

use serde_json::json;

use super::seed_tests::{Place, rows, scored};

const ASKED: &str = "SELECT task, passage, question, answer_text, prompt_text IS NULL, source_row FROM heldout
                     WHERE question IS NOT NULL ORDER BY task, source_row, question";
const PYTHON: &str = "doc_to_text: !function utils.f\ndoc_to_target: answer\n";

fn bees(n: usize) -> String {
    format!("How many bees are in hive number {n}?")
}

fn place() -> Place {
    let place = Place::new("[tasks]\nfrom = [\"tasks\"]");
    let asks = |n: usize| json!({"question": bees(n), "answer": n.to_string()});
    let plain = "doc_to_text: 'Q: {{question}}'\n";
    scored(&place, "a_normalized", &format!("{plain}doc_to_target: answer\n"), &[asks(0)]);
    scored(&place, "b_prompt", &format!("{plain}doc_to_target: !function utils.f\n"), &[asks(1)]);
    let problems = [
        json!({"Problem": bees(2), "context": "A field of hives.", "hint": "Count each hive on its own, twice."}),
        json!({"Problem": null, "context": null, "hint": "Ask the keeper of the hives about it."}),
        json!({"Problem": null, "context": null, "hint": "No."}),
    ];
    scored(&place, "c_python", PYTHON, &problems);
    let page = json!({"page": bees(3)});
    let rolling = "output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: '{{page}}'\n";
    scored(&place, "d_rolling", rolling, &[page]);
    scored(&place, "e_no_column", "doc_to_text: '{{quesiton}}'\ndoc_to_target: answer\n", &[asks(4)]);
    // A benchmark whose answers are not public.
    let hidden = json!({"question": bees(5), "answer": null});
    scored(&place, "f_hidden", &format!("{plain}doc_to_target: answer\n"), &[hidden]);
    place
}

fn texts(row: [&str; 6]) -> Vec<String> {
    row.map(str::to_owned).to_vec()
}

fn expected() -> Vec<Vec<String>> {
    vec![
        texts(["a_normalized", "NULL", &bees(0), "0", "false", "0"]),
        texts(["b_prompt", "NULL", &bees(1), "NULL", "true", "0"]),
        texts(["c_python", "A field of hives.", &bees(2), "NULL", "true", "0"]),
        texts(["c_python", "NULL", "Ask the keeper of the hives about it.", "NULL", "true", "1"]),
        texts(["d_rolling", "NULL", &bees(3), "NULL", "true", "0"]),
        texts(["e_no_column", "NULL", &bees(4), "NULL", "true", "0"]),
        texts(["f_hidden", "NULL", &bees(5), "NULL", "true", "0"]),
    ]
}

#[tokio::test]
async fn rows_that_cannot_be_normalized_are_there_by_their_prompts_or_their_raw_texts() {
    let place = place();
    let workspace = place.open(&[]).await;
    assert_eq!(rows(&workspace, ASKED).await, expected());
    let one = "SELECT task, question, split, source_row, seed_id FROM heldout.c_python ORDER BY source_row LIMIT 1";
    assert_eq!(rows(&workspace, one).await, [["c_python", &bees(2), "test", "0", "NULL"]]);
    // What decontaminate is for.
    for (n, task) in [(1, "b_prompt"), (2, "c_python"), (3, "d_rolling"), (4, "e_no_column"), (5, "f_hidden")] {
        let found = format!(
            "SELECT contamination['source_table'], contamination['source_row'] FROM decontaminate((SELECT 'Tell me! {} Please.' AS q),
             against => (SELECT * FROM heldout), text => q)",
            bees(n)
        );
        assert_eq!(rows(&workspace, &found).await, [[task, "0"]]);
    }
}

#[tokio::test]
async fn a_set_of_files_is_read_once_by_the_task_that_says_best_what_is_asked() {
    let place = place();
    let data = "dataset_path: json\ndataset_kwargs:\n  data_files:\n    test: test.jsonl\ntest_split: test\n";
    let variant = |task: &str, folder: &str, text: &str| {
        place.write(&format!("tasks/{folder}/{task}.yaml"), &format!("task: {task}\n{data}{text}"));
    };
    variant("a_python_first", "a_normalized", PYTHON);
    variant("a_python_docs", "a_normalized", &format!("process_docs: !function utils.docs\n{PYTHON}"));
    variant("a_python_b", "b_prompt", PYTHON);
    variant("z_python_c", "c_python", &format!("process_docs: !function utils.docs\n{PYTHON}"));
    let workspace = place.open(&[]).await;
    assert_eq!(rows(&workspace, ASKED).await, expected());
    assert_eq!(rows(&workspace, "SELECT question FROM heldout.a_python_docs").await, [[bees(0)]]);
}

#[tokio::test]
async fn rows_that_cannot_be_read_cost_themselves_and_their_own_table_says_why() {
    let place = place();
    place.write(
        "tasks/broken/broken.yaml",
        &format!(
            "task: broken\ndataset_path: parquet\ndataset_kwargs:\n  data_files:\n    test: test.parquet\ntest_split: test\n{PYTHON}"
        ),
    );
    place.write("tasks/broken/test.parquet", "PAR1 and no more");
    let workspace = place.open(&[]).await;
    assert_eq!(rows(&workspace, ASKED).await, expected());
    let frame = workspace.sql("SELECT * FROM heldout.broken").await.unwrap();
    let error = frame.collect().await.unwrap_err().to_string();
    assert!(error.contains("test.parquet"), "{error}");
}

#[tokio::test]
async fn naming_the_tables_reads_nothing() {
    let place = place();
    place.write("tasks/d_rolling/test.jsonl", "no JSON");
    let workspace = place.open(&[]).await;
    let listed = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'heldout' ORDER BY table_name";
    let names = rows(&workspace, listed).await;
    assert_eq!(names, [["a_normalized"], ["b_prompt"], ["c_python"], ["d_rolling"], ["e_no_column"], ["f_hidden"]]);
    workspace.sql("SELECT question FROM heldout.d_rolling").await.unwrap();
    assert!(!place.path().join(".seedmill/seeds").exists());
}
