//! Seals full logs beside the calls, one after the other, the oldest first. In: logs that get no more records. Out:
//! their segments, or the logs back where sealing failed or was broken off.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use tokio_util::sync::CancellationToken;

use super::priority;
use super::shared::{NumberedLog, Shared};

/// Sealing takes about 30 µs of a processor a call, which calls in flight may want: it waits until they want none, or
/// until so many logs wait.
const MOST_WAITING: usize = 4;

/// The logs that wait, and the thread that seals them.
pub(super) struct Sealing {
    desk: Arc<Desk>,
    /// None of a pool: one that has been made idle stays so, and would seal another time for those who are in a hurry.
    threads: Vec<JoinHandle<()>>,
}

struct Desk {
    shared: Arc<Shared>,
    /// Held while a log is sealed.
    turn: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<NumberedLog>,
    failed: Vec<NumberedLog>,
    sealer: Option<Sealer>,
}

/// The thread that seals now.
#[derive(Clone)]
struct Sealer {
    given_up: CancellationToken,
    is_idle: bool,
}

impl State {
    /// One more log, and who is to begin sealing for it; `None` where the one at work does.
    fn add(&mut self, log: NumberedLog) -> Option<Sealer> {
        self.waiting.push_back(log);
        let is_idle = self.waiting.len() < MOST_WAITING;
        match &self.sealer {
            Some(sealer) if is_idle || !sealer.is_idle => return None,
            // A thread that is idle stays idle: another takes over, and begins its log again.
            Some(sealer) => sealer.given_up.cancel(),
            None => {}
        }
        self.sealer = Some(Sealer { given_up: CancellationToken::new(), is_idle });
        self.sealer.clone()
    }
}

