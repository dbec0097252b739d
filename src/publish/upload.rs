//! A run being written under a prefix of an object store: its files go to where they stay, and count for nothing until
//! the manifest is there, which comes last and is created once.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::common::{Result, exec_datafusion_err, exec_err};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::io::AsyncWriteExt;
use tokio::runtime::Handle;

use super::manifest::MANIFEST;
use crate::stores::{Prefix, explain};

/// A run under its own prefix. Dropped before [`Upload::publish`] it deletes what it has written.
#[derive(Debug)]
pub(crate) struct Upload {
    run: Prefix,
    store: Arc<dyn ObjectStore>,
    runtime: Handle,
    /// What has been begun; a killed process leaves it, as files that belong to no run.
    begun: Arc<Mutex<Vec<Path>>>,
    given_up: Arc<AtomicBool>,
    published: bool,
}

/// Dropped before the files of an upload it keeps them from sending what they hold: Parquet's writer flushes when it is
/// dropped, on whatever thread that is.
#[derive(Debug, Default)]
pub(crate) struct GiveUp(Arc<AtomicBool>);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Upload {
    /// Called off the executor's threads, as all that follows.
    pub(crate) fn create(out: &Prefix, run_id: &str) -> Result<Upload> {
        let run = out.join(run_id);
        let (store, _) = run.store()?;
        let runtime = Handle::current();
        if runtime.block_on(run.get(MANIFEST))?.is_some() {
            return exec_err!("{} is already there; a run is published once", run.url());
        }
        Ok(Upload { run, store, runtime, begun: Arc::default(), given_up: Arc::default(), published: false })
    }

    pub(crate) fn give_up(&self) -> GiveUp {
        GiveUp(Arc::clone(&self.given_up))
    }

    pub(crate) fn file(&self, name: &str) -> Result<ObjectFile> {
        let (_, path) = self.run.object(name)?;
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).push(path);
        let writer = Some(self.run.writer(name)?);
        Ok(ObjectFile {
            writer,
            url: format!("{}/{name}", self.run.url()),
            runtime: self.runtime.clone(),
            given_up: Arc::clone(&self.given_up),
        })
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> Result<()> {
        let mut file = self.file(name)?;
        file.write_all(text.as_bytes())?;
        file.finish()
    }

    /// Makes a run of it.
    pub(crate) fn publish(mut self, manifest: &str) -> Result<Prefix> {
        let bytes = manifest.as_bytes().to_vec().into();
        self.runtime.block_on(self.run.put_new(MANIFEST, bytes))?;
        self.published = true;
        Ok(self.run.clone())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        let begun = std::mem::take(&mut *self.begun.lock().unwrap_or_else(PoisonError::into_inner));
        let (store, url) = (Arc::clone(&self.store), self.run.url().to_owned());
        self.runtime.spawn(async move {
            for path in begun {
                if let Err(e) = store.delete(&path).await
                    && !matches!(e, object_store::Error::NotFound { .. })
                {
                    tracing::warn!(
                        "{url} of an unpublished run cannot be removed ({}); it can be deleted",
                        explain(&e)
                    );
                    return;
                }
            }
        });
    }
}

/// One object being written in parts.
pub(crate) struct ObjectFile {
    /// `None` once it is finished.
    writer: Option<BufWriter>,
    url: String,
    runtime: Handle,
    given_up: Arc<AtomicBool>,
}

impl ObjectFile {
    /// Returns when the object is there as a whole.
    pub(crate) fn finish(mut self) -> Result<()> {
        let Some(mut writer) = self.writer.take() else { return Ok(()) };
        self.runtime.block_on(writer.shutdown()).map_err(|e| self.cannot(&e))
    }

    fn cannot(&self, e: &io::Error) -> datafusion::common::DataFusionError {
        let inner = e.get_ref().and_then(|inner| inner.downcast_ref::<object_store::Error>());
        exec_datafusion_err!("{} cannot be written: {}", self.url, inner.map_or_else(|| e.to_string(), explain))
    }
}

impl Write for ObjectFile {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let writer = self.writer.as_mut().filter(|_| !self.given_up.load(Ordering::Acquire));
        let Some(writer) = writer else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let written = self.runtime.block_on(writer.write(buffer));
        written.map_err(|e| io::Error::other(self.cannot(&e).strip_backtrace()))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for ObjectFile {
    fn drop(&mut self) {
        if let Some(mut writer) = self.writer.take() {
            // The parts that are there already cost money until they are given up.
            self.runtime.spawn(async move { writer.abort().await });
        }
    }
}
