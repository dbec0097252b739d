//! The quickstart as a user has it: the repository's own configuration and the real embedded model, whose weights come
//! through pip where they are not in the cache. Structure is asserted, never truth.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

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

    // Every function of a usable task has a statement, and all of them say what the harness says.
    let missing = scratch.ok(&["tasks", "--missing", "--from", "harness", "--format", "csv"]);
    assert_eq!(missing.lines().filter(|line| !line.is_empty()).count(), 1, "{missing}");
    for golden in ["synthetic.jsonl", "real.jsonl"] {
        let golden = shared.join("golden").join(golden);
        scratch.ok(&["tasks", "check", &golden.to_string_lossy(), "--from", "harness"]);
    }
}

/// Every config of the harness, as pip gives it. The figures are those of release 0.4.13.
#[test]
fn peers_every_leaf_task_of_the_harness_is_one_classified_row() {
    let scratch = Scratch::empty();
    let python = |arguments: &[&str]| {
        let status = Command::new("python3").args(arguments).current_dir(scratch.path()).status().unwrap();
        assert!(status.success(), "{arguments:?}");
    };
    python(&["-m", "pip", "download", "--quiet", "--no-deps", "lm_eval==0.4.13", "-d", "wheel"]);
    python(&["-m", "zipfile", "-e", "wheel/lm_eval-0.4.13-py3-none-any.whl", "harness"]);
    scratch.write("seedmill.toml", "[tasks]\nfrom = [\"harness\"]\n");
    let value = |sql: &str| scratch.value(sql);
    let count = |filter: &str| value(&format!("SELECT count(*) FROM tasks WHERE {filter}"));
    assert_eq!(value("SELECT concat(count(*), ' ', count(DISTINCT task)) FROM tasks"), "13123 13123");
    let accepted = "SELECT concat(count(*), ' ', count(DISTINCT dataset_path), ' ', count(DISTINCT family)) FROM tasks \
                    WHERE status = 'accepted'";
    assert_eq!(value(accepted), "466 110 69");
    assert_eq!(count("status = 'accepted' AND needs = 'sql_override'"), "139");
    assert_eq!(count("status = 'accepted_fewshot_train'"), "450");
    assert_eq!(count("reason = 'not_a_train_split' AND family = 'mmlusr'"), "171");
    assert_eq!(count("reason = 'train_is_scored'"), "526");
    assert_eq!(count("reason = 'python_class'"), "29");
    assert_eq!(count("reason = 'python_class' AND train_split IS NOT NULL"), "26");
    assert_eq!(count("reason IN ('broken_config', 'duplicate_name')"), "0");
    for (task, reason) in [
        ("gpqa_main_n_shot", "train_is_scored"),
        ("blimp_adjunct_island", "train_is_scored"),
        ("gsm_plus", "train_is_scored"),
        ("gsm8k_platinum", "train_is_scored"),
        ("realtoxicityprompts", "train_is_scored"),
        ("ifeval", "train_is_scored"),
        ("common_voice_en", "not_text"),
        ("doc_vqa", "not_text"),
        ("wikitext", "unsupported_output_type"),
        ("mmlu_abstract_algebra", "no_training_split"),
    ] {
        assert_eq!(value(&format!("SELECT reason FROM tasks WHERE task = '{task}'")), reason, "{task}");
    }
    assert_eq!(count("task IN ('cieacova_choice', 'cieacova_word', 'wnli_es') AND status = 'accepted'"), "3");
    // One config that cannot be read takes nothing else with it, and the snapshot of the others is not believed.
    scratch.write("harness/lm_eval/tasks/gsm8k/broken.yaml", "task: [\n");
    assert_eq!(count("true"), "13124");
    assert_eq!(value("SELECT family FROM tasks WHERE reason = 'broken_config'"), "gsm8k");
}

/// llama.cpp's own server on loopback; it ends with its standard input.
const SERVE: &str = "
import sys
import xllamacpp
p = xllamacpp.CommonParams()
p.model.path = sys.argv[1]
p.port = 0
p.n_ctx = 4096
p.n_parallel = 4
p.warmup = False
p.cpuparams.n_threads = 1
p.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(p)
print(server.listening_address, flush=True)
sys.stdin.read()
";

struct LlamaServer {
    process: Child,
    url: String,
}

impl LlamaServer {
    /// In a folder of Python packages.
    fn start(packages: &Path, weights: &Path) -> Self {
        let mut process = Command::new("python3")
            .args(["-c", SERVE])
            .arg(weights)
            .env("PYTHONPATH", packages)
            // Two threads that wait actively on a busy machine take ten times as long.
            .envs([("OMP_WAIT_POLICY", "passive"), ("OMP_NUM_THREADS", "1")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = lines.map_while(Result::ok).find(|line| line.starts_with("http://"));
        let address = address.expect("the server ended before it said where it listens");
        LlamaServer { process, url: format!("{address}/v1") }
    }
}

impl Drop for LlamaServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn peers_a_real_server_answers_100_calls_as_the_schema_says() {
    let scratch = Scratch::empty();
    let weights = PathBuf::from(scratch.ok(&["model", "fetch"]).trim());
    let packages = scratch.path().join("packages");
    let pip = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps"])
        .args(["--only-binary", ":all:", "xllamacpp==2026.10.11549", "--target"])
        .arg(&packages)
        .status()
        .unwrap();
    assert!(pip.success());
    let server = LlamaServer::start(&packages, &weights);
    scratch.write(
        "seedmill.toml",
        &format!(
            "[models.llama]\nprovider = \"openai\"\nbase_urls = [\"{}\"]\nmodel = \"smollm2\"\nmax_in_flight = 4\n",
            server.url
        ),
    );
    let call = "generate((SELECT value FROM generate_series(1, 100)), model => 'llama', prompt => 'Animal ' || value || ':', \
                returns => 'name VARCHAR(12), wild BOOLEAN', temperature => 0.7, max_tokens => 48, seed => 1)";
    let sql = format!(
        "SELECT count(*) FILTER (WHERE name IS NOT NULL AND wild IS NOT NULL) AS parsed, \
         count(*) FILTER (WHERE generate_call['error'] IS NOT NULL) AS failed, \
         sum(generate_call['prompt_tokens']) AS prompt_tokens, sum(generate_call['completion_tokens']) AS completion_tokens, \
         max(length(name)) AS longest FROM {call}"
    );
    let numbers = |row: &str| row.split(',').map(|n| n.parse().unwrap()).collect::<Vec<u64>>();
    let [parsed, failed, prompt_tokens, completion_tokens, longest] = numbers(&scratch.value(&sql))[..] else {
        panic!("five numbers were asked for")
    };
    println!(
        "100 calls to llama.cpp: {parsed} parsed, {failed} failed, {prompt_tokens} + {completion_tokens} tokens, names of up \
         to {longest} characters"
    );
    println!("{}", scratch.ok(&["calls"]));
    assert_eq!(parsed + failed, 100);
    assert!(parsed >= 90);
    assert!(longest <= 12);
    // The server counts its tokens, and every answer was written down: nothing is asked again.
    assert!(prompt_tokens >= 100 && completion_tokens >= parsed);
    drop(server);
    assert_eq!(numbers(&scratch.value(&sql))[0], parsed);
    assert_eq!(scratch.value("SELECT count(*) FROM attempts WHERE billed"), "100");
}
