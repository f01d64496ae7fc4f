//! What is kept of pods and containers: the rows of the daemon's records, and all that lists and
//! statuses are made of.
//!
//! ```text
//!   pod:        Starting ──► Ready ──► Stopped ──► Removing ──► (no row)
//!   container:  Creating ──► Created ──► Running ──► Exited ──► Removing ──► (no row)
//!                                           ▲───────────┘ by its policy, see `restart`
//! ```

use prost::Enumeration;
use protocol::cri::{
    ContainerConfig, ContainerMetadata, ContainerResources, ContainerState, LinuxContainerUser,
    PodSandboxConfig, PodSandboxMetadata, PodSandboxState,
};

/// How far a pod's life is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(crate) enum PodPhase {
    /// Parts of it exist. It is not listed.
    Starting = 0,
    /// It takes containers.
    Ready = 1,
    /// Its machine and its network are gone, or are to be taken down.
    Stopped = 2,
    /// Nothing of it is to be left. It is not listed.
    Removing = 3,
}

/// How far a container's life is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(crate) enum ContainerPhase {
    /// Parts of it exist. It is not listed.
    Creating = 0,
    /// Its init process waits.
    Created = 1,
    /// Its init process runs, or is about to.
    Running = 2,
    /// Its init process has ended.
    Exited = 3,
    /// Nothing of it is to be left. It is not listed.
    Removing = 4,
}

/// A pod.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Pod {
    /// Its name for the interface: 64 hexadecimal digits.
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    /// What it was asked to be.
    #[prost(message, optional, tag = "2")]
    pub(crate) config: Option<PodSandboxConfig>,
    /// Its handler as it was asked for.
    #[prost(string, tag = "3")]
    pub(crate) handler: String,
    /// How far its life is.
    #[prost(enumeration = "PodPhase", tag = "4")]
    pub(crate) phase: i32,
    /// When it became ready, in nanoseconds since 1970; 0 before.
    #[prost(int64, tag = "5")]
    pub(crate) created_at: i64,
    /// Path of its network namespace; empty: the node's.
    #[prost(string, tag = "6")]
    pub(crate) netns: String,
    /// How its network is to be taken down again, in the network's own words. Written before a
    /// network is made, so that half of one is taken down, too; empty: none was begun.
    #[prost(bytes = "vec", tag = "7")]
    pub(crate) attachment: Vec<u8>,
    /// Its addresses, the first one first.
    #[prost(string, repeated, tag = "8")]
    pub(crate) ips: Vec<String>,
    /// Why it is not ready, for people; empty: it was stopped in order, or is ready.
    #[prost(string, tag = "9")]
    pub(crate) reason: String,
    /// Whether a start of its shim was begun.
    #[prost(bool, tag = "10")]
    pub(crate) has_shim: bool,
    /// The class by which it runs; empty: that of its handler.
    #[prost(string, tag = "11")]
    pub(crate) class: String,
}

