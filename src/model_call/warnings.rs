//! Sentences about a plan that are no errors, said while it is planned. Each is kept, and said to the listener, once. What
//! a plan has done is told beside them, each time.

use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};

/// The warnings of a session.
#[derive(Default)]
pub struct Warnings {
    said: Mutex<Vec<String>>,
    listener: OnceLock<Listener>,
}

type Listener = Box<dyn Fn(&str) + Send + Sync>;

impl fmt::Debug for Warnings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list()).finish()
    }
}

impl Warnings {
    /// Who hears a warning from now on, as soon as it is there.
    pub fn listen(&self, listener: impl Fn(&str) + Send + Sync + 'static) {
        let _ = self.listener.set(Box::new(listener));
    }

    /// All warnings so far, in the order in which they came.
    pub fn list(&self) -> Vec<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a plan has done that is no error.
    pub fn tell(&self, note: String) {
        if let Some(listener) = self.listener.get() {
            listener(&note);
        }
        self.said.lock().unwrap_or_else(PoisonError::into_inner).push(note);
    }

    pub(super) fn say(&self, warning: String) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.contains(&warning) {
            return;
        }
        if let Some(listener) = self.listener.get() {
            listener(&warning);
        }
        said.push(warning);
    }
}
