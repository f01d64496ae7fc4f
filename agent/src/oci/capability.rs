//! Names of capabilities(7), as `process.capabilities` has them.

use std::collections::BTreeSet;

use super::process::Capabilities;

/// All capabilities by the kernel's names without the prefix; the index is the number.
pub(crate) const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The number of a capability.
pub(crate) fn number(name: &str) -> Option<usize> {
    let short = name.strip_prefix("CAP_").unwrap_or(name);
    NAMES.iter().position(|known| known.eq_ignore_ascii_case(short))
}

/// Names in any of the sets that no capability has, each once.
pub(crate) fn unknown(capabilities: &Capabilities) -> BTreeSet<&str> {
    let Capabilities { bounding, effective, inheritable, permitted, ambient } = capabilities;
    let all = [bounding, effective, inheritable, permitted, ambient].into_iter().flatten();
    all.map(String::as_str).filter(|name| number(name).is_none()).collect()
}
