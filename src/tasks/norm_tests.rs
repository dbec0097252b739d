//! How rows become seeds: statements in place of Python, answers by meaning, and the check against the harness.

use std::path::PathBuf;

use super::Golden;
use super::tests::{Workplace, rows, session, shared};
use crate::config::DatasetConfig;

/// A config's first lines for rows in `<name>.jsonl` beside it.
fn json(name: &str) -> String {
    format!(
        "task: {name}\ndataset_path: json\ntraining_split: train\ndataset_kwargs: {{data_files: {{train: {name}.jsonl}}}}\n"
    )
}

const HELLASWAG: &str = "output_type: multiple_choice\nprocess_docs: !function utils.process_docs\ndoc_to_text: '{{query}}'\n\
                         doc_to_target: '{{label}}'\ndoc_to_choice: choices\n";

fn with_hellaswag() -> Workplace {
    let place = Workplace::new();
    place.write("hellaswag/hs.yaml", &format!("{}{HELLASWAG}", json("hs")));
    place.write(
        "hellaswag/hs.jsonl",
        "{\"activity_label\": \"Baking\", \"ctx_a\": \"A man [title] Mix.\", \"ctx_b\": \"he STIRS\", \"endings\": [\"it [step] well.\", \"on\"], \"label\": \"1\"}\n",
    );
    place
}

#[tokio::test]
async fn a_statement_stands_for_a_python_function_and_the_printed_sql_shows_it() {
    let place = with_hellaswag();
    let catalog = place.catalog();
    let ctx = session(&catalog);
    let sql = "SELECT question, options, answer_index, answer_text, prompt_text, target_text, source_row FROM norm.hs";
    let query = "Baking: A man. Mix. He stirs";
    assert_eq!(rows(&ctx, sql).await, [[query, "[it well., on]", "1", "on", query, "on", "0"]]);
    let printed = catalog.norm_sql(&ctx, "hs").await.unwrap();
    assert!(printed.contains("-- sql/tasks/hellaswag.sql"), "{printed}");
}

#[tokio::test]
async fn a_users_statement_goes_before_ours_and_a_bad_one_names_its_file() {
    let mut place = with_hellaswag();
    let folder = place.folder.path().join("sql/tasks");
    std::fs::create_dir_all(&folder).unwrap();
    let write = |sql: &str| std::fs::write(folder.join("mine.sql"), sql).unwrap();
    place.config.sql = Some(folder.clone());
    let header = "-- function: hellaswag.utils.process_docs\n-- format: cloze\n";
    write(&format!("{header}SELECT *, upper(ctx_a) AS query, endings AS choices FROM rows;\n"));
    let found = rows(&place.session(), "SELECT format, question FROM norm.hs").await;
    assert_eq!(found, [["cloze", "A MAN [TITLE] MIX."]]);
    for (sql, error) in [
        ("SELECT *, no_such AS query, endings AS choices FROM rows;\n", "no_such"),
        ("SELECT ctx_a AS query, endings AS choices FROM rows;\n", "the statement gives no column 'source_row'"),
    ] {
        write(&format!("{header}{sql}"));
        let message = place.session().sql("SELECT * FROM norm.hs").await.unwrap_err().to_string();
        assert!(message.contains("sql/tasks/mine.sql") && message.contains(error), "{message}");
    }
}

#[tokio::test]
async fn a_function_without_a_statement_is_listed_as_missing() {
    let place = Workplace::new();
    let config = "doc_to_text: !function utils.render\ndoc_to_target: answer\n";
    place.write("own/own.yaml", &format!("{}{config}", json("own")));
    place.write("own/own.jsonl", "{\"question\": \"q\", \"answer\": \"a\"}\n");
    let missing = "SELECT task, message FROM tasks WHERE reason = 'python_function'";
    let found = rows(&place.session(), missing).await;
    assert_eq!(found.len(), 1);
    let message = &found[0][1];
    assert!(message.contains("(doc_to_text: !function ") && message.contains("own/utils.render)"), "{message}");
}

#[tokio::test]
async fn letters_stand_for_the_texts_beside_them_in_the_prompt() {
    let place = Workplace::new();
    let letters = "output_type: multiple_choice\ndoc_to_choice: [A, B]\ndoc_to_target: answer\n";
    place.write(
        "columns.yaml",
        &format!(
            "{}{letters}doc_to_text: \"{{{{question}}}}\\nA. {{{{opa}}}}\\nB) {{{{opb.strip()}}}}\\nAnswer:\"\n",
            json("columns")
        ),
    );
    place.write("columns.jsonl", "{\"question\": \"Up?\", \"opa\": \"sky\", \"opb\": \" sea \", \"answer\": \"B\"}\n");
    place.write(
        "constants.yaml",
        &format!(
            "{}{letters}doc_to_text: \"Is it well? {{{{sentence}}}}\\nA. Well\\nB. Ill\\nAnswer:\"\n",
            json("constants")
        ),
    );
    place.write("constants.jsonl", "{\"sentence\": \"I are.\", \"answer\": \"B\"}\n");
    let sql = "SELECT task, options, answer_index, answer_text, target_text FROM seeds ORDER BY task";
    let expected = [["columns", "[sky, sea]", "1", "sea", "B"], ["constants", "[Well, Ill]", "1", "Ill", "B"]];
    assert_eq!(rows(&place.session(), sql).await, expected);
}

