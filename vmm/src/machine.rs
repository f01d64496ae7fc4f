//! One machine, from its configuration to its end.
//!
//! ```text
//! Prepared::new   memory, KVM, kernel or saved state, vCPUs    may fail and be tried again
//!    │ enter the jail
//! Prepared::jail  devices, threads, filters      may fail; the process then ends
//!    ▼
//! Machine         run, pause, attach, detach
//!    │            save, if it was built for that
//! Machine::end    vCPUs stop, devices are reset in reverse order
//! ```

mod build;
mod end;
mod run;
mod save;
mod vcpus;

pub(crate) use build::{BuildError, Prepared};
pub(crate) use run::{Machine, MachineError};
pub(crate) use save::SaveError;
