//! Where rows come from and which of them are seeds: data roots, formats, broken rows, prompt variants.

use std::sync::Arc;

use datafusion::arrow::array::{Int32Array, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;

use super::seeds::distinct;
use super::tests::{Workplace, rows, session, shared};
use super::{Reason, Status, Task};
use crate::lineage::Split;

const QA: &str = "training_split: train\ntest_split: test\ndoc_to_text: '{{question}}'\ndoc_to_target: '{{answer}}'\n";

fn with_root() -> (Workplace, std::path::PathBuf) {
    let mut place = Workplace::new();
    let root = place.folder.path().join("data");
    std::fs::create_dir(&root).unwrap();
    place.config.roots = vec![root.to_string_lossy().into_owned()];
    (place, root)
}

fn put(root: &std::path::Path, name: &str, text: impl AsRef<[u8]>) {
    let file = root.join(name);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, text).unwrap();
}

#[tokio::test]
async fn a_dataset_is_found_under_a_root_and_a_missing_one_says_where_it_was_looked_for() {
    let (place, root) = with_root();
    place.write("a/here.yaml", &format!("task: here\ndataset_path: org/here\ndataset_name: main\n{QA}"));
    place.write("a/gone.yaml", &format!("task: gone\ndataset_path: org/gone\n{QA}"));
    put(&root, "org/here/main/train-00000-of-00002.jsonl", "{\"question\": \"q0\", \"answer\": \"a\"}\n");
    put(
        &root,
        "org/here/main/train-00001-of-00002.jsonl",
        "{\"question\": \"q1\", \"answer\": \"a\", \"late\": [1]}\n",
    );
    put(&root, "org/here/main/test-00000-of-00001.jsonl", "{\"question\": \"t\", \"answer\": \"a\"}\n");
    let catalog = place.catalog();
    let ctx = session(&catalog);
    let found = rows(&ctx, "SELECT question, source_row FROM seeds ORDER BY source_row").await;
    assert_eq!(found, [["q0", "0"], ["q1", "1"]]);
    assert_eq!(rows(&ctx, "SELECT question FROM heldout").await, [["t"]]);
    assert_eq!(rows(&ctx, "SELECT late FROM raw.here ORDER BY source_row").await, [["NULL"], ["[1]"]]);
    let gone = catalog.task("gone").unwrap();
    assert_eq!((gone.status, gone.reason), (Status::Accepted, Some(Reason::NoData)));
    let message = gone.message.as_deref().unwrap();
    let tried = format!("looked in {0}/org/gone, {0}/gone", root.display());
    assert!(message.contains(&tried) && !message.contains('\n'), "{message}");
}

#[tokio::test]
async fn a_broken_line_is_a_row_of_raw_errors_and_the_other_rows_keep_their_places() {
    let (place, root) = with_root();
    place.write("a/rough.yaml", &format!("task: rough\ndataset_path: org/rough\n{QA}"));
    place.write("a/cut.yaml", &format!("task: cut\ndataset_path: org/cut\n{QA}"));
    let good = |n: usize| format!("{{\"question\": \"q{n}\", \"answer\": {n}}}\n");
    let mut text = (0..2000).map(good).collect::<String>().into_bytes();
    text.extend(b"{\"question\": \"half\n");
    text.extend(b"{\"question\": \"caf\xe9\", \"answer\": 1}\n");
    text.extend(b"{\"question\": \"q2002\", \"answer\": \"text\", \"late\": {\"x\": [1, \"2\"]}}\n");
    put(&root, "rough/train.jsonl", text);
    put(&root, "cut/train.parquet", b"PAR1 and no more");
    let ctx = place.session();
    let read = "SELECT count(*), min(source_row), max(source_row), count(late) FROM raw.rough";
    assert_eq!(rows(&ctx, read).await, [["2001", "0", "2002", "1"]]);
    let last = "SELECT question, answer, late FROM raw.rough WHERE source_row >= 1999 ORDER BY source_row";
    assert_eq!(rows(&ctx, last).await, [["q1999", "1999", "NULL"], ["q2002", "text", "{x: [1, 2]}"]]);
    let errors = rows(&ctx, "SELECT split, line, error FROM raw_errors WHERE task = 'rough' ORDER BY line").await;
    assert_eq!(errors.len(), 2);
    assert_eq!(errors[0][..2], ["train", "2001"]);
    assert!(errors[0][2].contains("EOF while parsing a string"), "{errors:?}");
    assert_eq!(errors[1], ["train", "2002", "it is not UTF-8 text"]);
    let cut = rows(&ctx, "SELECT line, error FROM raw_errors WHERE task = 'cut'").await;
    assert!(cut[0][0] == "NULL" && cut[0][1].contains("the columns of '") && cut[0][1].contains("cut/train.parquet"));
    assert_eq!(rows(&ctx, "SELECT count(*) FROM seeds WHERE task = 'rough'").await, [["2001"]]);
}

