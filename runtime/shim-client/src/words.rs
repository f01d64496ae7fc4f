//! What shims are asked and what they tell, where `api` has no words for it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use api::events::Exit;
use api::request::{Mount, StdioPaths};
use api::usage::Census;
use api::{ContainerId, User};

/// A message of a type that only its two ends know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Any {
    /// Name of the type.
    pub type_url: String,
    /// The message.
    pub value: Vec<u8>,
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It was created and not started.
    Created,
    /// It runs.
    Running,
    /// It is about to stand still.
    Pausing,
    /// It stands still.
    Paused,
    /// It has ended.
    Stopped(Exit),
    /// The shim can't tell.
    Unknown,
}

/// How a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessState {
    /// Its container's bundle.
    pub bundle: PathBuf,
    /// Process id on the host that stands for it; 0 for none.
    pub pid: u32,
    /// What it does.
    pub status: Status,
    /// Where its streams go, as they were named when it was made.
    pub stdio: StdioPaths,
}

/// Who serves a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// Process id of the shim.
    pub shim_pid: u32,
    /// Process id that stands for the container; 0 for none.
    pub task_pid: u32,
    /// What the shim says of its version; most say nothing.
    pub version: String,
}

/// What a sandbox is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SandboxRequest {
    /// Its bundle.
    pub bundle: PathBuf,
    /// Mounts for a root filesystem of its own.
    pub rootfs: Vec<Mount>,
    /// Its configuration: from the CRI, a `runtime.v1.PodSandboxConfig`.
    pub options: Option<Any>,
    /// Its network namespace; empty for the host's.
    pub network: PathBuf,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A sandbox that has started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxStarted {
    /// Process id on the host that stands for it.
    pub pid: u32,
    /// Since when it exists, if the shim says so.
    pub created_at: Option<SystemTime>,
}

/// How a sandbox is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxStatus {
    /// Process id on the host that stands for it; 0 for none.
    pub pid: u32,
    /// Whether it takes containers.
    pub ready: bool,
    /// Since when it exists.
    pub created_at: Option<SystemTime>,
    /// When it ended; none: it has not.
    pub exited_at: Option<SystemTime>,
    /// More of it, for people, if it was asked for.
    pub info: BTreeMap<String, String>,
}

/// A container as our own shim lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub id: ContainerId,
    /// Whether it is the pod itself.
    pub pod: bool,
    /// Since when it exists.
    pub created_at: Option<SystemTime>,
    /// How its init process is.
    pub init: ProcessState,
    /// Whether the kernel killed a process of it for want of memory.
    pub out_of_memory: bool,
    /// Who its init process is. None for the pod itself.
    pub user: Option<User>,
}

/// What our own shim has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Its containers, and the pod itself if it was made as one.
    pub containers: Vec<Listed>,
    /// Why its machine is over, for people; empty while it is not, or ended as it was asked to.
    pub reason: String,
}

/// What a pod of our own shim uses: messages of the type `io.containerd.cgroups.v2.Metrics`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodMetrics {
    /// All of it; none as long as its machine is not up.
    pub pod: Option<Any>,
    /// Each container that could be asked, by its name.
    pub containers: BTreeMap<String, Any>,
    /// What the messages have no fields for, by the container's name.
    pub census: BTreeMap<String, Census>,
}
