//! The two gates of the planner: held-out rows and forbidden licences never reach a model call.

mod held_out;
mod licence;
mod licence_permits;

pub use held_out::{HeldOutGuard, held_out_scan};
pub use licence::LicenceGate;
pub use licence_permits::LicencePermits;
