//! Whether the models of a run are there: asked once, right before its first request. A run whose last stage names a dead
//! server or a wrong key stops before its first stage is paid for; one that the ledger answers asks nobody.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use datafusion::common::{Result, exec_err};
use futures::future::join_all;
use tokio::sync::OnceCell;

use crate::endpoint::{ErrorKind, Model, SendError};

/// Pauses before nobody is believed to be there: a server may be starting beside the run.
const PAUSES: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// The models that must be there before the first request.
#[derive(Debug, Default)]
pub struct Readiness {
    needed: Mutex<Vec<Arc<Model>>>,
    found: OnceCell<Result<(), String>>,
}

impl Readiness {
    /// Names the models that a run will ask. Without it none is looked for.
    pub fn need(&self, models: Vec<Arc<Model>>) {
        *self.needed.lock().unwrap_or_else(PoisonError::into_inner) = models;
    }

    /// Whether the models were looked for, and are there.
    pub(super) fn is_met(&self) -> bool {
        matches!(self.found.get(), Some(Ok(())))
    }

    /// `Err` with one sentence that names each model that is not there.
    pub(super) async fn require(&self) -> Result<()> {
        let find = || async {
            let models = self.needed.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let missing: Vec<String> = join_all(models.iter().map(probe)).await.into_iter().flatten().collect();
            if missing.is_empty() { Ok(()) } else { Err(missing.join("; ")) }
        };
        match self.found.get_or_init(find).await {
            Ok(()) => Ok(()),
            Err(missing) => exec_err!("{missing}; no call was made"),
        }
    }
}

/// Why a model cannot be asked; `None` where it can.
async fn probe(model: &Arc<Model>) -> Option<String> {
    let unreachable = |error: &SendError| matches!(error.kind, ErrorKind::Connect | ErrorKind::Reset);
    let mut result = model.endpoint.probe().await;
    for pause in PAUSES {
        if !result.as_ref().is_err_and(unreachable) {
            break;
        }
        tokio::time::sleep(pause).await;
        result = model.endpoint.probe().await;
    }
    result.err().map(|error| format!("model '{}' cannot be asked: {error}", model.name))
}
