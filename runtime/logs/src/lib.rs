//! Outputs of containers: the log that kubelet reads, clients that look on, and the wait for the
//! rest. Whoever has an output in its hands uses it: our shim, and the companion of other runtimes'
//! pods.
#![forbid(unsafe_code)]

pub mod attached;
pub mod disks;
mod drain;
mod file;
pub mod records;

pub use drain::{Drain, Flow};
pub use file::{Log, LogSink};
