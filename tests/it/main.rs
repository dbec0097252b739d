//! The program's parts over real sockets, files and processes.

mod answers;
mod arguments;
mod before_the_first_call;
mod broken_parquet;
mod budget;
mod budget_without_usage;
mod calls_command;
mod closed_port;
mod curate;
mod docs;
mod embed;
mod embed_replicas;
mod fault_server;
mod faults;
mod first_rows;
mod grace;
mod growth;
mod guard;
mod hub;
mod identity;
mod init;
mod interrupt;
mod kill;
mod ledger_kill;
mod left_out;
mod limiter;
mod object_store;
mod object_store_compact;
mod object_store_kill;
mod object_store_ledger;
mod object_store_merge;
mod object_store_publish;
mod object_store_scan;
mod odd_paths;
mod once;
mod openai;
#[cfg(feature = "peers")]
mod peers;
mod pipeline;
mod pipeline_url;
mod planner;
mod presigned;
mod progress;
mod proxy;
#[cfg(feature = "peers")]
mod python_env;
#[cfg(feature = "peers")]
mod raw_rows;
#[cfg(feature = "peers")]
mod readers;
mod reasoning;
mod report;
mod resume;
#[cfg(feature = "peers")]
mod run_python;
mod runs;
mod s3_server;
mod scratch;
mod secrets;
mod shared_inputs;
mod tasks_check;
mod tasks_from;
mod terminal;
