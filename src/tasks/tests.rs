//! The catalog as a session sees it, over configs and files written here, over the example tasks of the repository and
//! over the shared real data.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::{Array, RecordBatch};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::{Catalog, Reason, Status};
use crate::config::{DatasetConfig, TasksConfig};
use crate::lineage::{Lineage, Split, lineage_of};

pub(super) struct Workplace {
    pub(super) folder: tempfile::TempDir,
    pub(super) config: TasksConfig,
}

impl Workplace {
    pub(super) fn new() -> Workplace {
        let folder = tempfile::tempdir().unwrap();
        let config = TasksConfig {
            from: vec![folder.path().join("configs")],
            cache: folder.path().join("cache"),
            ..TasksConfig::default()
        };
        std::fs::create_dir(folder.path().join("configs")).unwrap();
        Workplace { folder, config }
    }

    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.folder.path().join("configs").join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
        file
    }

    pub(super) fn catalog(&self) -> Arc<Catalog> {
        Arc::new(Catalog::load(&self.config, &crate::stores::Stores::from_env()).unwrap())
    }

    pub(super) fn session(&self) -> SessionContext {
        session(&self.catalog())
    }

    /// A session over files that stay for the test's process.
    pub(super) fn kept(self) -> SessionContext {
        let ctx = self.session();
        std::mem::forget(self.folder);
        ctx
    }
}

pub(super) fn session(catalog: &Arc<Catalog>) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(4).with_information_schema(true);
    let ctx = SessionContext::new_with_config(config);
    catalog.register(&ctx).unwrap();
    ctx
}

pub(super) async fn rows(ctx: &SessionContext, sql: &str) -> Vec<Vec<String>> {
    let batches = ctx.sql(sql).await.unwrap().collect().await.unwrap();
    batches.iter().flat_map(cells).collect()
}

fn cells(batch: &RecordBatch) -> Vec<Vec<String>> {
    let cell = |column: &dyn Array, row| match column.is_null(row) {
        true => "NULL".to_owned(),
        false => array_value_to_string(column, row).unwrap(),
    };
    (0..batch.num_rows()).map(|row| batch.columns().iter().map(|c| cell(c, row)).collect()).collect()
}

fn marks(plan: &LogicalPlan) -> Vec<Lineage> {
    let mut found = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let provider = source_as_provider(&scan.source).unwrap();
            found.extend(lineage_of(provider.as_ref()).cloned());
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .unwrap();
    found
}

const TWO_ANSWERS: &str = "output_type: multiple_choice\ntraining_split: train\ndataset_path: json\n\
    dataset_kwargs: {data_files: {train: train.jsonl, test: test.jsonl}}\ntest_split: test\n\
    doc_to_text: \"Question: {{question}}\\nAnswer:\"\ndoc_to_choice: \"{{choices.text}}\"\n\
    doc_to_target: \"{{choices.label.index(answerKey)}}\"\n";

fn with_choices() -> Workplace {
    let place = Workplace::new();
    place.write("quiz/quiz.yaml", &format!("task: quiz\ntag: [small]\n{TWO_ANSWERS}metadata:\n  license: CC0-1.0\n"));
    place.write(
        "quiz/train.jsonl",
        "{\"question\": \"What is wet?\", \"choices\": {\"text\": [\"sand\", \"rain\"], \"label\": [\"A\", \"B\"]}, \"answerKey\": \"B\"}\n\
         {\"question\": \"What is hot?\", \"choices\": {\"text\": [\"fire\", \"both A and B\"], \"label\": [\"A\", \"B\"]}, \"answerKey\": \"A\"}\n\
         {\"question\": \"What is lost?\", \"choices\": {\"text\": [\"it\", \"that\"], \"label\": [\"A\", \"B\"]}, \"answerKey\": \"Z\"}\n",
    );
    place.write(
        "quiz/test.jsonl",
        "{\"question\": \"Held out?\", \"choices\": {\"text\": [\"yes, it is\", \"no, never\"], \"label\": [\"A\", \"B\"]}, \"answerKey\": \"A\"}\n",
    );
    place
}

