//! The loaded model and its workers, one thread and one core each, off the async runtime.
//! In: jobs through a bounded queue. Out: answers, errors and panics alike as values.

use std::fs::File;
use std::io::BufReader;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::quantized::gguf_file;
use tokio::sync::{mpsc, oneshot};

use super::grammar::{Grammars, first_line};
use super::llama::Llama;
use super::prefixes::Prefixes;
use super::vocabulary::Vocabulary;
use super::worker::{Generated, Task, Worker};

/// Weights, tokenizer and grammar compiler: what all workers share.
pub(super) struct Model {
    pub(super) llama: Llama,
    pub(super) vocabulary: Arc<Vocabulary>,
    pub(super) grammars: Grammars,
    pub(super) prefixes: Prefixes,
    /// Tokens of prompt and answer together.
    pub(super) context_length: usize,
}

impl Model {
    /// Loads a GGUF file whose matrices have fast kernels; `context_length` only ever shortens the model's own.
    pub(super) fn load(path: &Path, context_length: usize) -> Result<Model, String> {
        let wrong = |e: candle_core::Error| format!("{}: {}", path.display(), first_line(&e));
        let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut file = BufReader::new(file);
        let content = gguf_file::Content::read(&mut file).map_err(wrong)?;
        let vocabulary = Arc::new(Vocabulary::from_gguf(&content).map_err(|e| format!("{}: {e}", path.display()))?);
        let llama = Llama::from_gguf(&content, &mut file).map_err(wrong)?;
        let grammars = Grammars::new(Arc::clone(&vocabulary))?;
        let context_length = context_length.min(llama.context_length);
        Ok(Model { llama, vocabulary, grammars, prefixes: Prefixes::new(), context_length })
    }
}

/// A task and where its answer goes. Dropping the receiving end cancels the task.
struct Job {
    task: Task,
    reply: oneshot::Sender<Result<Option<Generated>, String>>,
}

/// The queue before the workers; they end when it is dropped.
pub(super) struct Engine {
    pub(super) model: Arc<Model>,
    jobs: mpsc::Sender<Job>,
}

impl Engine {
    pub(super) fn start(model: Model, workers: usize) -> Result<Engine, String> {
        let model = Arc::new(model);
        let workers = workers.max(1);
        let (jobs, queue) = mpsc::channel::<Job>(workers);
        let queue = Arc::new(Mutex::new(queue));
        for index in 0..workers {
            let (model, queue) = (Arc::clone(&model), Arc::clone(&queue));
            std::thread::Builder::new()
                .name(format!("embedded-model-{index}"))
                .spawn(move || work(model, &queue))
                .map_err(|e| format!("no thread for the embedded model: {e}"))?;
        }
        Ok(Engine { model, jobs })
    }

    /// Waits for a worker and its answer.
    pub(super) async fn answer(&self, task: Task) -> Result<Generated, String> {
        let (reply, answer) = oneshot::channel();
        let gone = || "the embedded model's worker is gone".to_owned();
        self.jobs.send(Job { task, reply }).await.map_err(|_| gone())?;
        match answer.await {
            Ok(Ok(Some(generated))) => Ok(generated),
            Ok(Ok(None)) => Err("the answer was cancelled".into()),
            Ok(Err(message)) => Err(message),
            Err(_) => Err(gone()),
        }
    }
}

fn work(model: Arc<Model>, queue: &Mutex<mpsc::Receiver<Job>>) {
    let mut worker = Worker::new(Arc::clone(&model));
    loop {
        // The lock is held while waiting: the other idle workers wait for the lock instead.
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(Job { task, reply }) = job else { return };
        if reply.is_closed() {
            continue;
        }
        let result = guarded(|| worker.answer(task, || reply.is_closed()));
        if result.is_err() {
            // Its grammars may be in the middle of an answer.
            worker = Worker::new(Arc::clone(&model));
        }
        // A closed end means that nobody waits any more.
        let _ = reply.send(result);
    }
}

/// Runs `answer`; a panic becomes an error, so that nobody waits for an answer that will not come.
fn guarded<T>(answer: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(answer)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<&str>().map(|message| (*message).to_owned());
        let message = message.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(format!("the embedded model's worker panicked: {}", first_line(&message)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_message() {
        let error = guarded::<()>(|| panic!("the tensor has {} rows", 3)).unwrap_err();
        assert!(error.ends_with("panicked: the tensor has 3 rows"), "{error}");
        assert!(guarded::<()>(|| panic!("no rows")).unwrap_err().contains("no rows"));
    }
}
