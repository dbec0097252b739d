//! Merging while a ledger on an object store is written: many logs become a segment, as a log in a folder is sealed,
//! beside all other work. In: a look after each put. Out: fewer objects. A failure is a note, and changes nothing.

use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::LedgerError;
use super::object_merge::{merge, sources, sweep};
use super::object_rewrite::Input;
use super::objects::{Listing, Objects};
use super::priority;
use super::shared::Shared;

/// So many logs are merged: each is a request when the ledger is opened.
pub const MANY_LOGS: usize = 100;
/// Of processes that write at once one shall come first: each waits for up to so many more.
const SPREAD: u64 = 20;
/// One merge takes no more than this of logs.
const LOG_BYTES: u64 = 64 << 20;
/// And makes no larger segment than this, where it takes segments along.
const SEGMENT_BYTES: u64 = 256 << 20;
/// What is replaced stays so long: who has listed it may be reading it.
const GRACE: Duration = Duration::from_secs(120);
/// From a failure to the next try.
const RETRY: Duration = Duration::from_secs(60);
/// How long the end of a command waits for a merge.
const LAST_WAIT: Duration = Duration::from_secs(30);

/// What a process merges of the ledger that it writes to.
pub(super) struct BackgroundMerge {
    shared: Arc<Shared>,
    objects: Arc<Objects>,
    /// So many logs are merged.
    at_least: usize,
    running: Option<Running>,
    next_try: Instant,
    /// Objects that this process has replaced, to be deleted from a time on.
    replaced: Vec<(Instant, Vec<String>)>,
    is_warned: bool,
}

/// What came of one.
struct Done {
    /// Objects that count no more, and that readers may still want.
    replaced: Vec<String>,
    /// Why what nobody wants any more is still there.
    undeleted: Option<LedgerError>,
}

/// A merge on its way, which any thread may go on with.
type Work = Pin<Box<dyn Future<Output = Result<Done, LedgerError>> + Send>>;

/// A merge on a thread of its own.
struct Running {
    /// Cancelled when someone waits for it.
    wanted: CancellationToken,
    told: oneshot::Receiver<Told>,
}

/// The last word of the thread.
enum Told {
    Ended(Result<Done, LedgerError>),
    /// Half done, for the one who waits.
    HandedOver(Work),
}

impl Running {
    /// The thread is lowered: encoding can wait, calls in flight cannot.
    fn start(mut work: Work) -> io::Result<Running> {
        let wanted = CancellationToken::new();
        let (mut tell, told) = oneshot::channel();
        let (running, runtime) = (Running { wanted: wanted.clone(), told }, Handle::current());
        let run = move || {
            priority::lower();
            let result = runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = tell.closed() => None, // the process ends, or waits no longer
                    () = wanted.cancelled() => None,
                    result = &mut work => Some(result),
                }
            });
            // Where nobody listens any more, what is half done ends here.
            let _ = tell.send(result.map_or(Told::HandedOver(work), Told::Ended));
        };
        thread::Builder::new().name("ledger merge".into()).spawn(run).map(|_| running)
    }

    /// What comes of it, at the speed of the one who waits. A thread that is lowered stays so, and gets one part in
    /// seventy of a processor that others want. `None` where it has panicked.
    async fn hurried(self) -> Option<Result<Done, LedgerError>> {
        self.wanted.cancel();
        match self.told.await {
            Ok(Told::Ended(result)) => Some(result),
            Ok(Told::HandedOver(work)) => Some(work.await),
            Err(_) => None,
        }
    }
}

impl BackgroundMerge {
    /// For a ledger that has just been listed. `unique` is the process's own.
    pub(super) fn new(shared: Arc<Shared>, objects: Arc<Objects>, unique: &str, listing: &Listing) -> BackgroundMerge {
        let spread = blake3::hash(unique.as_bytes()).as_bytes()[0];
        let mut merging = BackgroundMerge {
            shared,
            objects,
            at_least: MANY_LOGS + (u64::from(spread) % SPREAD) as usize,
            running: None,
            next_try: Instant::now(),
            replaced: Vec::new(),
            is_warned: false,
        };
        // What others have left there to be deleted.
        if !listing.replaced.is_empty() {
            merging.start();
        }
        merging
    }

    /// Begins a merge where it is time for one.
    pub(super) fn look(&mut self) {
        self.hear();
        if self.running.is_none() && self.is_time() {
            self.start();
        }
    }

