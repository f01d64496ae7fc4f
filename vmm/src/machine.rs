//! One machine, from its configuration to its end.
//!
//! ```text
//! Prepared::new   memory, KVM, kernel, vCPUs     may fail and be tried again
//!    │ enter the jail
//! Prepared::jail  devices, threads, filters      may fail; the process then ends
//!    ▼
//! Machine         run, pause, attach, detach
//!    │
//! Machine::end    vCPUs stop, devices are reset in reverse order
//! ```

mod build;
mod end;
mod run;

pub(crate) use build::{BuildError, Prepared};
pub(crate) use run::{Machine, MachineError};