/// A container.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Container {
    /// Its name for the interface: 64 hexadecimal digits.
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    /// Its pod's.
    #[prost(string, tag = "2")]
    pub(crate) pod: String,
    /// What it was asked to be.
    #[prost(message, optional, tag = "3")]
    pub(crate) config: Option<ContainerConfig>,
    /// How far its life is.
    #[prost(enumeration = "ContainerPhase", tag = "4")]
    pub(crate) phase: i32,
    /// When it was created, in nanoseconds since 1970; 0 before.
    #[prost(int64, tag = "5")]
    pub(crate) created_at: i64,
    /// When its process was started; 0 before.
    #[prost(int64, tag = "6")]
    pub(crate) started_at: i64,
    /// When its process ended; 0 before.
    #[prost(int64, tag = "7")]
    pub(crate) finished_at: i64,
    /// The process's exit code.
    #[prost(int32, tag = "8")]
    pub(crate) exit_code: i32,
    /// Why it ended, in one word.
    #[prost(string, tag = "9")]
    pub(crate) reason: String,
    /// Why it ended, for people.
    #[prost(string, tag = "10")]
    pub(crate) message: String,
    /// The image's id.
    #[prost(string, tag = "11")]
    pub(crate) image_id: String,
    /// Path of its log; empty: none is written.
    #[prost(string, tag = "12")]
    pub(crate) log_path: String,
    /// Its limits as they are in force.
    #[prost(message, optional, tag = "13")]
    pub(crate) resources: Option<ContainerResources>,
    /// The signal that stops it, by its number.
    #[prost(uint32, tag = "14")]
    pub(crate) stop_signal: u32,
    /// Whether a start of its process was begun.
    #[prost(bool, tag = "15")]
    pub(crate) start_begun: bool,
    /// Who its process is, once it was created.
    #[prost(message, optional, tag = "16")]
    pub(crate) user: Option<LinuxContainerUser>,
    /// The ids of images that it has as volumes, by what it was asked for.
    #[prost(map = "string, string", tag = "17")]
    pub(crate) image_volumes: std::collections::HashMap<String, String>,
    /// How many times its process was started again.
    #[prost(uint32, tag = "18")]
    pub(crate) restarts: u32,
    /// How many delays before such a start there were in a row.
    #[prost(uint32, tag = "19")]
    pub(crate) delays: u32,
    /// Whether somebody asked for its end: its process is not started again.
    #[prost(bool, tag = "20")]
    pub(crate) stopped: bool,
}

/// What makes a pod the same as another for who asks for it: namespace, name, uid, attempt.
pub(crate) type PodKey = (String, String, String, u32);

/// Whether two rows' names are the same for who asked for them.
pub(crate) fn pod_key(metadata: &PodSandboxMetadata) -> PodKey {
    let PodSandboxMetadata { name, uid, namespace, attempt } = metadata.clone();
    (namespace, name, uid, attempt)
}

/// The annotation of a pod that has no reason to be but its containers, as those of `cuddy run`. Once
/// each has ended, so does the pod; rows and logs stay until somebody removes it.
const ENDS: &str = "dev.cuddy.ends-with-containers";

impl Pod {
    /// Whether it ends with the last of its containers.
    pub(crate) fn ends_with_containers(&self) -> bool {
        let annotations = self.config.as_ref().map(|config| &config.annotations);
        annotations.and_then(|all| all.get(ENDS)).is_some_and(|value| value == "true")
    }

    /// Its name as who asked for it gave it.
    pub(crate) fn metadata(&self) -> PodSandboxMetadata {
        self.config.as_ref().and_then(|config| config.metadata.clone()).unwrap_or_default()
    }

    /// Whether lists show it. One that could not be removed is to be found by who tries again.
    pub(crate) fn is_listed(&self) -> bool {
        self.phase() != PodPhase::Starting
    }

    /// Its state in the interface's words.
    pub(crate) fn state(&self) -> PodSandboxState {
        match self.phase() {
            PodPhase::Ready => PodSandboxState::SandboxReady,
            _ => PodSandboxState::SandboxNotready,
        }
    }
}

impl Container {
    /// Its name as who asked for it gave it.
    pub(crate) fn metadata(&self) -> ContainerMetadata {
        self.config.as_ref().and_then(|config| config.metadata.clone()).unwrap_or_default()
    }

    /// Whether lists show it. One that could not be removed is to be found by who tries again.
    pub(crate) fn is_listed(&self) -> bool {
        self.phase() != ContainerPhase::Creating
    }

    /// Whether it has a process that has not ended, one that waits for its start or one that runs.
    pub(crate) fn lives(&self) -> bool {
        matches!(self.phase(), ContainerPhase::Created | ContainerPhase::Running)
    }

    /// Its state in the interface's words.
    pub(crate) fn state(&self) -> ContainerState {
        match self.phase() {
            ContainerPhase::Creating | ContainerPhase::Created => ContainerState::ContainerCreated,
            ContainerPhase::Running => ContainerState::ContainerRunning,
            ContainerPhase::Exited | ContainerPhase::Removing => ContainerState::ContainerExited,
        }
    }
}
