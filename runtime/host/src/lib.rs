//! What the runtime does with the node's kernel and files: mounts, cgroups, processes, the sandbox's
//! directory with its journal, and the operator's settings. Nothing here knows a machine or a pod.

pub mod capacity;
pub mod cgroup;
pub mod config;
pub mod descriptors;
pub mod ext4;
pub mod journal;
pub mod malloc;
pub mod mounts;
pub mod process_id;
pub mod spawn;
pub mod store;

pub use config::{Config, ConfigError};
