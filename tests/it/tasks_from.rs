//! `seedmill tasks --from PATH`: configs from anywhere, with no word of them in seedmill.toml.

use crate::scratch::Scratch;

#[test]
fn a_harness_is_listed_from_its_package_and_a_wrong_path_is_one_sentence() {
    let scratch = Scratch::new("http://127.0.0.1:9", 1, "");
    let tasks = "env/lib/python3.12/site-packages/lm_eval/tasks";
    let config = "dataset_path: org/set\ntest_split: test\ndoc_to_text: '{{q}}'\ndoc_to_target: a\n";
    scratch.write(&format!("{tasks}/quiz/_shared_yaml"), config);
    scratch.write(&format!("{tasks}/quiz/quiz.yaml"), "include: _shared_yaml\ntask: quiz\ntraining_split: train\n");
    scratch.write(&format!("{tasks}/quiz/scored.yaml"), "include: _shared_yaml\ntask: scored\n");
    scratch.write(&format!("{tasks}/quiz/broken.yaml"), "task: [\n");
    let out = scratch.ok(&["tasks", "--from", "env", "--format", "csv"]);
    let column = |line: &str, name: &str| {
        let at = out.lines().next().unwrap().split(',').position(|column| column == name).unwrap();
        line.split(',').nth(at).unwrap_or_default().to_owned()
    };
    let rows: Vec<_> = out.lines().skip(1).collect();
    assert_eq!(rows.len(), 3, "{out}");
    let named = |task: &str| rows.iter().find(|row| row.starts_with(&format!("{task},quiz,"))).unwrap();
    assert!(named("quiz").contains("accepted") && named("quiz").contains("no_data"));
    assert!(named("scored").contains("no_training_split"));
    assert!(named("broken").contains("broken_config") && named("broken").contains("not valid YAML"));
    assert_eq!(column(named("quiz"), "dataset_path"), "org/set");

    let wrong = scratch.run(&["tasks", "--from", "nowhere"]);
    let error = String::from_utf8_lossy(&wrong.stderr);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(error.contains("'nowhere' does not exist: name a folder of task configs"), "{error}");
}
