//! Where a run is written until it is published: a staging folder of this machine, or the run's prefix in a store.

use std::fs::File;
use std::io::{self, Write};

use datafusion::common::Result;

use super::manifest::MANIFEST;
use super::staging::{Staging, at};
use super::upload::{GiveUp, ObjectFile, Upload};
use crate::stores::Place;

/// A run being written. Dropped before [`Target::publish`] it leaves nothing behind.
#[derive(Debug)]
pub(crate) enum Target {
    Folder(Staging),
    Prefix(Box<Upload>),
}

impl Target {
    pub(crate) fn create(out: &Place, run_id: &str, folders: &[&str]) -> Result<Target> {
        Ok(match out {
            Place::Folder(folder) => Target::Folder(Staging::create(folder, run_id, folders)?),
            Place::Prefix(prefix) => Target::Prefix(Box::new(Upload::create(prefix, run_id)?)),
        })
    }

    /// To be dropped before the files are.
    pub(crate) fn give_up(&self) -> GiveUp {
        match self {
            Target::Folder(_) => GiveUp::default(),
            Target::Prefix(upload) => upload.give_up(),
        }
    }

    /// Begins a file; `name` is relative to the run, with `/`.
    pub(crate) fn file(&self, name: &str) -> Result<TargetFile> {
        Ok(match self {
            Target::Folder(staging) => {
                let path = staging.path().join(name);
                TargetFile::Local(File::create_new(&path).map_err(at("cannot make the file", &path))?)
            }
            Target::Prefix(upload) => TargetFile::Object(Box::new(upload.file(name)?)),
        })
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> Result<()> {
        match self {
            Target::Folder(staging) => staging.write(name, text),
            Target::Prefix(upload) => upload.write(name, text),
        }
    }

    /// Writes the manifest and makes a run of what is there.
    pub(crate) fn publish(self, manifest: &str, folders: &[&str]) -> Result<Place> {
        match self {
            Target::Folder(staging) => {
                staging.write(MANIFEST, manifest)?;
                Ok(Place::Folder(staging.publish(folders)?))
            }
            Target::Prefix(upload) => Ok(Place::Prefix(upload.publish(manifest)?)),
        }
    }
}

/// A file of a run.
pub(crate) enum TargetFile {
    Local(File),
    Object(Box<ObjectFile>),
}

impl TargetFile {
    /// Returns when the file is durable.
    pub(crate) fn finish(self, name: &str) -> Result<()> {
        match self {
            TargetFile::Local(file) => file.sync_all().map_err(at("cannot make durable", name.as_ref())),
            TargetFile::Object(file) => file.finish(),
        }
    }
}

impl Write for TargetFile {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            TargetFile::Local(file) => file.write(buffer),
            TargetFile::Object(file) => file.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            TargetFile::Local(file) => file.flush(),
            TargetFile::Object(file) => file.flush(),
        }
    }
}