#[tokio::test]
async fn a_row_becomes_a_seed_with_the_answers_text_and_an_unreadable_one_a_seed_without_a_question() {
    let ctx = with_choices().kept();
    let sql = "SELECT source_row, question, options, answer_index, answer_text, answer_is_label, prompt_text, target_text, \
               shuffle_safe, split FROM norm.quiz ORDER BY source_row";
    let found = rows(&ctx, sql).await;
    let prompt = "Question: What is wet?\nAnswer:";
    assert_eq!(found[0], ["0", "What is wet?", "[sand, rain]", "1", "rain", "false", prompt, "rain", "true", "train"]);
    assert_eq!(found[1][8], "false", "options that speak of each other keep their places");
    assert_eq!((found[2][1].as_str(), found[2][4].as_str()), ("NULL", "NULL"));
    assert_eq!(found.len(), 3);
}

#[tokio::test]
async fn every_table_of_rows_carries_its_mark_into_the_plan() {
    let ctx = with_choices().kept();
    for (table, split, task) in [
        ("raw.quiz", Split::Train, Some("quiz")),
        ("norm.quiz", Split::Train, Some("quiz")),
        ("heldout.quiz", Split::Test, Some("quiz")),
        ("seeds", Split::Train, None),
        ("heldout", Split::Test, None),
    ] {
        let plan = ctx.sql(&format!("SELECT * FROM {table}")).await.unwrap().into_optimized_plan().unwrap();
        let found = marks(&plan);
        assert_eq!(found.len(), 1, "{table}");
        assert_eq!((found[0].split, found[0].tasks.first().map(String::as_str)), (split, task), "{table}");
    }
}

#[tokio::test]
async fn seeds_are_normalized_once_and_again_when_their_file_changes() {
    let place = with_choices();
    let ctx = place.session();
    let ids = rows(&ctx, "SELECT seed_id FROM seeds ORDER BY source_row").await;
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| id[0].len() == 32));
    let cached = || std::fs::read_dir(&place.config.cache).unwrap().count();
    assert_eq!(cached(), 1);
    assert_eq!(rows(&place.session(), "SELECT seed_id FROM seeds ORDER BY source_row").await, ids);
    assert_eq!(cached(), 1);
    place.write(
        "quiz/train.jsonl",
        "{\"question\": \"New?\", \"choices\": {\"text\": [\"a\"], \"label\": [\"A\"]}, \"answerKey\": \"A\"}\n",
    );
    let again =
        rows(&place.session(), "SELECT question, license, license_evidence FROM seeds WHERE task = 'quiz'").await;
    assert_eq!(again, [["New?", "CC0-1.0", "metadata of quiz.yaml"]]);
    assert_eq!(cached(), 2);
    assert!(rows(&place.session(), "SELECT * FROM seeds WHERE task = 'other'").await.is_empty());
    let held_out = rows(&place.session(), "SELECT task, question, answer_text, split FROM heldout").await;
    assert_eq!(held_out, [["quiz", "Held out?", "yes, it is", "test"]]);
}

