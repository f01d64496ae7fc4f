//! Limits that Linux derives from the machine's memory when it boots, or that kubelet sets on its
//! node. A pod's machine is small, so the limits that Linux derives are low. The pod's own limits
//! say what its workload may do. Where they say nothing, the limit is what a node would allow
//! (`docs/decisions/limits-of-a-node.md`). All of it takes memory only when it is used, and the
//! container is charged for that memory.

use std::io;
use std::path::Path;

use rustix::process::{Resource, Rlimit, setrlimit};

/// Open files that containers may have when their specification sets no limit; Linux's own
/// default for the first process (4096) breaks databases and proxies. Equals fs.nr_open.
const OPEN_FILES: u64 = 1 << 20;

/// Signals that may wait: what a node of 64 GiB has.
const PENDING_SIGNALS: u64 = 1 << 18;

/// File below /proc/sys and its value.
const PARAMETERS: [(&str, &str); 16] = [
    // As much as there are ids (`PID_MAX_LIMIT`), as systemd sets it.
    ("kernel/pid_max", "4194304"),
    ("kernel/threads-max", "4194304"),
    // As systemd sets it: memory limits files, and RLIMIT_NOFILE.
    ("fs/file-max", "9223372036854775807"),
    // The most that Linux gives to any machine.
    ("fs/inotify/max_user_watches", "1048576"),
    ("fs/fanotify/max_user_marks", "1048576"),
    // What a node of 64 GiB has.
    ("fs/epoll/max_user_watches", "14000000"),
    ("user/max_user_namespaces", "262144"),
    ("user/max_pid_namespaces", "262144"),
    ("user/max_uts_namespaces", "262144"),
    ("user/max_ipc_namespaces", "262144"),
    ("user/max_net_namespaces", "262144"),
    ("user/max_mnt_namespaces", "262144"),
    ("user/max_cgroup_namespaces", "262144"),
    ("user/max_time_namespaces", "262144"),
    // Half of the table of connections, which is smaller in a small machine.
    ("net/ipv4/tcp_max_tw_buckets", "262144"),
    // As kubelet sets it on its node: programs reserve more than they use.
    ("vm/overcommit_memory", "1"),
];

/// Raises all of them. One that this kernel lacks or refuses is logged.
pub(super) fn raise() {
    let all = |limit| Rlimit { current: limit, maximum: limit };
    for (resource, limit) in [
        (Resource::Nofile, Some(OPEN_FILES)),
        // As containerd's own unit has it.
        (Resource::Nproc, None),
        (Resource::Sigpending, Some(PENDING_SIGNALS)),
    ] {
        super::best_effort("raise a limit", setrlimit(resource, all(limit)).map_err(Into::into));
    }
    for (file, value) in PARAMETERS {
        super::best_effort(file, set(file, value));
    }
}

fn set(file: &str, value: &str) -> io::Result<()> {
    std::fs::write(Path::new("/proc/sys").join(file), value)
}
