//! The program's parts over real sockets, files and processes.

mod arguments;
mod fault_server;
mod faults;
mod guard;
mod openai;
#[cfg(feature = "peers")]
mod peers;
mod pipeline;
mod resume;
mod scratch;
mod secrets;
