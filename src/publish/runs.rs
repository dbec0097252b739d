//! The table `runs`: one row a run, read at each scan: the published ones from their manifests, the others from what
//! they left in the workspace when they began.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use chrono::DateTime;
use datafusion::arrow::array::{ArrayRef, ListBuilder, StringBuilder, TimestampMillisecondBuilder, UInt64Builder};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result, exec_err};
use datafusion::datasource::{MemTable, TableType};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use futures::{StreamExt, TryStreamExt};

use super::incomplete::{Incomplete, incomplete_runs};
use super::manifest::{MANIFEST, Manifest, parse_manifest, read_manifest};
use super::schema::item;
use super::staging::at;
use crate::stores::Place;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("run_id", DataType::Utf8, false),
        Field::new("finished", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true),
        Field::new("target", DataType::Utf8, true),
        Field::new("curated_rows", DataType::UInt64, true),
        Field::new("rejected_rows", DataType::UInt64, true),
        Field::new("bytes", DataType::UInt64, true),
        Field::new("path", DataType::Utf8, true),
        Field::new("models", DataType::List(item(DataType::Utf8)), true),
        Field::new("state", DataType::Utf8, false),
        Field::new("stopped_by", DataType::Utf8, true),
        Field::new("reason", DataType::Utf8, true),
    ]))
});

/// The table `runs` over the folder that runs are published to: run_id TEXT, finished TIMESTAMP (UTC), target TEXT,
/// curated_rows, rejected_rows and bytes (of its Parquet files) BIGINT UNSIGNED, path TEXT, models TEXT[] (names in `seedmill.toml`), state
/// TEXT ('complete' or 'incomplete'), stopped_by TEXT ('budget', 'interrupted' or 'failed') and reason TEXT of an
/// incomplete run, by run_id. Incomplete runs are those that began in the workspace `root`; they have no finish, no
/// rows and no path. A folder without a manifest is no run; a run whose manifest cannot be read is a row of NULLs and
/// a warning. A folder that is not there has no runs.
pub fn runs_table(out: impl Into<Place>, root: &Path) -> Arc<dyn TableProvider> {
    Arc::new(RunsTable { out: out.into(), root: root.to_owned() })
}

#[derive(Debug)]
struct RunsTable {
    out: Place,
    root: PathBuf,
}

#[async_trait]
impl TableProvider for RunsTable {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&SCHEMA)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let batch = read_runs(&self.out, &self.root).await?;
        MemTable::try_new(self.schema(), vec![vec![batch]])?.scan(state, projection, filters, limit).await
    }
}

/// The folder of the newest complete run, or `None` where nothing is published.
pub fn newest_run(out: &Path) -> Option<PathBuf> {
    run_folders(out).ok()?.pop().map(|(_, path)| path)
}

/// The folder of a complete run.
pub fn run_folder(out: &Path, run_id: &str) -> Option<PathBuf> {
    run_folders(out).ok()?.into_iter().find(|(name, _)| name == run_id).map(|(_, path)| path)
}

/// The newest complete run, or `None` where nothing is published.
pub async fn newest_complete_run(out: &Place) -> Result<Option<Place>> {
    let prefix = match out {
        Place::Folder(folder) => return Ok(newest_run(folder).map(Place::Folder)),
        Place::Prefix(prefix) => prefix,
    };
    for name in prefix.folders().await?.into_iter().rev() {
        let run = prefix.join(&name);
        if run.has(MANIFEST).await? {
            return Ok(Some(Place::Prefix(run)));
        }
    }
    Ok(None)
}

/// A complete run by its id.
pub async fn complete_run(out: &Place, run_id: &str) -> Result<Option<Place>> {
    match out {
        Place::Folder(folder) => Ok(run_folder(folder, run_id).map(Place::Folder)),
        Place::Prefix(prefix) => {
            let run = prefix.join(run_id);
            Ok(run.has(MANIFEST).await?.then_some(Place::Prefix(run)))
        }
    }
}

/// The manifest of a complete run, wherever it lies.
pub async fn manifest_of(run: &Place) -> Result<Manifest> {
    match run {
        Place::Folder(folder) => read_manifest(folder),
        Place::Prefix(prefix) => match prefix.get(MANIFEST).await? {
            Some(bytes) => parse_manifest(&String::from_utf8_lossy(&bytes), &prefix.url()),
            None => exec_err!("{} has no {MANIFEST}: it is no complete run", prefix.url()),
        },
    }
}

