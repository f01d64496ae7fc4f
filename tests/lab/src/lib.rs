//! The lab: a real KVM host (L1) inside QEMU/TCG for machines whose own KVM cannot run stock
//! guests. `tests/lab/README.md` tells how to use it.
//!
//! Two programs share this crate: `lab` drives QEMU on the machine, and `lab-agent` is PID 1
//! and the command service inside L1. They talk over one TCP connection per command, in the
//! frames of [`frame`].

pub mod agent;
pub mod client;
pub mod cpio;
pub mod frame;
pub mod instance;
pub mod qemu;
pub mod suite;
pub mod terminal;