impl Sealing {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let desk = Desk { shared, turn: Mutex::default(), state: Mutex::default() };
        Sealing { desk: Arc::new(desk), threads: Vec::new() }
    }

    /// One more full log.
    pub(super) fn add(&mut self, log: NumberedLog) {
        self.threads.retain(|thread| !thread.is_finished());
        let Some(sealer) = self.desk.state().add(log) else { return };
        let desk = Arc::clone(&self.desk);
        match thread::Builder::new().name("sealing".into()).spawn(move || desk.seal(&sealer)) {
            Ok(thread) => self.threads.push(thread),
            // Tried again with the next full log, or done at `close`.
            Err(e) => {
                tracing::warn!("no thread to seal the ledger's logs: {e}");
                self.desk.state().sealer = None;
            }
        }
    }

    /// Breaks off what is being sealed, and gives back all logs that are not; `false` where one may be lost to a panic.
    pub(super) fn give_up(&mut self) -> (Vec<NumberedLog>, bool) {
        if let Some(sealer) = self.desk.state().sealer.take() {
            sealer.given_up.cancel();
        }
        let ended = self.threads.drain(..).map(JoinHandle::join).fold(true, |all, ended| all & ended.is_ok());
        let State { waiting, failed, .. } = std::mem::take(&mut *self.desk.state());
        (failed.into_iter().chain(waiting).collect(), ended)
    }
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seals until no log waits.
    fn seal(&self, sealer: &Sealer) {
        if sealer.is_idle {
            priority::idle()
        } else {
            priority::lower()
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        while !sealer.given_up.is_cancelled() {
            let log = {
                let mut state = self.state();
                let Some(log) = state.waiting.pop_front() else {
                    state.sealer = None;
                    return;
                };
                log
            };
            match self.shared.seal(&log, &sealer.given_up) {
                Ok(true) => {}
                Ok(false) => self.state().waiting.push_front(log),
                Err(e) => {
                    tracing::warn!("{e}; sealing is tried again");
                    self.state().failed.push(log);
                }
            }
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;
    use std::os::unix::thread::JoinHandleExt;
    use std::path::Path;
    use std::time::{Duration, Instant};

    use nix::libc;

    use super::*;
    use crate::ledger::folder::OwnedLog;

    fn log(folder: &Path, source: u32) -> NumberedLog {
        let file = tempfile::tempfile_in(folder).unwrap();
        NumberedLog { log: OwnedLog { unique: format!("{source}"), file, len: 0, room: 0 }, source }
    }

    /// With three that wait sealing takes what others leave, with exactly four it does not, and whoever is at work takes
    /// them in their order.
    #[test]
    fn the_fourth_log_that_waits_hurries_sealing_and_no_other_does() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = State::default();
        let add = |state: &mut State, source| state.add(log(folder.path(), source));
        let idle = add(&mut state, 0).expect("nobody seals");
        assert!(idle.is_idle);
        assert!(add(&mut state, 1).is_none() && add(&mut state, 2).is_none());
        assert_eq!((state.waiting.len(), idle.given_up.is_cancelled()), (3, false));
        let hurried = add(&mut state, 3).expect("four wait");
        assert!(!hurried.is_idle && idle.given_up.is_cancelled());
        assert!(add(&mut state, 4).is_none() && !hurried.given_up.is_cancelled());
        let order: Vec<u32> = state.waiting.iter().map(|log| log.source).collect();
        assert_eq!(order, [0, 1, 2, 3, 4]);
        // It stays at work when few are left, and the next one begins idle again.
        state.waiting.drain(..4);
        assert!(add(&mut state, 5).is_none());
        state.waiting.clear();
        state.sealer = None;
        assert!(add(&mut state, 6).is_some_and(|sealer| sealer.is_idle));
        // So it is where no thread could be started for those before.
        state.sealer = None;
        add(&mut state, 7);
        state.sealer = None;
        add(&mut state, 8);
        state.sealer = None;
        assert!(add(&mut state, 9).is_some_and(|sealer| !sealer.is_idle));
    }

    /// The scheduling policy of a thread. The C library remembers what it says first.
    fn policy(thread: &JoinHandle<()>) -> i32 {
        // Another test may have such a thread, too.
        thread::sleep(Duration::from_millis(300));
        let (mut policy, mut parameters) = (-1, libc::sched_param { sched_priority: 0 });
        // SAFETY: the thread is not joined yet, and the pointers are to values that live here.
        let failed = unsafe { libc::pthread_getschedparam(thread.as_pthread_t(), &mut policy, &mut parameters) };
        assert_eq!(failed, 0);
        policy
    }

    /// Whether a thread that seals has been lowered and has this policy.
    fn one_is_lowered(policy: i32) -> bool {
        let threads = fs::read_dir("/proc/self/task").unwrap().map(|thread| thread.unwrap().path().join("stat"));
        threads.filter_map(|stat| fs::read_to_string(stat).ok()).any(|stat| {
            let (name, numbers) = stat.rsplit_once(')').unwrap();
            // From the third field on (proc_pid_stat(5)): nice is the 19th, the policy the 41st.
            let numbers: Vec<&str> = numbers.split_whitespace().collect();
            name.ends_with("(sealing") && numbers[19 - 3] == "19" && numbers[41 - 3].parse() == Ok(policy)
        })
    }

    fn wait_until(what: &str, condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn sealing_takes_what_others_leave_until_four_logs_wait() {
        let folder = tempfile::tempdir().unwrap();
        let (shared, _) = Shared::open(folder.path().to_owned()).unwrap();
        let mut sealing = Sealing::new(Arc::new(shared));
        let desk = Arc::clone(&sealing.desk);
        // Nothing is sealed meanwhile.
        let turn = desk.turn.lock().unwrap();
        for source in 0..3 {
            sealing.add(log(folder.path(), source));
        }
        let [idle] = &sealing.threads[..] else { panic!("{} threads", sealing.threads.len()) };
        wait_until("idle", || one_is_lowered(libc::SCHED_IDLE));
        assert_eq!(policy(idle), libc::SCHED_IDLE);
        sealing.add(log(folder.path(), 3));
        assert_eq!(sealing.threads.len(), 2, "four wait");
        sealing.add(log(folder.path(), 4));
        let [_, hurried] = &sealing.threads[..] else { panic!("{} threads", sealing.threads.len()) };
        wait_until("lowered", || one_is_lowered(libc::SCHED_OTHER));
        assert_eq!(policy(hurried), libc::SCHED_OTHER);
        drop(turn);
        // There is no such file in the folder; none is forgotten for that.
        let (logs, ended) = sealing.give_up();
        assert_eq!((logs.len(), ended), (5, true));
    }
}
