//! The pod's share: files in both directions, mounts that come later, and what the process
//! that serves it may do.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::mount::{mount, mount_bind, mount_change, unmount};
use vmm_api::{DeviceConfig, MachineEnd, Request};

use super::client::{Boot, Output, Vmm};
use super::guest::linux;

/// A directory that is a shared mount, as a shim makes it.
pub(crate) struct Share(tempfile::TempDir);

impl Share {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        mount_bind(directory.path(), directory.path()).unwrap();
        mount_change(directory.path(), MountPropagationFlags::SHARED).unwrap();
        Self(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn device(&self, boot: &mut Boot) -> DeviceConfig {
        let root = fs::File::open(self.path()).unwrap();
        DeviceConfig::Fs { tag: "share".to_owned(), root: boot.slot(root.into()) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let _ = unmount(self.path(), UnmountFlags::DETACH);
    }
}

#[test]
fn files_and_later_mounts_are_seen_on_both_sides() {
    let share = Share::new();
    fs::write(share.path().join("hello"), "from the host").unwrap();
    fs::create_dir(share.path().join("late")).unwrap();
    let script = "mount -t virtiofs share /mnt && echo mounted
cat /mnt/hello
echo from the guest > /mnt/out
chown 1000:1001 /mnt/out; chmod 4750 /mnt/out; mkdir /mnt/dir; ln -s out /mnt/link; mv /mnt/dir /mnt/moved
mknod /mnt/null c 1 3
dd if=/dev/zero of=/mnt/large bs=1M count=8 2>/dev/null; rm /mnt/large
ls /mnt/.. > /dev/null
echo waiting
while [ ! -e /mnt/late/file ]; do sleep 0.2; done
cat /mnt/late/file
echo changed > /mnt/late/file; sync
echo done
while :; do sleep 1; done";
    let output = Output::new();
    let boot = linux(script, 128, &output).device(|boot| share.device(boot));
    let mut vmm = Vmm::boot(&boot);
    output.wait_for("waiting");
    let out = share.path().join("out");
    assert_eq!(fs::read_to_string(&out).unwrap(), "from the guest\n", "{}", output.text());
    let metadata = fs::metadata(&out).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (1000, 1001));
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o4750);
    assert_eq!(fs::read_link(share.path().join("link")).unwrap(), Path::new("out"));
    assert!(share.path().join("moved").is_dir());
    assert_eq!(fs::metadata(share.path().join("null")).unwrap().rdev(), 0x103);

    let late = share.path().join("late");
    mount("none", &late, "tmpfs", MountFlags::empty(), None).unwrap();
    fs::write(late.join("new"), "mounted later\n").unwrap();
    fs::rename(late.join("new"), late.join("file")).unwrap();
    let text = output.wait_for("done");
    assert!(text.contains("from the host") && text.contains("mounted later"), "{text}");
    assert_eq!(fs::read_to_string(late.join("file")).unwrap(), "changed\n");
    unmount(&late, UnmountFlags::DETACH).unwrap();
    jail_has_the_share_and_nothing_else(&vmm);
    vmm.ask(&Request::Stop, &[]);
    assert_eq!(vmm.end().0, MachineEnd::Stopped);
}

#[test]
fn a_guest_can_not_leave_the_share() {
    let share = Share::new();
    std::os::unix::fs::symlink("/proc/self/fd", share.path().join("absolute")).unwrap();
    std::os::unix::fs::symlink("../proc", share.path().join("upwards")).unwrap();
    fs::write(share.path().join("mine"), "x").unwrap();
    // Links are followed by the guest's kernel, in the guest.
    let script = "mount -t virtiofs share /mnt
echo entries $(ls -1 /mnt/.. | grep -c -x -e share)
echo fds $(ls /mnt/absolute | wc -l) up $(ls -d /mnt/upwards/1)
echo done";
    let output = Output::new();
    let script = format!("{script}\npoweroff -f");
    let boot = linux(&script, 128, &output).device(|boot| share.device(boot));
    let mut vmm = Vmm::boot(&boot);
    assert_eq!(vmm.end().0, MachineEnd::PowerOff, "{}", output.text());
    let text = output.text();
    assert!(text.contains("entries 0") && text.contains("up /mnt/upwards/1"), "{text}");
}

fn jail_has_the_share_and_nothing_else(vmm: &Vmm) {
    let pid = vmm.child.id();
    let names = |path: String| -> Vec<_> {
        let entries = fs::read_dir(path).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(format!("/proc/{pid}/root")), ["proc", "share"]);
    assert_eq!(names(format!("/proc/{pid}/root/proc")), ["self"]);
    for thread in names(format!("/proc/{pid}/task")) {
        let status = fs::read_to_string(format!("/proc/{pid}/task/{thread}/status")).unwrap();
        let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        let name = field("Name:");
        // KVM's own thread inside the kernel is listed as one of the process.
        if name.starts_with("kvm-") {
            continue;
        }
        // chown, dac_override, fowner, fsetid, setgid, setuid, mknod, setfcap
        let server = name.starts_with("vio-fs");
        let kept = if server { "00000000880000db" } else { "0000000000000000" };
        assert_eq!((field("CapEff:"), field("CapPrm:")), (kept, kept), "{name}");
        assert_eq!(field("Groups:"), "", "{name}");
    }
}
