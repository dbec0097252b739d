//! The gates of the planner: held-out rows, training rows that are copies of them, and forbidden licences never reach a
//! model call.

mod below_calls;
mod held_out;
mod held_out_copy;
mod left_out;
mod licence;
mod licence_permits;
mod outflow;
mod reach;
mod role;
mod row_gate;
mod row_gate_exec;

pub use held_out::HeldOutGuard;
pub use held_out_copy::{LoadHeldOutRows, held_out_copy, held_out_row};
pub use left_out::LeftOut;
pub use licence::LicenceGate;
pub use licence_permits::LicencePermits;
pub use outflow::HeldOutOutflow;
pub use reach::{held_out_scan, lacking_scan};
pub use row_gate::RowGate;
pub use row_gate_exec::CountLeftOut;