    /// Waits for the merge that is at work, and makes one more where many logs are left; not for long, and not where
    /// `hurry` is cancelled. No call is in flight any more, and someone waits: the work is done here, as fast as it can
    /// be. What had begun beside the calls goes on where it is.
    pub(super) async fn finish(&mut self, hurry: &CancellationToken) {
        let latest = Instant::now() + LAST_WAIT;
        for _ in 0..2 {
            if hurry.is_cancelled() {
                self.running = None;
                return;
            }
            self.hear();
            let running = self.running.take();
            let new = (running.is_none() && self.is_time()).then(|| self.work());
            let ended = async {
                match (running, new) {
                    (Some(running), _) => running.hurried().await,
                    (None, Some(work)) => Some(work.await),
                    (None, None) => None,
                }
            };
            // A panic here would end the writer, whose answers are all durable.
            let ended = AssertUnwindSafe(ended).catch_unwind();
            match hurry.run_until_cancelled(timeout_at(latest, ended)).await {
                Some(Ok(Ok(Some(result)))) => self.ended(result),
                // Half a merge is nothing; a thread that has it lets go of it when it sees that nobody waits.
                Some(Ok(Ok(None) | Err(_)) | Err(_)) | None => return,
            }
        }
    }

    /// Takes note of a merge that has ended.
    fn hear(&mut self) {
        let Some(running) = &mut self.running else { return };
        match running.told.try_recv() {
            Ok(Told::Ended(result)) => self.ended(result),
            Err(TryRecvError::Empty) => {}
            // It has panicked. (`finish` alone has one handed over, and takes it then.)
            Ok(Told::HandedOver(_)) | Err(TryRecvError::Closed) => self.running = None,
        }
    }

    fn is_time(&self) -> bool {
        self.is_due() && Instant::now() >= self.next_try
    }

    fn is_due(&self) -> bool {
        self.shared.refused().is_ok() && self.objects.known().logs.len() >= self.at_least
    }

    fn start(&mut self) {
        match Running::start(self.work()) {
            Ok(running) => self.running = Some(running),
            Err(e) => self.ended(Err(LedgerError::io("start a thread for", &self.shared.folder)(e))),
        }
    }

    /// A merge to be made.
    fn work(&mut self) -> Work {
        let now = Instant::now();
        let old: Vec<String> =
            self.replaced.extract_if(.., |(from, _)| *from <= now).flat_map(|(_, names)| names).collect();
        let (shared, objects, at_least) = (Arc::clone(&self.shared), Arc::clone(&self.objects), self.at_least);
        Box::pin(async move { merge_many(&shared, &objects, at_least, old).await })
    }

    fn ended(&mut self, result: Result<Done, LedgerError>) {
        self.running = None;
        match result {
            Ok(Done { replaced, undeleted }) => {
                if replaced.is_empty() {
                    // There were fewer than this process knew of.
                    self.next_try = Instant::now() + RETRY;
                } else {
                    self.replaced.push((Instant::now() + GRACE, replaced));
                }
                if let Some(e) = undeleted {
                    self.note(&format!("{e}; small objects that were merged stay there, and count no more"));
                }
            }
            // Another process was first.
            Err(e @ (LedgerError::Busy { .. } | LedgerError::Gone { .. })) => tracing::debug!("{e}"),
            Err(e) => {
                self.next_try = Instant::now() + RETRY;
                self.note(&format!(
                    "{e}; its small objects are not merged now, which makes it slower to open and no worse: seedmill \
                     calls compact merges them"
                ));
            }
        }
    }

    /// Says the first thing that went wrong.
    fn note(&mut self, note: &str) {
        if !std::mem::replace(&mut self.is_warned, true) {
            tracing::warn!("{note}");
        }
    }
}

/// Merges logs if there are so many, and deletes what nobody wants any more: `old`, and what others have left.
async fn merge_many(
    shared: &Shared,
    objects: &Objects,
    at_least: usize,
    old: Vec<String>,
) -> Result<Done, LedgerError> {
    let listing = shared.add_objects(objects).await?;
    let (mut replaced, mut strays) = (Vec::new(), Vec::new());
    if listing.logs.len() >= at_least {
        let inputs = newest(sources(objects, &listing));
        let merged = merge(objects, shared, &listing, &inputs, None).await?;
        (replaced, strays) = (merged.replaced, merged.strays);
        shared.add_objects(objects).await?;
    }
    let deleted = async {
        objects.delete(old.into_iter().chain(strays)).await?;
        sweep(objects, &listing, GRACE).await
    };
    Ok(Done { replaced, undeleted: deleted.await.err() })
}

