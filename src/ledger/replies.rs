//! The answers to a group's appends, given on a thread of the runtime that waits for them. From the thread that writes,
//! each would wake a worker that sleeps, for one task, after which it sleeps again.

use super::LedgerError;
use super::writer::Append;

/// Answers when it is dropped, wherever that is: also where the runtime is gone.
pub(super) struct Replies {
    appends: Vec<Append>,
    result: Result<(), LedgerError>,
}

impl Replies {
    pub(super) fn send(appends: Vec<Append>, result: Result<(), LedgerError>) {
        let runtime = match appends.as_slice() {
            // A lone one is woken the short way.
            [] | [_] => None,
            [first, others @ ..] => first.runtime.clone().filter(|runtime| {
                others.iter().all(|append| append.runtime.as_ref().is_some_and(|other| other.id() == runtime.id()))
            }),
        };
        let replies = Replies { appends, result };
        if let Some(runtime) = runtime {
            runtime.spawn(async move { drop(replies) });
        }
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        for append in self.appends.drain(..) {
            // Whoever asked may have been dropped; that is no failure.
            let _ = append.reply.send(self.result.clone());
        }
    }
}
