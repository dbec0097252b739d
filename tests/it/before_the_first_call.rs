//! What `run` sees to before it pays for anything: models, target, prompts; and runs up to one stage.

use std::time::Duration;

use crate::closed_port::ClosedPort;
use crate::fault_server::{FaultServer, Reply};
use crate::scratch::Scratch;

/// Two stages that ask two models.
const STAGES: [(&str, &str); 2] = [
    (
        "sql/10_write.sql",
        "CREATE VIEW written AS SELECT * FROM generate((SELECT value FROM generate_series(1, 5)), model => 'm', \
         prompt => 'write ' || value, returns => 'question TEXT, answer_text TEXT')",
    ),
    (
        "sql/30_solve.sql",
        "CREATE VIEW solved AS SELECT * FROM enrich(TABLE written, model => 'solver', \
         prompt => 'solve ' || question || @more, returns => 'answer TEXT', call_as => 'solve_call');\n\
         COPY (SELECT question, answer_text, 'numbers' AS task, [CAST(value AS TEXT)] AS seed_ids, \
         reasons('failed', answer IS NULL) AS reasons FROM solved) TO 'runs' STORED AS CURATED",
    ),
];

fn server() -> FaultServer {
    FaultServer::start(|_, _| {
        Reply::Answer(r#"{"question": "q", "answer_text": "a", "answer": "a"}"#.into(), Duration::ZERO)
    })
}

/// The writer is at one address, the solver at another.
fn workspace(writer: &str, solver: &str) -> Scratch {
    let solver = format!(
        "[models.solver]\nprovider = \"openai\"\nbase_urls = [\"{solver}\"]\nmodel = \"m-2\"\nmax_retries = 0\n\
         [variables]\nmore = \"\"\n"
    );
    let scratch = Scratch::new(writer, 4, &solver);
    STAGES.iter().for_each(|(path, sql)| scratch.write(path, sql));
    scratch
}

fn refusal(scratch: &Scratch, arguments: &[&str]) -> String {
    let output = scratch.run(arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    error
}

#[test]
fn a_run_whose_last_model_is_not_there_pays_for_nothing_and_one_that_replays_needs_nobody() {
    let server = server();
    let closed = ClosedPort::hold();
    let scratch = workspace(server.url(), &closed.url());
    let error = refusal(&scratch, &["run"]);
    assert!(
        error.contains("model 'solver' cannot be asked: connect: no connection to")
            && error.contains("no call was made"),
        "{error}"
    );
    assert_eq!(server.count(), 0);

    let scratch = workspace(server.url(), server.url());
    scratch.ok(&["run"]);
    server.stop();
    assert!(scratch.ok(&["run"]).contains("0 calls asked"));
}

#[test]
fn a_key_that_the_solver_refuses_is_found_before_the_first_call() {
    let (writer, solver) = (server(), FaultServer::locked());
    let scratch = workspace(writer.url(), solver.url());
    let error = refusal(&scratch, &["run"]);
    assert!(error.contains("model 'solver' cannot be asked: refused 401"), "{error}");
    assert_eq!(writer.count(), 0);
}

#[test]
fn a_target_that_cannot_be_written_and_a_prompt_that_cannot_be_rendered_are_found_before_the_first_call() {
    let server = server();
    let scratch = workspace(server.url(), server.url());
    scratch.write("taken", "a file");
    let error = refusal(&scratch, &["run", "--out", "taken/runs"]);
    assert!(error.contains("cannot be published in") && error.contains("--out names another folder"), "{error}");

    scratch.write("sql/prompts/fails.jinja", "{{ value // 0 }}");
    scratch.write(STAGES[0].0, &STAGES[0].1.replace("'write ' || value", "render('fails')"));
    let error = refusal(&scratch, &["run"]);
    assert!(error.contains("for its first row"), "{error}");
    assert_eq!(server.count(), 0);
}

#[test]
fn only_runs_up_to_a_stage_and_the_whole_run_finds_its_answers() {
    let server = server();
    let scratch = workspace(server.url(), server.url());
    // @more is of a stage that does not run, and is no mistake; @mroe is.
    let out = scratch.ok(&["run", "--only", "write", "--set", "more=!"]);
    assert!(out.contains("5 rows of written; 5 calls asked and 0 replayed"), "{out}");
    assert!(out.contains("SELECT * FROM written LIMIT 10"), "{out}");
    assert!(!scratch.path().join("runs").exists());
    assert_eq!(server.count(), 5);
    assert!(refusal(&scratch, &["run", "--only", "10", "--set", "mroe=!"]).contains("--set mroe"));
    let error = refusal(&scratch, &["run", "--only", "sovle"]);
    assert!(error.contains("there is no stage 'sovle'") && error.contains("10_write, 30_solve"), "{error}");

    let out = scratch.ok(&["run", "--set", "more=!"]);
    // All five questions are alike, and so is what is asked about them.
    assert!(out.contains("1 call asked and 9 replayed"), "{out}");
    assert_eq!(server.count(), 6);
}

/// The second stage with a template in the place of its prompt, behind a condition that no row made up meets.
fn with_solve_template(scratch: &Scratch, template: &str, rows: u32) {
    scratch.write("sql/prompts/solve.jinja", template);
    let prompt = "CASE WHEN question = 'nobody asks' THEN 'x' ELSE render('solve') || @more END";
    scratch.write(STAGES[0].0, &STAGES[0].1.replace("(1, 5)", &format!("(1, {rows})")));
    scratch.write(STAGES[1].0, &STAGES[1].1.replace("'solve ' || question || @more", prompt));
}

#[test]
fn a_filter_that_there_is_not_is_found_in_a_later_stage_before_the_first_call() {
    let server = server();
    let scratch = workspace(server.url(), server.url());
    with_solve_template(&scratch, "{% if question %}{{ question | nosuch }}{% endif %}", 5);
    for arguments in [&["run"][..], &["run", "--dry-run"]] {
        let error = refusal(&scratch, arguments);
        assert!(error.contains("solve_call: template prompts/solve.jinja line 1 at "), "{error}");
        assert!(error.contains("unknown filter: filter nosuch is unknown"), "{error}");
    }
    assert_eq!(server.count(), 0);
}

#[test]
fn a_row_whose_prompt_cannot_be_rendered_is_a_row_with_an_error() {
    let server = FaultServer::start(|body, _| {
        let question = if body["messages"].to_string().contains("write 3\"") { "q" } else { "a, b, c" };
        let answer = format!(r#"{{"question": "{question}", "answer_text": "a", "answer": "a"}}"#);
        Reply::Answer(answer, Duration::ZERO)
    });
    let scratch = workspace(server.url(), server.url());
    with_solve_template(&scratch, "Solve {{ question.split(', ')[1] }}", 5);
    let output = scratch.run(&["run"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("note: solve_call: template prompts/solve.jinja line 1 at "), "{said}");
    // Five are written, and four of them solved with the same prompt.
    assert_eq!(server.count(), 6);
    let error = "SELECT DISTINCT solve_call.error FROM solved WHERE answer IS NULL";
    let error = scratch.value(error);
    assert!(error.contains("unrendered: template prompts/solve.jinja line 1 at "), "{error}");
    assert_eq!(scratch.value("SELECT count(answer) || ' of ' || count(*) FROM solved"), "4 of 5");
    assert_eq!(server.count(), 6);
    assert_eq!(scratch.value("SELECT count(*) FROM attempts"), "6");
}

#[test]
fn a_template_that_no_row_has_the_values_for_stops_the_run_early() {
    // Forty answers a second: rows are handed on ten times a second, and 100 calls are two seconds and a half.
    let server = FaultServer::start(|_, _| {
        Reply::Answer(r#"{"question": "q", "answer_text": "a"}"#.into(), Duration::from_millis(100))
    });
    let scratch = workspace(server.url(), server.url());
    with_solve_template(&scratch, "Solve {{ question.split(', ')[1] }}", 400);
    let error = refusal(&scratch, &["run"]);
    assert!(
        error.contains("the first 10 prompts of solve_call cannot be rendered, so no more calls are made"),
        "{error}"
    );
    assert!(error.contains("template prompts/solve.jinja line 1 at "), "{error}");
    assert!(server.count() < 100, "{}", server.count());
}

#[test]
fn a_pipeline_that_ends_in_a_copy_into_a_plain_file_is_refused_before_the_first_call() {
    let server = server();
    let scratch = workspace(server.url(), server.url());
    let plain = STAGES[1].1.replace("'runs' STORED AS CURATED", "'solved.parquet' STORED AS PARQUET");
    assert_ne!(plain, STAGES[1].1);
    scratch.write(STAGES[1].0, &plain);
    for arguments in [&["run"][..], &["run", "--dry-run"], &["explain"]] {
        let error = refusal(&scratch, arguments);
        assert!(error.contains("ends without a COPY (SELECT … ) TO 'runs' STORED AS CURATED"), "{error}");
    }
    assert_eq!(server.count(), 0);
    assert!(!scratch.path().join("solved.parquet").exists());
}

#[test]
fn a_target_where_the_workspaces_runs_do_not_lie_is_refused_before_the_first_call() {
    let server = server();
    let scratch = workspace(server.url(), server.url());
    let elsewhere = STAGES[1].1.replace("TO 'runs'", "TO 'elsewhere'");
    assert_ne!(elsewhere, STAGES[1].1);
    scratch.write(STAGES[1].0, &elsewhere);
    for arguments in [&["run"][..], &["run", "--dry-run"], &["explain"]] {
        let error = refusal(&scratch, arguments);
        assert!(
            error.contains("COPY … TO 'elsewhere' STORED AS CURATED: the runs of this workspace are published in")
                && error.contains("write TO 'runs', and name another place with out in [run]"),
            "{error}"
        );
    }
    assert_eq!(server.count(), 0);
    // What the command line says stands over it.
    scratch.ok(&["run", "--dry-run", "--out", "told"]);
    scratch.ok(&["run", "--out", "told"]);
    assert!(scratch.path().join("told").is_dir() && !scratch.path().join("elsewhere").exists());
}

#[test]
fn calls_that_the_model_has_no_room_for_are_not_counted() {
    let server = server();
    let scratch = Scratch::new(server.url(), 4, "context_length = 100\n");
    let publish = |rows: &str| {
        let sql = format!(
            "COPY (SELECT q AS question, completion AS answer_text, reasons('failed', completion IS NULL) AS reasons \
             FROM generate(({rows}), model => 'm', prompt => q)) TO 'runs' STORED AS CURATED"
        );
        scratch.write("sql/60_publish.sql", &sql);
    };
    let long = "SELECT repeat('word ', 300) || value AS q FROM generate_series(1, 7)";
    publish(long);
    let said = scratch.ok(&["run", "--dry-run"]);
    assert!(said.contains("\n0 calls are to be asked"), "{said}");
    let output = scratch.run(&["run", "--max-calls", "0"]);
    assert_ne!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    publish(&format!("{long} UNION ALL SELECT 'short' AS q"));
    let said = scratch.ok(&["run", "--dry-run"]);
    assert!(said.contains("\n1 call is to be asked"), "{said}");
    assert_eq!(server.count(), 0);
}