/// What one merge takes of all that counts, oldest first: logs, and the segments before them that are no larger than
/// all that is taken already. So a call is rewritten a few times however many there are, and segments stay few.
fn newest(mut sources: Vec<Input>) -> Vec<Input> {
    let logs = sources.partition_point(|source| matches!(source, Input::Segment { .. }));
    let (mut start, mut end, mut bytes) = (logs, logs, 0);
    while end < sources.len() && (end == logs || bytes + sources[end].bytes() <= LOG_BYTES) {
        bytes += sources[end].bytes();
        end += 1;
    }
    while start > 0 {
        let segment = sources[start - 1].bytes();
        if segment > bytes || bytes + segment > SEGMENT_BYTES {
            break;
        }
        bytes += segment;
        start -= 1;
    }
    sources.truncate(end);
    sources.split_off(start)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;
    use crate::ledger::generation::SegmentEntry;
    use crate::ledger::object_log::ObjectLog;
    use crate::ledger::object_segment::ObjectSegment;
    use crate::stores::{Place, Stores, Variables};

    const MB: u64 = 1 << 20;

    fn taken(segments: &[u64], logs: &[u64]) -> (Vec<u64>, Vec<u64>) {
        let stores = Stores::new(Variables::of([]));
        let Place::Prefix(prefix) = stores.place("s3://bucket/ledger") else { unreachable!() };
        let segment = |bytes: &u64| {
            let entry = SegmentEntry { unique: "1".into(), calls: 0, attempts: 0, call_uses: 0, bytes: [*bytes, 0, 0] };
            Input::Segment { segment: Box::new(ObjectSegment::new(prefix.clone(), entry)), source: 0 }
        };
        let log = |bytes: &u64| {
            let log = ObjectLog { prefix: prefix.clone(), name: "log-1-00000001.log".into() };
            Input::Log { log: Arc::new(log), source: 0, bytes: *bytes }
        };
        let inputs = newest(segments.iter().map(segment).chain(logs.iter().map(log)).collect());
        let (logs, segments): (Vec<_>, Vec<_>) = inputs.iter().partition(|input| input.log_name().is_some());
        let bytes = |inputs: Vec<&Input>| inputs.into_iter().map(Input::bytes).collect();
        (bytes(segments), bytes(logs))
    }

    #[test]
    fn a_merge_takes_bounded_logs_and_segments_no_larger_than_what_it_has() {
        assert_eq!(taken(&[], &[MB; 100]), (vec![], vec![MB; 64]));
        assert_eq!(taken(&[100 * MB, 20 * MB, 9 * MB], &[MB; 10]), (vec![9 * MB], vec![MB; 10]));
        assert_eq!(taken(&[40 * MB, 19 * MB, 9 * MB], &[MB; 10]), (vec![19 * MB, 9 * MB], vec![MB; 10]));
        // What is large is left alone, and a log that is larger than all that is taken is merged all the same.
        assert_eq!(taken(&[130 * MB, 129 * MB], &[200 * MB, MB]), (vec![], vec![200 * MB]));
        assert_eq!(taken(&[], &[]), (vec![], vec![]));
    }

    /// On another thread it would never end.
    #[tokio::test]
    async fn a_merge_that_someone_waits_for_goes_on_with_the_one_who_waits() {
        let here = thread::current().id();
        let work = poll_fn(move |_| {
            let done = Done { replaced: vec!["as it was".into()], undeleted: None };
            if thread::current().id() == here { Poll::Ready(Ok::<_, LedgerError>(done)) } else { Poll::Pending }
        });
        let running = Running::start(Box::pin(work)).unwrap();
        let done = running.hurried().await.expect("the thread has panicked").unwrap();
        assert_eq!(done.replaced, ["as it was"]);
    }

    /// A million calls of 4 KB in logs of 40 KB, a merge at each hundred of them.
    #[test]
    fn however_long_a_run_is_a_byte_is_rewritten_a_few_times_and_segments_stay_few() {
        let (mut segments, mut rewritten, mut all) = (Vec::new(), 0, 0);
        for _ in 0..1_000 {
            let logs = [40 << 10; 100];
            let (of_segments, of_logs) = taken(&segments, &logs);
            assert_eq!(of_logs.len(), 100);
            segments.truncate(segments.len() - of_segments.len());
            let merged = of_segments.iter().chain(&of_logs).sum::<u64>();
            segments.push(merged);
            rewritten += merged;
            all += logs.iter().sum::<u64>();
        }
        assert!(rewritten < 8 * all, "{rewritten} bytes of {all}");
        assert!(segments.len() < 40, "{segments:?}");
    }
}
