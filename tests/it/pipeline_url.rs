//! Pipeline folders that lie in a bucket: `seedmill run s3://…`.

use crate::fault_server::{FaultServer, answer};
use crate::s3_server::S3Server;
use crate::scratch::Scratch;

const URL: &str = "s3://bucket/pipelines/x";

/// A pipeline as `seedmill init` lays it out, with a task, a table and a filter of its own.
fn upload(s3: &S3Server, model: &FaultServer) {
    let write = |path: &str, text: &str| s3.write(&format!("pipelines/x/{path}"), text);
    write(
        "seedmill.toml",
        &format!(
            "[models.m]\nprovider = \"openai\"\nbase_urls = [\"{}\"]\nmodel = \"m-1\"\n\
             [tasks]\nfrom = [\"sql/tasks_of_mine\"]\n[tables.words]\nlocation = \"in/words.csv\"\n\
             [variables]\nword = \"red\"\n",
            model.url()
        ),
    );
    write("in/words.csv", "word\nred\nblue\n");
    write("sql/tasks_of_mine/capitals/train.jsonl", "{\"q\": \"Of France?\", \"a\": \"Paris\"}\n");
    write(
        "sql/tasks_of_mine/capitals/capitals.yaml",
        "task: capitals\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    train: train.jsonl\n\
         output_type: generate_until\ntraining_split: train\n\
         doc_to_text: \"{{q}}\"\ndoc_to_target: \"{{a}}\"\n\
         metadata:\n  license: CC0-1.0\n  capability: knowledge\n  format: short_answer\n  language: en\n",
    );
    write("sql/filters/form.sql", "CREATE FUNCTION is_red(s TEXT) RETURNS BOOLEAN RETURN $s = @word;");
    write("sql/prompts/ask.jinja", "Ask about {{ word }} as in {{ question }}");
    write(
        "sql/10_all.sql",
        "CREATE VIEW asked AS SELECT * FROM generate((SELECT word, question FROM words CROSS JOIN seeds), model => 'm',
            prompt => render('ask'));
         COPY (SELECT completion AS question, 'a' AS answer_text, 't' AS task, [word] AS seed_ids,
                      reasons('red', is_red(word)) AS reasons FROM asked) TO 'runs' STORED AS CURATED;",
    );
    // What a pipeline's bucket may hold beside it.
    s3.write("pipelines/x/runs/old/data.parquet", "not read");
    s3.write("pipelines/x/.seedmill/ledger/log-1.log", "not read");
}

fn start() -> (FaultServer, S3Server, Scratch) {
    let (model, s3) = (FaultServer::start(answer), S3Server::start());
    upload(&s3, &model);
    let scratch = Scratch::new(model.url(), 1, "").with_variables(&s3.variables());
    // Nothing but what the bucket says.
    scratch.write("seedmill.toml", "");
    (model, s3, scratch)
}

#[test]
fn a_pipeline_in_a_bucket_runs_with_its_own_settings_and_writes_where_it_is_started() {
    let (model, s3, scratch) = start();
    let plan = scratch.ok(&["run", URL, "--dry-run"]);
    assert!(plan.contains("Generate") && model.count() == 0, "{plan}");
    scratch.ok(&["run", URL]);
    assert_eq!(model.count(), 2);
    assert_eq!(scratch.value("SELECT count(*) FROM run.curated"), "1");
    assert_eq!(scratch.value("SELECT reasons[1] FROM run.rejected"), "red");
    assert_eq!(
        scratch.value("SELECT count(*) FROM calls WHERE messages LIKE '%Ask about blue as in Of France?%'"),
        "1"
    );
    assert!(scratch.path().join("runs").is_dir() && scratch.path().join(".seedmill/ledger").is_dir());

    // The same again reads no file anew and pays nothing.
    let before = s3.requests();
    scratch.ok(&["run", URL, "--set", "word=blue"]);
    assert_eq!(model.count(), 2);
    assert!(s3.requests() - before <= 2, "{} requests", s3.requests() - before);
    assert_eq!(scratch.value("SELECT seed_ids[1] FROM run.rejected"), "blue");

    // A file that changed there is another pipeline.
    s3.write("pipelines/x/sql/prompts/ask.jinja", "Ask anew about {{ word }} as in {{ question }}");
    scratch.ok(&["run", &format!("{URL}/")]);
    assert_eq!(model.count(), 4);
    assert_eq!(scratch.value("SELECT count(*) FROM runs WHERE state = 'complete'"), "3");
}

#[test]
fn the_folder_of_the_stages_alone_takes_its_settings_from_the_folder_where_it_is_started() {
    let (model, s3, scratch) = start();
    assert_eq!(scratch.run(&["run", "s3://bucket/pipelines/x/sql"]).status.code(), Some(1));
    let settings = std::fs::read_to_string(s3.bucket().join("pipelines/x/seedmill.toml")).unwrap();
    scratch.write("seedmill.toml", &settings.replace("sql/tasks_of_mine", "tasks"));
    scratch.write("in/words.csv", "word\ngreen\n");
    scratch.write("tasks/none.txt", "");
    scratch.ok(&["run", "s3://bucket/pipelines/x/sql", "--dry-run"]);
    assert_eq!(model.count(), 0);
}

#[test]
fn what_is_no_pipeline_folder_is_said_with_its_url() {
    let (_model, s3, scratch) = start();
    s3.write("empty/readme.txt", "nothing");
    s3.write("large/10_all.sql", vec![b' '; (64 << 20) + 1]);
    for (url, said) in [
        ("s3://bucket/none", "the pipeline folder s3://bucket/none does not exist"),
        ("s3://bucket/empty", "s3://bucket/empty holds no stages"),
        ("s3://bucket/large", "s3://bucket/large holds 1 file of 64 MB together"),
        ("https://host/x", "https://host/x cannot be a pipeline folder"),
        ("s3://other/x", "there is no bucket s3://other"),
    ] {
        let output = scratch.run(&["run", url]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && error.contains(said), "{url}: {error}");
    }
    // A file:// URL is the folder itself.
    scratch.write("mill/sql/10_all.sql", "SELECT 1;");
    let url = format!("file://{}", scratch.path().join("mill").display());
    let output = scratch.run(&["run", &url]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("ends without a COPY"));
}
