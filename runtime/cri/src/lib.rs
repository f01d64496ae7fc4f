//! Our own CRI server, `cuddyd`: what a kubelet asks of a node's pods and images, without
//! containerd and without CRI-O.

mod adopt;
mod apparmor;
mod bounds;
mod caller;
mod check;
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
mod generated;
mod ids;
mod images;
mod listen;
mod metrics;
mod network;
mod node;
mod notify;
mod own;
mod places;
mod pod;
mod pods;
mod record;
mod restart;
mod row;
mod rpc;
mod sessions;
mod settings;
mod snapshot;
pub mod spec;
mod stats;
mod sweep;
mod templates;

pub use check::problems;
pub use daemon::run;
pub use notify::{State, notify};
pub use settings::{FILE as SETTINGS, Settings, SettingsError, ShimOptions, ShimSettings, Shims};
pub use templates::ask_for_one as ask_for_a_template;