#[tokio::test]
async fn rows_keep_their_place_in_the_file_whatever_the_parallelism_and_late_fields_are_read() {
    let place = Workplace::new();
    place.write(
        "long/long.yaml",
        "task: long\ndataset_path: json\ndataset_kwargs: {data_files: {train: [a.jsonl, b.jsonl]}}\n\
         training_split: train\ndoc_to_text: question\ndoc_to_target: answer\n",
    );
    let line = |i: usize| match i {
        19_000.. => format!("{{\"question\": \"q{i}\", \"answer\": \"a{i}\", \"late\": {i}}}\n"),
        _ => format!("{{\"question\": \"q{i}\", \"answer\": \"a{i}\"}}\n"),
    };
    place.write("long/a.jsonl", &(0..15_000).map(line).collect::<String>());
    place.write("long/b.jsonl", &(15_000..20_000).map(line).collect::<String>());
    let ctx = place.session();
    let wrong = "SELECT count(*) FROM norm.long WHERE question <> concat('q', CAST(source_row AS TEXT))";
    assert_eq!(rows(&ctx, wrong).await, [["0"]]);
    assert_eq!(
        rows(&ctx, "SELECT count(*), sum(source_row), count(late) FROM raw.long").await,
        [["20000", "199990000", "1000"]]
    );
    assert_eq!(rows(&ctx, "SELECT count(*) FROM raw.long").await, [["20000"]]);
    assert_eq!(rows(&ctx, "SELECT question FROM raw.long LIMIT 2").await, [["q0"], ["q1"]]);
    let in_order = "SELECT count(*) FROM (SELECT source_row, row_number() OVER () AS n FROM seeds WHERE task = 'long') \
                    WHERE source_row <> n - 1";
    let one = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    place.catalog().register(&one).unwrap();
    assert_eq!(rows(&one, in_order).await, [["0"]]);
}

#[tokio::test]
async fn classification_says_why_a_task_may_not_seed_calls() {
    let place = Workplace::new();
    let base = "doc_to_text: q\ndoc_to_target: a\n";
    place.write("a/plain.yaml", &format!("task: plain\ndataset_path: some/set\ntraining_split: train\n{base}"));
    place.write("a/none.yaml", &format!("task: none\ndataset_path: some/set\ntest_split: test\n{base}"));
    place.write(
        "a/shots.yaml",
        &format!("task: shots\ndataset_path: s/shots\ntest_split: test\nfewshot_split: train\n{base}"),
    );
    place.write("a/dev.yaml", &format!("task: dev\ndataset_path: some/set\ntraining_split: dev\n{base}"));
    place.write("b/both.yaml", &format!("task: both\ndataset_path: b/set\ntraining_split: 'train[:90%]'\n{base}"));
    place.write("b/scores.yaml", &format!("task: scores\ndataset_path: B/set\ntest_split: train\n{base}"));
    place.write("b/gpqa.yaml", &format!("task: gpqa\ndataset_path: Idavidrein/gpqa\ntraining_split: train\n{base}"));
    place.write(
        "c/python.yaml",
        "task: python\ndataset_path: p\ntraining_split: train\ndoc_to_text: !function u.f\ndoc_to_target: a\n",
    );
    place.write("c/broken.yaml", "task: [\n");
    place.write(
        "c/template.yaml",
        "task: template\ndataset_path: p/t\ntraining_split: train\ndoc_to_text: '{{ q'\ndoc_to_target: a\n",
    );
    place.write(
        "c/perplexity.yaml",
        &format!(
            "task: perplexity\ndataset_path: p/p\ntraining_split: train\noutput_type: loglikelihood_rolling\n{base}"
        ),
    );
    place.write("c/group.yaml", "group: everything\ntask: [plain, inner]\n");
    place.write("c/inner.yaml", "group: inner\ntask: [none, {task: dev}]\n");
    let catalog = place.catalog();
    let reason = |name: &str| catalog.tasks().iter().find(|t| t.name == name).unwrap().reason;
    assert_eq!(reason("plain"), Some(Reason::NoData));
    assert_eq!(reason("shots"), Some(Reason::NoData));
    assert_eq!(reason("none"), Some(Reason::NoTrainingSplit));
    assert_eq!(reason("dev"), Some(Reason::NotATrainSplit));
    assert_eq!(reason("both"), Some(Reason::TrainIsScored));
    assert_eq!(reason("gpqa"), Some(Reason::TrainIsScored));
    assert_eq!(reason("python"), Some(Reason::PythonFunction));
    assert_eq!(reason("broken"), Some(Reason::BrokenConfig));
    assert_eq!(reason("template"), Some(Reason::BrokenConfig));
    assert_eq!(reason("perplexity"), Some(Reason::UnsupportedOutputType));
    assert_eq!(catalog.task("plain").unwrap().status, Status::Accepted);
    assert_eq!(catalog.task("shots").unwrap().status, Status::AcceptedFewshotTrain);
    assert!(catalog.task("python").unwrap().is_accepted() && catalog.task("python").unwrap().needs_sql_override);
    assert_eq!(catalog.task("plain").unwrap().groups, ["everything"]);
    assert_eq!(catalog.task("dev").unwrap().groups, ["everything", "inner"]);
    assert_eq!(catalog.task("dev").unwrap().family, "a");

    let ctx = session(&catalog);
    assert_eq!(rows(&ctx, "SELECT status, data FROM tasks WHERE task = 'plain'").await, [["accepted", "false"]]);
    let error = |sql: &'static str| {
        let ctx = ctx.clone();
        async move { ctx.sql(sql).await.unwrap_err().to_string() }
    };
    assert!(error("SELECT * FROM raw.plain").await.contains("[tasks.datasets.\"some/set\"]"));
    assert!(error("SELECT * FROM raw.gpqa").await.contains("train_is_scored"));
    assert!(catalog.norm_sql(&ctx, "plian").await.unwrap_err().to_string().contains("did you mean 'plain'"));
    assert!(rows(&ctx, "SELECT * FROM seeds").await.is_empty());
}

