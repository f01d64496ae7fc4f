//! The contract between host and guest agent: services and messages of `proto/`,
//! the vsock ports, and the guest paths that both sides rely on.

include!(concat!(env!("OUT_DIR"), "/services.rs"));

pub use generated::{container, health, network, process, sandbox, storage, types};
pub use generated::{
    container_ttrpc, health_ttrpc, network_ttrpc, process_ttrpc, sandbox_ttrpc, storage_ttrpc,
};

pub use vmm_api::{READY_PORT, WINDOWS};

/// vsock port of the agent's ttrpc services.
pub const RPC_PORT: u32 = 1024;

/// vsock port of process streams; see `Streams` in `proto/types.proto`.
pub const STREAM_PORT: u32 = 1025;

/// vsock port of connections to the guest's loopback. The host writes 4 bytes: the TCP port
/// (little endian), the family to try first (4 or 6), and 0; the guest answers one byte: 0, or the
/// error number of the refusal. Then bytes flow both ways, each with an end of its own.
pub const FORWARD_PORT: u32 = 1026;

/// Where the pod's shared directory is mounted in the guest.
pub const SHARE_DIR: &str = "/run/cuddy/share";

/// Below this directory the agent keeps its own state and mounts in the guest.
pub const STATE_DIR: &str = "/run/cuddy";

/// In configurations, a namespace path by which containers enter the pod's pid namespace. Its
/// first process is the agent's; it is made when it is first asked for.
pub const POD_PID_NAMESPACE: &str = "/run/cuddy/ns/pod/pid";

/// Seconds that a hook in the guest has if its configuration states no time.
pub const HOOK_SECONDS: u64 = 50;

/// In configurations, a namespace path by which containers enter the pod's user namespace: that of
/// the first container that named it, whose id maps all others must have.
pub const POD_USER_NAMESPACE: &str = "/run/cuddy/ns/pod/user";

/// In configurations, `<this>/<container id>/<file below /proc/pid/ns>` is the path of a
/// namespace of that container's init process.
pub const CONTAINER_NAMESPACES: &str = "/run/cuddy/ns/container";