/// A config of files by split, as YAML has them between braces.
fn of_files(name: &str, dataset: &str, files: &str) -> String {
    format!("task: {name}\ndataset_path: {dataset}\ndataset_kwargs: {{data_files: {{{files}}}}}\n{QA}")
}

fn row(question: &str) -> String {
    format!("{{\"question\": \"{question}\", \"answer\": \"a\"}}\n")
}

#[tokio::test]
async fn a_task_reads_the_files_that_its_patterns_take_in_in_order_of_their_paths() {
    let place = Workplace::new();
    let files = "train: 'train/*/*.jsonl', validation: 'check/[a-b].jsonl', test: 'exam/**/*.jsonl'";
    let config = of_files("maths", "json", files) + "validation_split: validation\n";
    place.write("maths.yaml", &config);
    for (file, question) in [
        ("train/b/1", "b1"),
        ("train/a/2", "a2"),
        ("train/a/1", "a1"),
        ("train/0", "above"),
        ("train/a/deep/1", "below"),
        ("train/.old/1", "hidden"),
        ("check/a", "checked"),
        ("check/c", "not checked"),
        ("exam/1", "e1"),
        ("exam/deep/er/2", "e2"),
    ] {
        place.write(&format!("{file}.jsonl"), &row(question));
    }
    let ctx = place.session();
    let seeds = "SELECT question, source_row FROM seeds ORDER BY source_row";
    assert_eq!(rows(&ctx, seeds).await, [["a1", "0"], ["a2", "1"], ["b1", "2"]]);
    let held_out = "SELECT split, question FROM heldout ORDER BY question";
    assert_eq!(rows(&ctx, held_out).await, [["validation", "checked"], ["test", "e1"], ["test", "e2"]]);
    // A file that comes later has a place in them, and one that is broken its own name.
    place.write("train/a/3.jsonl", &format!("{}{{\"question\": \"half\n", row("a3")));
    let ctx = place.session();
    assert_eq!(rows(&ctx, seeds).await, [["a1", "0"], ["a2", "1"], ["a3", "2"], ["b1", "4"]]);
    let errors = "SELECT file LIKE '/%/train/a/3.jsonl', line FROM raw_errors";
    assert_eq!(rows(&ctx, errors).await, [["true", "2"]]);
    place.write("none.yaml", &of_files("none", "json", "train: 'none/*/*.jsonl'"));
    let error = place.session().sql("SELECT * FROM raw.none").await.unwrap_err().to_string();
    assert!(error.contains("no file matches the pattern '") && error.contains("/none/*/*.jsonl'"), "{error}");
}

#[tokio::test]
async fn a_pattern_of_a_dataset_is_looked_for_in_its_folder_under_a_root() {
    let (place, root) = with_root();
    place.write("maths.yaml", &of_files("maths", "org/maths", "train: 'train/*/*.jsonl', test: 'exam/*.jsonl'"));
    place.write("gone.yaml", &of_files("gone", "org/maths", "train: 'gone/*/*.jsonl'"));
    put(&root, "org/maths/train/a/1.jsonl", row("t1"));
    put(&root, "org/maths/exam/1.jsonl", row("e1"));
    let catalog = place.catalog();
    let ctx = session(&catalog);
    assert_eq!(rows(&ctx, "SELECT question FROM seeds").await, [["t1"]]);
    assert_eq!(rows(&ctx, "SELECT question FROM heldout").await, [["e1"]]);
    assert_eq!(catalog.task("gone").unwrap().reason, Some(Reason::NoData));
}

