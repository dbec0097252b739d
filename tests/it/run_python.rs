//! Answers that are programs, run by a real Python where the workspace has it so.

use std::fs::File;
use std::time::{Duration, Instant};

use crate::fault_server::FaultServer;
use crate::pipeline::{workspace, writer_and_solver};
use crate::scratch::Scratch;

/// For programs that come to their end, on a machine that does much else.
const ON: &str = "[run_code]\npython = \"python3\"\ntimeout_seconds = 60\nmemory_mb = 300\n";
/// For those that do not.
const BRIEF: &str = "[run_code]\npython = \"python3\"\ntimeout_seconds = 2\nmemory_mb = 300\n";

fn run(scratch: &Scratch, program: &str) -> (String, String) {
    let program = program.replace('\'', "''");
    let sql = format!("SELECT r['status'], r['error'] FROM (SELECT run_python('{program}') AS r)");
    let row = scratch.texts(&sql).remove(0);
    (row[0].clone(), row[1].clone())
}

#[test]
fn peers_a_program_ends_well_or_with_its_last_line_or_by_its_limits() {
    let scratch = Scratch::new("http://127.0.0.1:9", 1, ON);
    let ok = || ("ok".to_owned(), "NULL".to_owned());
    assert_eq!(run(&scratch, "print('x' * 1000000)"), ok());
    assert_eq!(run(&scratch, "def f(n):\n    return n\nassert f(2) == 2"), ok());
    let failed = |error: &str| ("failed".to_owned(), error.to_owned());
    assert_eq!(run(&scratch, "import sys\nsys.exit(3)"), failed("exit status: 3"));
    assert_eq!(run(&scratch, "1 / 0"), failed("ZeroDivisionError: division by zero"));
    assert_eq!(run(&scratch, "x = [0] * 10 ** 9"), failed("MemoryError"));
    assert_eq!(run(&scratch, "input()"), failed("EOFError: EOF when reading a line"));
    assert_eq!(run(&scratch, "open('f', 'w').write('x' * 2000000)").0, "failed");
    assert_eq!(run(&scratch, "import os\nos.kill(os.getpid(), 9)"), failed("signal: 9 (SIGKILL)"));
    let brief = Scratch::new("http://127.0.0.1:9", 1, BRIEF);
    let start = Instant::now();
    assert_eq!(run(&brief, "while True: pass"), ("timeout".into(), "NULL".into()));
    assert!(start.elapsed() < Duration::from_secs(20));
    // Nothing of this process's environment, where keys are, and no file of the workspace. An interpreter may be a script
    // that sets variables of its own.
    assert!(std::env::vars().any(|(name, _)| name.starts_with("CARGO")));
    let program = "import os\nassert not [name for name in os.environ if name.startswith('CARGO')], os.environ\n\
                   assert os.listdir('.') == []\nopen('left', 'w')";
    assert_eq!(run(&scratch, program), ok());
}

#[test]
fn peers_what_a_program_started_ends_with_it() {
    let scratch = Scratch::new("http://127.0.0.1:9", 1, BRIEF);
    let lock = scratch.path().join("lock");
    // The child holds standard error open, and a lock, until long after the program's time is over.
    let program = format!(
        "import fcntl, os, time\nlock = open({:?}, 'w')\nfcntl.flock(lock, fcntl.LOCK_EX)\nif os.fork() == 0:\n    \
         lock.write('held')\n    lock.flush()\n    time.sleep(600)",
        lock.to_str().unwrap()
    );
    // Again where the time was over before the child was there.
    let is_held = || std::fs::read_to_string(&lock).is_ok_and(|text| text == "held");
    for _ in 0..30 {
        assert_eq!(run(&scratch, &program).0, "timeout");
        if is_held() {
            break;
        }
    }
    assert!(is_held());
    let (lock, ended) = (File::open(lock).unwrap(), Instant::now());
    while lock.try_lock().is_err() {
        assert!(ended.elapsed() < Duration::from_secs(60), "the child is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn peers_programs_run_beside_each_other_in_the_order_of_their_rows() {
    let scratch = Scratch::new("http://127.0.0.1:9", 1, ON);
    let sql = "SELECT n, r['status'] FROM (SELECT n, run_python(CASE WHEN n % 10 > 0 THEN 'n = ' || n END, \
                 CASE WHEN n % 3 = 0 THEN 'assert n < 0' END) AS r FROM (SELECT unnest(range(0, 60)) AS n)) ORDER BY n";
    for (n, row) in scratch.texts(sql).into_iter().enumerate() {
        let expected = match n {
            _ if n % 10 == 0 => "NULL",
            _ if n % 3 == 0 => "failed",
            _ => "ok",
        };
        assert_eq!(row, [n.to_string(), expected.to_owned()]);
    }
}

#[test]
fn peers_a_python_that_is_not_there_is_found_before_the_first_call() {
    let server = FaultServer::start(writer_and_solver);
    let scratch = workspace(&server);
    let config = std::fs::read_to_string(scratch.path().join("seedmill.toml")).unwrap();
    scratch.write("seedmill.toml", &format!("{config}\n[run_code]\npython = \"no_such_python\"\n"));
    let output = scratch.run(&["run", "--set", "writer=m", "--set", "solver=m"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("no_such_python"), "{error}");
    assert_eq!(scratch.value("SELECT count(*) FROM attempts"), "0");
}

#[test]
fn peers_the_standard_pipeline_runs_the_answers_of_code_items() {
    let server = FaultServer::start(writer_and_solver);
    let scratch = workspace(&server);
    let config = std::fs::read_to_string(scratch.path().join("seedmill.toml")).unwrap();
    scratch.write("seedmill.toml", &format!("{config}\n{ON}"));
    let fails = |answer: &str, format: &str| {
        scratch.value(&format!("SELECT coalesce(fails_when_run('{answer}', 'x = 1', '{format}'), false)"))
    };
    assert_eq!(fails("1 / 0", "code"), "true");
    assert_eq!(fails("y = 2", "code"), "false");
    assert_eq!(fails("1 / 0", "free_form"), "false");
    let volatile = "SELECT * FROM enrich((SELECT run_python('x = 1')['status'] AS s), model => 'm', prompt => s)";
    let output = scratch.run(&["sql", "-c", volatile]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("run_python"), "{error}");
    // Rows that a call has finished do not wait for thousands of others.
    let over = "EXPLAIN SELECT run_python(completion) FROM generate((SELECT 1 AS n), model => 'm', prompt => 'p')";
    let plan = scratch.ok(&["sql", "-c", over]);
    let line = plan.lines().find(|line| line.contains("AsyncFuncExec")).unwrap_or_else(|| panic!("{plan}"));
    assert!(line.contains("batch_size=1"), "{plan}");
}
