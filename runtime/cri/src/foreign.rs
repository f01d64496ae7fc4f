//! What pods that run by another shim than ours need of the node: containers in its own kernel, as
//! runc makes them. A machine brings all of it along.
//!
//! | what | where |
//! |---|---|
//! | a process that holds the pod's namespaces | `cuddy-pause`, the shim's first container ([`Programs`]) |
//! | the pod's files: hostname, hosts, resolv.conf, shared memory | its bundle ([`files`]) |
//! | root file systems | layers that are mounted, and an overlay of them ([`Roots`]) |
//! | whether memory ran out | what shims publish ([`News`]) |
//!
//! Who does it for a pod is in [`pod::foreign`](crate::pod::foreign).

pub(crate) mod files;
mod news;
mod programs;
mod roots;

pub(crate) use news::News;
pub(crate) use programs::Programs;
pub(crate) use roots::Roots;
