//! The program's parts over real sockets, files and processes.

mod answers;
mod arguments;
mod budget;
mod embed;
mod fault_server;
mod guard;
mod interrupt;
mod openai;
#[cfg(feature = "peers")]
mod peers;
mod pipeline;
mod planner;
mod progress;
mod resume;
mod scratch;
