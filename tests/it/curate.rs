//! `near_duplicates` and `decontaminate` over many rows, in any order and partitioning, and over real data.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::scratch::Scratch;

/// The folder of shared real data, or `None` with a printed line.
fn shared() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let folder = std::env::var_os("SEEDMILL_SHARED").map_or(default, PathBuf::from);
    if !folder.is_dir() {
        println!("skipped: there is no folder {} (set SEEDMILL_SHARED)", folder.display());
        return None;
    }
    Some(folder)
}

/// 6,000 short texts over few words, so that many are alike; in this order or the other way round.
fn items(backwards: bool) -> String {
    let words = ["red", "plum", "river", "seven", "tower", "slow"];
    let mut lines: Vec<String> = (0..6000u64)
        .map(|id| {
            let mut state = id / 3;
            let mut text = String::new();
            for place in 0..14 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let word = words[(state >> 33) as usize % words.len()];
                // Three texts of a kind differ in their ends.
                let _ = write!(text, "{word} {}", if place == 13 && id % 3 > 0 { "end " } else { "" });
            }
            format!("{{\"id\": {id}, \"score\": {}, \"text\": \"{text}{}\"}}\n", id % 7, id % 2)
        })
        .collect();
    if backwards {
        lines.reverse();
    }
    lines.concat()
}

#[test]
fn duplicates_are_the_same_in_any_order_and_partitioning() {
    let sql = "SELECT id, duplicate FROM near_duplicates(items, key => id, text => text, threshold => 0.7, prefer => score) \
               ORDER BY id";
    let mut answers = Vec::new();
    for (backwards, partitions, batch) in [(false, 1, 8192), (true, 5, 100), (false, 3, 7)] {
        let scratch = Scratch::new("http://127.0.0.1:1", 1, "[tables.items]\nlocation = \"items.jsonl\"\n");
        scratch.write("items.jsonl", &items(backwards));
        let settings = format!(
            "SET datafusion.execution.target_partitions = {partitions}; SET datafusion.execution.batch_size = {batch}; \
             SET datafusion.optimizer.repartition_file_min_size = 1;"
        );
        answers.push(scratch.texts(&format!("{settings} {sql}")));
    }
    assert_eq!(answers[0].len(), 6000);
    let duplicates = answers[0].iter().filter(|row| !row[1].is_empty() && row[1] != "NULL").count();
    assert!((1000..5000).contains(&duplicates), "{duplicates}");
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
}

#[test]
fn shared_questions_of_mgsm_are_found_in_gsm8k_and_training_questions_are_not() {
    let Some(folder) = shared() else { return };
    let table = |name: &str, file: &str| {
        let file = folder.join("data").join(file);
        assert!(file.is_file(), "{} is missing", file.display());
        format!("[tables.{name}]\nlocation = \"{}\"\n", file.display())
    };
    let tables =
        table("exam", "gsm8k/test.jsonl") + &table("mgsm", "mgsm/test.jsonl") + &table("train", "gsm8k/train.jsonl");
    let scratch = Scratch::new("http://127.0.0.1:1", 1, &tables);
    let count = |rows: &str, more: &str| {
        scratch.number(&format!(
            "SELECT count(*) FROM decontaminate({rows}, against => exam, text => question) WHERE {more}"
        ))
    };
    assert_eq!(count("mgsm", "contamination IS NOT NULL"), 250);
    assert!(count("mgsm", "contamination['rule'] = 'exact'") > 240);
    // Of 7,473 training questions fewer than one in 200 repeats a test question.
    assert!(count("train", "contamination IS NOT NULL") < 37);
    let marked = "SELECT count(*) FROM generate((SELECT question FROM decontaminate(mgsm, against => exam, text => question)), \
                  model => 'm', prompt => question)";
    let refused = scratch.run(&["sql", "-c", marked]);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(error.contains("the table mgsm holds held-out rows"), "{error}");
}
