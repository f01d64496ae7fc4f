//! The daemon as it is shipped, between a client of the container runtime interface and shims that a
//! test speaks for. It needs root, for a mount namespace and network namespaces.

#![allow(clippy::unwrap_used, reason = "a test fails where something is not as expected")]

mod callers;
mod faults;
mod images;
mod life;
mod limits;
mod node;
mod registry;
mod relist;
mod shims;
mod starts;
mod stores;
