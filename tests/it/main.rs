//! The program's parts over real sockets, files and processes.

mod fault_server;
mod openai;
mod pipeline;
mod resume;
mod scratch;
