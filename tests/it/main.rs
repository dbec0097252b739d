//! The program's parts over real sockets, files and processes.

mod answers;
mod arguments;
mod fault_server;
mod guard;
mod openai;
#[cfg(feature = "peers")]
mod peers;
mod pipeline;
mod planner;
mod resume;
mod scratch;
