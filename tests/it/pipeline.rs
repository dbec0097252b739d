//! The standard pipeline over the example tasks, with a server in the model's place.

use std::path::{Path, PathBuf};

use crate::fault_server::{FaultServer, Reply, answer};
use crate::scratch::Scratch;
use serde_json::{Value, json};
use std::time::Duration;

/// Answers as a writer, a solver and an enricher would: new questions that depend on the prompt, and one right answer.
pub fn writer_and_solver(body: &Value, _nth: u64) -> Reply {
    let messages = body["messages"].as_array().unwrap();
    let asked = messages.last().unwrap()["content"].as_str().unwrap();
    let key = blake3::hash(format!("{asked}{}", body["seed"]).as_bytes()).to_hex();
    // Words, not hexadecimal noise: the checks count words.
    let word =
        |at: usize| -> String { key.as_bytes()[at..at + 6].iter().map(|b| char::from(b'a' + (b % 26))).collect() };
    let schema = &body["response_format"]["json_schema"]["schema"]["properties"];
    // A list of items where several may be asked for.
    let is_list = schema["items"].is_object();
    let schema = if is_list { &schema["items"]["items"]["properties"] } else { schema };
    let mut object = serde_json::Map::new();
    for (name, property) in schema.as_object().unwrap() {
        let value = match name.as_str() {
            "question" => json!(format!("Why does the {} follow the {} near ____ {}?", word(0), word(6), word(12))),
            // One that may be left out: the exercises shown have none.
            "passage" if property["type"] != "string" => Value::Null,
            "passage" => json!(format!("The {} stands beside the {} today.", word(18), word(24))),
            "answer_text" if property["enum"].is_array() => property["enum"][0].clone(),
            "answer_text" | "rationale" if asked.contains("rationale") => json!("42"),
            "answer_text" => json!(format!("{} {}", word(30), word(36))),
            "distractors" => {
                let said = asked.split(" distractors").next().unwrap().rsplit(' ').next().unwrap();
                let wanted = property["minItems"].as_u64().filter(|n| *n > 0).or(said.parse().ok()).unwrap_or(3);
                json!((0..wanted as usize).map(|n| word(42 + 4 * n)).collect::<Vec<_>>())
            }
            "answer" => match asked.lines().rev().find_map(|line| line.strip_prefix("Options: ")) {
                Some(options) => json!(options.split(", ").min().unwrap()),
                None if asked.contains("entailment") => json!("neutral"),
                None if asked.contains("\"yes\"") => json!("yes"),
                None => json!("42"),
            },
            "knowledge" => json!([format!("A {} is known to follow.", word(0))]),
            "reasoning" => json!(format!("The {} follows since the {} leads it.", word(0), word(6))),
            "findings" => json!("It was read."),
            // Every other exercise by its first letter.
            "is_valid" => json!(asked.split("Why does the ").nth(1).is_some_and(|rest| rest < "n")),
            "has_one_answer" | "is_self_contained" => json!(true),
            other => panic!("the pipeline asks for {other}, which this test does not know"),
        };
        object.insert(name.clone(), value);
    }
    let answer = Value::Object(object);
    let answer = if is_list { json!({ "items": [answer] }) } else { answer };
    Reply::Answer(answer.to_string(), Duration::ZERO)
}

pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The repository's own pipeline folder and settings, with the model `m` as writer and solver.
pub fn workspace(server: &FaultServer) -> Scratch {
    let repository = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let settings = std::fs::read_to_string(repository.join("seedmill.toml")).unwrap();
    let settings = &settings[settings.find("[tasks]").unwrap()..];
    let scratch = Scratch::new(server.url(), 8, settings);
    copy_folder(&repository.join("sql"), &scratch.path().join("sql"));
    scratch
}

pub const MODELS: [&str; 4] = ["--set", "writer=m", "--set", "solver=m"];

