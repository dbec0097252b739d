//! Arguments in, exit code out.

use std::process::ExitCode;

/// Calls are many small allocations that end on other threads than they began on; see `benches/generate.rs`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    seedmill::cli::main()
}
