//! The program's parts over real sockets, files and processes.

mod arguments;
mod calls_command;
mod fault_server;
mod guard;
mod ledger_kill;
mod openai;
#[cfg(feature = "peers")]
mod peers;
mod pipeline;
mod resume;
mod scratch;
