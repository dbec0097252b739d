//! How many files a process may have open: each call in flight is a socket, and shells allow 1,024 in all.

/// More than this is not asked for.
#[cfg(target_os = "linux")]
const ENOUGH: u64 = 65_536;

/// Raises the limit as far as the system lets a process raise its own. Without success all goes on as it is.
#[cfg(target_os = "linux")]
pub fn raise_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let wanted = hard.min(ENOUGH);
    if soft < wanted
        && let Err(e) = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)
    {
        tracing::debug!("the limit of open files stays at {soft}: {e}");
    }
}

#[cfg(not(target_os = "linux"))]
pub fn raise_limit() {}
