//! The `[run_code]` table of `seedmill.toml`: what runs answers that are programs, and its limits.

/// Without it no program is run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunCode {
    /// The Python interpreter: a name in the PATH, or a path.
    pub python: String,
    /// A program that takes longer is killed.
    pub timeout_seconds: f64,
    /// Address space of a program, in millions of bytes.
    pub memory_mb: u64,
}

impl RunCode {
    pub fn new(python: String) -> Self {
        RunCode { python, timeout_seconds: 5.0, memory_mb: 512 }
    }
}