#[test]
fn training_files_that_a_task_scores_on_are_held_out_by_whichever_name() {
    let place = Workplace::new();
    for (name, files) in [
        ("exam", "test: 'exam/*.jsonl'"),
        ("named", "test: named/a.jsonl"),
        ("one", "train: exam/1.jsonl"),
        ("past", "train: rows/../exam/1.jsonl"),
        ("same", "train: 'exam/*.jsonl'"),
        ("folders", "train: '*/1.jsonl'"),
        ("around", "train: 'named/*.jsonl'"),
        ("other", "train: 'rows/*.jsonl'"),
        ("apart", "train: '*/[2-9].jsonl'"),
    ] {
        place.write(&format!("{name}.yaml"), &of_files(name, "json", files));
    }
    for file in ["exam/1", "named/a", "rows/2"] {
        place.write(&format!("{file}.jsonl"), &row(file));
    }
    let catalog = place.catalog();
    let task = |name: &str| catalog.task(name).unwrap();
    for name in ["one", "past", "same", "folders", "around"] {
        assert_eq!(task(name).reason, Some(Reason::TrainIsScored), "{name}");
        assert!(task(name).train_files.is_empty() && task(name).heldout_files.len() == 1, "{name}");
    }
    let message = task("folders").message.as_deref().unwrap();
    assert!(message.contains("the task 'exam' scores on its file '") && message.contains("*/1.jsonl'"), "{message}");
    for name in ["other", "apart"] {
        assert_eq!(task(name).reason, None, "{name}");
    }
}

