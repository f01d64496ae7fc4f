//! Outputs of containers: the log that kubelet reads, and clients that look on. Whoever has an
//! output in its hands uses it: our shim, and the companion of other runtimes' pods.
#![forbid(unsafe_code)]

pub mod attached;
pub mod disks;
mod file;
pub mod records;

pub use file::{Log, LogSink};