#[tokio::test]
async fn the_same_file_under_two_splits_is_held_out() {
    let place = Workplace::new();
    let base = "dataset_path: json\ntraining_split: train\ntest_split: test\ndoc_to_text: q\ndoc_to_target: a\n";
    place.write("x/one.yaml", &format!("task: one\n{base}dataset_kwargs: {{data_files: {{train: rows.jsonl}}}}\n"));
    place.write(
        "x/two.yaml",
        &format!("task: two\n{base}dataset_kwargs: {{data_files: {{train: other.jsonl, test: rows.jsonl}}}}\n"),
    );
    place.write("x/rows.jsonl", "{\"q\": \"1\", \"a\": \"2\"}\n");
    place.write("x/other.jsonl", "{\"q\": \"3\", \"a\": \"4\"}\n");
    let catalog = place.catalog();
    assert_eq!(catalog.task("one").unwrap().reason, Some(Reason::TrainIsScored));
    assert_eq!(catalog.task("two").unwrap().reason, None);
    let ctx = session(&catalog);
    assert_eq!(rows(&ctx, "SELECT question FROM seeds").await, [["3"]]);
    assert!(rows(&ctx, "SELECT question FROM heldout").await.iter().all(|row| row[0] == "1"));
    let listed = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema IN ('raw', 'heldout') ORDER BY 1, 2";
    assert_eq!(rows(&ctx, listed).await, [["heldout", "one"], ["heldout", "two"], ["raw", "two"]]);
}

