//! The calling side of CNI, the Container Network Interface (specification 0.1.0 to 1.1.0). A
//! daemon that runs pods attaches each one's network namespace to the node's network by it.
//!
//! - [`NodeNetwork`] is the configuration in `/etc/cni/net.d`, kept up to date, and its readiness.
//! - [`Attachment`] is one pod's place in it. The caller stores it before ADD and after.
//! - [`Plugins`] executes plugins: attach, detach, check, status, collect.
//!
//! Nothing is stored here, and no network is made here. Namespaces are made by `network::pin`, with
//! their loopback, so that no plugin is needed for that.

mod attachment;
mod chain;
mod conf;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod invoke;
mod network;
mod pod;
mod result;
mod text;
mod verb;
mod version;
mod watch;

pub use attachment::Attachment;
pub use conf::Conf;
pub use error::Error;
pub use invoke::Plugins;
pub use network::{NodeNetwork, Readiness};
pub use pod::{Bandwidth, Capabilities, Dns, Pod, PortMapping, Protocol};
pub use result::{Address, Interface, NetworkResult, Route};
pub use verb::Verb;
pub use version::{Version, VersionError};

/// Where configurations are by default.
pub const DEFAULT_DIRECTORY: &str = "/etc/cni/net.d";

/// Where plugins are by default.
pub const DEFAULT_PATH: &str = "/opt/cni/bin";
