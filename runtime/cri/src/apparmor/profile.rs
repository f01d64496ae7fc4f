//! The default AppArmor profile of containers on the node (apparmor.d(5)). It is made of what such a
//! container may write to in the kernel's file systems, and includes no file of the node's (pure).

use std::fmt::Write as _;

use crate::spec::DEFAULT_APPARMOR;

/// What may be written to below a directory of the kernel's, and what takes the rest.
struct Writable {
    /// The directory.
    top: &'static str,
    /// What all that may be written to begins with.
    kept: &'static str,
    /// First characters of more that may: a range as in a pattern.
    or: &'static str,
    /// What is denied of the rest.
    denied: &'static str,
}

const WRITABLE: [Writable; 2] = [
    // Processes, and limits of shared memory, which are the container's own.
    Writable { top: "/proc", kept: "sys/kernel/shm", or: "1-9", denied: "w" },
    // Cgroups, where a container has its own.
    Writable { top: "/sys", kept: "fs/cgroup", or: "", denied: "wkl" },
];

/// What is denied in all ways: memory, the node's reboot, firmware, policy, and power meters that
/// tell secrets of others.
const HIDDEN: [&str; 7] = [
    "/proc/sysrq-trigger",
    "/proc/kcore",
    "/proc/mem",
    "/proc/kmem",
    "/sys/firmware/**",
    "/sys/kernel/security/**",
    "/sys/devices/virtual/powercap/**",
];

/// Who may signal a container's processes beside each other: what has no profile, and runtimes that
/// distributions give one.
const SIGNALLERS: [&str; 3] = ["unconfined", "runc", "crun"];

/// The profile's text.
pub(super) fn text() -> String {
    let own = DEFAULT_APPARMOR;
    let mut text = format!("profile {own} flags=(attach_disconnected,mediate_deleted) {{\n");
    // What is done with these is bounded by the container's mounts, namespaces and capabilities.
    let mut rules: Vec<String> =
        ["file", "network", "capability", "umount", "deny mount"].map(str::to_owned).into();
    rules.push(format!("signal (send, receive) peer={own}"));
    rules.extend(SIGNALLERS.map(|peer| format!("signal (receive) peer={peer}")));
    rules.push(format!("ptrace (trace, tracedby, read, readby) peer={own}"));
    rules.push("ptrace (readby, tracedby) peer=unconfined".to_owned());
    rules.extend(WRITABLE.iter().flat_map(Writable::rules));
    rules.extend(HIDDEN.map(|path| format!("deny {path} rwkl")));
    for rule in rules {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {rule},");
    }
    text + "}\n"
}

impl Writable {
    /// Rules that deny all paths that part from the kept one at each of its characters.
    fn rules(&self) -> impl Iterator<Item = String> {
        let Self { top, kept, denied, or } = *self;
        kept.char_indices().map(move |(at, character)| {
            let other = match (at, character) {
                // A longer name in place of the end of this one.
                (_, '/') => "?".to_owned(),
                (0, first) => format!("[^{first}{or}]"),
                (_, other) => format!("[^{other}]"),
            };
            format!("deny {top}/{}{other}** {denied}", &kept[..at])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a pattern of apparmor.d(5) is of a path: `?` and `*` match no slash, `**` does.
    fn matches(pattern: &[u8], path: &[u8]) -> bool {
        let any = |rest: &[u8], slash: bool| {
            let ends = (0..=path.len()).take_while(|&end| slash || !path[..end].contains(&b'/'));
            ends.into_iter().any(|end| matches(rest, &path[end..]))
        };
        match (pattern, path) {
            ([b'*', b'*', rest @ ..], _) => any(rest, true),
            ([b'*', rest @ ..], _) => any(rest, false),
            ([b'?', rest @ ..], [first, path @ ..]) => *first != b'/' && matches(rest, path),
            ([b'[', b'^', rest @ ..], [first, path @ ..]) => {
                let end = rest.iter().position(|byte| *byte == b']').unwrap();
                let digit = rest[..end].ends_with(b"1-9") && (b'1'..=b'9').contains(first);
                !rest[..end].contains(first) && !digit && matches(&rest[end + 1..], path)
            }
            ([expected, rest @ ..], [first, path @ ..]) => expected == first && matches(rest, path),
            ([], []) => true,
            _ => false,
        }
    }

    /// Whether the profile lets through an access to a file: `r`, `w` and so on.
    fn allows(path: &str, access: char) -> bool {
        let text = text();
        let denied = text.lines().filter_map(|line| line.trim().strip_prefix("deny /"));
        let mut denied = denied.map(|rule| rule.trim_end_matches(',').rsplit_once(' ').unwrap());
        !denied.any(|(pattern, accesses)| {
            accesses.contains(access) && matches(format!("/{pattern}").as_bytes(), path.as_bytes())
        })
    }

    #[test]
    fn container_may_write_to_its_files_processes_and_cgroups() {
        for path in [
            "/etc/passwd",
            "/proc/1/oom_score_adj",
            "/proc/937/task/937/attr/exec",
            "/proc/sys/kernel/shmmax",
            "/proc/sys/kernel/shm_rmid_forced",
            "/sys/fs/cgroup/memory.max",
            "/sys/fs/cgroup/a/cgroup.procs",
        ] {
            assert!(allows(path, 'w'), "{path}");
        }
        for path in ["/proc/meminfo", "/proc/sys/kernel/hostname", "/sys/class/net/eth0/mtu"] {
            assert!(allows(path, 'r'), "{path}");
        }
    }

    #[test]
    fn container_may_not_write_to_what_is_the_nodes() {
        for path in [
            "/proc/acpi/wakeup",
            "/proc/irq/1/smp_affinity",
            "/proc/scsi/scsi",
            "/proc/sched_debug",
            "/proc/sys/fs/file-max",
            "/proc/sys/kernel/core_pattern",
            "/proc/sys/kernel/sysrq",
            "/proc/sys/kernel/shadow",
            "/proc/sys/kernelx/shmmax",
            "/proc/sys/vm/panic_on_oom",
            "/proc/systems/kernel/shmmax",
            "/sys/block/sda/queue/nr_requests",
            "/sys/fs/bpf/map",
            "/sys/fs/cgrp/x",
            "/sys/fuse/x",
            "/sys/kernel/mm/ksm/run",
        ] {
            assert!(!allows(path, 'w'), "{path}");
        }
        for path in [
            "/proc/sysrq-trigger",
            "/proc/kcore",
            "/sys/firmware/efi/vars",
            "/sys/kernel/security/apparmor/policy",
            "/sys/devices/virtual/powercap/intel-rapl/energy_uj",
        ] {
            assert!(!allows(path, 'r') && !allows(path, 'w'), "{path}");
        }
    }

    #[test]
    fn container_may_not_mount_and_is_signalled_by_the_node() {
        let text = text();
        let has = |rule: &str| text.lines().any(|line| line.trim() == rule);
        assert!(has("deny mount,") && !has("mount,") && has("umount,"));
        assert!(text.starts_with(&format!("profile {DEFAULT_APPARMOR} flags=")), "{text}");
        for peer in ["unconfined", "runc", "crun"] {
            assert!(has(&format!("signal (receive) peer={peer},")), "{peer}");
        }
        for own in ["signal (send, receive)", "ptrace (trace, tracedby, read, readby)"] {
            assert!(has(&format!("{own} peer={DEFAULT_APPARMOR},")), "{own}");
        }
        // None but its own may be traced, and who has no profile is not traced by it.
        assert_eq!(text.matches("ptrace (trace").count(), 1);
    }
}
