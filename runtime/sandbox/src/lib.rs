//! The domain core of the runtime: what a sandbox, its machine, its containers and its
//! processes are and how they live and end. It knows no server code; shims and daemons are
//! thin doors in front of [`Sandbox`].
//!
//! Start reading at [`sandbox`]: the owner task that everything else serves.

mod apparmor;
mod blocking;
pub mod cgroup;
pub mod config;
pub mod console;
pub mod container;
pub mod error;
pub mod events;
pub mod guest;
pub mod hooks;
pub mod ids;
pub mod journal;
mod live;
pub mod machine;
pub mod mounts;
mod network;
pub mod patience;
pub mod pod;
pub mod process_id;
pub mod request;
pub mod sandbox;
pub mod sizing;
mod socket;
pub mod spawn;
pub mod spec;
pub mod stdio;
pub mod storage;
pub mod store;
mod text;
pub mod usage;

pub use config::{Config, ConfigError};
pub use error::Error;
pub use events::Event;
pub use ids::{ContainerId, ExecId, IdError, Namespace, SandboxId};
pub use pod::Pod;
pub use sandbox::Sandbox;
