//! What no file of a cgroup tells of a container: its processes, what they have open, and how full
//! its root file system is. The host gets it as one more file of `key value` lines.
//!
//! What can't be counted is left out: a missing line is the truth, a zero is not.

use std::fmt::Write;
use std::path::Path;

/// The file's name among those of the cgroup.
pub(crate) const NAME: &str = "cuddy.census";

/// Most open files that are looked at. The attack: a container whose millions of open files keep
/// the agent busy.
const MAX_FILES: u64 = 1 << 16;

/// A container's processes have this open.
#[derive(Debug, Default, PartialEq, Eq)]
struct Open {
    files: u64,
    sockets: u64,
}

/// Takes the census of a container with these processes, whose first one is `init` and whose root
/// file system is at `root`. Blocks.
pub(crate) fn take(processes: &[i32], init: Option<i32>, root: &Path) -> String {
    let mut text = format!("processes {}\n", processes.len());
    let mut line = |key: &str, value: u64| {
        // A text takes all that is written to it.
        let _ = writeln!(text, "{key} {value}");
    };
    let directories = processes.iter().map(|pid| format!("/proc/{pid}/fd"));
    if let Some(open) = open(directories) {
        line("file_descriptors", open.files);
        line("sockets", open.sockets);
    }
    let limits = init.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/limits")).ok());
    if let Some(limit) = limits.as_deref().and_then(open_files_limit) {
        line("open_files_limit", limit);
    }
    if let Ok(facts) = rustix::fs::statvfs(root) {
        line("root_bytes", facts.f_blocks.saturating_mul(facts.f_frsize));
        line("root_inodes", facts.f_files);
        line("root_inodes_free", facts.f_ffree);
    }
    text
}

/// Counts what is listed in some processes' `fd` directories; none if it is too much. Processes
/// that have ended count nothing.
fn open(directories: impl Iterator<Item = impl AsRef<Path>>) -> Option<Open> {
    let mut open = Open::default();
    for directory in directories {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            open.files += 1;
            if open.files > MAX_FILES {
                return None;
            }
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            open.sockets +=
                u64::from(target.as_os_str().as_encoded_bytes().starts_with(b"socket:"));
        }
    }
    Some(open)
}

/// The soft limit of open files in `/proc/PID/limits` (proc_pid_limits(5)); none if there is none.
fn open_files_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn open_files_and_sockets_are_told_apart_and_have_an_end() {
        let dir = tempfile::tempdir().unwrap();
        for (name, target) in [("0", "/dev/null"), ("1", "socket:[7]"), ("2", "anon_inode:[x]")] {
            symlink(target, dir.path().join(name)).unwrap();
        }
        let gone = dir.path().join("gone");
        let told = open([dir.path(), &gone].into_iter());
        assert_eq!(told, Some(Open { files: 3, sockets: 1 }));
        let often = std::iter::repeat_n(dir.path(), 1 << 15);
        assert_eq!(open(often), None);
    }

    #[test]
    fn census_of_this_very_process_is_right() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        let text = take(&[pid], Some(pid), Path::new("/"));
        let value = |key: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap_or_else(|| panic!("{key} in {text}")).trim().parse().unwrap()
        };
        assert_eq!(value("processes "), 1);
        assert!(value("sockets ") >= 1 && value("file_descriptors ") > value("sockets "));
        assert!(value("root_bytes ") > 0 && value("root_inodes_free ") <= value("root_inodes "));
        assert!(value("open_files_limit ") >= u64::try_from(socket.as_raw_fd()).unwrap());
    }

    #[test]
    fn unlimited_files_have_no_line() {
        let text =
            "Limit   Soft Limit  Hard Limit  Units\nMax open files  unlimited unlimited files\n";
        assert_eq!(open_files_limit(text), None);
        assert_eq!(
            open_files_limit("Max open files            1024       4096  files\n"),
            Some(1024)
        );
    }
}
