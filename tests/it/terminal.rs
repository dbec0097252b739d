//! The program on a terminal: the prompt, bars, and the question before an expensive run. `script` gives it the terminal.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fault_server::{FaultServer, Reply, answer};
use crate::scratch::Scratch;

const MANY: &str = "SELECT count(*) FROM generate((SELECT value FROM generate_series(1, 10000)), model => 'm', \
                    prompt => 'question ' || value)";

const PUBLISH: &str = "COPY (SELECT q AS question, completion AS answer_text, arrow_cast([], 'List(Utf8)') AS reasons \
                       FROM generate((SELECT 'question ' || value AS q FROM generate_series(1, 40)), model => 'm', \
                       prompt => q)) TO 'runs' STORED AS CURATED;";

/// The program on a terminal of its own.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    said: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Terminal {
    /// The exit code is told on the terminal too: `script -e` makes one up where the terminal is closed a moment before
    /// its program can be waited for.
    fn start(scratch: &Scratch, kind: &str, arguments: &str) -> Terminal {
        let (seedmill, folder) = (env!("CARGO_BIN_EXE_seedmill"), scratch.path().display());
        let program = format!("trap : INT; stty cols 160; {seedmill} -w {folder} {arguments}; echo exit code $?.");
        let mut child = Command::new("script")
            .args(["-qfc", &program, "/dev/null"])
            .current_dir(scratch.path())
            .env("TERM", kind)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`script` of util-linux");
        let (keys, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let said = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&said);
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut bytes) {
                into.lock().unwrap().extend_from_slice(&bytes[..read]);
            }
        });
        Terminal { child, keys, said, reader }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().unwrap()).into_owned()
    }

    fn wait_for(&self, what: &str) {
        let said = || self.said();
        wait_until(what, || said().contains(what), &said);
    }

    /// All that it said until its end.
    fn end(mut self) -> String {
        self.child.wait().unwrap();
        self.reader.join().unwrap();
        String::from_utf8_lossy(&self.said.lock().unwrap()).into_owned()
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool, said: &dyn Fn() -> String) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain for {what}: {}", said());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn after(millis: u64) -> impl Fn(&Value, u64) -> Reply {
    move |body, nth| match answer(body, nth) {
        Reply::Answer(text, _) => Reply::Answer(text, Duration::from_millis(millis)),
        other => other,
    }
}

#[test]
fn in_the_shell_ctrl_c_stops_the_query_and_not_the_shell() {
    let server = FaultServer::start(after(300));
    let scratch = Scratch::new(server.url(), 4, "");
    let mut terminal = Terminal::start(&scratch, "dumb", "sql");
    terminal.press(&format!("{MANY};\r"));
    wait_until("requests", || server.in_flight() == 4, &|| terminal.said());
    terminal.press("\x03");
    let asked = server.count();
    terminal.press("SELECT 6 * 7 AS answer;\r");
    terminal.press("\\q\r");
    let said = terminal.end();
    assert!(said.contains("exit code 0."), "{said}");
    assert!(said.contains("the query was stopped") && said.contains("| 42     |"), "{said}");
    // What was in flight is recorded, and no more was sent.
    assert!(server.count() <= asked + 4, "{} after {asked}", server.count());
    assert_eq!(scratch.value("SELECT count(*) FROM calls"), server.count().to_string());
}

#[test]
fn on_a_terminal_each_stage_has_a_bar() {
    let server = FaultServer::start(after(100));
    let scratch = Scratch::new(server.url(), 4, "");
    scratch.write("sql/60_publish.sql", PUBLISH);
    let terminal = Terminal::start(&scratch, "xterm", "run");
    terminal.wait_for("calls/s");
    let said = terminal.end();
    assert!(said.contains("exit code 0."), "{said}");
    // Drawn again and again in place: how far it is, how fast, how many at once, and how long it will take.
    for part in ["generate ", "/40 rows", "4 in flight", "tokens/s", " left"] {
        assert!(said.contains(part), "'{part}' is not in {said}");
    }
    assert!(said.matches("/40 rows").count() > 3, "{said}");
}

#[test]
fn a_run_above_its_budget_asks_on_a_terminal_and_starts_only_on_yes() {
    let server = FaultServer::start(answer);
    let scratch = Scratch::new(server.url(), 4, "[budget]\nmax_calls = 10\n");
    scratch.write("sql/60_publish.sql", PUBLISH);
    for (key, code, requests) in [("n", 2, 0), ("", 2, 0), ("y", 3, 10)] {
        let mut terminal = Terminal::start(&scratch, "xterm", "run");
        terminal.wait_for("Start? [y/N]");
        assert!(terminal.said().contains("about 40 calls, above max_calls = 10"), "{}", terminal.said());
        terminal.press(&format!("{key}\r"));
        let said = terminal.end();
        assert!(said.contains(&format!("exit code {code}.")), "'{key}': {said}");
        assert_eq!(server.count(), requests, "'{key}': {said}");
    }
}

#[test]
fn the_shell_s_own_commands_show_tables_columns_and_functions_and_write_files() {
    let scratch = Scratch::new("http://127.0.0.1:1/v1", 1, "");
    let mut terminal = Terminal::start(&scratch, "dumb", "sql --format csv");
    for line in [
        "CREATE TABLE planets AS SELECT 1 AS radius, 2 AS mass;",
        "\\d",
        "\\d planets",
        "\\df same_te",
        "\\dt",
        "SELECT 'a;",
        "b' AS two_lines;",
        "\\timing",
        "\\o out.csv",
        "SELECT radius + 1 AS more FROM planets;",
        "\\o",
        "SELECT radus FROM planets;",
        "\\q",
    ] {
        terminal.press(&format!("{line}\r"));
    }
    let said = terminal.end().replace('\r', "");
    assert!(said.contains("exit code 0."), "{said}");
    for part in [
        "public,planets,BASE TABLE",
        "radius,Int64,NO",
        "same_text(a, b)",
        "there is no command \\dt",
        "two_lines\n\"a;\nb\"",
        "did you mean 'radius'?",
        "LINE 1: SELECT radus FROM planets",
    ] {
        assert!(said.contains(part), "'{part}' is not in {said}");
    }
    let is_time = |text: &str| text.split_once(" s").is_some_and(|(seconds, _)| seconds.parse::<f64>().is_ok());
    assert!(said.split("1 row, ").skip(1).any(is_time), "{said}");
    assert_eq!(std::fs::read_to_string(scratch.path().join("out.csv")).unwrap(), "more\n2\n");
}