#[tokio::test]
async fn letters_truth_values_text_targets_and_gaps_are_answers_by_meaning() {
    let place = Workplace::new();
    let json = |name: &str| {
        format!("dataset_path: json\ntraining_split: train\ndataset_kwargs: {{data_files: {{train: {name}.jsonl}}}}\n")
    };
    let choice = "output_type: multiple_choice\n";
    place.write("letters.yaml", &format!(
        "task: letters\n{}{choice}doc_to_text: \"{{{{question}}}}\\nA. {{{{choices[0]}}}}\\nB. {{{{choices[1]}}}}\\nAnswer:\"\n\
         doc_to_choice: [A, B]\ndoc_to_target: answer\n", json("letters")));
    place.write("letters.jsonl", "{\"question\": \"Up?\", \"choices\": [\"sky\", \"sea\"], \"answer\": 0}\n");
    place.write("truth.yaml", &format!(
        "task: truth\n{}{choice}doc_to_text: \"{{{{passage}}}}\\nQuestion: {{{{question}}}}?\\nAnswer:\"\ndoc_to_choice: ['no', 'yes']\n\
         doc_to_target: answer\n", json("truth")));
    place.write("truth.jsonl", "{\"passage\": \"It rains.\", \"question\": \"is it wet\", \"answer\": true}\n");
    place.write(
        "gap.yaml",
        &format!(
            "task: gap\n{}{choice}doc_to_text: sentence\ndoc_to_choice: \"{{{{[one, two]}}}}\"\ndoc_to_target: word\n\
         metadata: {{format: cloze, seed: {{rationale: \"Because {{{{word}}}} fits.\"}}}}\n",
            json("gap")
        ),
    );
    place.write(
        "gap.jsonl",
        "{\"sentence\": \"A ____ barks.\", \"one\": \"cat\", \"two\": \"dog\", \"word\": \"dog\"}\n",
    );
    place.write("nli.yaml", &format!(
        "task: nli\n{}{choice}doc_to_text: \"{{{{premise}}}}\\nQuestion: {{{{hypothesis}}}} True, False or Neither?\"\n\
         doc_to_choice: {{a: 'True', b: Neither, c: 'False'}}\ndoc_to_target: label\n", json("nli")));
    place.write("nli.jsonl", "{\"premise\": \"A dog runs.\", \"hypothesis\": \"It moves.\", \"label\": 0}\n");
    place.write("sums.yaml", &format!(
        "task: sums\n{}doc_to_text: \"Question: {{{{question}}}}\\nAnswer:\"\ndoc_to_target: \"{{{{answer}}}}\"\nmetadata: {{format: numeric}}\n", json("sums")));
    place.write("sums.jsonl", "{\"question\": \"1+1?\", \"answer\": \"One and one.\\n#### 2\"}\n");
    let ctx = place.session();
    let sql = "SELECT task, format, passage, question, options, answer_index, answer_text, answer_is_label, target_text, rationale \
               FROM seeds ORDER BY task";
    let found = rows(&ctx, sql).await;
    let expected = [
        ["gap", "cloze", "NULL", "A ____ barks.", "[cat, dog]", "1", "dog", "false", "dog", "Because dog fits."],
        ["letters", "multiple_choice", "NULL", "Up?", "[sky, sea]", "0", "sky", "false", "A", "NULL"],
        ["nli", "nli", "A dog runs.", "It moves.", "[True, Neither, False]", "0", "True", "true", "True", "NULL"],
        ["sums", "numeric", "NULL", "1+1?", "NULL", "NULL", "2", "false", "One and one.\n#### 2", "One and one."],
        ["truth", "yes_no", "It rains.", "is it wet", "[no, yes]", "1", "yes", "true", "yes", "NULL"],
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn every_example_task_becomes_seeds_but_the_one_whose_training_rows_are_scored() {
    let mut place = Workplace::new();
    place.config.from = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/example_tasks")];
    let catalog = place.catalog();
    let ctx = session(&catalog);
    let rejected = "SELECT task, reason FROM tasks WHERE status = 'rejected'";
    assert_eq!(rows(&ctx, rejected).await, [["who_am_i", "train_is_scored"]]);
    assert!(
        rows(&ctx, "SELECT * FROM tasks WHERE license IS NULL OR license = 'unknown' OR language IS NULL")
            .await
            .is_empty()
    );
    let tasks = rows(&ctx, "SELECT task FROM tasks WHERE status = 'accepted'").await;
    assert_eq!(rows(&ctx, "SELECT DISTINCT task FROM seeds").await.len(), tasks.len());
    let incomplete = "SELECT task, source_row FROM seeds WHERE question IS NULL OR answer_text IS NULL OR answer_text = '' \
                      OR prompt_text IS NULL OR target_text IS NULL OR strpos(question, 'Answer:') > 0";
    assert_eq!(rows(&ctx, incomplete).await, Vec::<Vec<String>>::new());
    let formats = "SELECT count(DISTINCT format) FROM seeds";
    assert_eq!(rows(&ctx, formats).await, [["8"]]);
    let by_format = "SELECT count(*) FROM seeds WHERE (format IN ('multiple_choice', 'cloze', 'nli', 'yes_no')) <> (answer_index IS NOT NULL) \
                     OR (format = 'cloze' AND strpos(question, '____') = 0) OR (format = 'nli' AND passage IS NULL) \
                     OR (format = 'numeric' AND rationale IS NULL) OR answer_is_label <> (format IN ('nli', 'yes_no'))";
    assert_eq!(rows(&ctx, by_format).await, [["0"]]);
    assert!(!rows(&ctx, "SELECT 1 FROM heldout WHERE task = 'who_am_i'").await.is_empty());
    assert!(rows(&ctx, "SELECT 1 FROM heldout WHERE question IS NULL").await.is_empty());
    for task in tasks {
        let sql = catalog.norm_sql(&ctx, &task[0]).await.unwrap();
        let (printed, normed) =
            (rows_of_udfs(&ctx, &sql).await, rows(&ctx, &format!("SELECT * FROM norm.{}", task[0])).await);
        assert_eq!(printed, normed, "the printed SQL of {} is what the view does", task[0]);
    }
}

/// Runs a printed norm SQL in the session of a user, who has the functions.
async fn rows_of_udfs(ctx: &SessionContext, sql: &str) -> Vec<Vec<String>> {
    let mut ctx = ctx.clone();
    seedmill_udfs::register_all(&mut ctx).unwrap();
    rows(&ctx, sql).await
}

/// The folder of shared real data, or `None` with a printed line.
pub(super) fn shared() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let folder = std::env::var_os("SEEDMILL_SHARED").map_or(default, PathBuf::from);
    if !folder.is_dir() {
        println!("skipped: there is no folder {} (set SEEDMILL_SHARED)", folder.display());
        return None;
    }
    Some(folder)
}

#[tokio::test]
async fn shared_prompts_and_targets_are_what_the_harness_renders() {
    let Some(shared) = shared() else { return };
    let text = std::fs::read_to_string(shared.join("golden/real.jsonl")).unwrap();
    let golden: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let place = Workplace::new();
    let read = |task: &str| task == "gsm8k" || task == "openbookqa" || task.starts_with("legalbench_");
    let mut expected: std::collections::BTreeMap<&str, Vec<&serde_json::Value>> = Default::default();
    for line in &golden {
        let task = line["task"].as_str().unwrap();
        if !read(task) {
            continue;
        }
        if line["header"] == true {
            let mut config = line["config"].clone();
            config["task"] = task.into();
            config["dataset_kwargs"] = serde_json::json!({ "data_files": { "train": "rows.jsonl" } });
            place.write(&format!("{task}/{task}.yaml"), &serde_yaml_ng::to_string(&config).unwrap());
            place.write(&format!("{task}/rows.jsonl"), "");
        } else {
            expected.entry(task).or_default().push(line);
        }
    }
    for (task, lines) in &expected {
        let docs: String = lines.iter().map(|line| format!("{}\n", line["doc"])).collect();
        place.write(&format!("{task}/rows.jsonl"), &docs);
    }
    assert!(expected.len() >= 6, "{:?}", expected.keys());
    let ctx = place.session();
    for (task, lines) in &expected {
        let sql = format!(
            "SELECT prompt_text, target_text, answer_text, question, answer_index FROM norm.{task} ORDER BY source_row"
        );
        let found = rows(&ctx, &sql).await;
        assert_eq!(found.len(), lines.len(), "{task}");
        for (row, line) in found.iter().zip(lines) {
            let place = format!("{task} row {}", line["row"]);
            assert_eq!(row[0], line["context"].as_str().unwrap(), "{place}");
            let answer = line["answer_text"].as_str().unwrap();
            assert_eq!(row[1], answer, "{place}");
            let semantic = answer.split("#### ").last().unwrap().trim();
            assert_eq!(row[2], if *task == "gsm8k" { semantic } else { answer.trim() }, "{place}");
            assert_ne!(row[3], "NULL", "{place}");
            if let Some(index) = line["gold_index"].as_i64() {
                assert_eq!(row[4], index.to_string(), "{place}");
            }
        }
    }
}

#[tokio::test]
async fn shared_real_training_splits_become_seeds() {
    let Some(shared) = shared() else { return };
    let mut place = Workplace::new();
    place.write(
        "gsm8k/gsm8k.yaml",
        "task: gsm8k\ndataset_path: openai/gsm8k\ndataset_name: main\ntraining_split: train\ntest_split: test\n\
        doc_to_text: \"Question: {{question}}\\nAnswer:\"\ndoc_to_target: \"{{answer}}\"\n",
    );
    place.write(
        "openbookqa/openbookqa.yaml",
        "task: openbookqa\ndataset_path: allenai/openbookqa\ndataset_name: main\noutput_type: multiple_choice\n\
        training_split: train\nvalidation_split: validation\ntest_split: test\ndoc_to_text: question_stem\n\
        doc_to_target: \"{{choices.label.index(answerKey.lstrip())}}\"\ndoc_to_choice: \"{{choices.text}}\"\n",
    );
    for name in ["proa", "abercrombie"] {
        place.write(&format!("legalbench/{name}.yaml"), &format!("task: legalbench_{name}\ndataset_path: nguha/legalbench\ndataset_name: {name}\n\
            test_split: test\nfewshot_split: train\ndescription: \"Which is it?\\n\\n\"\ndoc_to_text: \"Text: {{{{text}}}}\\nLabel:\"\n\
            doc_to_target: \"{{{{answer}}}}\"\n"));
    }
    let data = |template: &str| DatasetConfig {
        files: Some(shared.join("data").join(template).to_string_lossy().into_owned()),
        ..DatasetConfig::default()
    };
    place.config.datasets.insert("openai/gsm8k".into(), data("gsm8k/{split}.jsonl"));
    place.config.datasets.insert("allenai/openbookqa".into(), data("openbookqa/{split}.jsonl"));
    place.config.datasets.insert(
        "nguha/legalbench".into(),
        DatasetConfig { license: Some("CC-BY-NC-4.0".into()), ..data("legalbench/{config}.{split}.jsonl") },
    );
    let ctx = place.session();
    let sql = "SELECT task, count(*), count(question), count(DISTINCT seed_id), min(license), min(license_evidence) FROM seeds GROUP BY task ORDER BY task";
    let found = rows(&ctx, sql).await;
    let counts: Vec<&[String]> = found.iter().map(|row| &row[..4]).collect();
    assert_eq!(
        counts,
        [
            ["legalbench_abercrombie", "5", "5", "5"],
            ["legalbench_proa", "5", "5", "5"],
            ["gsm8k", "7473", "7473", "7473"],
            ["openbookqa", "4956", "4956", "4956"],
        ]
        .iter()
        .map(|row| row.map(str::to_owned))
        .collect::<std::collections::BTreeSet<_>>()
        .iter()
        .map(|row| &row[..])
        .collect::<Vec<_>>()
    );
    assert_eq!(&found[1][4..], ["CC-BY-NC-4.0", "seedmill.toml"]);
    let labels = "SELECT options, answer_index, answer_text, answer_is_label, passage FROM seeds WHERE task = 'legalbench_abercrombie' ORDER BY source_row LIMIT 1";
    assert_eq!(
        rows(&ctx, labels).await,
        [[
            "[generic, descriptive, suggestive, arbitrary, fanciful]",
            "0",
            "generic",
            "true",
            "The mark \"Ivory\" for a product made of elephant tusks.",
        ]]
    );
    assert_eq!(rows(&ctx, "SELECT count(*) FROM heldout WHERE task = 'gsm8k'").await, [["1319"]]);
    assert_eq!(rows(&ctx, "SELECT count(*) FROM heldout.openbookqa").await, [["1000"]]);
}
