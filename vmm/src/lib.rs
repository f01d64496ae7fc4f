//! The virtual machine monitor: one process, one machine, one client.
//!
//! ```text
//! client ══ control socket ══► control thread ── makes and ends everything
//!                                │        ▲
//!                                │        │ notices: end, guest ready, device failed
//!                                ▼        │
//!                              vCPU threads ── ports and windows (bus) ── devices' workers
//! ```
//!
//! Start reading at `machine/build.rs`. The process is a jail from the moment the machine is built
//! (`jail`, `seccomp`). Two things reach it from the guest: register accesses (`bus`, `windows`,
//! `devices`), and what the `virtio` crate parses.

mod arch;
mod boot;
mod bus;
pub mod control;
mod descriptors;
mod devices;
#[cfg(fuzzing)]
pub mod fuzzing;
mod jail;
mod kvm;
pub mod logger;
mod machine;
mod memory;
mod notice;
mod saved;
mod seccomp;
mod vcpu;
mod windows;

#[cfg(test)]
#[path = "../virtio/src/fake_driver.rs"]
#[allow(dead_code, reason = "not all that the crate virtio needs of it is needed here")]
#[allow(clippy::cast_possible_truncation, reason = "a test's own small numbers")]
mod fake_driver;

// What the driver for tests knows as its own crate's.
#[cfg(test)]
use virtio::{device, mmio, worker};
