//! A publishing run killed with SIGKILL at random moments, again and again. Nothing that was answered is paid for
//! again, nothing partial is seen, and what is published in the end is what an undisturbed run publishes.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant, SystemTime};

use seedmill::session::OpenOptions;

use crate::fault_server::{FaultServer, Reply, answer};
use crate::scratch::Scratch;

const ROWS: usize = 150;
/// Each row is asked twice, the second time about the first answer.
const CALLS: usize = 2 * ROWS;
const IN_FLIGHT: usize = 8;

const PIPELINE: &str = "
CREATE VIEW asked AS SELECT * FROM generate((SELECT value FROM generate_series(1, 150)), model => 'm',
    prompt => 'question ' || value, returns => 'question TEXT', seed => 1);
CREATE VIEW solved AS SELECT * FROM enrich(TABLE asked, model => 'm', prompt => 'answer ' || question,
    returns => 'answer_text TEXT');
COPY (SELECT question, answer_text, 'numbers' AS task, [CAST(value AS TEXT)] AS seed_ids,
             reasons('tenth', value % 10 = 0, 'failed', answer_text IS NULL) AS reasons,
             [generate_call['call_id'], enrich_call['call_id']] AS knowledge
      FROM solved) TO 'runs' STORED AS CURATED;
";

fn server() -> FaultServer {
    FaultServer::start(|body, nth| match answer(body, nth) {
        Reply::Answer(text, _) => Reply::Answer(text, Duration::from_millis(15)),
        other => other,
    })
}

fn workspace(server: &FaultServer) -> Scratch {
    let scratch = Scratch::new(server.url(), IN_FLIGHT, "");
    scratch.write("sql/10_all.sql", PIPELINE);
    scratch
}

/// Random numbers: SplitMix64.
struct Random(u64);

impl Random {
    /// A seed of its own each time, or the one of an earlier run.
    fn new() -> Self {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        let seed = std::env::var("SEEDMILL_KILL_SEED").map_or(now, |seed| seed.parse().unwrap());
        println!("the same moments again: SEEDMILL_KILL_SEED={seed}");
        Random(seed)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn within(&mut self, longest: Duration) -> Duration {
        Duration::from_micros(self.below(longest.as_micros() as usize + 1) as u64)
    }
}

/// When a run is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// So long after its start.
    AfterStart(Duration),
    /// So long after it has been given so many answers (or all that it lacked).
    AfterAnswers(usize, Duration),
}

/// Waits for the moment in a run that lacks so many answers.
fn wait_for(moment: Moment, server: &FaultServer, child: &mut Child, lacking: usize) {
    let before = server.answered() as usize;
    let delay = match moment {
        Moment::AfterStart(delay) => delay,
        Moment::AfterAnswers(answers, delay) => {
            let (mut given, mut last) = (0, Instant::now());
            while given < answers.min(lacking) && child.try_wait().unwrap().is_none() {
                assert!(last.elapsed() < Duration::from_secs(60), "{given} answers of {answers}, and no more come");
                std::thread::sleep(Duration::from_millis(1));
                let now = server.answered() as usize - before;
                if now > given {
                    (given, last) = (now, Instant::now());
                }
            }
            delay
        }
    };
    std::thread::sleep(delay);
}

/// The folders that readers of `runs/` see.
fn runs(scratch: &Scratch) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(scratch.path().join("runs")) else { return Vec::new() };
    let mut runs: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    runs.retain(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.'));
    runs.sort();
    runs
}

/// The rows of one of a run's two folders, sorted.
fn published(scratch: &Scratch, run: &Path, folder: &str) -> Vec<Vec<String>> {
    let columns = "id, question, answer_text, messages, seed_ids, knowledge";
    let sql = format!(
        "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '{}/{folder}/'; SELECT {columns} FROM t ORDER BY id",
        run.display()
    );
    scratch.texts(&sql)
}

