//! The task catalog. In: task configs of lm-evaluation-harness and what seedmill.toml says of their datasets. Out: the
//! tables `tasks`, `seeds`, `heldout` and the schemas `raw`, `norm`, `heldout`, each provider marked with its split.

mod catalog;
mod catalog_loader;
mod caught_panic;
mod classify;
mod column_sql;
mod config_folder;
mod config_reader;
mod csv_rows;
mod csv_split;
mod data_roots;
mod dataset_facts;
mod dataset_files;
mod dataset_table;
mod distinct_rows;
mod golden;
mod harness_config;
mod heldout_coverage;
mod heldout_index;
mod heldout_rows;
mod heldout_split;
mod heldout_texts;
mod json_rows;
mod json_shape;
mod json_split;
mod known_datasets;
mod meaning_sql;
mod norm_sql;
mod normalized_cache;
mod one_schema;
mod parquet_split;
mod placed_batch;
mod python_class;
mod raw_errors;
mod raw_file;
mod raw_table;
mod raw_texts;
mod rendered_sql;
mod row_keys;
mod schemas;
mod scored_train_splits;
mod seeds;
mod source_rows;
mod split_files;
mod task;
mod task_planner;
mod task_sql;
mod task_sql_files;
mod tasks_table;
mod yaml;

pub use catalog::{Catalog, TasksError};
pub use golden::{Comparison, FIELDS, Golden};
pub use heldout_coverage::HeldOutCoverage;
pub use heldout_index::HeldOutIndex;
pub use heldout_rows::HeldOutRows;
pub use row_keys::{Questions, RowKeys};
pub(crate) use seeds::may_hold_where;
pub use seeds::{heldout_schema, seeds_schema};
pub use task::{Capability, Format, Reason, Status, Task};

#[cfg(test)]
mod data_tests;
#[cfg(test)]
mod norm_tests;
#[cfg(test)]
mod raw_tests;
#[cfg(test)]
mod tests;
