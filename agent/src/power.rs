//! The ordered end of the machine.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};
use rustix::system::{RebootCommand, reboot};
use syscalls::escapes;

use crate::cgroup;
use crate::error::{Error, Result};

/// How long killed processes may take to be gone. One that hangs in the kernel keeps its mounts
/// busy; what is on them is written all the same.
const PATIENCE: Duration = Duration::from_secs(2);

/// The agent's own mounts, which need no end.
const OWN: [&str; 7] = ["/", "/proc", "/sys", "/dev", "/run", "/tmp", cgroup::ROOT];

/// Kills every container, writes everything to disks, and powers off. Returns only on failure.
///
/// # Errors
/// The kernel refuses to power off.
pub(crate) fn off() -> Result<()> {
    if let Err(error) = cgroup::end_pod(PATIENCE) {
        log::warn!("end containers: {error}");
    }
    // Writes what it unmounts; of the share that is what the guest has of it, and the host is not
    // asked to write anything else.
    // Names of mount points may be a workload's, in any bytes.
    unmount_all(&std::fs::read("/proc/self/mountinfo").unwrap_or_default());
    // What could not be unmounted is at least on its disk. Once: if the share is among it, the host
    // writes to every disk that it shows.
    rustix::fs::sync();
    reboot(RebootCommand::PowerOff).map_err(Error::io("power off"))
}

/// Unmounts what can be of a table in the form of proc_pid_mountinfo(5), children first. What is
/// in use stays, and keeps nothing else from being unmounted.
fn unmount_all(table: &[u8]) {
    for point in mount_points(table).iter().rev() {
        if OWN.iter().any(|own| point == Path::new(own)) || point.starts_with("/sys") {
            continue;
        }
        if let Err(error) = unmount(point.as_path(), UnmountFlags::empty()) {
            log::warn!("unmount {point:?}: {error}");
        }
    }
}

/// Mount points of proc_pid_mountinfo(5) text, in mounting order.
fn mount_points(table: &[u8]) -> Vec<PathBuf> {
    let lines = table.split(|byte| *byte == b'\n');
    let points = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    points
        .map(|point| escapes::undo(point, b'\\', 3, 8))
        .map(|point| PathBuf::from(OsStr::from_bytes(&point)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;

    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

    use super::{mount_points, unmount_all};

    /// Mounting needs root, which the agent always is.
    #[test]
    fn a_share_in_use_keeps_no_disk_from_being_unmounted() {
        let folder = tempfile::tempdir().unwrap();
        let points = ["disk", "share", "share/volume", "other disk"].map(|name| {
            let point = folder.path().join(name);
            std::fs::create_dir(&point).unwrap();
            mount("none", &point, "tmpfs", MountFlags::empty(), None).unwrap();
            std::fs::write(point.join("file"), name).unwrap();
            point
        });
        let in_use = File::open(points[1].join("file")).unwrap();
        let line = |point: &Path| {
            let point = point.display().to_string().replace(' ', "\\040");
            format!("9 1 0:9 / {point} rw - tmpfs x rw\n")
        };
        unmount_all(points.each_ref().map(|point| line(point)).concat().as_bytes());
        let mounted = points.each_ref().map(|point| point.join("file").exists());
        drop(in_use);
        for point in points.iter().rev() {
            let _gone = unmount(point, UnmountFlags::empty());
        }
        assert_eq!(mounted, [false, true, false, false]);
    }

    #[test]
    fn mount_points_are_read_in_any_bytes() {
        let table = b"22 1 0:20 / /proc rw - proc proc rw\n\
                      30 1 254:0 / /run/cuddy/disk/a\\040b\xff rw - ext4 /dev/vdb rw\n";
        let points = mount_points(table);
        let points: Vec<_> =
            points.iter().map(|point| point.as_os_str().as_encoded_bytes()).collect();
        assert_eq!(points, [&b"/proc"[..], b"/run/cuddy/disk/a b\xff"]);
    }
}