/// What the ledger and `runs` show after a kill: calls, attempts, published runs.
fn seen(scratch: &Scratch) -> [usize; 3] {
    scratch.session(OpenOptions::default(), async |workspace| {
        let mut seen = [0; 3];
        for (n, table) in ["calls", "attempts", "runs WHERE state = 'complete'"].into_iter().enumerate() {
            seen[n] = workspace.sql(&format!("SELECT * FROM {table}")).await.unwrap().count().await.unwrap();
        }
        seen
    })
}

#[test]
fn a_run_killed_at_20_random_moments_pays_nothing_twice_and_publishes_the_same() {
    let reference_server = server();
    let reference = workspace(&reference_server);
    reference.ok(&["run"]);
    let replays = (0..3).map(|_| {
        let start = Instant::now();
        reference.ok(&["run"]);
        start.elapsed()
    });
    let replay = replays.min().unwrap();
    assert_eq!(reference_server.count(), CALLS);
    let expected = ["data", "rejected"].map(|folder| published(&reference, &runs(&reference)[0], folder));
    assert_eq!(expected.each_ref().map(Vec::len), [ROWS * 9 / 10, ROWS / 10]);

    // Most while calls are made, all through the work; some while the program starts, and some when all answers are
    // there: while it replays, seals the ledger and publishes.
    let mut random = Random::new();
    let few = CALLS / 11; // as many again are answered before the signal arrives
    let mut moments: Vec<Moment> =
        (0..11).map(|_| Moment::AfterAnswers(random.below(few), random.within(Duration::from_millis(20)))).collect();
    for _ in 0..3 {
        moments.insert(random.below(moments.len()), Moment::AfterStart(random.within(replay / 2)));
    }
    moments.push(Moment::AfterAnswers(CALLS, random.within(replay / 8)));
    moments.extend((0..5).map(|_| Moment::AfterStart(replay / 4 + random.within(replay * 3 / 4))));
    assert_eq!(moments.len(), 20);

    let server = server();
    let scratch = workspace(&server);
    let (mut before, mut asked_before, mut killed) = ([0; 3], 0, 0);
    for (nth, moment) in moments.iter().enumerate() {
        let mut child = scratch.start(&["run"]);
        wait_for(*moment, &server, &mut child, CALLS - before[0]);
        child.kill().unwrap();
        let finished = child.wait().unwrap().success();
        killed += usize::from(!finished);
        server.settled();
        while server.in_flight() > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let (now, asked) = (seen(&scratch), server.count());
        let [calls, attempts, published_runs] = now;
        println!("{nth}: {moment:?}: asked {asked}, calls {calls}, attempts {attempts}, runs {published_runs}");
        assert!(now >= before && attempts >= before[1], "{now:?} after {before:?}: something is lost");
        assert!(calls <= CALLS && attempts <= asked, "{now:?}, asked {asked}");
        // What this run has sent is durable, but for what was in flight.
        let lost = (asked - asked_before) - (calls - before[0]);
        assert!(lost <= IN_FLIGHT, "{lost} answers of one run are lost");
        assert!(published_runs - before[2] <= usize::from(finished) + 1);
        // Every run that can be seen is whole.
        assert_eq!(runs(&scratch).len(), published_runs);
        for run in &runs(&scratch)[before[2]..] {
            assert!(run.join("manifest.json").is_file());
            assert_eq!(published(&scratch, run, "data"), expected[0]);
        }
        (before, asked_before) = (now, asked);
    }
    assert!(killed >= 12, "only {killed} runs were still there to be killed");

    scratch.ok(&["run"]);
    assert_eq!(server.count_by_key().len(), CALLS);
    assert!(server.count() <= CALLS + killed * IN_FLIGHT, "{} requests for {CALLS} calls", server.count());
    let run = runs(&scratch).pop().unwrap();
    assert_eq!(["data", "rejected"].map(|folder| published(&scratch, &run, folder)), expected);
    let asked = server.count();
    assert!(scratch.ok(&["run"]).contains("0 calls asked"));
    assert_eq!((server.count(), seen(&scratch)[0]), (asked, CALLS));
}
