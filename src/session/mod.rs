//! One place builds the DataFusion session: configuration, pipeline folder, tables, functions, gates.
//! In: a workspace's folder. Out: a [`Workspace`] that runs SQL.

mod dialect;
mod external_table;
mod file_tables;
mod filled_tables;
mod footer;
mod glob_table;
mod join_keys;
mod kept_tables;
mod macros;
mod pipeline;
mod pipeline_url;
mod run_schemas;
mod show_functions;
mod stage_views;
mod staged_copy;
mod state_now;
mod statements;
mod table_names;
mod variables;
mod workspace;

#[cfg(test)]
mod exemplar_tests;
#[cfg(test)]
mod heldout_table_tests;
#[cfg(test)]
mod licence_tests;
#[cfg(test)]
mod seed_tests;
#[cfg(test)]
mod stage_view_tests;

pub use dialect::is_complete;
pub use pipeline::{Pipeline, SqlFile};
pub use show_functions::table_functions;
pub use table_names::table_names;
pub use variables::Variables;
pub use workspace::{OpenOptions, Workspace};
