//! The ordered end of the machine.

use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};
use rustix::system::{RebootCommand, reboot};

use crate::cgroup;
use crate::error::{Error, Result};

/// Rounds of unmounting: a mount may be busy until a killed process is gone.
const ROUNDS: u32 = 20;

/// Pause between rounds; there is no event for "no longer busy".
const PAUSE: Duration = Duration::from_millis(25);

/// The agent's own mounts, which need no end.
const OWN: [&str; 7] = ["/", "/proc", "/sys", "/dev", "/run", "/tmp", cgroup::ROOT];

/// Kills every container, writes everything to disks, and powers off. Returns only on failure.
///
/// # Errors
/// The kernel refuses to power off.
pub(crate) fn off() -> Result<()> {
    if let Err(error) = cgroup::kill_pod() {
        log::warn!("kill containers: {error}");
    }
    rustix::fs::sync();
    for _ in 0..ROUNDS {
        if unmount_all() == 0 {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    // What could not be unmounted is at least on its disk.
    rustix::fs::sync();
    reboot(RebootCommand::PowerOff).map_err(Error::io("power off"))
}

/// Unmounts what can be, children first; how many are left.
fn unmount_all() -> usize {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mount_points(&table);
    points
        .iter()
        .rev()
        .filter(|point| !OWN.contains(&point.as_str()) && !point.starts_with("/sys/"))
        .filter(|point| unmount(point.as_str(), UnmountFlags::empty()).is_err())
        .count()
}

/// Mount points of proc_pid_mountinfo(5) text, in mounting order.
fn mount_points(table: &str) -> Vec<String> {
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape).collect()
}

/// Undoes `\040` and the like.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                plain.push_str(part.get(3..).unwrap_or_default());
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::mount_points;

    #[test]
    fn mount_points_are_read_with_their_spaces() {
        let table = "22 1 0:20 / /proc rw - proc proc rw\n\
                     30 1 254:0 / /run/cuddy/disk/a\\040b rw - ext4 /dev/vdb rw\n";
        assert_eq!(mount_points(table), ["/proc", "/run/cuddy/disk/a b"]);
    }
}
