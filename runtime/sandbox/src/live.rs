//! A machine whose guest serves: what storage and network work with.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::guest::Guest;
use crate::machine::Machine;
use crate::mounts::Share;

/// A machine whose guest serves; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) machine: Arc<Machine>,
    pub(crate) guest: Guest,
    /// What the guest sees of the host's files.
    pub(crate) share: Arc<Share>,
    /// Whether the guest has had a disk to write to: it may hold what is not on the disk yet.
    pub(crate) writes: Arc<AtomicBool>,
}
