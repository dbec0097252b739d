//! Secrets of a configuration in runs that fail in every way: they are in nothing that the program writes.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::fault_server::{FaultServer, Reply, answer};
use crate::scratch::Scratch;

const KEY: &str = "sk-hush-key-4711";
const HEADER: &str = "hush-gateway-4711";
const QUERY: &str = "hush-signature-4711";

/// Quotes what it was sent in all that it says.
fn quoting_server() -> FaultServer {
    FaultServer::start(|body, nth| {
        let quoted = format!("Incorrect API key provided: Bearer {KEY}, gateway {HEADER}, at /v1?sig={QUERY}");
        match nth % 9 {
            0 => Reply::Status(400, None, quoted),
            1 => Reply::Status(429, Some("0.01".into()), quoted),
            2 => Reply::Status(500, None, quoted),
            3 => Reply::Foreign("application/json", format!(r#"{{"error": {{"message": "{quoted}"}}}}"#)),
            4 => Reply::Foreign("text/plain", quoted),
            5 => Reply::Foreign("text/html", format!("<html>{quoted}</html>")),
            6 => Reply::ResetMidBody,
            7 => Reply::Answer(format!(r#"{{"q": "{quoted}"}}"#), Duration::ZERO),
            _ => answer(body, nth),
        }
    })
}

fn run(scratch: &Scratch, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_seedmill"))
        .arg("-v")
        .arg("-w")
        .arg(scratch.path())
        .args(arguments)
        .current_dir(scratch.path())
        .envs([("SEEDMILL_TEST_KEY", KEY), ("RUST_LOG", "trace"), ("SEEDMILL_LOG", "trace"), ("RUST_BACKTRACE", "1")])
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn assert_none(bytes: &[u8], place: &str) {
    for secret in [KEY, HEADER, QUERY] {
        let found = bytes.windows(secret.len()).position(|window| window == secret.as_bytes());
        if let Some(at) = found {
            let around = String::from_utf8_lossy(&bytes[at.saturating_sub(200)..(at + 40).min(bytes.len())]);
            panic!("{secret} is in {place}: …{around}…");
        }
    }
}

/// Every file below a folder but the configuration itself.
fn assert_none_in_files(folder: &Path) -> usize {
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files += assert_none_in_files(&path);
        } else if path.file_name().is_some_and(|name| name != "seedmill.toml") {
            assert_none(&std::fs::read(&path).unwrap(), &path.display().to_string());
            files += 1;
        }
    }
    files
}

#[test]
fn a_failing_run_writes_no_secret_anywhere() {
    let server = quoting_server();
    let url = format!("{}?sig={QUERY}", server.url());
    let settings = format!(
        "api_key_env = \"SEEDMILL_TEST_KEY\"\nheaders = {{ X-Gateway = \"{HEADER}\" }}\nretry_base_seconds = 0.01\n"
    );
    let scratch = Scratch::new(&url, 4, &settings);
    let from = |rows: std::ops::RangeInclusive<u32>, more: &str| {
        format!(
            "SELECT value, q, generate_call FROM generate((SELECT value FROM generate_series({}, {})), model => 'm', \
             prompt => 'question ' || value, returns => 'q TEXT'{more})",
            rows.start(),
            rows.end()
        )
    };
    let keep = from(1..=60, "");
    let ok = |arguments: &[&str]| {
        let output = run(&scratch, arguments);
        assert_none(&output.stdout, &format!("the output of {arguments:?}"));
        assert_none(&output.stderr, &format!("the log of {arguments:?}"));
        let out = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        out
    };
    ok(&["sql", "-c", &format!("EXPLAIN VERBOSE {keep}")]);
    let out = ok(&["sql", "--format", "csv", "-c", &keep]);
    // It is a test only where the server's words came through.
    assert!(out.contains("Incorrect API key provided: Bearer [key], gateway [key], at /v1?sig=[key]"), "{out}");
    ok(&["sql", "-c", &format!("EXPLAIN ANALYZE {}", from(61..=80, ""))]);
    ok(&["calls"]);
    let attempts = ok(&["sql", "--format", "csv", "-c", "SELECT * FROM attempts"]);
    assert!(attempts.contains("[key]") && attempts.contains("torn_body"), "{attempts}");
    let calls = ok(&["sql", "--format", "csv", "-c", "SELECT * FROM calls"]);
    assert!(calls.contains("[key]"), "an answer that quotes the key, too");
    ok(&["sql", "--format", "csv", "-c", "SELECT * FROM call_uses"]);

    let failed = run(&scratch, &["sql", "-c", &from(81..=160, ", on_error => 'fail'")]);
    assert!(!failed.status.success());
    assert_none(&failed.stdout, "the output of a failed run");
    assert_none(&failed.stderr, "the log of a failed run");
    assert!(server.asked().iter().all(|asked| asked.authorization == Some(format!("Bearer {KEY}"))));
    assert!(assert_none_in_files(scratch.path()) > 0);
}

#[test]
fn a_wrong_configuration_is_told_without_its_secrets() {
    for line in [
        format!("base_urls = [\"https://me:{KEY}@h/v1\"]"),
        format!("base_urls = [\"ftp://h/v1?sig={KEY}\"]"),
        format!("base_urls = [\"http://h/v1\"]\nheaders = {{ Authorization = \"Bearer {KEY}\" }}"),
        format!("base_urls = [\"http://h/v1\"]\nheaders = {{ X-Gateway = \"{KEY}\\n\" }}"),
        format!("base_urls = [\"http://h/v1\"]\napi_key = \"{KEY}\""),
        format!("base_urls = [\"http://h/v1\"]\napi_key_env = \"{KEY}\""),
    ] {
        let scratch = Scratch::new("http://h/v1", 1, "");
        scratch.write("seedmill.toml", &format!("[models.m]\nprovider = \"openai\"\nmodel = \"m-1\"\n{line}\n"));
        let sql = "SELECT * FROM generate((SELECT 'x' AS p), model => 'm', prompt => p)";
        let output = run(&scratch, &["sql", "-c", sql]);
        assert!(!output.status.success(), "{line}");
        assert_none(&output.stdout, &line);
        assert_none(&output.stderr, &line);
    }
}