fn runs(scratch: &Scratch) -> Vec<PathBuf> {
    let mut runs: Vec<PathBuf> =
        std::fs::read_dir(scratch.path().join("runs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    runs.sort();
    runs
}

fn rows(scratch: &Scratch, run: &Path, kind: &str, column: &str) -> Vec<String> {
    let sql = format!(
        "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '{}/{kind}/'; SELECT {column} FROM t ORDER BY 1",
        run.display()
    );
    scratch.ok(&["sql", "--format", "ndjson", "-c", &sql]).lines().map(str::to_owned).collect()
}

#[test]
fn the_standard_pipeline_publishes_and_a_second_run_replays_it() {
    let server = FaultServer::start(writer_and_solver);
    let scratch = workspace(&server);
    let run = scratch.run(&[&["run"], &MODELS[..]].concat());
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && !said.contains("note: ") && !said.contains("warning"), "{said}");
    let out = String::from_utf8_lossy(&run.stdout);
    for part in [
        "Funnel",
        "seeds",
        "kept",
        "Why items were rejected",
        "unverified",
        "Kept, 3 of",
        "Rejected, 3 of",
        "Published in",
    ] {
        assert!(out.contains(part), "'{part}' is not in:\n{out}");
    }
    let asked = server.count();
    assert!(asked > 100, "{asked}");
    let attempts = scratch.value("SELECT count(*) FROM attempts");

    let again = scratch.ok(&[&["run"], &MODELS[..]].concat());
    assert!(again.contains("0 calls asked"), "{again}");
    assert_eq!(server.count(), asked);
    assert_eq!(scratch.value("SELECT count(*) FROM attempts"), attempts);
    let published = runs(&scratch);
    assert_eq!(published.len(), 2);
    for kind in ["data", "rejected"] {
        let columns = "id, question, answer_text, options, calls, votes";
        let first = rows(&scratch, &published[0], kind, columns);
        assert!(!first.is_empty());
        assert_eq!(first, rows(&scratch, &published[1], kind, columns));
    }
    // Every seed is accounted for: nothing is dropped between generate and the two folders.
    let generated: usize =
        scratch.value("SELECT count(DISTINCT call_id) FROM call_uses WHERE stage = 'generate_call'").parse().unwrap();
    let all = rows(&scratch, &published[0], "data", "id").len() + rows(&scratch, &published[0], "rejected", "id").len();
    assert_eq!(all, generated);
    assert_eq!(scratch.value("SELECT count(*) FROM runs"), "2");
    // The newest run is there by name.
    let named: usize =
        scratch.value("SELECT (SELECT count(*) FROM curated) + (SELECT count(*) FROM rejected)").parse().unwrap();
    assert_eq!(named, generated);
    // Answers are texts, not letters, and rows without a seed do not exist.
    let bad = "count(*) FILTER (WHERE is_option_letter(answer_text) OR cardinality(seed_ids) = 0 OR split <> 'train')";
    assert!(rows(&scratch, &published[0], "data", bad)[0].ends_with(":0}"));
}

#[test]
fn a_commercial_run_asks_nothing_about_seeds_it_may_not_use() {
    let server = FaultServer::start(writer_and_solver);
    let scratch = workspace(&server);
    scratch.ok(&[&["run", "--set", "target=commercial"], &MODELS[..]].concat());
    let licences = rows(&scratch, &runs(&scratch)[0], "data", "DISTINCT license");
    assert_eq!(licences, ["{\"license\":\"CC0-1.0\"}"]);
    let refused = scratch.ok(&[
        "sql", "--format", "csv", "--set", "target=commercial", "-c",
        "SELECT task, count(*) FROM (SELECT task, unnest(reasons) AS reason FROM seed_verdicts) WHERE reason = 'licence' GROUP BY task",
    ]);
    assert!(refused.contains("garden_answers,40"), "{refused}");
    // The gate stands in the planner: SQL that forgets the licence is gated too.
    let gated = scratch.ok(&[
        "sql", "--format", "csv", "--set", "target=commercial", "-c",
        "SELECT count(DISTINCT license) FROM generate((SELECT license FROM seeds), model => 'm', prompt => 'x', when => false)",
    ]);
    assert!(gated.lines().nth(1) == Some("1"), "{gated}");
    let output = scratch.run(&[
        "sql",
        "--set",
        "target=commercial",
        "-c",
        "SELECT * FROM generate(norm.garden_answers, model => 'm', prompt => question)",
    ]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("CC-BY-NC-4.0, which does not permit a commercial run"), "{error}");
}

#[test]
fn an_instruction_tells_each_seed_how_its_item_is_to_differ() {
    let server = FaultServer::start(writer_and_solver);
    let scratch = workspace(&server);
    scratch.ok(&[&["run", "--quiet", "--set", "prompts=instructions"], &MODELS[..]].concat());
    let items = "(SELECT * FROM run.curated UNION ALL SELECT * EXCEPT (reasons) FROM run.rejected)";
    let sql = format!("SELECT operator, count(*) FROM {items} GROUP BY operator ORDER BY 2 DESC, 1");
    let operators = scratch.texts(&sql);
    assert_eq!(operators[0][0], "similar", "{operators:?}");
    assert!(operators.len() == 5, "{operators:?}");
    // What was drawn is what was said.
    let instructed = format!(
        "SELECT count(*) FROM (SELECT operator, unnest(calls) AS call FROM {items}) AS i
         JOIN run.calls AS c ON c.call_id = i.call['call_id'] AND c.stage = 'generate_call'
         WHERE strpos(c.messages, (SELECT min(o.instruction) FROM operators AS o WHERE o.operator = i.operator)) = 0"
    );
    let output = scratch.run(&["sql", "--format", "csv", "--set", "writer=m", "--set", "solver=m", "-c", &instructed]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.lines().nth(1), Some("0"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    // Two options more than the seed, and no more than that, where that is the instruction.
    let more = format!(
        "SELECT DISTINCT operator = 'more_distractors', cardinality(i.options) - cardinality(s.options)
         FROM (SELECT operator, options, unnest(seed_ids) AS seed_id FROM {items}
               WHERE format = 'multiple_choice' AND options IS NOT NULL) AS i
         JOIN run.seeds AS s ON s.seed_id = i.seed_id ORDER BY 1"
    );
    assert_eq!(scratch.texts(&more), [["false", "0"], ["true", "2"]]);
    assert!(scratch.number("SELECT count(*) FROM run.curated") > 0);
}

#[test]
fn a_judge_is_asked_about_what_passed_the_vote_and_only_where_one_is_named() {
    let server = FaultServer::start(writer_and_solver);
    let scratch = workspace(&server);
    let plan = scratch.ok(&[&["explain"], &MODELS[..]].concat());
    assert!(!plan.contains("call=judge_call"), "{plan}");
    scratch.ok(&[&["run", "--quiet"], &MODELS[..]].concat());
    assert_eq!(scratch.value("SELECT count(*) FROM call_uses WHERE stage = 'judge_call'"), "0");
    let enriched = scratch.number("SELECT count(*) FROM run.calls WHERE stage = 'enrich_call'");

    let out = scratch.ok(&[&["run", "--set", "judge=m"], &MODELS[..]].concat());
    assert!(out.contains("judged"), "{out}");
    let judged = scratch.number("SELECT count(*) FROM run.calls WHERE stage = 'judge_call'");
    assert_eq!(judged, enriched);
    let refused = scratch.number("SELECT count(*) FROM run.rejected WHERE array_has(reasons, 'judge_not_valid')");
    assert!(refused > 0 && refused < judged, "{refused} of {judged}");
    assert_eq!(scratch.number("SELECT count(*) FROM run.calls WHERE stage = 'enrich_call'"), judged - refused);
    // The judge's calls are among those that an item names.
    let named = "SELECT count(*) FROM (SELECT unnest(calls) AS call FROM run.curated) WHERE call['stage'] = 'judge'";
    assert_eq!(scratch.number(named), scratch.number("SELECT count(*) FROM run.curated"));
}

#[test]
fn explain_prints_the_whole_plan_and_makes_no_call() {
    let server = FaultServer::start(writer_and_solver);
    let scratch = workspace(&server);
    let plan = scratch.ok(&[&["explain", "--physical"], &MODELS[..]].concat());
    for part in [
        "CopyTo: format=curated",
        "Enrich: model=m",
        "Generate: model=m",
        "samples=5",
        "call=solve_call",
        "GenerateExec",
    ] {
        assert!(plan.contains(part), "'{part}' is not in:\n{plan}");
    }
    assert_eq!(server.count(), 0);
}

#[test]
fn user_errors_are_one_sentence_without_a_backtrace() {
    let server = FaultServer::start(writer_and_solver);
    let scratch = workspace(&server);
    for (arguments, sentence) in [
        (vec!["run", "--set", "writer=m", "--set", "solvr=m"], "--set solvr: no statement of"),
        (vec!["run", "nowhere"], "does not exist"),
        (vec!["run", "--set", "writer=nobody"], "there is no model 'nobody'"),
        (vec!["sql", "-c", "SELEC 1"], "SELEC"),
        (vec!["sql", "-c", "SELECT nothing FROM seeds"], "nothing"),
        (vec!["sql", "-c", "SELECT * FROM generate(heldout, model => 'm', prompt => question)"], "holds held-out rows"),
        (vec!["tasks", "nosuch"], "nosuch"),
    ] {
        let output = scratch.run(&arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
        assert!(error.contains(sentence), "{arguments:?}: {error}");
        assert!(
            !error.contains("backtrace") && !error.contains("Internal error") && !error.contains("held_out_guard"),
            "{error}"
        );
    }
    assert_eq!(scratch.run(&["no-such-command"]).status.code(), Some(2));
    assert_eq!(server.count(), 0);
}

/// The standard pipeline has a call for each number of options: so many seeds are so many of all of them.
#[test]
fn a_preview_takes_so_many_seeds_whichever_call_they_reach() {
    let server = FaultServer::start(writer_and_solver);
    let scratch = workspace(&server);
    scratch.ok(&[&["run", "--quiet", "--limit-seeds", "5"], &MODELS[..]].concat());
    let generated = "SELECT count(DISTINCT call_id) FROM call_uses WHERE stage = 'generate_call'";
    assert_eq!(scratch.value(generated), "5");
    assert_eq!(scratch.value("SELECT count(*) FROM (SELECT id FROM curated UNION ALL SELECT id FROM rejected)"), "5");
}

#[test]
fn the_manifest_names_the_models_of_the_copy_that_publishes_and_not_of_one_before_it() {
    let server = FaultServer::start(answer);
    let scratch = Scratch::new(server.url(), 2, "");
    let sql = "COPY (SELECT 1 AS a) TO 'plain.csv'; \
               COPY (SELECT q AS question, completion AS answer_text, arrow_cast([], 'List(Utf8)') AS reasons \
               FROM generate((SELECT 'Why?' AS q), model => 'm', prompt => q)) TO 'runs' STORED AS CURATED";
    scratch.ok(&["sql", "-c", sql]);
    assert_eq!(scratch.value("SELECT models[1] FROM runs"), "m");
}
