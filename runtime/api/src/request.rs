//! What callers ask for, in the core's own words.

use std::path::PathBuf;

use crate::{ContainerId, ExecId};

/// A mount as a caller names it (`containerd.types.Mount`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    /// Filesystem type.
    pub fstype: String,
    /// Device, directory or file.
    pub source: String,
    /// Path below the root filesystem; empty for its root.
    pub target: String,
    /// mount(8) options.
    pub options: Vec<String>,
}

/// Where a process's streams go, exactly as the caller wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StdioPaths {
    /// Fifo to read from; empty for none.
    pub stdin: String,
    /// Fifo or URI to write to; empty for none.
    pub stdout: String,
    /// Fifo to write to; empty for none, and with a terminal.
    pub stderr: String,
    /// Whether the process has a terminal.
    pub terminal: bool,
}

/// What a caller wants made.
#[derive(Debug, Clone)]
pub struct CreateRequest {
    /// The container's name.
    pub id: ContainerId,
    /// Directory that holds `config.json`.
    pub bundle: PathBuf,
    /// Mounts that make up the root filesystem; none: the configuration names a directory.
    pub rootfs: Vec<Mount>,
    /// Where the init process's streams go.
    pub stdio: StdioPaths,
}

/// An additional process that a caller wants registered.
#[derive(Debug, Clone)]
pub struct ExecRequest {
    /// Where and under which name.
    pub target: Target,
    /// OCI process object.
    pub process: serde_json::Value,
    /// Where its streams go.
    pub stdio: StdioPaths,
}

/// A process: the init of a container, or one of its execs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The container.
    pub container: ContainerId,
    /// The exec; none for init.
    pub exec: Option<ExecId>,
}

impl Target {
    /// The name that callers know the process by.
    pub fn name(&self) -> &str {
        self.exec.as_ref().map_or(self.container.as_str(), ExecId::as_str)
    }
}