/// Name, place and manifest of every complete run, oldest first. In a store what has no manifest is no run.
pub(super) async fn complete_runs(out: &Place) -> Result<Vec<(String, Place, Result<Manifest>)>> {
    let prefix = match out {
        Place::Folder(folder) => {
            let runs = run_folders(folder)?.into_iter();
            return Ok(runs.map(|(name, path)| (name, Place::Folder(path.clone()), read_manifest(&path))).collect());
        }
        Place::Prefix(prefix) => prefix,
    };
    let runs = futures::stream::iter(prefix.folders().await?).map(|name| async move {
        let run = prefix.join(&name);
        let read = run.get(MANIFEST).await?;
        let manifest = read.map(|bytes| parse_manifest(&String::from_utf8_lossy(&bytes), &run.url()));
        Ok::<_, DataFusionError>(manifest.map(|manifest| (name, Place::Prefix(run), manifest)))
    });
    runs.buffered(READS).try_filter_map(|run| std::future::ready(Ok(run))).try_collect().await
}

/// Manifests that are asked for at a time.
const READS: usize = 16;

/// Name and path of every complete run of a folder, oldest first.
pub(super) fn run_folders(out: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut folders: Vec<(String, PathBuf)> = match fs::read_dir(out) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(at("cannot list", out)(e)),
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())))
            .collect::<io::Result<_>>()
            .map_err(at("cannot list", out))?,
    };
    // A name with a dot before it is a run that is being written.
    folders.retain(|(name, path)| !name.starts_with('.') && path.join(MANIFEST).is_file());
    folders.sort();
    Ok(folders)
}

/// A run of either kind.
enum Found {
    /// With its manifest, where that can be read.
    Complete(Place, Option<Box<Manifest>>),
    Incomplete(Incomplete),
}

async fn read_runs(out: &Place, root: &Path) -> Result<RecordBatch> {
    let mut runs: Vec<(String, Found)> = Vec::new();
    // First: a run that is published in between is there twice rather than not at all, and once below.
    let incomplete = incomplete_runs(root, &out.name())?;
    for (name, path, manifest) in complete_runs(out).await? {
        let manifest = manifest.inspect_err(|e| tracing::warn!("{}", e.strip_backtrace())).ok();
        let run_id = manifest.as_ref().map_or(name, |manifest| manifest.run_id.clone());
        runs.push((run_id, Found::Complete(path, manifest.map(Box::new))));
    }
    for run in incomplete {
        if !runs.iter().any(|(run_id, _)| *run_id == run.run_id) {
            runs.push((run.run_id.clone(), Found::Incomplete(run)));
        }
    }
    runs.sort_by(|a, b| a.0.cmp(&b.0));

    let (mut ids, mut targets, mut paths) = (StringBuilder::new(), StringBuilder::new(), StringBuilder::new());
    let (mut states, mut stopped_by, mut reasons) = (StringBuilder::new(), StringBuilder::new(), StringBuilder::new());
    let mut finished = TimestampMillisecondBuilder::new().with_timezone("UTC");
    let (mut curated, mut rejected, mut bytes) = (UInt64Builder::new(), UInt64Builder::new(), UInt64Builder::new());
    let mut models = ListBuilder::new(StringBuilder::new()).with_field(item(DataType::Utf8));
    for (run_id, run) in &runs {
        ids.append_value(run_id);
        match run {
            Found::Complete(path, manifest) => {
                let manifest = manifest.as_deref();
                finished.append_option(manifest.and_then(finished_ms));
                targets.append_option(manifest.map(|m| &m.target));
                curated.append_option(manifest.map(|m| m.rows.curated));
                rejected.append_option(manifest.map(|m| m.rows.rejected));
                bytes.append_option(manifest.map(|m| m.files.iter().map(|file| file.bytes).sum()));
                paths.append_value(path.to_string());
                models.append_option(manifest.map(|m| m.models.iter().map(|model| Some(model.name.as_str()))));
                states.append_value("complete");
                stopped_by.append_null();
                reasons.append_null();
            }
            Found::Incomplete(run) => {
                finished.append_null();
                targets.append_value(&run.target);
                curated.append_null();
                rejected.append_null();
                bytes.append_null();
                paths.append_null();
                models.append_value(run.models.iter().map(|model| Some(model.as_str())));
                states.append_value("incomplete");
                stopped_by.append_option(run.stopped_by.map(|by| by.as_str()));
                reasons.append_value(run.reason.as_deref().unwrap_or("it is still running, or was killed"));
            }
        }
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(ids.finish()),
        Arc::new(finished.finish()),
        Arc::new(targets.finish()),
        Arc::new(curated.finish()),
        Arc::new(rejected.finish()),
        Arc::new(bytes.finish()),
        Arc::new(paths.finish()),
        Arc::new(models.finish()),
        Arc::new(states.finish()),
        Arc::new(stopped_by.finish()),
        Arc::new(reasons.finish()),
    ];
    Ok(RecordBatch::try_new(SchemaRef::clone(&SCHEMA), columns)?)
}

fn finished_ms(manifest: &Manifest) -> Option<i64> {
    DateTime::parse_from_rfc3339(&manifest.finished).ok().map(|time| time.timestamp_millis())
}
