//! Named places where a test may end the process as a crash would: nothing is flushed, nothing is dropped.
//! In a release build they are nothing.

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// `SEEDMILL_TEST_CRASH_AT=<name of a point>:<n>`: end at its n-th passage.
    const VARIABLE: &str = "SEEDMILL_TEST_CRASH_AT";

    static TARGET: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static PASSED: AtomicU32 = AtomicU32::new(0);

    pub(crate) fn is_due(point: &str) -> bool {
        let target = TARGET.get_or_init(|| {
            let value = std::env::var(VARIABLE).ok()?;
            let (point, passage) = value.rsplit_once(':')?;
            Some((point.to_owned(), passage.parse().ok()?))
        });
        match target {
            Some((name, passage)) if name == point => PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *passage,
            _ => false,
        }
    }
}

/// Ends the process here if a test has asked for it.
#[inline]
pub(crate) fn pass(point: &str) {
    pass_after(point, || {});
}

/// Does what would be half done at a crash, and ends the process, if a test has asked for it.
#[inline]
pub(crate) fn pass_after(point: &str, half_done: impl FnOnce()) {
    #[cfg(debug_assertions)]
    if armed::is_due(point) {
        half_done();
        // SIGKILL, so that no core is dumped; where there is no `kill`, the same without it.
        let _ = std::process::Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
        std::process::abort();
    }
    #[cfg(not(debug_assertions))]
    let _ = (point, half_done);
}
