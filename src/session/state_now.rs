//! The session's state at the moment that it is asked for, for providers that the session owns.

use std::fmt;
use std::sync::Arc;

use datafusion::common::{Result, exec_datafusion_err};
use datafusion::execution::SessionState;
use datafusion::prelude::SessionContext;

/// Does not keep the session alive.
#[derive(Clone)]
pub struct StateNow(Arc<dyn Fn() -> Option<SessionState> + Send + Sync>);

impl StateNow {
    pub fn of(ctx: &SessionContext) -> StateNow {
        let state = ctx.state_weak_ref();
        StateNow(Arc::new(move || Some(state.upgrade()?.read().clone())))
    }

    pub fn get(&self) -> Result<SessionState> {
        (self.0)().ok_or_else(|| exec_datafusion_err!("the session has ended"))
    }
}

impl fmt::Debug for StateNow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StateNow")
    }
}