#[tokio::test]
async fn options_whose_right_one_always_stands_in_one_place_are_shuffled() {
    let place = Workplace::new();
    let config =
        "output_type: multiple_choice\ndoc_to_text: question\ndoc_to_target: 2\ndoc_to_choice: '{{[a, b, c]}}'\n";
    place.write("last.yaml", &format!("{}{config}", json("last")));
    let row = |n: usize| format!("{{\"question\": \"q{n}\", \"a\": \"x\", \"b\": \"y\", \"c\": \"right\"}}\n");
    place.write("last.jsonl", &(0..40).map(row).collect::<String>());
    let sql = "SELECT count(DISTINCT answer_index), count(*) FILTER (WHERE answer_text = 'right' AND options[answer_index + 1] = 'right'), \
               count(*) FILTER (WHERE target_text = 'right') FROM seeds";
    assert_eq!(rows(&place.session(), sql).await, [["3", "40", "40"]]);
}

#[tokio::test]
async fn a_target_that_looks_like_a_list_is_several_answers_only_where_it_holds_texts() {
    let place = Workplace::new();
    place.write("many.yaml", &format!("{}doc_to_text: q\ndoc_to_target: '{{{{a}}}}'\n", json("many")));
    place.write(
        "many.jsonl",
        "{\"q\": \"1\", \"a\": \"['Rome', 'Roma']\"}\n{\"q\": \"2\", \"a\": \"[0, 1]\"}\n{\"q\": \"3\", \"a\": null}\n",
    );
    let sql = "SELECT question, target_text, answer_text FROM norm.many ORDER BY source_row";
    let found = rows(&place.session(), sql).await;
    assert_eq!(found[..2], [["1", "Rome", "Rome"], ["2", "0", "[0, 1]"]]);
}

#[tokio::test]
async fn a_worked_solution_is_a_rationale_without_the_calculators_marks_and_its_number_the_answer() {
    let place = Workplace::new();
    place.write(
        "sums.yaml",
        &format!(
            "{}doc_to_text: \"{{{{question}}}}\"\ndoc_to_target: \"{{{{answer}}}}\"\nmetadata: {{format: numeric}}\n",
            json("sums")
        ),
    );
    place.write("sums.jsonl", "{\"question\": \"How many?\", \"answer\": \"48/2 = <<48/2=24>>24 clips.\\n#### 24\"}\n");
    let found = rows(&place.session(), "SELECT answer_text, rationale, target_text FROM norm.sums").await;
    assert_eq!(found, [["24", "48/2 = 24 clips.", "48/2 = <<48/2=24>>24 clips.\n#### 24"]]);
}

