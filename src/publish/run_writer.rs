//! Writes one run: completes rows, parts the kept from the rejected, counts them, and publishes the whole at the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use datafusion::arrow::array::{Array, AsArray, BooleanArray};
use datafusion::arrow::compute::{filter_record_batch, not};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{Result, exec_datafusion_err};

use super::align::Columns;
use super::card::card;
use super::complete::complete;
use super::files::ParquetFiles;
use super::manifest::{FORMAT_VERSION, FileKind, Rows};
use super::schema::{REASONS, SPLIT, curated_schema, rejected_schema};
use super::tally::Tally;
use super::target::Target;
use super::upload::GiveUp;
use super::writing::AtWork;
use super::{FileLimits, Manifest, Published, Run};
use crate::stores::Place;

const FOLDERS: [&str; 2] = ["data", "rejected"];

/// A run being written. Dropped before [`RunWriter::publish`] it leaves nothing behind.
pub(crate) struct RunWriter {
    /// First: the files send nothing when they are dropped.
    _give_up: GiveUp,
    columns: Columns,
    config_sha256: String,
    curated: ParquetFiles,
    rejected: ParquetFiles,
    tally: Tally,
    /// After the files: they close before their folder goes.
    target: Arc<Target>,
    /// Last: when it goes, nothing is written any more.
    at_work: AtWork,
}

impl RunWriter {
    pub(crate) fn create(run: &Run, out: &Place, columns: Columns, limits: FileLimits) -> Result<RunWriter> {
        let at_work = run.writer()?;
        let target = Arc::new(Target::create(out, &run.id, &FOLDERS)?);
        let files = |kind, schema| ParquetFiles::new(kind, &target, schema, &run.id, limits);
        Ok(RunWriter {
            _give_up: target.give_up(),
            columns,
            config_sha256: run.config_sha256.clone(),
            curated: files(FileKind::Curated, curated_schema()),
            rejected: files(FileKind::Rejected, rejected_schema()),
            tally: Tally::default(),
            target,
            at_work,
        })
    }

    /// Takes a batch of the plan. Rows with at least one reason are rejected, be the reason NULL: whoever appended it
    /// stopped paying for the row.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows = complete(self.columns.read(batch)?, &self.config_sha256)?;
        let reasons_at = rows.schema_ref().index_of(REASONS)?;
        let reasons = rows.column(reasons_at).as_list::<i32>();
        let is_rejected: BooleanArray =
            (0..rows.num_rows()).map(|row| Some(reasons.is_valid(row) && reasons.value_length(row) > 0)).collect();

        let rejected = filter_record_batch(&rows, &is_rejected)?;
        self.tally.add(FileKind::Rejected, &rejected)?;
        self.rejected.write(&rejected)?;

        let mut curated = filter_record_batch(&rows, &not(&is_rejected)?)?;
        self.tally.add(FileKind::Curated, &curated)?;
        curated.remove_column(reasons_at);
        self.curated.write(&RecordBatch::try_new(curated_schema(), curated.columns().to_vec())?)
    }

    /// Ends the files, writes the card and then the manifest, gives the run its name and tells it so. A run that is
    /// stopped before the manifest is not published; one that is stopped later is.
    pub(crate) fn publish(self, run: &Run) -> Result<Published> {
        // Dropped from the last to the first.
        let RunWriter { mut at_work, target, tally, rejected, curated, _give_up, .. } = self;
        let mut files = curated.finish()?;
        files.extend(rejected.finish()?);
        let mut sources = tally.sources();
        sources.iter_mut().for_each(|source| source.attribution = run.attribution(&source.task));
        let count = |name: fn(&super::Source) -> &String| {
            let mut counts = BTreeMap::<String, Rows>::new();
            for source in &sources {
                let rows = counts.entry(name(source).clone()).or_default();
                rows.add(FileKind::Curated, source.rows.curated);
                rows.add(FileKind::Rejected, source.rows.rejected);
            }
            counts
        };
        let manifest = Manifest {
            format_version: FORMAT_VERSION,
            run_id: run.id.clone(),
            seedmill: env!("CARGO_PKG_VERSION").into(),
            started: rfc3339(DateTime::from_timestamp_millis(run.started_ms).unwrap_or_default()),
            finished: rfc3339(Utc::now()),
            target: run.target.as_str().into(),
            split: SPLIT.into(),
            config_sha256: run.config_sha256.clone(),
            models: run.models().to_vec(),
            notes: run.notes(),
            rows: tally.rows,
            reasons: tally.reasons,
            tasks: count(|source| &source.task),
            licenses: count(|source| &source.license),
            sources,
            languages: tally.languages,
            files,
        };
        target.write("README.md", &card(&manifest))?;
        // The files, which had it too, are done.
        let target = Arc::into_inner(target).ok_or_else(|| exec_datafusion_err!("a file of the run is still open"))?;
        let json = manifest.to_json()?;
        at_work.publish()?;
        let place = target.publish(&json, &FOLDERS)?;
        let published = Published { path: place.name(), place, manifest };
        run.set_published(published.clone());
        Ok(published)
    }
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
