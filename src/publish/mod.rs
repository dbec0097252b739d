//! Publishing: the rows of a pipeline's last statement, `COPY (SELECT … FROM verdicts) TO 'runs' STORED AS CURATED`,
//! become the folder of one run: Parquet files, a dataset card, and last of all a manifest.
//! A run is either there as a whole or not there at all.

mod align;
mod card;
mod complete;
mod conversation;
mod files;
mod fold;
mod format;
mod incomplete;
mod item;
mod item_id;
mod manifest;
mod named_calls;
mod report;
mod run;
mod run_writer;
mod runs;
mod schema;
mod sink;
mod staging;
mod tally;
mod target;
#[cfg(test)]
mod tests;
mod upload;
mod writing;

pub use files::FileLimits;
pub use format::{CURATED, CuratedFormatFactory, register};
pub use incomplete::{Incomplete, StoppedBy};
pub use item::Item;
pub use manifest::{Attribution, FileKind, Manifest, PublishedFile, Rows, Source, read_manifest};
pub use named_calls::named_calls;
pub use report::{Report, Stage, Usage};
pub use run::{ModelRecord, Published, Run, config_sha256};
pub use runs::{complete_run, manifest_of, newest_complete_run, newest_run, run_folder, runs_table};
pub use schema::{curated_schema, rejected_schema};
