//! What a sandbox reports by itself, in the order in which it happened.

use std::time::SystemTime;

use crate::request::{Mount, StdioPaths};
use crate::{ContainerId, ExecId};

/// The signal that nobody can ignore.
pub const SIGKILL: u32 = 9;

/// How and when a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Exit code, or 128 plus the number of the signal that ended the process.
    pub status: u32,
    /// When it ended, by the host's clock.
    pub at: SystemTime,
}

impl Exit {
    /// Status of a process that was killed.
    pub const KILLED: u32 = 128 + SIGKILL;
}

/// Something that happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Whose.
    pub container: ContainerId,
    /// What.
    pub kind: EventKind,
}

/// What happened. A container's events come as: create, start, then pairs of exec added and
/// started with exits of execs, out of memory, exit, delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// The container exists.
    Created {
        /// Its bundle directory.
        bundle: String,
        /// Mounts that it was given.
        rootfs: Vec<Mount>,
        /// Where its streams go.
        stdio: StdioPaths,
        /// Process id to report.
        pid: u32,
    },
    /// Its init process runs.
    Started {
        /// Process id to report.
        pid: u32,
    },
    /// The guest kernel killed a process for want of memory.
    OutOfMemory,
    /// A process ended: init if `exec` is none.
    Exited {
        /// Which exec.
        exec: Option<ExecId>,
        /// Process id that was reported.
        pid: u32,
        /// How it ended.
        exit: Exit,
    },
    /// The container is gone.
    Deleted {
        /// Process id that was reported.
        pid: u32,
        /// How its init process ended.
        exit: Exit,
    },
    /// An exec was registered.
    ExecAdded {
        /// Its name.
        exec: ExecId,
    },
    /// An exec runs.
    ExecStarted {
        /// Its name.
        exec: ExecId,
        /// Process id to report.
        pid: u32,
    },
    /// All processes stand still.
    Paused,
    /// They go on.
    Resumed,
}
