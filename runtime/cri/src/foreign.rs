//! Pods that run by another shim than ours, as runc's: containers in the node's own kernel. What a
//! machine brings along is made here on the node:
//!
//! | what | where |
//! |---|---|
//! | a process that holds the pod's namespaces | `cuddy-pause`, the shim's first container |
//! | the pod's files: hostname, hosts, resolv.conf, shared memory | its bundle ([`files`]) |
//! | root file systems | layers that are mounted, and an overlay of them ([`Roots`]) |
//! | logs, attached clients | the pod's companion ([`outputs`]) |
//! | devices, users | asked of the node and of the image ([`input`]) |
//! | what a container uses | the shim's metrics ([`metrics`]) |
//! | whether memory ran out | these, and what the shim publishes ([`News`]) |
//!
//! As everywhere, rows come before effects, and each effect can be done and undone again.

mod end;
mod files;
pub(crate) mod input;
pub(crate) mod metrics;
mod news;
pub(crate) mod outputs;
mod pod;
mod programs;
mod roots;

pub(crate) use end::{clean_up, end};
pub(crate) use files::unmount;
pub(crate) use news::News;
pub(crate) use pod::begin;
pub(crate) use programs::Programs;
pub(crate) use roots::Roots;

use crate::fault::Fault;

/// Runs what blocks beside everything else.
async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Fault::Internal(format!("{doing}: {error}")))
}
