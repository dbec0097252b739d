//! The program's parts over real sockets, files and processes.

mod answers;
mod arguments;
mod fault_server;
mod first_rows;
mod growth;
mod guard;
mod identity;
mod kill;
mod once;
mod openai;
#[cfg(feature = "peers")]
mod peers;
mod pipeline;
mod resume;
mod scratch;