#[tokio::test]
async fn nested_columns_of_json_and_parquet_files_that_differ_are_one_table() {
    let (place, root) = with_root();
    place.write(
        "a/nested.yaml",
        "task: nested\ndataset_path: org/nested\noutput_type: multiple_choice\ntraining_split: train\n\
                  doc_to_text: question\ndoc_to_choice: '{{choices.text}}'\ndoc_to_target: '{{choices.label.index(key)}}'\n",
    );
    put(
        &root,
        "nested/train-0.jsonl",
        "{\"question\": \"a\", \"choices\": {\"text\": [\"x\", \"y\"], \"label\": [\"A\", \"B\"]}, \"key\": \"B\", \"free\": {\"k1\": 1}}\n",
    );
    put(
        &root,
        "nested/train-1.jsonl",
        "{\"question\": \"b\", \"choices\": {\"label\": [\"A\"], \"text\": [\"z\"]}, \"key\": \"A\", \"free\": [\"other\"]}\n\
         {\"question\": null, \"choices\": null, \"key\": null}\n",
    );
    place.write("a/wide.yaml", &format!("task: wide\ndataset_path: org/wide\n{QA}"));
    let write = |name: &str, fields: Vec<Field>, columns: Vec<datafusion::arrow::array::ArrayRef>| {
        let file = std::fs::File::create({
            std::fs::create_dir_all(root.join("wide")).unwrap();
            root.join("wide").join(name)
        });
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        let mut writer = ArrowWriter::try_new(file.unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    };
    let text = |v: &str| -> datafusion::arrow::array::ArrayRef { Arc::new(StringArray::from(vec![v])) };
    write(
        "train-00000-of-00002.parquet",
        vec![Field::new("question", DataType::Utf8, false), Field::new("answer", DataType::Int32, true)],
        vec![text("one"), Arc::new(Int32Array::from(vec![1]))],
    );
    write(
        "train-00001-of-00002.parquet",
        vec![Field::new("answer", DataType::Int64, true), Field::new("question", DataType::Utf8, true)],
        vec![Arc::new(Int64Array::from(vec![5_000_000_000])), text("two")],
    );
    let ctx = place.session();
    let sql = "SELECT question, answer_text, options FROM norm.nested ORDER BY source_row";
    assert_eq!(rows(&ctx, sql).await[..2], [["a", "y", "[x, y]"], ["b", "z", "[z]"]]);
    assert_eq!(
        rows(&ctx, "SELECT free FROM raw.nested ORDER BY source_row").await,
        [["{\"k1\":1}"], ["[\"other\"]"], ["NULL"]]
    );
    let wide = rows(&ctx, "SELECT question, answer, source_row FROM raw.wide ORDER BY source_row").await;
    assert_eq!(wide, [["one", "1", "0"], ["two", "5000000000", "1"]]);
}

#[tokio::test]
async fn gzip_lists_and_tables_of_text_are_read_like_lines() {
    let (place, root) = with_root();
    let expected = [["q0", "a0"], ["q1", "a1"]];
    let rows_of = |n: usize| serde_json::json!({"question": format!("q{n}"), "answer": format!("a{n}")});
    put(&root, "list/train.json", serde_json::to_string_pretty(&[rows_of(0), rows_of(1)]).unwrap());
    put(&root, "values/train.json", format!("{}\n{}", rows_of(0), rows_of(1)));
    put(&root, "csv/train.csv", "question,answer\nq0,a0\nq1,a1\n");
    put(&root, "tsv/train.tsv", "question\tanswer\nq0\ta0\nq1\ta1\n");
    let mut gzip = Vec::new();
    let lines = format!("{}\n{}\n", rows_of(0), rows_of(1));
    // A stored block is gzip too, and needs no compressor here.
    gzip.extend([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 1]);
    gzip.extend((lines.len() as u16).to_le_bytes());
    gzip.extend((!(lines.len() as u16)).to_le_bytes());
    gzip.extend(lines.as_bytes());
    gzip.extend(crc32fast::hash(lines.as_bytes()).to_le_bytes());
    gzip.extend((lines.len() as u32).to_le_bytes());
    put(&root, "gzip/train.jsonl.gz", gzip);
    for name in ["list", "values", "csv", "tsv", "gzip"] {
        place.write(&format!("{name}.yaml"), &format!("task: {name}\ndataset_path: org/{name}\n{QA}"));
    }
    let ctx = place.session();
    for name in ["list", "values", "csv", "tsv", "gzip"] {
        let sql = format!("SELECT question, answer FROM raw.\"{name}\" ORDER BY source_row");
        assert_eq!(rows(&ctx, &sql).await, expected, "{name}");
    }
}

#[tokio::test]
async fn prompt_variants_of_one_dataset_are_not_other_seeds() {
    let (place, root) = with_root();
    for lang in ["amh", "eng"] {
        put(&root, &format!("maths/{lang}/train.jsonl"), "{\"question\": \"q\", \"answer\": \"a\"}\n");
        for n in 1..=5 {
            let text = format!(
                "task: maths_{lang}_prompt_{n}\ndataset_path: org/maths\ndataset_name: {lang}\ntraining_split: train\n"
            );
            place.write(
                &format!("{lang}{n}.yaml"),
                &format!("{text}doc_to_text: 'variant {n}: {{{{question}}}}'\ndoc_to_target: answer\n"),
            );
        }
    }
    for (name, docs) in [("first", "utils.docs"), ("second", "utils.docs"), ("third", "utils.other_docs")] {
        place.write(
            &format!("chosen/{name}.yaml"),
            &format!("task: {name}\ndataset_path: org/maths\ndataset_name: eng\nprocess_docs: !function {docs}\n{QA}"),
        );
    }
    let catalog = place.catalog();
    let ctx = session(&catalog);
    let seeds = rows(&ctx, "SELECT task FROM seeds ORDER BY task").await;
    assert_eq!(seeds, [["maths_amh_prompt_1"], ["maths_eng_prompt_1"]]);
    // Tasks whose code chooses the rows may have others: each is a part, without the rows of those before it.
    let parts = distinct(&catalog, |task: &Task| !task.train_files.is_empty(), |_| vec![Split::Train]);
    let name = |task: &usize| catalog.tasks()[*task].name.clone();
    let shown: Vec<_> = parts
        .iter()
        .map(|part| format!("{} {:?}", name(&part.task), part.before.iter().map(name).collect::<Vec<_>>()))
        .collect();
    assert_eq!(
        shown,
        [
            "first []",
            "maths_amh_prompt_1 []",
            "maths_eng_prompt_1 [\"first\"]",
            "third [\"first\", \"maths_eng_prompt_1\"]"
        ]
    );
}

#[tokio::test]
async fn rows_that_another_task_has_already_are_taken_away_by_place_and_question() {
    let (place, root) = with_root();
    put(
        &root,
        "maths/train.jsonl",
        "{\"question\": \"q0\", \"other\": \"o0\", \"answer\": \"a\"}\n{\"question\": \"q1\", \"other\": \"q1\", \"answer\": \"a\"}\n",
    );
    for name in ["question", "other"] {
        place.write(
            &format!("{name}.yaml"),
            &format!("task: by_{name}\ndataset_path: org/maths\ntraining_split: train\ndoc_to_text: {name}\ndoc_to_target: answer\n"),
        );
    }
    let catalog = place.catalog();
    let ctx = session(&catalog);
    let planner = Arc::new(super::task_planner::TaskPlanner::new(ctx.runtime_env()));
    let state = ctx.state();
    let mut files = Vec::new();
    for name in ["by_question", "by_other"] {
        let task = catalog.task(name).unwrap();
        let file =
            super::normalized_cache::normalized_file(catalog.cache(), task, Split::Train, &planner, &state).await;
        files.push(file.unwrap());
    }
    let distinct = super::distinct_rows::without_rows_of(files[1].clone(), vec![files[0].clone()]).await.unwrap();
    ctx.register_parquet("left", distinct.to_str().unwrap(), Default::default()).await.unwrap();
    assert_eq!(rows(&ctx, "SELECT source_row, question FROM \"left\"").await, [["0", "o0"]]);
}

#[tokio::test]
async fn shared_real_datasets_are_found_and_read_under_a_data_root() {
    let Some(shared) = shared() else { return };
    let (mut place, _) = with_root();
    place.config.roots = vec![shared.join("data").to_string_lossy().into_owned()];
    for (task, dataset, name) in [
        ("gsm8k", "openai/gsm8k", "main"),
        ("openbookqa", "allenai/openbookqa", "main"),
        ("legalbench_proa", "nguha/legalbench", "proa"),
        ("legalbench_abercrombie", "nguha/legalbench", "abercrombie"),
        ("mutual", "EleutherAI/mutual", "mutual"),
        ("mutual_plus", "EleutherAI/mutual", "mutual_plus"),
        ("mbpp", "google-research-datasets/mbpp", "full"),
    ] {
        place.write(
            &format!("{task}.yaml"),
            &format!(
                "task: {task}\ndataset_path: {dataset}\ndataset_name: {name}\ntraining_split: train\nvalidation_split: validation\n\
                 test_split: test\ndoc_to_text: question\ndoc_to_target: answer\n"
            ),
        );
    }
    let catalog = place.catalog();
    let ctx = session(&catalog);
    let count = async |table: &str| rows(&ctx, &format!("SELECT count(*) FROM raw.{table}")).await[0][0].clone();
    assert_eq!(count("gsm8k").await, "7473");
    // Beside it lies train.malformed.jsonl, which is no shard of it.
    assert_eq!(count("openbookqa").await, "4956");
    assert_eq!(count("legalbench_proa").await, "5");
    assert_eq!(count("mutual").await, "7088");
    assert_eq!(count("mbpp").await, "374");
    assert_eq!(catalog.task("mutual_plus").unwrap().reason, Some(Reason::NoData));
    assert_eq!(catalog.task("openbookqa").unwrap().heldout_files.len(), 2);
    assert_eq!(rows(&ctx, "SELECT count(*) FROM raw_errors").await, [["0"]]);
}

#[tokio::test]
async fn training_rows_that_the_harness_does_not_declare_are_tasks_of_ours() {
    let (mut place, root) = with_root();
    place.config.from = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/train_tasks")];
    put(
        &root,
        "cais/mmlu/all/auxiliary_train-00000-of-00001.jsonl",
        "{\"question\": \"Two?\", \"subject\": \"\", \"choices\": [\"1\", \"2\", \"3\", \"4\"], \"answer\": 1}\n",
    );
    put(
        &root,
        "mbpp/full/train.jsonl",
        "{\"task_id\": 601, \"text\": \"Add one.\", \"code\": \"def f(x):\\n    return x + 1\", \"test_list\": [\"assert f(1) == 2\", \"assert f(2) == 3\", \"assert f(3) == 4\"]}\n",
    );
    put(
        &root,
        "race/all/train.jsonl",
        "{\"example_id\": \"1\", \"article\": \"It rains.\", \"question\": \"What falls?\", \"options\": [\"rain\", \"snow\", \"hail\", \"dust\"], \"answer\": \"A\"}\n",
    );
    let ctx = place.session();
    assert_eq!(rows(&ctx, "SELECT count(*) FROM tasks WHERE status = 'accepted' AND data").await, [["3"]]);
    let found = rows(&ctx, "SELECT task, passage, question, answer_text FROM seeds ORDER BY task").await;
    assert_eq!(found[1], ["mmlu_auxiliary_train", "NULL", "Two?", "2"]);
    assert_eq!(found[2], ["race_train", "It rains.", "What falls?", "rain"]);
    assert_eq!(found[0][3], "def f(x):\n    return x + 1");
}

#[tokio::test]
async fn a_file_that_is_cut_or_no_text_is_an_error_that_names_it_and_never_a_panic() {
    let (place, root) = with_root();
    let rows = RecordBatch::try_from_iter([(
        "question",
        Arc::new(StringArray::from_iter_values((0..2000).map(|n| format!("question number {n}")))) as _,
    )])
    .unwrap();
    let mut whole = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut whole, rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    let ctx = place.session();
    let state = ctx.state();
    let open = async |name: &str| {
        let file = root.join(name).to_string_lossy().into_owned();
        let opened = super::raw_table::RawTable::open(std::slice::from_ref(&file), &state).await;
        opened.map(drop).map_err(|error| {
            let sentence = error.strip_backtrace();
            assert!(sentence.contains(&file), "{sentence}");
            sentence
        })
    };
    for cut in (0..whole.len()).step_by(whole.len() / 23) {
        put(&root, "cut.parquet", &whole[..cut]);
        assert!(open("cut.parquet").await.is_err(), "{cut} of {} bytes", whole.len());
    }
    put(&root, "cut.parquet", &whole);
    assert!(open("cut.parquet").await.is_ok());
    put(&root, "latin.csv", b"question,answer\ncaf\xe9,1\n");
    assert!(open("latin.csv").await.unwrap_err().contains("line 2: it is not UTF-8 text"));
    put(&root, "short.csv", b"question,answer\na\nb\n");
    assert!(open("short.csv").await.unwrap_err().contains("line 2: it has 1 fields where the header has 2"));
    put(&root, "empty.csv", b"");
    assert!(open("empty.csv").await.unwrap_err().contains("it is empty"));
    put(&root, "wide.jsonl", b"\xff\xfe{\0\"\0");
    assert!(open("wide.jsonl").await.unwrap_err().contains("convert it to UTF-8"));
    put(&root, "none.jsonl", "{\n".repeat(3000));
    assert!(open("none.jsonl").await.unwrap_err().contains("no row of '"));
    put(&root, "rows.txt", "a");
    assert!(open("rows.txt").await.unwrap_err().contains("none of jsonl"));
}
