//! A machine whose guest serves: what storage and network work with.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use host::mounts::Share;

use crate::Machine;
use crate::guest::Guest;

/// A machine whose guest serves; cheap to clone.
#[derive(Debug, Clone)]
pub struct Live {
    /// The machine.
    pub machine: Arc<Machine>,
    /// The way to its agent.
    pub guest: Guest,
    /// What the guest sees of the host's files.
    pub share: Arc<Share>,
    /// Whether the guest has had a disk to write to: it may hold what is not on the disk yet.
    pub writes: Arc<AtomicBool>,
}
