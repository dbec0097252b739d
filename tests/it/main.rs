//! The program's parts over real sockets, files and processes.

mod answers;
mod arguments;
mod embed;
mod fault_server;
mod guard;
mod openai;
#[cfg(feature = "peers")]
mod peers;
mod pipeline;
mod resume;
mod scratch;