#[tokio::test]
async fn answers_are_right_where_the_harnesss_target_is_none() {
    let mut place = Workplace::new();
    let choice = "output_type: multiple_choice\n";
    let cases = [
        (
            "triviaqa",
            "mandarjoshi/trivia_qa",
            "doc_to_text: 'Question: {{question}}?'\ndoc_to_target: '{{answer.aliases}}'\n".to_owned(),
            r#"{"question": "Which street", "answer": {"value": "Sunset Boulevard", "aliases": ["Sunset Blvd", "West Sunset"]}}"#,
            ["Which street", "Sunset Boulevard", "Sunset Blvd", "NULL"],
        ),
        (
            "drop",
            "EleutherAI/drop",
            "process_docs: !function drop.utils.process_docs\ndoc_to_text: '{{passage}} {{question}}'\ndoc_to_target: \"{{ answer|join(',')}}\"\n".to_owned(),
            r#"{"passage": "p", "question": "Who?", "query_id": "1", "answer": {"number": "", "date": {"day": "", "month": "", "year": ""}, "spans": ["Bears", "Lions"]}}"#,
            ["Who?", "Bears, Lions", "number,date,spans", "NULL"],
        ),
        (
            "multirc",
            "aps/super_glue",
            format!("dataset_name: multirc\n{choice}doc_to_text: '{{{{paragraph}}}}'\ndoc_to_target: label\ndoc_to_choice: \"['''{{{{answer}}}}? yes''', '''{{{{answer}}}}? no''']\"\n"),
            r#"{"paragraph": "p", "question": "Who?", "answer": "it's me", "label": 1}"#,
            ["Who? Is the answer \"it's me\" correct?", "yes", "it's me? no", "[no, yes]"],
        ),
        (
            "mbpp",
            "google-research-datasets/mbpp",
            "doc_to_text: '{{text}}'\ndoc_to_target: '{% if is_fewshot is defined %}{{code}}{% else %}{{test_list[0]}}{% endif %}'\n".to_owned(),
            r#"{"text": "Write f.", "code": "def f(): pass", "test_list": ["assert f() is None"]}"#,
            ["Write f.", "def f(): pass", "assert f() is None", "NULL"],
        ),
        (
            "webqs",
            "stanfordnlp/web_questions",
            format!("{choice}doc_to_text: '{{{{question}}}}'\ndoc_to_target: !function webqs.utils.doc_to_target\ndoc_to_choice: !function webqs.utils.doc_to_choice\n"),
            r#"{"question": "what is spoken?", "answers": ["Patois", "English", "English Creole"]}"#,
            ["what is spoken?", "Patois, English, English Creole", "English", "NULL"],
        ),
        (
            "winogrande",
            "allenai/winogrande",
            format!("{choice}doc_to_text: !function winogrande.preprocess_winogrande.doc_to_text\ndoc_to_target: !function winogrande.preprocess_winogrande.doc_to_target\n\
                     doc_to_choice: !function winogrande.preprocess_winogrande.doc_to_choice\n"),
            r#"{"sentence": "Ian fed Dennis as _ was hungry.", "option1": "Ian", "option2": "Dennis", "answer": "2"}"#,
            ["Ian fed Dennis as ____ was hungry.", "Dennis", "was hungry.", "[Ian, Dennis]"],
        ),
    ];
    for (task, dataset, config, row, _) in &cases {
        place.write(
            &format!("{task}/{task}.yaml"),
            &format!("task: {task}\ndataset_path: {dataset}\ntraining_split: train\n{config}"),
        );
        let file = place.write(&format!("{task}/rows.jsonl"), &format!("{row}\n"));
        let files = Some(file.to_string_lossy().into_owned());
        place.config.datasets.insert((*dataset).to_owned(), DatasetConfig { files, ..DatasetConfig::default() });
    }
    let ctx = place.session();
    for (task, _, _, _, expected) in cases {
        let sql = format!("SELECT question, answer_text, target_text, options FROM norm.{task}");
        assert_eq!(rows(&ctx, &sql).await, [expected], "{task}");
    }
}

#[tokio::test]
async fn the_check_counts_what_is_equal_and_shows_what_is_not() {
    let place = Workplace::new();
    let header = r#"{"task": "t", "header": true, "features": {"q": "Value('string')"}, "config": {"doc_to_text": "Q: {{q}}", "doc_to_target": "{{q | upper}}"}}"#;
    let row = |n: usize, prompt: &str| {
        format!(
            r#"{{"task": "t", "row": {n}, "doc": {{"q": "a"}}, "doc_to_text": "{prompt}", "doc_to_target": "A", "errors": {{}}}}"#
        )
    };
    let python = r#"{"task": "p", "header": true, "features": {}, "config": {"doc_to_text": "!function lm_eval.tasks.none.f", "doc_to_target": "q"}}"#;
    let file = place.write("golden.jsonl", &[header, &row(0, "Q: a"), &row(1, "Q: b"), python].join("\n"));
    let comparison = Golden::read(&file).unwrap().check(None, None).await.unwrap();
    assert!(!comparison.is_equal());
    let counts = comparison.fields["doc_to_text"];
    assert_eq!((counts.equal, counts.different, counts.failed), (1, 1, 0));
    assert_eq!(comparison.fields["doc_to_target"].equal, 2);
    let [difference] = &comparison.differences[..] else { panic!("{:?}", comparison.differences) };
    assert_eq!((difference.task.as_str(), difference.row, difference.field), ("t", 1, "doc_to_text"));
    assert_eq!((difference.expected.as_str(), difference.found.as_deref()), ("Q: b", Some("Q: a")));
    assert!(comparison.failed_tasks[0].1.contains("lm_eval.tasks.none.f"), "{:?}", comparison.failed_tasks);
    let lost = place.write("lost.jsonl", &row(0, "Q: a"));
    let error = Golden::read(&lost).unwrap_err().to_string();
    assert!(error.contains("lost.jsonl:1: the task 't' has no header"), "{error}");
}

#[tokio::test]
async fn shared_every_golden_row_is_rendered_as_in_the_harness() {
    let Some(shared) = shared() else { return };
    for (name, tasks, rows) in [("synthetic.jsonl", 476, 594), ("real.jsonl", 11, 728)] {
        let file: PathBuf = shared.join("golden").join(name);
        let comparison = Golden::read(&file).unwrap().check(None, None).await.unwrap();
        println!("{name}: {} tasks, {} rows: {:?}", comparison.tasks, comparison.rows, comparison.fields);
        assert_eq!((comparison.tasks, comparison.rows), (tasks, rows), "{name}");
        assert!(comparison.is_equal(), "{name}: {:?} {:?}", comparison.failed_tasks, comparison.differences.first());
    }
}
