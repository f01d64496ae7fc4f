//! Our own CRI server, `cuddyd`: what a kubelet asks of a node's pods and images, without
//! containerd and without CRI-O.

mod adopt;
mod caller;
mod classes;
mod clock;
mod daemon;
mod disk;
mod events;
mod exec;
mod facts;
mod fault;
mod fifo;
mod foreign;
mod ids;
mod images;
mod network;
mod node;
mod places;
mod pod;
mod pods;
mod record;
mod row;
mod rpc;
mod sessions;
mod settings;
mod snapshot;
pub mod spec;
mod stats;
mod sweep;

pub use daemon::run;
pub use settings::{FILE as SETTINGS, Settings, SettingsError, ShimOptions, ShimSettings, Shims};
