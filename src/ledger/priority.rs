//! How much a thread may take of a processor that calls in flight want, too. A thread can only be lowered.

/// For what can wait, but not for ever: it gets its small share while others want the processor.
pub(super) fn lower() {
    #[cfg(target_os = "linux")]
    // SAFETY: plain numbers go in; on Linux 0 stands for the calling thread (setpriority(2), "C library/kernel
    // differences"). Where it is refused, the thread goes on as before.
    unsafe {
        nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, 19);
    }
}

/// For what nobody waits for: it runs where no other thread wants to. One that is only lowered keeps a processor for
/// milliseconds after another has woken up.
pub(super) fn idle() {
    lower();
    #[cfg(target_os = "linux")]
    // SAFETY: plain numbers go in, and a pointer that is read before it returns; 0 stands for the calling thread
    // (sched_setscheduler(2)). Where it is refused, the thread is lowered all the same.
    unsafe {
        nix::libc::sched_setscheduler(0, nix::libc::SCHED_IDLE, &nix::libc::sched_param { sched_priority: 0 });
    }
}
